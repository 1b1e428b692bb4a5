"""A tree whose actors talk over Unix domain sockets.

What to learn:

- `enable_transports=['uds']` on the root is all it takes; children inherit it.
- A socket file is an address: a directory, which only its owner may enter, and a file name.
- The kernel tells who is at the other end. A process can't pretend to be another one, or another
  user.
"""

import os

import trio

import tractor
from tractor.discovery import UDSAddress


async def my_address() -> tuple[str, str | int]:
    """Run in the child: where it listens."""
    return tractor.current_actor().accept_addr


async def my_pid() -> int:
    """Run in the child."""
    return os.getpid()


async def main() -> None:
    """One child, seen through its connection."""
    async with tractor.open_nursery(enable_transports=["uds"]) as an:
        portal = await an.start_actor("neighbour", enable_modules=[__name__])

        peer = portal.chan.raddr
        assert isinstance(peer, UDSAddress)
        print(f"protocol:              {peer.proto_key}")
        print(f"socket file:           {peer.sockpath}")
        print(f"peer pid, by kernel:   {peer.maybe_pid}")
        assert peer.maybe_pid == await portal.run(my_pid)

        directory, filename = await portal.run(my_address)
        print(f"the child listens on:  {filename} in {directory}")

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
