"""Endpoints of the tests of `trionics` that need actors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tractor
from tractor.trionics import maybe_open_context
from tractor.trionics.patches import _table

OPENED: list[str] = []
CLOSED: list[str] = []


async def applied_patches() -> dict[str, bool]:
    """The fixes that this actor knows, and whether each is in place; applies none."""
    return {patch.NAME: patch.NAME in _table._applied for patch in _table.PATCHES}


@asynccontextmanager
async def resource(name: str) -> AsyncIterator[int]:
    OPENED.append(name)
    try:
        yield len(OPENED)
    finally:
        CLOSED.append(name)


@tractor.context
async def use_resource(ctx: tractor.Context, name: str) -> None:
    """Use this actor's instance until the opener closes the stream."""
    async with maybe_open_context(resource, {"name": name}) as (hit, value):
        await ctx.started([hit, value])
        async with ctx.open_stream() as stream:
            async for _ in stream:
                pass


async def opened_and_closed() -> list[list[str]]:
    return [OPENED, CLOSED]


@tractor.context
async def handles_its_errors(ctx: tractor.Context) -> None:
    """Try again, with a pause in between, for ever."""
    try:
        raise OSError("nothing unusual")
    except OSError:
        await ctx.started()
        async with ctx.open_stream() as stream:
            await stream.receive()


@tractor.context
async def loses_its_error(ctx: tractor.Context) -> None:
    """Fail, and be cancelled in the clean-up."""
    try:
        raise OSError("something important")
    finally:
        await ctx.started()
        async with ctx.open_stream() as stream:
            await stream.receive()
