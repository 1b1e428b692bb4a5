"""Endpoints whose task is cancelled, one way or another, while it is blocked in a known place."""

from __future__ import annotations

from typing import Any

import trio
from ep_peer import Notes, peer_uid

import tractor

MORE_THAN_ANY_WINDOW = 1000

LIVE = Notes()
"""The contexts that were opened to this actor, by the key that the opener gave; kept for `child_view()`."""

RELEASE: dict[str, trio.Event] = {}
"""What `let_go()` sets."""


@tractor.context
async def blocks(ctx: tractor.Context, key: str, how: str, then: str = "unwind") -> str:
    """Block until cancelled.

    Args:
        key: under which the context can be found.
        how: where to block: ``'sleep'``, ``'receive'`` or ``'send'`` (under back pressure).
        then: what to do when cancelled: ``'unwind'``, ``'return'`` the key, ``'raise'`` a ValueError.
    """
    LIVE[key] = ctx
    await ctx.started(key)
    try:
        if how != "sleep":
            async with ctx.open_stream(backpressure=how == "send") as stream:
                if how == "receive":
                    async for _ in stream:
                        pass
                else:
                    for n in range(MORE_THAN_ANY_WINDOW):
                        await stream.send(n)
        await trio.sleep_forever()
    except trio.Cancelled:
        if then == "return":
            return key
        if then == "raise":
            raise ValueError(key) from None
        raise
    raise AssertionError("unreachable")


@tractor.context
async def ends_when_let(ctx: tractor.Context, key: str, then: str) -> str:
    """Once `let_go()` was called, return the key, or raise a ValueError with it."""
    LIVE[key] = ctx
    RELEASE[key] = trio.Event()
    await ctx.started(key)
    await RELEASE[key].wait()
    if then == "raise":
        raise ValueError(key)
    return key


async def cancel_context(key: str) -> None:
    """Have the child side of a context cancel itself."""
    await LIVE[key].cancel()


async def child_view(key: str) -> dict[str, Any]:
    """The status of the child side of a context."""
    ctx: tractor.Context = LIVE[key]
    return {
        "state": str(ctx.state),
        "canceller": ctx.canceller,
        "cancel_called": ctx.cancel_called,
        "cancel_acked": ctx.cancel_acked,
        "cancelled_caught": ctx.cancelled_caught,
    }


async def cancel_actor_named(name: str) -> bool:
    """Be the third actor: find one by name and cancel it."""
    async with tractor.wait_for_actor(name) as portal:
        return await portal.cancel_actor()


@tractor.context
async def supervises(ctx: tractor.Context, name: str, modules: list[str]) -> None:
    """Start an actor of that name, and cancel it by its nursery when the opener closes the stream."""
    async with tractor.open_nursery() as an:
        await an.start_actor(name, enable_modules=modules)
        await ctx.started()
        async with ctx.open_stream() as stream:
            async for _ in stream:
                pass
        await an.cancel()


@tractor.context
async def relays_leaf(ctx: tractor.Context, modules: list[str], key: str) -> None:
    """Open a context to an actor of the own, which cancels itself; let its error out."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("leaf", enable_modules=modules)
        await ctx.started(peer_uid(portal))
        try:
            async with portal.open_context(blocks, key=key, how="sleep"):
                await portal.run(cancel_context, key=key)
                await trio.sleep_forever()
        finally:
            await portal.cancel_actor()


@tractor.context
async def shielded(ctx: tractor.Context, key: str) -> None:
    """Hold on, whoever cancels, until `let_go()` is called; then end cancelled, if so."""
    RELEASE[key] = trio.Event()
    await ctx.started()
    with trio.CancelScope(shield=True):
        await RELEASE[key].wait()
    await trio.sleep_forever()


async def let_go(key: str) -> None:
    """Let `shielded()` go on."""
    RELEASE[key].set()


@tractor.context
async def never_starts(ctx: tractor.Context, key: str) -> None:
    """Block before `started()`."""
    LIVE[key] = ctx
    await trio.sleep_forever()


async def until_known(key: str) -> None:
    """Return when the endpoint of that key runs."""
    await LIVE.wait_for(key)
