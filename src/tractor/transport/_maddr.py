"""Multiaddrs: addresses as strings for users and configuration files; see `address/_maddr_text.py` for the forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tractor.address._policy import maddr_of
from tractor.address._types import Address, UnwrappedAddress
from tractor.transport._addresses import parse_maddr, wrap_address, wrap_pair


def mk_maddr(addr: Address | UnwrappedAddress | str) -> str:
    """The multiaddr string of an address; of a multiaddr string its usual spelling.

    Raises:
        TypeError: ``addr`` is not an address.
        ValueError: its transport has no multiaddr form, it is a relative path, or a bad multiaddr.
    """
    return maddr_of(wrap_address(addr))


def parse_endpoints(service_table: Mapping[str, Iterable[object]]) -> dict[str, list[Address]]:
    """The addresses of each named endpoint, in order.

    Args:
        service_table: names to lists of multiaddr strings; wrapped and unwrapped addresses are taken too.

    Raises:
        ValueError: an entry is a string that is not a multiaddr; text names the endpoint and the
            string.
        TypeError: an entry is not an address, or an endpoint has a bare string in place of a list.
    """
    found: dict[str, list[Address]] = {}
    for name, entries in service_table.items():
        if isinstance(entries, str) or not isinstance(entries, Iterable):
            raise TypeError(f"endpoint {name!r}: expected a list of multiaddrs, not {entries!r}")
        try:
            found[name] = [
                parse_maddr(entry) if isinstance(entry, str) else wrap_pair(entry)
                for entry in entries
            ]
        except (ValueError, TypeError) as error:
            raise type(error)(f"endpoint {name!r}: {error}") from error
    return found
