"""Endpoints of the tests of trees whose TCP is encrypted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tractor


async def about() -> dict[str, Any]:
    """What this actor knows and how it is connected."""
    from tractor.transport._settings import wire_settings

    actor = tractor.current_actor()
    assert actor.parent_chan is not None
    tls = wire_settings().tls
    return {
        "parent": type(actor.parent_chan.transport).__name__,
        "listens": [addr.proto_key for addr in actor.ipc_server.addrs],
        "certfile": None if tls is None else tls.certfile,
        "pid": os.getpid(),
        "visible": Path("/proc/self/cmdline").read_text() + Path("/proc/self/environ").read_text()
        if Path("/proc/self").exists()
        else "",
    }


async def road_to(name: str) -> str:
    """The kind of transport by which another actor is reached."""
    async with tractor.find_actor(name) as portal:
        assert isinstance(portal, tractor.Portal)
        return type(portal.chan.transport).__name__


async def below() -> dict[str, Any]:
    """What a child of this actor says."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("grandchild", enable_modules=[__name__])
        found: dict[str, Any] = await portal.run(about)
        await an.cancel()
        return found


@tractor.context
async def echo(ctx: tractor.Context) -> int:
    """Sends back what comes; the number of items at the end."""
    await ctx.started()
    count = 0
    async with ctx.open_stream(backpressure=True) as stream:
        async for item in stream:
            count += 1
            await stream.send(item)
    return count


async def die() -> None:
    """End as by SIGKILL."""
    os._exit(7)
