"""A tree of three levels that does what a trace is held against."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator

import trio

import tractor
from tractor.runtime.seen._told import TOLD


async def nap(seconds: float) -> float:
    """Take so long, as a call; the seconds that it took."""
    begun = time.monotonic()
    await trio.sleep(seconds)
    return time.monotonic() - begun


async def is_recorded() -> bool:
    """Whether somebody records this actor."""
    return bool(TOLD.instruments)


async def is_recorded_below(name: str) -> bool:
    """Whether somebody records another."""
    async with tractor.wait_for_actor(name) as portal:
        return await portal.run(is_recorded)


async def compute(seconds: float) -> float:
    """Let the loop stand still; the seconds that it took."""
    begun = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begun


async def relay(name: str, seconds: float) -> None:
    """Have another actor take so long."""
    async with tractor.wait_for_actor(name) as portal:
        await portal.run(nap, seconds=seconds)


async def stuck() -> None:
    """Never return."""
    await trio.sleep_forever()


async def die() -> None:
    """End the process at once, in the midst of this."""
    os.kill(os.getpid(), signal.SIGKILL)


async def below(name: str, depth: int) -> str:
    """Start a subactor that has as many below it, in the background; its name."""
    actor = tractor.current_actor()
    started: trio.Event = trio.Event()

    async def keep() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(name, enable_modules=[__name__])
            if depth > 1:
                await portal.run(below, name=f"{name}.below", depth=depth - 1)
            started.set()
            await trio.sleep_forever()

    actor.background.start_soon(keep)
    await started.wait()
    return name


@tractor.context
async def echo(ctx: tractor.Context) -> None:
    """Send each message back."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for one in stream:
            await stream.send(one)


@tractor.context
async def wait(ctx: tractor.Context) -> None:
    """Until it is cancelled."""
    await ctx.started()
    await trio.sleep_forever()


async def numbers(count: int) -> AsyncIterator[int]:
    """A one-way stream."""
    for number in range(count):
        yield number
        await trio.sleep(0)
