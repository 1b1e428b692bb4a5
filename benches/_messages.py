"""Rows about messages: a root and one actor, which live for the whole row."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

import tractor
from benches import _endpoints as endpoints
from benches._floors import check_size, check_sum, open_echo, open_pipe
from benches._placement import on_one_cpu
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import ENDPOINTS, open_root, run

ECHO = "raw trio echo"
PIPE = "multiprocessing.Pipe"


@asynccontextmanager
async def _open_callee(options: Options, one_cpu: bool = False) -> AsyncIterator[tractor.Portal]:
    with on_one_cpu(one_cpu and options.placement):
        async with open_root(options) as an:
            yield await an.start_actor("callee", enable_modules=[ENDPOINTS])
            await an.cancel()


def _beside_echo(
    options: Options, n: int, trips: Callable[[tractor.Portal, int], Awaitable[None]]
) -> Series:
    """µs of one of ``n`` trips, beside as many round trips of the raw echo."""

    async def main() -> Series:
        async with _open_callee(options, one_cpu=True) as portal:
            with open_echo(options.transport) as echo:

                async def measured() -> float:
                    began = time.perf_counter()
                    await trips(portal, n)
                    return (time.perf_counter() - began) / n * 1e6

                return await alternate(options, measured, lambda: echo(n))
        raise AssertionError("not reached")

    return run(main)


async def _call(portal: tractor.Portal, n: int) -> None:
    for _ in range(n):
        await portal.run(endpoints.nothing)


@row("call", "call and reply, small (portal.run)", "us", ECHO, Target(5, times_floor=True))
def call(options: Options) -> Series:
    """One after the other."""
    return _beside_echo(options, options.count(1000), _call)


@row("concurrent", "concurrent calls, 200 tasks", "calls/s", None, Target(40_000))
def concurrent(options: Options) -> Series:
    """Many tasks, each of which calls one after the other."""
    tasks = options.count(200)
    each = options.count(20)

    async def main() -> Series:
        async with _open_callee(options) as portal:

            async def measured() -> float:
                began = time.perf_counter()
                async with trio.open_nursery() as tn:
                    for _ in range(tasks):
                        tn.start_soon(_call, portal, each)
                return tasks * each / (time.perf_counter() - began)

            return await alternate(options, measured)
        raise AssertionError("not reached")

    return run(main)


@row("context", "open and close a context", "us", ECHO, Target(9, times_floor=True))
def context(options: Options) -> Series:
    """Its endpoint says that it started, and returns."""

    async def trips(portal: tractor.Portal, n: int) -> None:
        for _ in range(n):
            async with portal.open_context(endpoints.start_and_return):
                pass

    return _beside_echo(options, options.count(500), trips)


@row("ping_pong", "stream ping-pong", "us", ECHO, Target(4, times_floor=True))
def ping_pong(options: Options) -> Series:
    """One integer there and back, over one open stream."""
    n = options.count(1000)

    async def main() -> Series:
        async with (
            _open_callee(options, one_cpu=True) as portal,
            portal.open_context(endpoints.echo) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            with open_echo(options.transport) as echo:

                async def measured() -> float:
                    began = time.perf_counter()
                    for i in range(n):
                        await stream.send(i)
                        await stream.receive()
                    return (time.perf_counter() - began) / n * 1e6

                return await alternate(options, measured, lambda: echo(n))
        raise AssertionError("not reached")

    return run(main)


def _beside_pipe(
    options: Options, what: str, n: int, rate: Callable[[tractor.Portal, int], Awaitable[float]]
) -> Series:
    async def main() -> Series:
        async with _open_callee(options) as portal:
            with open_pipe() as pipe:

                async def floor() -> float:
                    return pipe.ints(n) if what == "ints" else pipe.payloads(n)

                return await alternate(options, lambda: rate(portal, n), floor)
        raise AssertionError("not reached")

    return run(main)


@row("one_way", "one-way stream, small ints", "msgs/s", PIPE, Target(0.45, times_floor=True))
def one_way(options: Options) -> Series:
    """From an async generator in the actor; count and sum are checked."""

    async def rate(portal: tractor.Portal, n: int) -> float:
        began = time.perf_counter()
        total = came = 0
        async with portal.open_stream_from(endpoints.count, n=n) as stream:
            async for i in stream:
                came += 1
                total += i
        took = time.perf_counter() - began
        check_sum(n, came, total)
        return n / took

    return _beside_pipe(options, "ints", options.count(20_000, 20), rate)


@row(
    "one_way_bulk",
    "one-way in a context, small ints, send_many() and batches()",
    "msgs/s",
    PIPE,
    Target(2, times_floor=True),
)
def one_way_bulk(options: Options) -> Series:
    """A thousand at a time; count and sum are checked."""

    async def rate(portal: tractor.Portal, n: int) -> float:
        began = time.perf_counter()
        total = came = 0
        async with (
            portal.open_context(endpoints.count_in_bulk, n=n, batch=1000) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            async for batch in stream.batches(1000):
                came += len(batch)
                total += sum(batch)
        took = time.perf_counter() - began
        check_sum(n, came, total)
        return n / took

    return _beside_pipe(options, "ints", options.count(20_000, 20), rate)


@row(
    "one_way_context",
    "one-way in a context, small ints, back pressure",
    "msgs/s",
    PIPE,
    Target(0.45, times_floor=True),
)
def one_way_context(options: Options) -> Series:
    """Over a context's stream; count and sum are checked."""

    async def rate(portal: tractor.Portal, n: int) -> float:
        began = time.perf_counter()
        total = came = 0
        async with (
            portal.open_context(endpoints.count_in_context, n=n) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            async for i in stream:
                came += 1
                total += i
        took = time.perf_counter() - began
        check_sum(n, came, total)
        return n / took

    return _beside_pipe(options, "ints", options.count(20_000, 20), rate)


@row("one_way_large", "one-way stream, 1 MiB payloads", "GB/s", PIPE, Target(1, times_floor=True))
def one_way_large(options: Options) -> Series:
    """From an async generator in the actor; the size is checked.  The floor does not even pickle."""

    async def rate(portal: tractor.Portal, n: int) -> float:
        began = time.perf_counter()
        size = 0
        async with portal.open_stream_from(endpoints.send_payloads, n=n) as stream:
            async for payload in stream:
                size += len(payload)
        took = time.perf_counter() - began
        check_size(n, size)
        return size / took / 1e9

    return _beside_pipe(options, "payloads", options.count(200), rate)


@row(
    "find_actor",
    "find_actor of a known peer",
    "us",
    "call and reply",
    Target(1.5, times_floor=True),
)
def find_actor(options: Options) -> Series:
    """Known: connected already; here a child."""
    n = options.count(1000)

    async def main() -> Series:
        async with _open_callee(options, one_cpu=True) as portal:

            async def floor() -> float:
                began = time.perf_counter()
                await _call(portal, n)
                return (time.perf_counter() - began) / n * 1e6

            async def measured() -> float:
                return await endpoints.find_often("callee", n) * 1e6

            return await alternate(options, measured, floor)
        raise AssertionError("not reached")

    return run(main)


@row("find_sibling", "find_actor of a sibling, not connected yet", "us", "call and reply")
def find_sibling(options: Options) -> Series:
    """Asked for in one actor, of its sibling: the registrar is asked, a connection made and closed."""
    n = options.count(50)

    async def main() -> Series:
        async with open_root(options) as an:
            portal = await an.start_actor("callee", enable_modules=[ENDPOINTS])
            await an.start_actor("sibling")

            async def floor() -> float:
                began = time.perf_counter()
                await _call(portal, n)
                return (time.perf_counter() - began) / n * 1e6

            async def measured() -> float:
                took: float = await portal.run(endpoints.find_often, name="sibling", times=n)
                return took * 1e6

            series = await alternate(options, measured, floor)
            await an.cancel()
            return series
        raise AssertionError("not reached")

    return run(main)
