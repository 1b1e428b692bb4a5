"""Endpoints that stream: fast, slow, never reading, under all the rules of flow control."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from ep_peer import Notes

import tractor

SEEN = Notes()
"""What endpoints noted, for `seen()`."""

GO: dict[str, trio.Event] = {}
"""What endpoints wait for, until `go()`."""

STREAMS = Notes()
"""The open streams, for `statistics()`."""


async def seen(key: str) -> Any:
    """What an endpoint noted under a key, once it did."""
    await SEEN.wait_for(key)
    return SEEN.pop(key)


def gate(key: str) -> trio.Event:
    return GO.setdefault(key, trio.Event())


async def go(key: str) -> None:
    """Let the endpoint of that key go on."""
    gate(key).set()


async def statistics(key: str) -> dict[str, Any]:
    """The counters of an endpoint's stream once its actor has nothing to do."""
    await STREAMS.wait_for(key)
    await trio.testing.wait_all_tasks_blocked()
    stats = STREAMS[key].statistics()
    return {"sent": stats.sent, "credit": stats.credit, "buffered": stats.buffered}


@tractor.context
async def echoes(ctx: tractor.Context, **open_kwargs: Any) -> int:
    """Send back all that comes; return how much that was."""
    await ctx.started()
    count = 0
    async with ctx.open_stream(**open_kwargs) as stream:
        async for value in stream:
            await stream.send(value)
            count += 1
    return count


@tractor.context
async def collects(ctx: tractor.Context, key: str = "", **open_kwargs: Any) -> list[Any]:
    """Open the stream, wait for `go()` (with a key), then read all; return it."""
    await ctx.started()
    got = []
    async with ctx.open_stream(**open_kwargs) as stream:
        if key:
            STREAMS[key] = stream
            await gate(key).wait()
        async for value in stream:
            got.append(value)
    return got


@tractor.context
async def collects_late(ctx: tractor.Context, key: str, **open_kwargs: Any) -> list[Any]:
    """Wait for `go()`, only then open the stream, and read all."""
    await ctx.started()
    await gate(key).wait()
    got: list[Any] = []
    async with ctx.open_stream(**open_kwargs) as stream:
        async for value in stream:
            got.append(value)
    return got


@tractor.context
async def never_reads(ctx: tractor.Context, key: str, opens: bool = True, **kwargs: Any) -> None:
    """Hold the stream open, or not even open it, and read nothing."""
    await ctx.started()
    try:
        if opens:
            async with ctx.open_stream(**kwargs) as stream:
                STREAMS[key] = stream
                await trio.sleep_forever()
        await trio.sleep_forever()
    finally:
        SEEN[key] = str(ctx.state)


@tractor.context
async def never_reads_until(ctx: tractor.Context, key: str) -> None:
    """End on `go()`."""
    await ctx.started()
    await gate(key).wait()


@tractor.context
async def reads_after_overrun(ctx: tractor.Context, key: str, **kwargs: Any) -> None:
    """Wait for `go()`, shielded, then read to the end; note what came, and the error."""
    await ctx.started()
    got: list[Any] = []
    async with ctx.open_stream(**kwargs) as stream:
        with trio.CancelScope(shield=True):
            await gate(key).wait()
            try:
                async for value in stream:
                    got.append(value)
            except Exception as exc:
                SEEN[key] = [got, type(exc).__name__]
                raise


@tractor.context
async def sends(ctx: tractor.Context, count: int, key: str = "", **open_kwargs: Any) -> int:
    """Send `0 .. count - 1`, as fast as may be; with a key from `go()` on."""
    await ctx.started()
    async with ctx.open_stream(**open_kwargs) as stream:
        if key:
            STREAMS[key] = stream
            await gate(key).wait()
        for n in range(count):
            await stream.send(n)
    return count


@tractor.context
async def sends_until_refused(ctx: tractor.Context, key: str, count: int, **kwargs: Any) -> str:
    """Send from `go()` on, shielded, until an error comes; note its name; let it out."""
    await ctx.started()
    async with ctx.open_stream(**kwargs) as stream:
        with trio.CancelScope(shield=True):
            await gate(key).wait()
            try:
                for n in range(count):
                    await stream.send(n)
                # The report comes back to a sender that has gone on to wait for it.
                await stream.receive()
            except Exception as exc:
                SEEN[key] = [type(exc).__name__, getattr(exc, "sender", None)]
                raise
    return "not refused"


@tractor.context
async def gives_up_sending(ctx: tractor.Context, key: str) -> list[Any]:
    """Send until it waits, cancel that one, go on: what was it worth?"""
    await ctx.started()
    sent: list[Any] = []
    async with ctx.open_stream() as stream:
        STREAMS[key] = stream
        for n in range(1024):
            await stream.send(n)
            sent.append(n)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as tn:
                tn.start_soon(stream.send, "cancelled")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        SEEN[key] = scope.cancelled_caught
        await stream.send("next")
        sent.append("next")
    return sent


@tractor.context
async def closes_with_undelivered(ctx: tractor.Context, key: str) -> list[Any]:
    """Read one, wait for `go()`, close, and return what was not delivered."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        STREAMS[key] = stream
        await stream.receive()
        await gate(key).wait()
        left: list[Any] = await stream.aclose()
        again: list[Any] = await stream.aclose()
    return [left, again]


@tractor.context
async def fails_when_let(ctx: tractor.Context, key: str) -> None:
    """Hold a stream that is not read, and fail on `go()`."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        STREAMS[key] = stream
        await gate(key).wait()
        raise ZeroDivisionError(key)
