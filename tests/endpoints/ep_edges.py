"""Endpoints for the edges of supervision and dialogs."""

from __future__ import annotations

import trio

import tractor


async def fails_at_length(size: int) -> None:
    """Fail with a message of ``size`` characters of four bytes each."""
    raise ValueError("\N{GRINNING FACE}" * size)


async def pong() -> str:
    """Answer."""
    return "pong"


async def pong_later(seconds: float) -> str:
    """Answer after a while."""
    await trio.sleep(seconds)
    return "pong"


@tractor.context
async def sends_ten_and_returns(ctx: tractor.Context) -> str:
    """Ten messages, then the result."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for n in range(10):
            await stream.send(n)
    return "done"
