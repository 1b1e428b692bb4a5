"""Addresses in every form in which they are given: wrapping them, and choosing among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard, TypeVar

from tractor.address._maddr_text import split_maddr
from tractor.address._policy import is_local
from tractor.address._types import Address, TCPAddress, UDSAddress, UnwrappedAddress
from tractor.msg.types import Aid
from tractor.transport._table import (
    SCHEME,
    address_cls_of,
    get_address_cls,
    loaded_transports,
    transport_keys,
)

AnyAddrT = TypeVar("AnyAddrT")


def known_address_types() -> list[type[Address]]:
    """The address types of the transports that are loaded, the built-in ones first."""
    return [spec.address_type for spec in loaded_transports()]


def is_wrapped_addr(addr: object) -> TypeGuard[Address]:
    """Whether ``addr`` is an instance of a known address type."""
    return type(addr) in known_address_types()


def _scheme_of(addr: object) -> str | None:
    """The transport key that an unwrapped address ``('<key>://...', x)`` names; ``None`` for every other object."""
    if isinstance(addr, tuple | list) and len(addr) == 2 and isinstance(addr[0], str):
        match = SCHEME.match(addr[0])
        return match and match[1]
    return None


def wrap_pair(addr: object) -> Address:
    """``addr`` itself if it is wrapped, else the wrapped form of the pair.

    Raises:
        TypeError: it is neither.
        ValueError: it is a pair, but names no possible address, or one of a transport that is not installed.
        ImportError: it is of another package's transport, which can't be loaded.
    """
    if is_wrapped_addr(addr):
        return addr
    key = _scheme_of(addr)
    if key is not None:
        cls = address_cls_of(key)
        if cls is None:
            raise ValueError(
                f"{addr!r} is an address of the transport {key!r}, which is not installed: "
                f"known are {transport_keys()}"
            )
        return cls.from_addr(addr)
    own_key = getattr(type(addr), "proto_key", None)
    if isinstance(own_key, str) and address_cls_of(own_key) is type(addr):
        return addr
    for cls in known_address_types():
        if cls.recognises(addr):
            return cls.from_addr(addr)
    raise TypeError(
        f"{addr!r} is not an address: give (host: str, port: int), (directory: str, filename: str), "
        "a multiaddr string ('/...'), or a wrapped address"
    )


def parse_maddr(maddr_str: str) -> Address:
    """The wrapped address that a multiaddr string names.

    ``dns4`` and ``dns6`` give the same address as ``dns``: which family a name resolves to is left
    to the resolver.

    Raises:
        ValueError: the string has none of the forms ``/ip4/H/tcp/P``, ``/ip6/H/tcp/P``, ``/dns/H/tcp/P`` (``dns4``,
            ``dns6``), ``/unix/PATH`` and ``/shm/PATH``; it is named in the text.  Or it is of a transport that is not
            there on this platform.
        TypeError: ``maddr_str`` is not a string.
    """
    if not isinstance(maddr_str, str):
        raise TypeError(f"a multiaddr is a string, not {maddr_str!r}")
    key, pair = split_maddr(maddr_str)
    try:
        if key == "shm":
            return wrap_pair(pair)
        # By type, not by the table of known transports: a UDS address can be named everywhere.
        return UDSAddress.from_addr(pair) if key == "uds" else TCPAddress.from_addr(pair)
    except ValueError as error:
        raise ValueError(f"bad multiaddr {maddr_str!r}: {error}") from None


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
    return wrap_pair(addr)


def wrap_addresses(addrs: Iterable[object] | None, argument: str) -> list[Address]:
    """The wrapped forms of a list of addresses that somebody was given as ``argument``.

    Args:
        addrs: addresses in any form; `None` stands for none.
        argument: its name, for the errors.

    Raises:
        TypeError: one of ``addrs`` is not an address, or ``addrs`` is a single address in place of a list.
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
    return not is_list_of_maddrs and any(cls.recognises(addr) for cls in known_address_types())


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


def random_addrs(
    keys: Iterable[str], aid: Aid, beside: Sequence[UnwrappedAddress] = ()
) -> list[Address]:
    """A random address for each transport; ``beside`` the registrar that has it too, where that is on this host."""
    spaces = {a.proto_key: a.bindspace for a in map(wrap_address, beside) if is_local(a)}
    return [
        get_address_cls(key).get_random(spaces.get(key), name=aid.name, pid=aid.pid, uuid=aid.uuid)
        for key in keys
    ]
