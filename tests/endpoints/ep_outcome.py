"""Endpoints for the tests of what one event makes of a nursery."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

import tractor


async def pid() -> int:
    return os.getpid()


async def end(how: str) -> None:
    """End this process without a word."""
    end_now(how)
    await trio.sleep_forever()


def end_now(how: str) -> None:
    """`how`: an exit status, or a signal's name."""
    if how.isdecimal():
        os._exit(int(how))
    os.kill(os.getpid(), signal.Signals[how])


async def forever() -> None:
    await trio.sleep_forever()


@tractor.context
async def open_for_ever(ctx: tractor.Context) -> None:
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        async for _ in stream:
            pass
    await trio.sleep_forever()


@tractor.context
async def end_later(ctx: tractor.Context, how: str) -> None:
    """Start, then end the process when a message says so."""
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        await stream.receive()
        end_now(how)
        await trio.sleep_forever()


async def endless() -> AsyncIterator[int]:
    for number in range(1_000_000):
        yield number
        await trio.sleep(0.01)


async def some_then_end(how: str) -> AsyncIterator[int]:
    yield 1
    yield 2
    await trio.sleep(0.01)
    end_now(how)


# -- errors in groups of one --


async def _fail_in_nurseries(depth: int) -> None:
    if depth == 0:
        raise ValueError("the one")
    async with trio.open_nursery() as tn:
        tn.start_soon(trio.sleep_forever)
        tn.start_soon(_fail_in_nurseries, depth - 1)


async def fails_deep(depth: int = 2) -> None:
    await _fail_in_nurseries(depth)


async def yields_then_fails_deep() -> AsyncIterator[int]:
    yield 1
    await _fail_in_nurseries(2)


@tractor.context
async def starts_then_fails_deep(ctx: tractor.Context) -> None:
    await ctx.started()
    await _fail_in_nurseries(2)


@tractor.context
async def fails_deep_before_start(ctx: tractor.Context) -> None:
    await _fail_in_nurseries(2)


async def job(number: int) -> None:
    await _fail_in_nurseries(number)


def sync_job(number: int) -> None:
    raise ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError(number)])])


async def fails_twice() -> None:
    raise ExceptionGroup("two", [ValueError("1"), KeyError("2")])


# -- what keeps an actor --


async def compute(marker: str) -> None:
    Path(marker).touch()
    while True:
        pass


async def block(marker: str) -> None:
    Path(marker).touch()
    time.sleep(3600)


async def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()


async def fork_a_helper() -> int:
    """A process that holds all that this one has open."""
    helper = os.fork()
    if helper == 0:
        try:
            time.sleep(30)
        finally:
            os._exit(0)
    return helper


# -- trees --


@tractor.context
async def keep_a_leaf(ctx: tractor.Context, name: str, fails: bool = False) -> None:
    """Start an actor below this one; fail when told so by a message."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(name, enable_modules=[__name__])
        async with portal.open_context(open_for_ever) as (_, leaf):
            await ctx.started(leaf)
            async with ctx.open_stream() as stream:
                async for _ in stream:
                    if fails:
                        raise LookupError("the reason")


async def call_forever(name: str) -> None:
    """Call into another actor, which is found by name."""
    async with tractor.wait_for_actor(name) as portal:
        await portal.run(forever)


async def has_peer(name: str) -> bool:
    """Wait until an actor is registered."""
    async with tractor.wait_for_actor(name) as portal:
        return bool(await portal.run(pid))


async def waits_for_its_parent_to_close() -> bool:
    """Whether waiting for the end of a peer that goes on can be cancelled, and goes on until then."""
    with trio.move_on_after(0.05) as scope:
        await tractor.current_actor().get_parent().wait_closed()
    return scope.cancelled_caught
