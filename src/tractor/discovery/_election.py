"""Which root becomes the registrar: the first that can listen on the registry addresses."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from tractor import log as _log
from tractor.address._types import Address, UnwrappedAddress
from tractor.discovery._probe import Probe, probe_all
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg.types import Aid
from tractor.transport._addresses import random_addrs

log = _log.get_logger()

ELECTION_TRIES = 5
"""How often a root that loses the race for its registry address looks again who won."""


async def elect(
    addrs: list[UnwrappedAddress],
    bind: Sequence[Address],
    keys: Sequence[str],
    aid: Callable[[bool], Aid],
    ensure_registry: bool,
) -> tuple[bool, list[Endpoint], list[UnwrappedAddress]]:
    """Decide whether this root is the registrar, and listen accordingly.

    To listen is what decides: of two roots that have found nobody there, the system lets one bind the address.

    Returns:
        Whether it is, the endpoints that listen, and the registry addresses to use.

    Raises:
        RuntimeError: an address is taken by something that is not a registrar, or a registrar is there that must not
        be.
    """
    for _ in range(ELECTION_TRIES):
        probes = await probe_all(addrs)
        present = [addr for addr, found in probes.items() if found.probe is Probe.REGISTRAR]
        taken = [addr for addr, found in probes.items() if found.probe is Probe.OCCUPIED]
        if present:
            if ensure_registry:
                raise RuntimeError(
                    f"a registrar is present at {present}, and `ensure_registry` wants this actor to be the one"
                )
            return False, await listen_beside(present, bind, keys, aid(False)), present
        if taken:
            raise RuntimeError(
                f"the registry addresses {taken} are taken by something that is not a registrar "
                "(or holds another key); free them, or choose other `registry_addrs`. What was met: "
                + "; ".join(f"at {addr}: {probes[addr].why}" for addr in taken)
            )
        wanted = list(dict.fromkeys([*addrs, *(a.unwrap() for a in bind)]))
        try:
            return True, await bind_endpoints(wanted), addrs
        except OSError as exc:
            if not isinstance(exc, ConnectionError) and exc.errno != errno.EADDRINUSE:
                raise RuntimeError(
                    f"can't listen on {wanted}: {exc}; choose other addresses"
                ) from exc
            log.transport("another root was faster at %s: %r", wanted, exc)
    raise RuntimeError(f"the addresses {addrs} and {list(bind)} are in use by another process")


async def listen_beside(
    registry: list[UnwrappedAddress], bind: Sequence[Address], keys: Sequence[str], aid: Aid
) -> list[Endpoint]:
    """Listen as a root that is not the registrar.

    Args:
        registry: where registrars are.
        bind: where to listen; none: random addresses of the transports ``keys``, in the registrars' bindspaces.
        keys: transports.
        aid: the root's.

    Raises:
        RuntimeError: that can't be done.
    """
    addrs = [a.unwrap() for a in bind or random_addrs(keys, aid, beside=registry)]
    try:
        return await bind_endpoints(addrs)
    except OSError as exc:
        raise RuntimeError(
            f"can't listen on {addrs}: {exc}; choose other `tpt_bind_addrs`"
        ) from exc
