"""What takes and gives large values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import tractor
from tractor.msg.bounded._bounded import bounds


def lists(n: int) -> list[Any]:
    """A value with ``n`` containers and more than 1 MiB."""
    return ["x" * 2**20, *([] for _ in range(n - 1))]


async def takes(value: Any) -> int:
    """Its length."""
    return len(value)


async def takes_list(value: list[Any], other: Any = None) -> int:
    """Its length."""
    return len(value)


async def gives(n: int) -> Any:
    """A value with ``n`` containers."""
    return lists(n)


async def yields(n: int) -> AsyncIterator[Any]:
    """One such value."""
    yield lists(n)


@tractor.context
async def echo(ctx: tractor.Context) -> None:
    """Tell the length of each message."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(len(value))


async def heed(most: int) -> None:
    """Use another limit here alone, as a peer would that keeps to none."""
    bounds.max_containers = most


async def reached() -> dict[str, int]:
    """The limits that were reached here."""
    return tractor.current_actor().statistics().limits_reached
