"""How figures grow: the same work for more and more actors, contexts, streams, names and subscribers.

``python -m benches growth`` prints what one of them costs at each number, and the slope: the power of the number with
which the whole grows, 1 where each costs the same.  Over 1.2 is a thing to look at.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

import tractor
from benches import _endpoints as endpoints
from benches._machine import facts, load
from benches._report import aligned
from benches._rows import Options
from benches._tree import ENDPOINTS, open_root

__all__ = ["GROWTHS", "main", "slope"]

STEEP = 1.2
"""A slope above which something grows faster than it should."""

MANY = tractor.Limits(max_served=100_000, max_served_total=200_000)


@dataclass(frozen=True)
class Growth:
    """One line of the table.

    Attributes:
        work: for people; what one of them is.
        numbers: how many at a time.
        smoke: the same, of a run that only shows that it works.
        take: seconds that so many take in all.
    """

    work: str
    numbers: tuple[int, ...]
    smoke: tuple[int, ...]
    take: Callable[[Options, int], float]


def slope(numbers: list[int], seconds: list[float]) -> float:
    """The power of the number with which the time grows: least squares over the logarithms."""
    xs, ys = [math.log(n) for n in numbers], [math.log(s) for s in seconds]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum(
        (a - x) ** 2 for a in xs
    )


def _cancel_tree(options: Options, n: int) -> float:
    """``n`` actors, four in each branch, from an error in the root to the end of the last."""

    async def main() -> float:
        pids: list[int] = []
        raised = 0.0
        try:
            async with open_root(options) as an, AsyncExitStack() as stack:
                heads = [
                    await an.start_actor(f"head{i}", enable_modules=[ENDPOINTS])
                    for i in range(n // 4)
                ]
                for head in heads:
                    opening = head.open_context(endpoints.grow, depth=1, width=3)
                    _, found = await stack.enter_async_context(opening)
                    pids += found
                raised = time.perf_counter()
                raise ZeroDivisionError("an error in the root")
        except ZeroDivisionError:
            took = time.perf_counter() - raised
        if len(set(pids)) != n:
            raise AssertionError(f"{len(set(pids))} actors stood, not {n}")
        return took

    return trio.run(main)


def _start_and_leave(options: Options, n: int) -> float:
    """``n`` actors, one after the other, each started and asked to end before the next."""

    async def main() -> float:
        async with open_root(options) as an:
            began = time.perf_counter()
            for number in range(n):
                portal = await an.start_actor(f"a{number}")
                await portal.cancel_actor()
            return time.perf_counter() - began
        raise AssertionError("not reached")

    return trio.run(main)


def _with_callee(options: Options, work: Callable[[tractor.Portal], Awaitable[float]]) -> float:
    async def main() -> float:
        async with open_root(options, limits=MANY) as an:
            portal = await an.start_actor("callee", enable_modules=[ENDPOINTS])
            took = await work(portal)
            await an.cancel()
            return took
        raise AssertionError("not reached")

    gc.collect()
    return trio.run(main)


def _contexts(options: Options, n: int) -> float:
    """``n`` contexts that are all open at the end."""

    async def work(portal: tractor.Portal) -> float:
        async with AsyncExitStack() as stack:
            began = time.perf_counter()
            for _ in range(n):
                await stack.enter_async_context(portal.open_context(endpoints.stay))
            took = time.perf_counter() - began
            # One by one they would be asked to end; so all have ended.
            await portal.run(endpoints.let_go)
        return took

    return _with_callee(options, work)


def _streams(options: Options, n: int) -> float:
    """``n`` open streams, a message there and back on each, all at once, ten times."""

    async def work(portal: tractor.Portal) -> float:
        async with AsyncExitStack() as stack:
            streams: list[tractor.MsgStream] = []
            for _ in range(n):
                opening = portal.open_context(endpoints.echo)
                ctx, _first = await stack.enter_async_context(opening)
                streams.append(await stack.enter_async_context(ctx.open_stream()))

            async def ping(stream: tractor.MsgStream) -> None:
                for number in range(10):
                    await stream.send(number)
                    assert await stream.receive() == number

            began = time.perf_counter()
            async with trio.open_nursery() as tn:
                for stream in streams:
                    tn.start_soon(ping, stream)
            took = time.perf_counter() - began
        return took

    return _with_callee(options, work)


def _broadcast(options: Options, n: int) -> float:
    """200 messages of one stream to each of ``n`` subscribers."""
    messages = 200

    async def work(portal: tractor.Portal) -> float:
        opening = portal.open_context(endpoints.count_when_told, n=messages)
        async with opening as (ctx, _), ctx.open_stream() as stream, AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(stream.subscribe(lossless=True)) for _ in range(n)
            ]

            async def read(reader: trio.abc.ReceiveChannel[int]) -> None:
                for number in range(messages):
                    assert await reader.receive() == number

            began = time.perf_counter()
            async with trio.open_nursery() as tn:
                for reader in readers:
                    tn.start_soon(read, reader)
                await stream.send("go")
            return time.perf_counter() - began
        raise AssertionError("not reached")

    return _with_callee(options, work)


def _registrar(_options: Options, n: int) -> float:
    """``n`` names registered, each looked up once, and dropped: a registrar's table, without the wire."""
    # It is no name of the package's: there is no other way to so many actors than to start them.
    table: Any = importlib.import_module("tractor._proto.registry").RegistryTable()
    began = time.perf_counter()
    for number in range(n):
        table.register((f"name{number}", f"uuid{number}"), ("127.0.0.1", number), keeper=number)
    for number in range(n):
        assert table.find(f"name{number}") == [("127.0.0.1", number)]
    for number in range(n):
        table.release(number)
    return time.perf_counter() - began


