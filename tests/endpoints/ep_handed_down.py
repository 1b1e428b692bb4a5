"""What an actor was born with."""

from __future__ import annotations

import os
import resource
import sys

import tractor


async def told() -> dict[str, object]:
    """Limits, sockets and the import path of this process."""
    socks = tractor.inherited_sockets()
    return {
        "nofile": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
        "sockets": {name: list(sock.getsockname()) for name, sock in socks.items()},
        "same": socks == tractor.inherited_sockets(),
        "inheritable": [os.get_inheritable(sock.fileno()) for sock in socks.values()],
        "first": sys.path[0],
    }


async def told_below() -> dict[str, object]:
    """The same of an actor below this one."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        found = await portal.run(told)
        await portal.cancel_actor()
    return found
