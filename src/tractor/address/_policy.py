"""Addresses: wrapping, checking, and choosing among them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tractor._util._plain import plain
from tractor.address._types import HAS_UDS as HAS_UDS
from tractor.address._types import (
    SUN_PATH_SIZE,
    address_cls_of,
    known_address_types,
    transport_keys,
    wrap_plain,
)
from tractor.address._types import Address as Address
from tractor.address._types import TCPAddress as TCPAddress
from tractor.address._types import UDSAddress as UDSAddress
from tractor.address._types import UnwrappedAddress as UnwrappedAddress
from tractor.address._types import is_wrapped_addr as is_wrapped_addr
from tractor.address._types import mk_uuid as mk_uuid
from tractor.address._types import register_address_cls as register_address_cls
from tractor.transport._maddr import parse_maddr

AnyAddrT = TypeVar("AnyAddrT")


def wrap_address(addr: object) -> Address:
    """The wrapped form of an address.

    Args:
        addr: a wrapped address (returned as it is), an unwrapped one (a tuple, or a list as it
            comes out of msgpack: ``(str, int)`` is TCP, ``(str, str)`` UDS), or a multiaddr string.

    Raises:
        TypeError: ``addr`` has none of these forms.
        ValueError: it has one of them, but names no possible address.
    """
    if isinstance(addr, str) and addr.startswith("/"):
        return parse_maddr(addr)
    return wrap_plain(addr)


def one_or_several(
    several: Sequence[UnwrappedAddress | Address | str] | None,
    one: UnwrappedAddress | Address | str | None,
) -> Sequence[UnwrappedAddress | Address | str] | None:
    """What was given as ``registry_addrs=`` or, for a single one, as ``registry_addr=``.  Raises TypeError for both."""
    if one is None:
        return several
    if several is not None:
        raise TypeError(f"give `registry_addrs` or `registry_addr`, not both: {several!r}, {one!r}")
    return [one]


def wrap_addresses(addrs: Iterable[object] | None, argument: str) -> list[Address]:
    """The wrapped forms of a list of addresses that somebody was given as ``argument``.

    Args:
        addrs: addresses in any form; `None` stands for none.
        argument: its name, for the errors.

    Raises:
        TypeError: one of ``addrs`` is no address, or ``addrs`` is a single address in place of a list.
        ValueError: one has the form of an address, but names no possible one.
    """
    if addrs is None:
        return []
    single = isinstance(addrs, str | bytes | Mapping) or not isinstance(addrs, Iterable)
    if single or is_wrapped_addr(addrs) or _is_unwrapped(addrs):
        raise TypeError(f"`{argument}` is a list of addresses, not {addrs!r}")
    found = []
    for addr in addrs:
        try:
            found.append(wrap_address(addr))
        except (TypeError, ValueError) as error:
            raise type(error)(f"`{argument}`: {error}") from None
    return found


def _is_unwrapped(addr: object) -> bool:
    # A list of two multiaddrs is a list of addresses, though it looks like a UDS pair.
    is_list_of_maddrs = isinstance(addr, tuple | list) and all(
        isinstance(part, str) and part.startswith("/") for part in addr
    )
    return not is_list_of_maddrs and any(
        cls.recognises(addr) for cls in known_address_types().values()
    )


def get_address_cls(key: str) -> type[Address]:
    """The address type of the transport ``key``, built in or of another package.

    Raises:
        NotImplementedError: no such transport here; the text lists the known keys.
        ImportError: another package has that transport, but it can't be loaded.
    """
    found = address_cls_of(key)
    if found is None:
        raise NotImplementedError(
            f"no transport {key!r} on this platform: known are {transport_keys()}"
        )
    return found


def known_transports(keys: Iterable[str]) -> list[str]:
    """The transports that somebody was given as ``enable_transports``, each once, in that order.

    Raises:
        NotImplementedError: there is no such transport here.
        ValueError: none is named.
    """
    given = [keys] if isinstance(keys, str) else keys
    found = list(dict.fromkeys(map(plain, given)))
    if not found:
        raise ValueError(
            "`enable_transports` is empty; name at least one of 'tcp', 'uds', or leave it out"
        )
    for key in found:
        get_address_cls(key)
    return found


def default_lo_addrs(keys: Iterable[str]) -> list[UnwrappedAddress]:
    """The default registry address of each transport in ``keys``, unwrapped, in that order.

    Raises:
        NotImplementedError: a key is of no known transport.
    """
    return [get_address_cls(key).get_root().unwrap() for key in keys]


def require_bindable(addr: Address) -> None:
    """Check that ``addr`` can be listened on: it is valid, or has TCP port 0 beside a good host.

    Raises:
        ValueError: it is not; the text names it.
    """
    probe = TCPAddress(addr.host, 1) if isinstance(addr, TCPAddress) and addr.port == 0 else addr
    if not probe.is_valid:
        raise ValueError(f"cannot listen on {addr!r}: {_why_invalid(addr)}")


def require_connectable(addr: Address) -> None:
    """Check that ``addr`` is one definite address that a peer can connect to.

    Raises:
        ValueError: it is not; the text names it.
    """
    if not addr.is_valid:
        raise ValueError(f"cannot connect to {addr!r}: {_why_invalid(addr)}")
    if isinstance(addr, TCPAddress) and addr.is_wildcard:
        raise ValueError(
            f"cannot connect to {addr!r}: a wildcard host stands for no single address"
        )


def _why_invalid(addr: Address) -> str:
    if isinstance(addr, TCPAddress):
        if 1 <= addr.port <= 65535:
            return "the host is a multicast address"
        return "the port must be in 1..65535"
    if isinstance(addr, UDSAddress):
        if not addr.sockpath.is_absolute():
            return "the path must be absolute"
        size = len(os.fsencode(addr.sockpath))
        return f"a path of {size} bytes is over the {SUN_PATH_SIZE - 1} of a socket address"
    return "the address is not valid"


def from_this_host(addr: Address) -> Address:
    """The address at which an actor of this host reaches a listener that is bound to ``addr``.

    That is ``addr``, but for a TCP wildcard the loopback address of its family.
    """
    if not isinstance(addr, TCPAddress) or not addr.is_wildcard:
        return addr
    return TCPAddress("::1" if ":" in addr.host else "127.0.0.1", addr.port)


def is_local(addr: Address) -> bool:
    """Whether ``addr`` is on this machine, as far as can be told without asking the network.

    A TCP host is if it is a loopback or wildcard address, an address of an own interface,
    ``localhost`` or the own host name; other DNS names are not resolved and count as remote. A UDS
    address is if its file exists here; one of another package's transport is if its ``is_loopback`` says so.
    """
    if isinstance(addr, UDSAddress):
        return os.path.lexists(addr.sockpath)
    if not isinstance(addr, TCPAddress):
        return bool(getattr(addr, "is_loopback", False))
    if addr.is_loopback or addr.is_wildcard:
        return True
    if addr.ip is None:
        return addr.host.removesuffix(".") == socket.gethostname().lower()
    try:
        # Only resolved for its zone, which `bind` does not read; no name server is asked for a literal.
        family, kind, _, _, sockaddr = socket.getaddrinfo(
            str(addr.ip), 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        # Only an address of an own interface can be bound; to find out takes no packet.
        with socket.socket(family, kind) as probe:
            probe.bind(sockaddr)
    except (OSError, UnicodeError):
        return False
    return True


def rank_addrs(addrs: Iterable[AnyAddrT]) -> list[AnyAddrT]:
    """All of ``addrs`` in the order in which to try them, each in the form in which it was given.

    First what this host reaches without TCP (UDS whose file is here), then TCP on this host, other
    TCP, and last UDS whose file is not here. In each tier the newest first, that is the last of
    ``addrs``.

    Raises:
        TypeError, ValueError: as `wrap_address()` for an entry.
    """
    newest_first = list(addrs)[::-1]
    # The sort is stable, which keeps the newest first within a tier.
    return sorted(newest_first, key=lambda addr: _tier(wrap_address(addr)))


def _tier(addr: Address) -> int:
    local = is_local(addr)
    if isinstance(addr, TCPAddress):
        return 1 if local else 2
    return 0 if local else 3


def prefer_addr(addrs: Iterable[AnyAddrT]) -> AnyAddrT:
    """The best of ``addrs`` to connect to, as it was given: the first of `rank_addrs()`.

    Raises:
        ValueError: ``addrs`` is empty.
        TypeError, ValueError: as `wrap_address()` for an entry.
    """
    ranked = rank_addrs(addrs)
    if not ranked:
        raise ValueError("no address to choose from: the list is empty")
    return ranked[0]
