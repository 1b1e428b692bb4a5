"""The host part of a TCP address: an IP literal or a DNS name, in one spelling each."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
# What resolvers read as a number, and so as (part of) an IPv4 address: '1', '0x7f', '0177'.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
# Printable ASCII; '%' and '/' can't be in a zone anyway.
_ZONE = re.compile(r"[!-~]+")


def parse_host(host: str) -> IPAddress | None:
    """The IP literal that ``host`` is, or `None` for a DNS name.

    Raises:
        ValueError: it is neither.
    """
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if literal is not None:
        zone = literal.scope_id if isinstance(literal, ipaddress.IPv6Address) else None
        if zone is None or _ZONE.fullmatch(zone):
            return literal
        raise ValueError(f"TCP host {host!r} has a zone that is not an interface's name or number")
    labels = host.removesuffix(".").split(".")
    # A numeric last label can only be a broken IPv4 literal ('256.0.0.1', '127.1').
    well_formed = len(host) <= 253 and all(_DNS_LABEL.fullmatch(label) for label in labels)
    if not well_formed or _NUMBER.fullmatch(labels[-1]):
        raise ValueError(f"TCP host {host!r} is neither an IP literal nor a DNS name")
    return None


def canonical_host(host: str) -> str:
    """The one spelling of ``host``: IP literals as the system prints them, DNS names in lower case.

    Raises:
        ValueError: it is neither an IP literal nor a DNS name.
    """
    literal = parse_host(host)
    if literal is None:
        return host.lower()
    if isinstance(literal, ipaddress.IPv6Address) and literal.ipv4_mapped is not None:
        # Python versions differ here.
        zone = f"%{literal.scope_id}" if literal.scope_id else ""
        return f"::ffff:{literal.ipv4_mapped}{zone}"
    return str(literal)


def plain_ip(host: str) -> IPAddress | None:
    """``host`` as an IP address, an IPv4 one mapped into IPv6 as itself; `None` for a DNS name.

    Raises:
        ValueError: it is neither.
    """
    literal = parse_host(host)
    if isinstance(literal, ipaddress.IPv6Address) and literal.ipv4_mapped is not None:
        return literal.ipv4_mapped
    return literal