GROWTHS = {
    "cancel_tree": Growth("an actor of a tree that is cancelled", (4, 16, 64), (4,), _cancel_tree),
    "start_leave": Growth("an actor started and left", (10, 30, 100), (1, 2), _start_and_leave),
    "contexts": Growth("a context that stays open", (250, 1000, 4000, 16_000), (5, 10), _contexts),
    "streams": Growth(
        "a stream of which ten messages come back", (10, 100, 1000), (2, 4), _streams
    ),
    "registrar": Growth("a name at a registrar", (100, 1000, 10_000), (10, 20), _registrar),
    "broadcast": Growth("a subscriber of 200 messages", (1, 10, 100), (1, 2), _broadcast),
}


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benches growth", description="What one costs where there are more and more."
    )
    made.add_argument("rows", nargs="*", metavar="ROW", help=f"default all: {', '.join(GROWTHS)}")
    made.add_argument("--smoke", action="store_true", help="few of each: does it run?")
    made.add_argument("--transport", choices=("uds", "tcp"), default="uds")
    made.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="the best of N (default 3)"
    )
    return made


def main(argv: list[str]) -> int:
    """Measure and print; the exit status is 1 where a row could not be measured, else 0 (also for a steep one)."""
    args = parser().parse_args(argv)
    if unknown := [name for name in args.rows if name not in GROWTHS]:
        parser().error(f"no such rows: {', '.join(unknown)}; there are: {', '.join(GROWTHS)}")
    options = Options(args.transport, 1 if args.smoke else args.repeat, args.smoke)
    lines: list[tuple[str, ...]] = [("row", "us for one", "of how many", "slope", "")]
    failed = False
    before = load()
    for name, growth in GROWTHS.items():
        if args.rows and name not in args.rows:
            continue
        try:
            lines.append(_line(name, growth, options))
        except Exception as exc:
            failed = True
            lines.append((name, "-", growth.work, "-", "FAILED"))
            print(f"{name}: {type(exc).__name__}: {exc}", file=sys.stderr)
    print("\n".join(aligned(lines, left=(0, 2, 4))))
    print()
    for name, fact in {**facts(), "load before": before, "load after": load()}.items():
        print(f"{name}: {fact}")
    return int(failed)


def _line(name: str, growth: Growth, options: Options) -> tuple[str, ...]:
    numbers = list(growth.smoke if options.smoke else growth.numbers)
    seconds = [_best(partial(growth.take, options, n), options.repeat) for n in numbers]
    each = " ".join(f"{s / n * 1e6:,.0f}" for n, s in zip(numbers, seconds, strict=True))
    found = slope(numbers, seconds) if len(numbers) > 1 else None
    text = "-" if found is None else f"{found:.2f}"
    steep = "" if found is None or options.smoke or found <= STEEP else "STEEP"
    of = f"{growth.work}: {', '.join(f'{n:,}' for n in numbers)}"
    return name, each, of, text, steep


def _best(take: Callable[[], float], repeat: int) -> float:
    return min(take() for _ in range(repeat))
