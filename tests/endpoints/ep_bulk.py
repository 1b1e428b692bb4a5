"""Endpoints that compute between their messages, send in bulk, or are told to stop by their reader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio
import trio.testing
from ep_peer import Notes

import tractor

SEEN = Notes()

BOUND = 20.0
"""Seconds after which a wait that blocks the loop gives up."""


async def seen(key: str) -> Any:
    """What an endpoint noted under a key, once it did."""
    await SEEN.wait_for(key)
    return SEEN.pop(key)


def block_until(path: str) -> bool:
    """Keep the whole loop busy until a file is there; whether it came."""
    end = time.monotonic() + BOUND
    while not Path(path).exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


@tractor.context
async def computes(ctx: tractor.Context, how: str, steps: int, signs: str) -> list[bool]:
    """After `started()` and after each send keep the loop busy until the reader has put up a sign that it came."""
    await ctx.started(how)
    came = [block_until(f"{signs}/started")]
    async with ctx.open_stream() as stream:
        for n in range(steps):
            if how == "send":
                await stream.send(n)
            elif how == "send_many":
                await stream.send_many([n])
            elif how == "generator":
                # Two in a row: the second comes within a burst.
                await stream.send_many(_gives_two_and_computes(steps, came, signs))
                break
            else:
                # Large enough for the connection's buffers not to take it at once.
                await stream.send(bytes(2_000_000))
            came.append(block_until(f"{signs}/{n}"))
    # The reader's loop ends though this task goes on.
    came.append(block_until(f"{signs}/left"))
    return came


def _gives_two_and_computes(steps: int, came: list[bool], signs: str) -> Iterator[int]:
    for n in range(steps):
        yield n
        if n % 2:
            came += [block_until(f"{signs}/{n - 1}"), block_until(f"{signs}/{n}")]


async def counts_and_computes(steps: int, signs: str) -> Any:
    """The same as an async generator."""
    for n in range(steps):
        yield n
        assert block_until(f"{signs}/{n}")


@tractor.context
async def signs_its_sends(ctx: tractor.Context, count: int, first: int, signs: str) -> None:
    """Send `0 .. count - 1`; from `first` on put up a sign after each."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for n in range(count):
            await stream.send(n)
            if n >= first:
                Path(signs, str(n)).touch()


_calls = 0


async def third_waits_for_the_others(signs: str) -> bool:
    """Compute for a little; the third call of this actor, until the replies of the first two have come."""
    global _calls
    _calls += 1
    if _calls == 3:
        return block_until(f"{signs}/two")
    time.sleep(0.01)
    return True


@tractor.context
async def feeds_for_ever(ctx: tractor.Context, key: str, how: str = "send") -> str:
    """Send until the stream's block is left because the reader has left."""
    await ctx.started()
    n = 0
    async with ctx.open_stream() as stream:
        if how == "nursery":
            async with trio.open_nursery() as tn:
                tn.start_soon(_feed, stream)
        while True:
            if how == "send_many":
                await stream.send_many(range(n, n + 100))
            else:
                await stream.send(n)
            n += 1
            SEEN[key] = n
    return "ended by its reader"


async def _feed(stream: tractor.MsgStream) -> None:
    while True:
        await stream.send("in a nursery")


@tractor.context
async def sends_in_bulk(ctx: tractor.Context, count: int, batch: int) -> int:
    """Send `0 .. count - 1`, `batch` at a time; return how many were sent by the stream's own count."""
    await ctx.started()
    sent = 0
    async with ctx.open_stream() as stream:
        for first in range(0, count, batch):
            await stream.send_many(range(first, min(first + batch, count)))
        sent = stream.statistics().sent
    return sent


@tractor.context
async def sends_more_than_a_window(ctx: tractor.Context, key: str, count: int) -> int:
    """Cancel a `send_many()` that waits for credit; the messages before are sent, and counted."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as tn:
                tn.start_soon(stream.send_many, range(count))
                while stream.statistics().sent < 1024:
                    await trio.sleep(0)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        sent = stream.statistics().sent
        SEEN[key] = sent
        await stream.send("next")
    return sent


@tractor.context
async def sends_what(ctx: tractor.Context, values: list[Any]) -> None:
    """Send the values in one go."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        await stream.send_many(values)


@tractor.context
async def floods(ctx: tractor.Context, count: int, **open_kwargs: Any) -> int:
    """Send without a pause; return how much was sent."""
    await ctx.started()
    async with ctx.open_stream(**open_kwargs) as stream:
        for n in range(count):
            await stream.send(n)
    return count


@tractor.context
async def counts_bytes(ctx: tractor.Context, until: str, computes: bool) -> int:
    """Read all; before that, keep the whole loop busy until a file is there."""
    await ctx.started()
    if computes:
        await trio.sleep(0.1)
        assert block_until(until)
    total = 0
    async with ctx.open_stream() as stream:
        total = sum([len(value) async for value in stream])
    return total
