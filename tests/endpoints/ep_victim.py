"""Endpoints of an actor that is attacked, and what it sees of itself meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

import tractor
from tractor.discovery import open_portal
from tractor.ipc import Channel

TICK = 0.002
"""Seconds between two looks of the watch."""

_longest = 0.0
_watched = False


async def _watch() -> None:
    """Note for how long at most this actor's loop ran nothing of this task's: in CPU, not in what others got of it."""
    global _longest
    last = time.thread_time()
    while True:
        await trio.sleep(TICK)
        now = time.thread_time()
        _longest = max(_longest, now - last)
        last = now


async def vitals(anew: bool = False) -> dict[str, Any]:
    """What this process holds, at most held, and for how long its loop was held since it was asked ``anew``."""
    global _longest, _watched
    if not _watched:
        _watched = True
        trio.lowlevel.spawn_system_task(_watch)
    await trio.sleep(2 * TICK)
    lag = _longest
    if anew:
        _longest = 0.0
        # The most that was ever held counts from now on.
        Path("/proc/self/clear_refs").write_text("5")
    # What the allocator merely keeps is held for nobody.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    status = {words[0]: words[1] for words in lines if len(words) > 1}
    stats = tractor.current_actor().statistics()
    return {
        "memory": int(status["VmRSS:"]) * 1024,
        "peak": int(status["VmHWM:"]) * 1024,
        "maps": Path("/proc/self/maps").read_bytes().count(b"\n"),
        "lag": lag,
        "serving": stats.serving,
        "peers": stats.peers,
        "limits": stats.limits_reached,
    }


async def where() -> list[Any]:
    """The addresses that this actor listens on."""
    return list(tractor.current_actor().accept_addrs)


async def double(x: int) -> int:
    """What rightful callers call."""
    return 2 * x


async def takes(x: Any) -> int:
    """How many there are in its argument."""
    return len(x)


async def large(size: int) -> bytes:
    """A reply of that size."""
    return bytes(size)


async def sleep_on() -> None:
    """A call that only a cancellation ends."""
    await trio.sleep_forever()


async def sends_on() -> AsyncIterator[int]:
    """A one-way stream without an end."""
    number = 0
    while True:
        yield number
        number += 1


@tractor.context
async def stays(ctx: tractor.Context) -> None:
    """A dialog that lasts."""
    await ctx.started()
    await trio.sleep_forever()


@tractor.context
async def reads_nothing(ctx: tractor.Context) -> None:
    """A context with a stream that it does not read."""
    await ctx.started()
    async with ctx.open_stream():
        await trio.sleep_forever()


@tractor.context
async def reads_all(ctx: tractor.Context) -> int:
    """A context that reads its stream; returns how many messages came."""
    await ctx.started()
    count = 0
    async with ctx.open_stream() as stream:
        async for _ in stream:
            count += 1
    return count


@tractor.context
async def reads_late(ctx: tractor.Context, how: str, at_hand: int) -> int:
    """A context that reads its stream once so many messages are there; returns how many came."""
    await ctx.started()
    count = 0
    async with ctx.open_stream() as stream:
        while stream.statistics().buffered < at_hand:
            await trio.sleep(TICK)
        if how == "in batches":
            async for values in stream.batches(1000):
                count += len(values)
        elif how == "by closing":
            count = len(await stream.aclose())
        else:
            async for _ in stream:
                count += 1
    return count


async def calls(addr: list[Any]) -> int:
    """Call a peer; return how many there are in its answer."""
    async with open_portal(await Channel.from_addr(tuple(addr))) as portal:
        return len(await portal.run_from_ns("self", "gives"))


async def large_later(size: int) -> bytes:
    """A reply of that size, which many have ready at the same moment."""
    await trio.sleep(0.1)
    return bytes(size)


async def asks_parent() -> None:
    """Ask the parent for many large replies at once."""
    parent = tractor.current_actor().get_parent()
    async with trio.open_nursery() as tn:
        for _ in range(60):
            tn.start_soon(_ask, parent)


async def _ask(portal: tractor.Portal) -> None:
    assert len(await portal.run(large, size=300_000)) == 300_000
