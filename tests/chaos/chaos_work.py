"""The operations: calls, streams and dialogs whose every answer is known."""

from __future__ import annotations

import contextlib

import ep_chaos
import trio
from chaos_outcomes import WrongAnswerError, expect

import tractor

__all__ = ["perform"]


async def perform(kind: str, portal: tractor.Portal, size: int) -> str:
    """One operation.

    Returns:
        Its outcome: ``'value'``, or ``'cancelled by us'``.

    Raises:
        WrongAnswerError: a wrong value, or no error where one was due.
        BaseException: what ended it.
    """
    match kind:
        case "call":
            expect(await portal.run(ep_chaos.echo, value=size), size)
        case "big call":
            text = "x" * size * 10_000
            expect(await portal.run(ep_chaos.echo, value=text), text)
        case "slow call":
            expect(await portal.run(ep_chaos.slow, seconds=size / 200), size / 200)
        case "failing call":
            try:
                await portal.run(ep_chaos.fail, text=str(size))
            except tractor.RemoteActorError as exc:
                if exc.boxed_type is ValueError:
                    return "RemoteActorError[ValueError]"
                raise
            raise WrongAnswerError("a call that must fail has returned")
        case "cancelled call":
            with trio.move_on_after(size / 200):
                await portal.run(ep_chaos.slow, seconds=60.0)
                raise WrongAnswerError("a call of a minute has returned")
            return "cancelled by us"
        case "stream" | "left stream":
            await receive(portal, size, size if kind == "stream" else size // 2)
        case "dialog" | "cancelled dialog":
            return await talk(portal, size, cancel=kind == "cancelled dialog")
        case "cancel actor":
            await portal.cancel_actor()
        case _:
            raise ValueError(f"no operation is called {kind!r}")
    return "value"


async def receive(portal: tractor.Portal, size: int, most: int) -> None:
    """Read *most* values of a stream of *size*."""
    got: list[int] = []
    async with portal.open_stream_from(ep_chaos.count, n=size) as stream:
        while len(got) < most:
            got.append(await stream.receive())
        if most == size:
            with contextlib.suppress(trio.EndOfChannel):
                got.append(await stream.receive())
    expect(got, list(range(most)))


async def talk(portal: tractor.Portal, size: int, cancel: bool) -> str:
    """Send values that come back; *cancel* the context in the middle of it."""
    async with portal.open_context(ep_chaos.dialog, n=size) as (ctx, first):
        expect(first, size)
        async with ctx.open_stream() as stream:
            for number in range(size // 2 if cancel else size):
                await stream.send(number)
                expect(await stream.receive(), number)
            if cancel:
                await ctx.cancel()
        if not cancel:
            expect(await ctx.wait_for_result(), size)
    return "cancelled by us" if cancel else "value"
