"""Addresses: wrapping, checking, and choosing among them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TypeVar

from tractor.ipc._addr_types import HAS_UDS as HAS_UDS
from tractor.ipc._addr_types import Address as Address
from tractor.ipc._addr_types import TCPAddress as TCPAddress
from tractor.ipc._addr_types import UDSAddress as UDSAddress
from tractor.ipc._addr_types import UnwrappedAddress as UnwrappedAddress
from tractor.ipc._addr_types import is_wrapped_addr as is_wrapped_addr
from tractor.ipc._addr_types import known_address_types, wrap_plain
from tractor.ipc._addr_types import mk_uuid as mk_uuid
from tractor.ipc._addr_types import register_address_cls as register_address_cls
from tractor.ipc._maddr import parse_maddr

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


def get_address_cls(key: str) -> type[Address]:
    """The address type of the transport ``key``.

    Raises:
        NotImplementedError: no such transport here; the text lists the known keys.
    """
    types = known_address_types()
    try:
        return types[key]
    except KeyError:
        raise NotImplementedError(
            f"no transport {key!r} on this platform: known are {sorted(types)}"
        ) from None


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
        return "the path must be absolute and fit into a socket address"
    return "the address is not valid"


def is_local(addr: Address) -> bool:
    """Whether ``addr`` is on this machine, as far as can be told without asking the network.

    A TCP host is if it is a loopback or wildcard address, an address of an own interface,
    ``localhost`` or the own host name; other DNS names are not resolved and count as remote. A UDS
    address is if its file exists here.
    """
    if isinstance(addr, UDSAddress):
        return os.path.lexists(addr.sockpath)
    if not isinstance(addr, TCPAddress):
        return True
    if addr.is_loopback or addr.is_wildcard:
        return True
    if addr.ip is None:
        return addr.host == socket.gethostname().lower()
    family = socket.AF_INET if addr.ip.version == 4 else socket.AF_INET6
    try:
        # Only an address of an own interface can be bound; to find out takes no packet.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(addr.ip), 0))
    except OSError:
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
