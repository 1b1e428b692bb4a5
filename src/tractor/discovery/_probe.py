"""Finding out what is at a registry address before a root takes it."""

from __future__ import annotations

import enum
import os

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._util._groups import collapse_eg
from tractor.ipc._addr import UnwrappedAddress
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg.types import Aid

__all__ = ["Probe", "probe_all"]

log = _log.get_logger()

TOTAL_TIMEOUT = 3.0
ATTEMPT_TIMEOUT = 1.0
ATTEMPTS = 3
PAUSE = 0.05
"""Seconds, times the number of the attempt."""
CLOSE_TIMEOUT = 0.2


class Probe(enum.Enum):
    """What is at an address."""

    REGISTRAR = "a registrar"
    ABSENT = "nothing"
    OCCUPIED = "something that is no registrar"


@trio.lowlevel.enable_ki_protection
async def probe_all(addrs: list[UnwrappedAddress]) -> dict[UnwrappedAddress, Probe]:
    """Probe every address, all at once; takes at most 3 s."""
    found = dict.fromkeys(addrs, Probe.OCCUPIED)

    async def one(addr: UnwrappedAddress) -> None:
        found[addr] = await _probe(addr)

    with trio.move_on_after(TOTAL_TIMEOUT):
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for addr in addrs:
                tn.start_soon(one, addr)
    return found


@trio.lowlevel.enable_ki_protection
async def _probe(addr: UnwrappedAddress) -> Probe:
    """One address.  That nothing accepts is certain at once; what accepts but does not answer is asked again."""
    for attempt in range(1, ATTEMPTS + 1):
        with trio.move_on_after(ATTEMPT_TIMEOUT):
            try:
                return await _attempt(addr)
            except OSError as exc:
                log.transport("nothing accepts at %s: %r", addr, exc)
                return Probe.ABSENT
            except TransportClosed as exc:
                log.transport("what accepts at %s did not identify itself: %s", addr, exc)
        await trio.sleep(PAUSE * attempt)
    return Probe.OCCUPIED


async def _attempt(addr: UnwrappedAddress) -> Probe:
    chan = Channel(await transport_from_addr(addr), "connect")
    try:
        aid = await chan.handshake(Aid("probe", os.urandom(16).hex(), os.getpid(), is_probe=True))
        return Probe.REGISTRAR if aid.is_registrar else Probe.OCCUPIED
    finally:
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await chan.aclose()
        chan.abort()
