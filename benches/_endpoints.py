"""What runs in the actors that are measured.  Every one of them imports this module, so it is light."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import trio

import tractor

PAYLOAD = bytes(2**20)


async def nothing() -> None:
    """Return at once."""


async def count(n: int) -> AsyncIterator[int]:
    """One-way: the integers below ``n``."""
    for i in range(n):
        yield i


async def send_payloads(n: int) -> AsyncIterator[bytes]:
    """One-way: ``n`` payloads of 1 MiB."""
    for _ in range(n):
        yield PAYLOAD


@tractor.context
async def start_and_return(ctx: tractor.Context) -> None:
    """The shortest life of a context."""
    await ctx.started()


@tractor.context
async def echo(ctx: tractor.Context) -> None:
    """Send back all that comes."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)


@tractor.context
async def count_in_bulk(ctx: tractor.Context, n: int, batch: int) -> None:
    """Stream ``n`` integers, ``batch`` at a time."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for first in range(0, n, batch):
            await stream.send_many(range(first, min(first + batch, n)))


@tractor.context
async def count_in_context(ctx: tractor.Context, n: int) -> None:
    """The integers below ``n`` over a context's stream, with back pressure."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for i in range(n):
            await stream.send(i)


@tractor.context
async def grow(ctx: tractor.Context, depth: int, width: int) -> None:
    """Be the root of a tree of ``depth`` further levels; tell the pids of all, then wait."""
    pids = [os.getpid()]
    async with tractor.open_nursery() as an, AsyncExitStack() as stack:
        if depth:
            await grow_below(an, stack, depth, width, pids)
        await ctx.started(pids)
        await trio.sleep_forever()


async def grow_below(
    an: tractor.ActorNursery, stack: AsyncExitStack, depth: int, width: int, pids: list[int]
) -> None:
    """Start ``width`` actors at once, have each grow its own tree, and gather the pids."""
    portals: list[tractor.Portal] = []

    async def start(number: int) -> None:
        portals.append(await an.start_actor(f"d{depth}n{number}", enable_modules=[__name__]))

    async with trio.open_nursery() as tn:
        for number in range(width):
            tn.start_soon(start, number)
    for portal in portals:
        below = portal.open_context(grow, depth=depth - 1, width=width)
        _, found = await stack.enter_async_context(below)
        pids.extend(found)


may_go = trio.Event()


@tractor.context
async def stay(ctx: tractor.Context) -> None:
    """Stay open until :func:`let_go`."""
    await ctx.started()
    await may_go.wait()


async def let_go() -> None:
    """End all that :func:`stay`."""
    may_go.set()


@tractor.context
async def count_when_told(ctx: tractor.Context, n: int) -> None:
    """The integers below ``n``, once somebody is there to read them."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        await stream.receive()
        for i in range(n):
            await stream.send(i)
        await stream.receive()


async def find_often(name: str, times: int) -> float:
    """Seconds that one lookup of the actor ``name`` takes here, on average."""
    began = time.perf_counter()
    for _ in range(times):
        async with tractor.find_actor(name, raise_on_none=True):
            pass
    return (time.perf_counter() - began) / times
