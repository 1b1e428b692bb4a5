"""Endpoints of the actor that is fuzzed."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator
from typing import Any

import trio

import tractor


async def double(x: int) -> int:
    """What the rightful peer keeps calling."""
    await trio.lowlevel.checkpoint()
    return 2 * x


async def echo(**kwargs: Any) -> Any:
    """Whatever it was called with."""
    await trio.lowlevel.checkpoint()
    return kwargs


async def sleep_on() -> None:
    """A call that only a cancellation ends."""
    await trio.sleep_forever()


async def count_up() -> AsyncIterator[int]:
    """A one-way stream without an end."""
    number = 0
    while True:
        yield number
        number += 1


@tractor.context
async def echo_stream(ctx: tractor.Context) -> None:
    """A context that sends back what comes over its stream."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)


@tractor.context
async def sleepy_stream(ctx: tractor.Context) -> None:
    """A context that reads nothing of its stream."""
    await ctx.started()
    async with ctx.open_stream():
        await trio.sleep_forever()


def not_async() -> str:
    """No endpoint, whatever a peer may think."""
    return "never called by a peer"


async def where() -> list[Any]:
    """The addresses that this actor listens on."""
    await trio.lowlevel.checkpoint()
    return tractor.current_actor().accept_addrs


async def census() -> dict[str, int]:
    """How much of everything there is in this actor; this very call included."""
    await trio.lowlevel.checkpoint()
    actor = tractor.current_actor()
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return {
        "descriptors": len(os.listdir("/dev/fd")),
        "tasks": _tasks(root),
        "serving": actor.statistics().serving or 0,
        "peers": actor.statistics().peers or 0,
    }


def _tasks(task: trio.lowlevel.Task) -> int:
    return 1 + sum(_tasks(c) for nursery in task.child_nurseries for c in nursery.child_tasks)


async def peak_memory() -> int:
    """The most memory that this process ever used, in bytes."""
    await trio.lowlevel.checkpoint()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
