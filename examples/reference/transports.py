"""Channels and transports by hand, in one process.

What to learn: what carries the messages of a tree. A program needs this for a transport of its own, or in tests.
"""

import trio

import tractor
from tractor import ipc
from tractor.ipc import Channel, MsgTransport


def in_memory() -> tuple[Channel, Channel]:
    """Both ends of a connection that needs no socket."""
    near, far = ipc.memory_pair()
    assert isinstance(near, ipc.MemoryTransport)
    return Channel(near, "connect"), Channel(far, "accept")


async def by_hand(endpoint: ipc.Endpoint) -> ipc.MsgpackTransport:
    """Connect to an address, without a channel."""
    transport = await ipc.transport_from_addr(endpoint.addr)
    print("a transport of", transport.layer_key)
    return transport


async def as_peer(server: ipc.Server) -> None:
    """A channel to an actor that listens; the opening exchange is done."""
    async with ipc.connect_chan(server.accept_addrs[0]) as chan:
        print("connected:", chan.connected())


def kinds(transport: MsgTransport) -> str:
    match transport:
        case ipc.MsgpackTCPStream():
            return "by TCP"
        case ipc.MsgpackUDSStream():
            return "by a Unix socket"
    return "by something else"


async def main() -> None:
    near, far = in_memory()
    print("in memory:", near.connected() and far.connected())
    await near.aclose()
    await far.aclose()
    async with tractor.open_root_actor(enable_transports=["tcp"]):
        server: ipc.Server = tractor.current_actor().ipc_server
        for endpoint in server.endpoints:
            transport = await by_hand(endpoint)
            print(kinds(transport))
            await Channel(transport, "connect").aclose()
        await as_peer(server)


if __name__ == "__main__":
    trio.run(main)
