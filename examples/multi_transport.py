"""One actor that listens on TCP and on a Unix domain socket, reached over both.

What to learn:

- An actor may listen on several transports; the registrar keeps all its addresses.
- A peer that only knows the name gets the best of them: on one host that is the socket file.
- A connection can also be made to one certain address.
"""

import trio

import tractor
from tractor.discovery import UDSAddress, maybe_open_portal, prefer_addr, wrap_address

NAME = "bilingual"


async def answer() -> str:
    """Run in the actor that listens on both."""
    return "I can hear you"


async def look_up(name: str) -> str:
    """Run in a client that knows only the name: the protocol of the connection it was given."""
    async with tractor.find_actor(name) as portal:
        assert isinstance(portal, tractor.Portal)
        protocol: str = portal.chan.raddr.proto_key
        return protocol


async def main() -> None:
    """Connect over each transport, then let a lookup choose."""
    async with tractor.open_nursery(
        # The registrar itself needs one address only.
        registry_addrs=[UDSAddress.get_root().unwrap()],
        enable_transports=["tcp", "uds"],
    ) as an:
        await an.start_actor(NAME, enable_modules=[__name__])

        async with tractor.get_registry() as registrar:
            addresses = await registrar.run_from_ns("self", "find_actor", name=NAME)
        for address in map(wrap_address, addresses):
            async with maybe_open_portal(address.unwrap(), NAME) as portal:
                assert portal is not None
                print(f"{address.proto_key}  {address.unwrap()}: {await portal.run(answer)}")
        assert {wrap_address(address).proto_key for address in addresses} == {"tcp", "uds"}

        client = await an.start_actor("client", enable_modules=[__name__])
        chosen = await client.run(look_up, name=NAME)
        print(f"a lookup by name prefers {chosen}")
        assert chosen == wrap_address(prefer_addr(addresses)).proto_key == "uds"

        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
