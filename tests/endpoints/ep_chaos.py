"""What the actors of the chaos suite do."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import trio

import tractor

Spec = list[Any]
"""An actor's place and the specs of those below it."""


def name_of(path: str) -> str:
    """The name of the actor at a place."""
    return f"chaos-{path}"


async def echo(value: Any) -> Any:
    return value


async def own_pid() -> int:
    return os.getpid()


async def slow(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def fail(text: str) -> None:
    raise ValueError(text)


async def count(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


@tractor.context
async def dialog(ctx: tractor.Context, n: int) -> int:
    """Send back what comes; the result is how many there were."""
    await ctx.started(n)
    seen = 0
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)
            seen += 1
    return seen


async def die(how: str) -> None:
    """End this process, without a word."""
    if how == "os._exit":
        os._exit(3)
    ctypes.string_at(0)


async def block(seconds: float) -> None:
    """Keep this actor's loop from running."""
    time.sleep(seconds)


@tractor.context
async def grow(ctx: tractor.Context, spec: Spec) -> None:
    """Be the actor of a spec: start those below; the first value is everybody's pid by place."""
    path, below = spec
    pids = {path: os.getpid()}
    async with tractor.open_nursery() as an, trio.open_nursery() as tn:

        async def start(child: Spec) -> None:
            portal = await an.start_actor(
                name_of(child[0]), enable_modules=[__name__], inherit_parent_main=False
            )
            pids.update(await tn.start(hold, portal, child))

        async with trio.open_nursery() as starting:
            for child in below:
                starting.start_soon(start, child)
        await ctx.started(pids)
        await trio.sleep_forever()


async def hold(
    portal: tractor.Portal, spec: Spec, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep the context of an actor below open; its end is an error here."""
    async with portal.open_context(grow, spec=spec) as (ctx, pids):
        task_status.started(pids)
        await ctx.wait_for_result()
