"""A program with something to see: what ``make docs-pictures`` looks at.

A feed whose messages two parsers read, one of which stands still after a while; a service that crashes again and again,
and one that `kill -STOP` has stopped.
"""

from __future__ import annotations

import os
import signal
import sys

import trio

import tractor

BACKOFF = tractor.Backoff(initial=2.0, maximum=30.0)


@tractor.context
async def parse(ctx: tractor.Context, fifo: str) -> None:
    """Read ticks; with a fifo, stand still at the 300th until somebody opens it."""
    await ctx.started()
    count = 0
    async with ctx.open_stream() as stream:
        async for tick in stream:
            count += 1
            if fifo and count == 300:
                _solve(fifo)
            await stream.send(tick)


def _solve(fifo: str) -> None:
    open(fifo, "rb").close()


async def feed(fifo: str) -> None:
    """Send ticks to two parsers."""
    async with tractor.open_nursery() as an, trio.open_nursery() as tn:
        for i in range(2):
            portal = await an.start_actor(f"feed.parse.{i}", enable_modules=[__name__])
            tn.start_soon(_send, portal, fifo if i == 0 else "")


async def _send(portal: tractor.Portal, fifo: str) -> None:
    async with (
        portal.open_context(parse, fifo=fifo) as (ctx, _),
        ctx.open_stream() as stream,
        trio.open_nursery() as tn,
    ):
        tn.start_soon(_drain, stream)
        tick = 0
        while True:
            await stream.send(tick)
            tick += 1
            await trio.sleep(0.002)


async def _drain(stream: tractor.MsgStream) -> None:
    async for _ in stream:
        pass


async def api() -> None:
    """Serve for a moment, and crash."""
    await trio.sleep(1.0)
    _take_row({"price": "12,50"})


def _take_row(row: dict[str, str]) -> None:
    raise ValueError(f"bad row 17: {row['price']!r} is no price")


async def report() -> None:
    """Do nothing."""
    await trio.sleep_forever()


async def main(fifo: str) -> None:
    async with tractor.open_supervisor(max_restarts=None) as sup:
        await sup.start_service("feed", feed, fifo=fifo)
        await sup.start_service("api", api, backoff=BACKOFF)
        service = await sup.start_service("report", report)
        for i in range(3):
            await sup.start_service(f"gateway.{i}", report)
        await trio.sleep(2.0)
        os.kill(service.pid, signal.SIGSTOP)
        print("ready", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
