"""Endpoints for the tests of the developer's tools."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator

import trio

import tractor
import tractor.devx


async def pid() -> int:
    return os.getpid()


async def sigusr1_handler() -> str:
    return repr(signal.getsignal(signal.SIGUSR1))


async def use_stackscope() -> bool:
    return bool(tractor.get_runtime_vars()["use_stackscope"])


async def title() -> tuple[str, str]:
    with open("/proc/self/cmdline") as cmdline, open("/proc/self/comm") as comm:
        return cmdline.read().replace("\0", " ").strip(), comm.read().strip()


async def linger_here() -> None:
    await trio.sleep_forever()


async def block(path: str) -> None:
    """Block the loop until there is a file at ``path``."""
    while not os.path.exists(path):
        time.sleep(0.01)


@tractor.context
async def with_child(ctx: tractor.Context, name: str = "grandchild") -> None:
    """Start a subactor and say its pid; live until cancelled."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(name, enable_modules=[__name__])
        aid = portal.chan.aid
        assert aid is not None
        await ctx.started(aid.pid)
        async with ctx.open_stream():
            await trio.sleep_forever()


@tractor.context
async def hold_open(ctx: tractor.Context) -> None:
    await ctx.started("here")
    await trio.sleep_forever()


async def numbers() -> AsyncIterator[int]:
    n = 0
    while True:
        yield n
        n += 1
        await trio.sleep(0.01)


async def ask_root_to_dump() -> None:
    await tractor.current_actor().get_parent().run_from_ns("self", "_dump_stacks")


async def picture(limit: float = 5.0) -> str:
    return await tractor.devx.tree_picture(limit)


async def picture_without_parent() -> str:
    """As if the parent's loop stood still: it gets no time to answer."""
    return await tractor.devx.tree_picture(0.0)


async def count_on(step: int) -> None:
    """A task to look at: ``total`` grows by ``step`` between two sleeps."""
    total = 0
    while True:
        total += step
        await trio.sleep(0.005)
        grown = total
        assert grown >= step


async def compute(path: str) -> str:
    """Compute without ever yielding, until there is a file at ``path``; one beside it tells that this has begun."""
    rounds = 0
    open(f"{path}.begun", "w").close()
    while not os.path.exists(path):
        rounds += 1
    return "computed"


async def hold_the_repl(path: str) -> None:
    """Have the terminal, without a REPL, until there is a file at ``path``."""
    async with tractor.devx.acquire_debug_lock(tractor.current_actor().aid.uid):
        while not os.path.exists(path):
            await trio.sleep(0.01)
