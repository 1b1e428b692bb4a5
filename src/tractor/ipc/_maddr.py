"""Multiaddrs: addresses as strings for people and configuration files.

Forms: ``/ip4/H/tcp/P``, ``/ip6/H/tcp/P``, ``/dns/H/tcp/P`` (also ``dns4``, ``dns6``) and
``/unix/PATH``. The path of a ``unix`` form is the rest of the string as it stands, nothing in it is
encoded.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tractor.ipc._addr_types import (
    Address,
    TCPAddress,
    UDSAddress,
    UnwrappedAddress,
    parse_host,
    wrap_plain,
)

_FORMS = "/ip4/H/tcp/P, /ip6/H/tcp/P, /dns/H/tcp/P (dns4, dns6), /unix/PATH"
_HOST_KINDS = ("ip4", "ip6", "dns", "dns4", "dns6")
_PORT = re.compile(r"[0-9]{1,5}")


def mk_maddr(addr: Address | UnwrappedAddress) -> str:
    """The multiaddr string of a wrapped or unwrapped address.

    Raises:
        TypeError: ``addr`` is no address.
        ValueError: its transport has no multiaddr form.
    """
    wrapped = wrap_plain(addr)
    if isinstance(wrapped, TCPAddress):
        literal = parse_host(wrapped.host)
        kind = "dns" if literal is None else f"ip{literal.version}"
        return f"/{kind}/{wrapped.host}/tcp/{wrapped.port}"
    if isinstance(wrapped, UDSAddress):
        return "/unix/" + wrapped.sockpath.as_posix().lstrip("/")
    raise ValueError(
        f"an address of transport {wrapped.proto_key!r} has no multiaddr form: {wrapped!r}"
    )


def parse_maddr(maddr: str) -> Address:
    """The wrapped address that a multiaddr string names.

    ``dns4`` and ``dns6`` give the same address as ``dns``: which family a name resolves to is left
    to the resolver.

    Raises:
        ValueError: the string has none of the known forms; it is named in the text.
        TypeError: ``maddr`` is no string.
    """
    if not isinstance(maddr, str):
        raise TypeError(f"a multiaddr is a string, not {maddr!r}")
    lead, _, rest = maddr.partition("/")
    kind, _, tail = rest.partition("/")
    try:
        if not lead and kind == "unix":
            return _parse_unix(tail)
        if not lead and kind in _HOST_KINDS:
            return _parse_tcp(kind, tail)
    except ValueError as error:
        raise ValueError(f"bad multiaddr {maddr!r}: {error}") from None
    raise ValueError(f"bad multiaddr {maddr!r}: not one of the forms {_FORMS}")


def _parse_unix(tail: str) -> UDSAddress:
    path = PurePosixPath("/", tail.lstrip("/"))
    if not path.name or tail.endswith("/"):
        raise ValueError("the path names no file")
    return UDSAddress(str(path.parent), path.name)


def _parse_tcp(kind: str, tail: str) -> TCPAddress:
    parts = tail.split("/")
    if len(parts) != 3 or parts[1] != "tcp":
        raise ValueError(f"expected /{kind}/HOST/tcp/PORT")
    host, _, port = parts
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"{port!r} is no TCP port")
    if kind == "ip4":
        ipaddress.IPv4Address(host)
    elif kind == "ip6":
        ipaddress.IPv6Address(host)
    addr = TCPAddress(host, int(port))
    if kind.startswith("dns") and addr.ip is not None:
        raise ValueError(f"{host!r} is an IP literal, no DNS name")
    return addr


def parse_endpoints(table: Mapping[str, Iterable[object]]) -> dict[str, list[Address]]:
    """The addresses of each named endpoint, in order.

    Args:
        table: names to lists of multiaddr strings; wrapped and unwrapped addresses are taken too.

    Raises:
        ValueError: an entry is a string that is no multiaddr; text names the endpoint and the
            string.
        TypeError: an entry is no address, or an endpoint has a bare string in place of a list.
    """
    found: dict[str, list[Address]] = {}
    for name, entries in table.items():
        if isinstance(entries, str):
            raise TypeError(
                f"endpoint {name!r}: expected a list of multiaddrs, not the string {entries!r}"
            )
        try:
            found[name] = [
                parse_maddr(entry) if isinstance(entry, str) else wrap_plain(entry)
                for entry in entries
            ]
        except (ValueError, TypeError) as error:
            raise type(error)(f"endpoint {name!r}: {error}") from error
    return found
