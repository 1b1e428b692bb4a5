"""Multiaddrs: addresses as strings for people and configuration files; see `_maddr_text` for the forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tractor.address._maddr_text import split_maddr, tcp_maddr, uds_maddr
from tractor.address._types import (
    Address,
    TCPAddress,
    UDSAddress,
    UnwrappedAddress,
    wrap_plain,
)


def mk_maddr(addr: Address | UnwrappedAddress | str) -> str:
    """The multiaddr string of an address; of a multiaddr string its usual spelling.

    Raises:
        TypeError: ``addr`` is no address.
        ValueError: its transport has no multiaddr form, it is a relative path, or a bad multiaddr.
    """
    wrapped = parse_maddr(addr) if isinstance(addr, str) and addr[:1] == "/" else wrap_plain(addr)
    if isinstance(wrapped, TCPAddress):
        return tcp_maddr(wrapped.host, wrapped.port)
    if isinstance(wrapped, UDSAddress):
        path = PurePosixPath(wrapped.sockpath.as_posix())
        if not path.is_absolute():
            raise ValueError(
                f"{wrapped!r} has no multiaddr form: its path is relative, and one in a multiaddr is absolute"
            )
        return uds_maddr(path, "unix" if wrapped.proto_key == "uds" else wrapped.proto_key)
    raise ValueError(
        f"an address of transport {wrapped.proto_key!r} has no multiaddr form: {wrapped!r}"
    )


def parse_maddr(maddr_str: str) -> Address:
    """The wrapped address that a multiaddr string names.

    ``dns4`` and ``dns6`` give the same address as ``dns``: which family a name resolves to is left
    to the resolver.

    Raises:
        ValueError: the string has none of the forms ``/ip4/H/tcp/P``, ``/ip6/H/tcp/P``, ``/dns/H/tcp/P`` (``dns4``,
            ``dns6``), ``/unix/PATH`` and ``/shm/PATH``; it is named in the text.  Or it is of a transport that is not
            there on this platform.
        TypeError: ``maddr_str`` is no string.
    """
    if not isinstance(maddr_str, str):
        raise TypeError(f"a multiaddr is a string, not {maddr_str!r}")
    key, pair = split_maddr(maddr_str)
    try:
        if key == "shm":
            return wrap_plain(pair)
        # By type, not by the table of known transports: a UDS address can be named everywhere.
        return UDSAddress.from_addr(pair) if key == "uds" else TCPAddress.from_addr(pair)
    except ValueError as error:
        raise ValueError(f"bad multiaddr {maddr_str!r}: {error}") from None


def parse_endpoints(service_table: Mapping[str, Iterable[object]]) -> dict[str, list[Address]]:
    """The addresses of each named endpoint, in order.

    Args:
        service_table: names to lists of multiaddr strings; wrapped and unwrapped addresses are taken too.

    Raises:
        ValueError: an entry is a string that is no multiaddr; text names the endpoint and the
            string.
        TypeError: an entry is no address, or an endpoint has a bare string in place of a list.
    """
    found: dict[str, list[Address]] = {}
    for name, entries in service_table.items():
        if isinstance(entries, str) or not isinstance(entries, Iterable):
            raise TypeError(f"endpoint {name!r}: expected a list of multiaddrs, not {entries!r}")
        try:
            found[name] = [
                parse_maddr(entry) if isinstance(entry, str) else wrap_plain(entry)
                for entry in entries
            ]
        except (ValueError, TypeError) as error:
            raise type(error)(f"endpoint {name!r}: {error}") from error
    return found
