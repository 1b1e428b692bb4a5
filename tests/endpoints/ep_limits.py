"""Endpoints that are asked for too much."""

from __future__ import annotations

import trio

import tractor
from tractor.transport._settings import wire_settings

running = 0
most = 0


async def brief() -> int:
    """Run for a moment; return how many calls of this have run at a time at most."""
    global running, most
    running += 1
    most = max(most, running)
    await trio.sleep(0.02)
    running -= 1
    return most


async def large(size: int) -> bytes:
    """A reply of that size."""
    return bytes(size)


@tractor.context
async def stays(ctx: tractor.Context) -> None:
    """Be a dialog that lasts."""
    await ctx.started()
    await trio.sleep_forever()


async def counters() -> dict[str, int]:
    """How often this actor has seen each limit reached."""
    return tractor.current_actor().statistics().limits_reached


async def limits() -> dict[str, object]:
    """The limits that this actor was handed."""
    return wire_settings().limits.to_dict()
