"""Addresses: made, wrapped, written and read.

What to learn: an address is a value; what an actor listens on is told as `/ip4/…` or `/unix/…` text.
"""

import trio

from tractor import discovery
from tractor.discovery import Address, TCPAddress


def written(addr: Address) -> str:
    return discovery.mk_maddr(addr)


def of_transports() -> None:
    """The type of address that a transport has, and where to listen by default."""
    assert discovery.get_address_cls("tcp") is TCPAddress
    (default,) = discovery.default_lo_addrs(["tcp"])
    print("the default:", default)


def plain_or_not() -> None:
    """What travels is plain data; both are taken wherever an address is asked for."""
    address = TCPAddress("127.0.0.1", 7000)
    assert discovery.is_wrapped_addr(address)
    assert not discovery.is_wrapped_addr(address.unwrap())
    assert discovery.wrap_address(("127.0.0.1", 7000)) == address
    print("preferred:", discovery.prefer_addr([address]))


def as_text() -> None:
    """There and back; a table of names is read as a whole."""
    text = written(TCPAddress("127.0.0.1", 7000))
    print(text)
    assert discovery.parse_maddr(text) == TCPAddress("127.0.0.1", 7000)
    table = discovery.parse_endpoints({"quotes": [text]})
    print(table["quotes"])


async def main() -> None:
    of_transports()
    plain_or_not()
    as_text()
    print("a name that nobody has:", len(discovery.mk_uuid()) > 8)


if __name__ == "__main__":
    trio.run(main)
