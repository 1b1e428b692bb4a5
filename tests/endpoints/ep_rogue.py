"""A genuine child that tells its parent lies."""

from __future__ import annotations

import os
import time
from typing import Any

import trio

import tractor
from tractor.runtime.dialog._caller import request


async def tell(requests: list[tuple[str, dict[str, Any]]]) -> None:
    """Make requests of the parent, and wait for the answers; see that each was served."""
    chan = tractor.current_actor().parent_chan
    assert chan is not None
    for name, kwargs in requests:
        reply = await request(chan, name, **kwargs).wait()
        assert type(reply).__name__ == "Return", reply


async def never_go(request_: str, kwargs: dict[str, Any], marker: str) -> None:
    """Do not end when asked to, and say all the time that there is a reason."""
    chan = tractor.current_actor().parent_chan
    assert chan is not None
    open(marker, "w").close()
    with trio.CancelScope(shield=True):
        while True:
            request(chan, request_, **kwargs)
            await trio.sleep(0.05)


async def crash_after(requests: list[tuple[str, dict[str, Any]]]) -> None:
    """Say something, then die."""
    await tell(requests)
    os._exit(7)


@tractor.context
async def fork_helper(ctx: tractor.Context) -> None:
    """A real process below this one, which the parent is told of."""
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    chan = tractor.current_actor().parent_chan
    assert chan is not None
    from tractor.process._stat import ProcessId

    await tell([("_descendants", {"up": [ProcessId.of(pid)], "gone": []})])
    await ctx.started(pid)
    await trio.sleep_forever()
