"""Events that happen to a nursery, each as a program would see it; not imported by children.

Each returns its *shape*: the types of what was seen inside and outside.  One event is to have one shape.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import ep_outcome
import trio
import trio.testing

import tractor

__all__ = ["DEATHS", "EVENTS", "KINDS", "die_in", "shape"]

HERE = ["ep_outcome"]


def shape(exc: BaseException | None) -> str:
    """The type of an error, of what is in it, and of its cause where it is an actor's failure."""
    if exc is None:
        return "nothing"
    name = type(exc).__name__
    if isinstance(exc, BaseExceptionGroup):
        return f"{name}[{', '.join(map(shape, exc.exceptions))}]"
    if isinstance(exc, tractor.RemoteActorError) and not isinstance(exc, tractor.ContextCancelled):
        return f"{name}({exc.boxed_type_str})"
    if isinstance(exc, tractor.ActorFailure):
        return f"{name} from {shape(exc.__cause__)}"
    return name


# -- an actor's death, seen in a dialog --


async def _context_block(portal: tractor.Portal, how: str) -> None:
    async with (
        portal.open_context(ep_outcome.end_later, how=how) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        await stream.send(None)
        await trio.sleep_forever()


async def _context_result(portal: tractor.Portal, how: str) -> None:
    async with portal.open_context(ep_outcome.end_later, how=how) as (ctx, _):
        async with ctx.open_stream() as stream:
            await stream.send(None)
        await ctx.wait_for_result()


async def _context_drain(portal: tractor.Portal, how: str) -> None:
    async with (
        portal.open_context(ep_outcome.end_later, how=how) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        await stream.send(None)


async def _stream_read(portal: tractor.Portal, how: str) -> None:
    async with (
        portal.open_context(ep_outcome.end_later, how=how) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        await stream.send(None)
        await stream.receive()


async def _stream_written(portal: tractor.Portal, how: str) -> None:
    async with (
        portal.open_context(ep_outcome.end_later, how=how) as (ctx, _),
        ctx.open_stream(backpressure=True) as stream,
    ):
        while True:
            await stream.send(None)
            await trio.sleep(0)


async def _call(portal: tractor.Portal, how: str) -> None:
    await portal.run(ep_outcome.end, how=how)


async def _call_in_tasks(portal: tractor.Portal, how: str) -> None:
    async with trio.open_nursery() as tn:
        for _ in range(3):
            tn.start_soon(portal.run, ep_outcome.forever)
        await trio.testing.wait_all_tasks_blocked()
        await portal.run(ep_outcome.end, how=how)


async def _one_way(portal: tractor.Portal, how: str) -> None:
    async with portal.open_stream_from(ep_outcome.some_then_end, how=how) as stream:
        async for _ in stream:
            pass


KINDS: dict[str, Callable[[tractor.Portal, str], Awaitable[None]]] = {
    "block of a context": _context_block,
    "result of a context": _context_result,
    "end of a context's block": _context_drain,
    "stream that is read": _stream_read,
    "stream that is written": _stream_written,
    "call": _call,
    "calls in a nursery": _call_in_tasks,
    "one-way stream": _one_way,
}
DEATHS = ("SIGKILL", "0", "5")


async def die_in(kind: str, how: str, seen: list[BaseException] | None = None) -> str:
    """A daemon dies while a dialog of a kind is open."""
    inner: BaseException | None = None
    outer: BaseException | None = None
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("dying", enable_modules=HERE)
            try:
                await KINDS[kind](portal, how)
            except BaseException as exc:
                inner = exc
                raise
    except BaseException as exc:
        outer = exc
    if seen is not None:
        seen += [one for one in (inner, outer) if one is not None]
    if kind == "calls in a nursery" and isinstance(inner, BaseExceptionGroup):
        # Tasks of the user's own: as many as were open.
        assert {shape(one) for one in inner.exceptions} - {"Cancelled"} == {"TransportClosed"}
        return f"TransportClosed, then {shape(outer)}"
    return f"{shape(inner)}, then {shape(outer)}"


async def die_handled(how: str) -> str:
    """The block catches the loss, and goes on."""
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("dying", enable_modules=HERE)
            with contextlib.suppress(tractor.TransportClosed):
                await portal.run(ep_outcome.end, how=how)
    except BaseException as exc:
        return shape(exc)
    return "nothing"


async def die_as_one_shot(how: str) -> str:
    """A one-shot dies; the block waits for its result."""
    inner = None
    try:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_outcome.end, how=how)
            try:
                await portal.wait_for_result()
            except BaseException as exc:
                inner = exc
                raise
    except BaseException as exc:
        return f"{shape(inner)}, then {shape(exc)}"
    return "nothing"


async def die_unwatched(how: str) -> str:
    """A one-shot dies; the block has ended."""
    try:
        async with tractor.open_nursery() as an:
            await an.run_in_actor(ep_outcome.end, how=how)
    except BaseException as exc:
        return shape(exc)
    return "nothing"


# -- a death that others are told of, too --


async def die_below_a_sibling() -> str:
    """One actor waits in a call to another, which dies: the same event comes over two ways."""
    try:
        async with tractor.open_nursery() as an:
            dying = await an.start_actor("told_of", enable_modules=HERE)
            caller = await an.start_actor("caller", enable_modules=HERE)
            victim = await dying.run(ep_outcome.pid)
            assert await caller.run(ep_outcome.has_peer, name="told_of")
            async with trio.open_nursery() as tn:
                tn.start_soon(lambda: caller.run(ep_outcome.call_forever, name="told_of"))
                await trio.sleep(0.05)
                os.kill(victim, signal.SIGKILL)
                await trio.sleep_forever()
    except BaseException as exc:
        return shape(exc) if not isinstance(exc, tractor.ActorFailure) else type(exc).__name__
    return "nothing"


async def fail_over_two_ways() -> str:
    """An actor fails, and cancels the one below it, with which the root has a context of its own."""
    try:
        async with tractor.open_nursery() as an:
            middle = await an.start_actor("middle", enable_modules=HERE)
            async with (
                middle.open_context(ep_outcome.keep_a_leaf, name="two_ways", fails=True) as (
                    ctx,
                    _,
                ),
                tractor.wait_for_actor("two_ways") as leaf,
                trio.open_nursery() as tn,
            ):

                async def direct() -> None:
                    async with leaf.open_context(ep_outcome.open_for_ever):
                        ready.set()
                        await trio.sleep_forever()

                ready = trio.Event()
                tn.start_soon(direct)
                await ready.wait()
                async with ctx.open_stream() as stream:
                    await stream.send(None)
                    await trio.sleep_forever()
    except BaseException as exc:
        return shape(exc)
    return "nothing"


# -- a nursery's own cancellation --


async def _hold_context(portal: tractor.Portal, ready: trio.Event) -> None:
    async with portal.open_context(ep_outcome.open_for_ever):
        ready.set()
        await trio.sleep_forever()


async def _hold_stream(portal: tractor.Portal, ready: trio.Event) -> None:
    async with (
        portal.open_context(ep_outcome.open_for_ever) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        ready.set()
        await stream.receive()


async def _hold_one_way(portal: tractor.Portal, ready: trio.Event) -> None:
    async with portal.open_stream_from(ep_outcome.endless) as stream:
        async for _ in stream:
            ready.set()


async def _hold_call(portal: tractor.Portal, ready: trio.Event) -> None:
    ready.set()
    await portal.run(ep_outcome.forever)


HOLDERS: dict[str, Callable[[tractor.Portal, trio.Event], Awaitable[Any]]] = {
    "context": _hold_context,
    "stream": _hold_stream,
    "one-way stream": _hold_one_way,
    "call": _hold_call,
}


async def cancel_with(what: str) -> str:
    """The nursery is cancelled by one task while another has a dialog open."""
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("held", enable_modules=HERE)
            async with trio.open_nursery() as tn:
                ready = trio.Event()
                tn.start_soon(HOLDERS[what], portal, ready)
                await ready.wait()
                await an.cancel()
        return f"nothing, caught: {an.cancelled_caught}"
    except BaseException as exc:
        return shape(exc)


async def cancel_within() -> str:
    """The nursery is cancelled within two contexts of its own actors, one of them below the other."""
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("middle", enable_modules=HERE)
            async with (
                portal.open_context(ep_outcome.keep_a_leaf, name="below"),
                tractor.wait_for_actor("below") as leaf,
                leaf.open_context(ep_outcome.open_for_ever),
            ):
                await an.cancel()
        return "nothing"
    except BaseException as exc:
        return shape(exc)


async def cancel_outer() -> str:
    """An outer nursery is cancelled within a context, inside an inner nursery."""
    try:
        async with tractor.open_nursery() as outer:
            portal = await outer.start_actor("outer", enable_modules=HERE)
            async with tractor.open_nursery() as inner:
                other = await inner.start_actor("inner", enable_modules=HERE)
                async with (
                    portal.open_context(ep_outcome.open_for_ever),
                    other.open_context(ep_outcome.open_for_ever),
                ):
                    await outer.cancel()
        return "nothing"
    except BaseException as exc:
        return shape(exc)


async def cancel_actor_within() -> str:
    """An own actor is cancelled through its portal within a context to it."""
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("gone", enable_modules=HERE)
            async with portal.open_context(ep_outcome.open_for_ever):
                await portal.cancel_actor()
        return "nothing"
    except BaseException as exc:
        return shape(exc)


EVENTS: dict[str, tuple[Callable[..., Awaitable[str]], tuple[Any, ...], str]] = {
    **{
        f"death ({how}), {kind}": (
            die_in,
            (kind, how),
            "TransportClosed, then ActorFailure from TransportClosed",
        )
        for kind in KINDS
        for how in DEATHS
    },
    **{
        f"death ({how}), handled": (die_handled, (how,), "ActorFailure from TransportClosed")
        for how in DEATHS
    },
    **{
        f"death ({how}), one-shot": (
            die_as_one_shot,
            (how,),
            "TransportClosed, then ActorFailure from TransportClosed",
        )
        for how in DEATHS
    },
    **{
        f"death ({how}), one-shot after the block": (
            die_unwatched,
            (how,),
            "ActorFailure from TransportClosed",
        )
        for how in DEATHS
    },
    "death, told of by another actor": (die_below_a_sibling, (), "ActorFailure"),
    "failure over two ways": (fail_over_two_ways, (), "RemoteActorError(LookupError)"),
    **{
        f"an.cancel(), {what} in another task": (cancel_with, (what,), "nothing, caught: True")
        for what in HOLDERS
    },
    "an.cancel(), within contexts, one further down": (cancel_within, (), "nothing"),
    "an.cancel() of the outer nursery": (cancel_outer, (), "nothing"),
    "portal.cancel_actor() within a context": (cancel_actor_within, (), "ContextCancelled"),
}
"""What happens, and the one shape that it has."""
