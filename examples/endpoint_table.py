"""A system whose addresses stand in a file: its actors are started there, and found over each road.

What to learn:

- `load_endpoints()` reads names and multiaddrs from a TOML file, and names what is wrong with it.
- An address from the table is taken wherever an address is: for registrars, for listening, for connecting.
- An actor on two transports is found over either; left to itself, a look-up takes the nearer one.
"""

import socket
import tempfile
from pathlib import Path

import trio

import tractor
from tractor.discovery import Address, load_endpoints, maybe_open_portal, mk_maddr

TABLE = """\
# Who is where.  A single multiaddr, or a list of them.
registry = "/unix{folder}/registry.sock"
quotes = ["/ip4/127.0.0.1/tcp/{port}", "/unix{folder}/quotes.sock"]
weather = ["/unix{folder}/weather.sock"]
"""


async def whoami() -> str:
    """Run in a service."""
    return tractor.current_actor().name


async def nearest(name: str) -> str:
    """Run in a client, which knows only the name: the road by which it reaches a service."""
    async with tractor.find_actor(name, raise_on_none=True) as portal:
        assert isinstance(portal, tractor.Portal)
        road: str = portal.chan.raddr.proto_key
        return road


def write_table(folder: Path) -> Path:
    """Stands for the file that an administrator keeps; only the port is one that is free just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = folder / "endpoints.toml"
    path.write_text(TABLE.format(folder=folder, port=port))
    return path


async def use(endpoints: dict[str, list[Address]]) -> None:
    """Start every service of the table where the table says, and reach it there."""
    services = {name: addrs for name, addrs in endpoints.items() if name != "registry"}
    async with tractor.open_nursery(
        registry_addrs=endpoints["registry"], enable_transports=["tcp", "uds"]
    ) as an:
        for name, addrs in services.items():
            await an.start_actor(name, bind_addrs=addrs, enable_modules=[__name__])

        for name, addrs in services.items():
            for addr in addrs:
                async with maybe_open_portal(addr, name) as portal:
                    assert portal is not None
                    print(f"{await portal.run(whoami)} answers at {mk_maddr(addr)}")

        for road in ("tcp", "uds"):
            async with tractor.find_actor("quotes", enable_transports=[road]) as found:
                assert isinstance(found, tractor.Portal)
                assert found.chan.raddr.proto_key == road
                print(f"quotes was found over {road}")
        async with tractor.find_actor("weather", enable_transports=["tcp"]) as found:
            print(f"weather over tcp: {found}")

        client = await an.start_actor("client", enable_modules=[__name__])
        print(f"left to itself, a client takes {await client.run(nearest, name='quotes')}")
        await an.cancel()


async def main() -> None:
    """Write a table, read it, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        await use(load_endpoints(write_table(Path(folder))))


if __name__ == "__main__":
    trio.run(main)
