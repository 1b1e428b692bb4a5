"""Endpoints that fail in every way."""

from __future__ import annotations

from typing import Any

import trio

import tractor


class Registered(Exception):
    """Made known by `reg_err_types()`."""


class InEnabledModule(Exception):
    """Found by its qualified name where this module is enabled."""


class TakesMore(Exception):
    """Cannot be built from a text, nor pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = trio.Lock()


class BadStr(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


def local_type() -> type[Exception]:
    class Local(Exception):
        """Cannot be imported anywhere."""

    return Local


def failure(kind: str) -> BaseException:
    """The exception of that kind."""
    made: dict[str, Any] = {
        "builtin": lambda: ZeroDivisionError("by zero"),
        "registered": lambda: Registered("known"),
        "enabled": lambda: InEnabledModule("known, too"),
        "takes more": lambda: TakesMore(1, 2),
        "bad str": BadStr,
        "local": lambda: local_type()("nowhere to be found"),
        "group": lambda: ExceptionGroup("two of them", [ValueError("one"), KeyError("two")]),
        "KeyboardInterrupt": lambda: KeyboardInterrupt("by hand"),
        "StopIteration": lambda: StopIteration("early"),
        "StopAsyncIteration": lambda: StopAsyncIteration("early"),
        "GeneratorExit": lambda: GeneratorExit("early"),
        "SystemExit": lambda: SystemExit(3),
        "surrogate": lambda: ValueError("lone \udce9 surrogate"),
        "huge": lambda: ValueError("x" * 300_000),
        "trio": lambda: trio.BusyResourceError("in use"),
        "tractor": lambda: tractor.InternalError("broken"),
    }
    exc: BaseException = made[kind]()
    return exc


async def fails(kind: str) -> None:
    await trio.lowlevel.checkpoint()
    raise failure(kind)


@tractor.context
async def fails_in_context(ctx: tractor.Context, kind: str) -> None:
    await ctx.started()
    raise failure(kind)


async def fails_while_generating(kind: str) -> Any:
    yield 1
    raise failure(kind)


async def fails_with_a_cause() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as exc:
        raise ValueError("the effect") from exc


async def relays(depth: int, kind: str, modules: list[str]) -> None:
    """Start an actor below and have it fail, or relay, until ``depth`` is used up."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(f"level_{depth}", enable_modules=modules)
        try:
            if depth == 1:
                await portal.run(fails, kind=kind)
            else:
                await portal.run(relays, depth=depth - 1, kind=kind, modules=modules)
        finally:
            await portal.cancel_actor()


async def relays_context(kind: str, modules: list[str]) -> None:
    """The same by a context."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("leaf", enable_modules=modules)
        try:
            async with portal.open_context(fails_in_context, kind=kind):
                await trio.sleep_forever()
        finally:
            await portal.cancel_actor()


async def returns(what: str) -> Any:
    """Return something that cannot be encoded, or is large."""
    return odd(what)


def odd(what: str) -> Any:
    """Something that does not travel."""
    return {
        "object": object(),
        "lock": trio.Lock(),
        "nested": [1, {"deep": {2: object()}}],
        "large": b"x" * 300_000,
        "large text": "x" * 300_000,
    }[what]


@tractor.context
async def starts_with(ctx: tractor.Context, what: str) -> str:
    """Try to start with it, then start with the error's text."""
    try:
        await ctx.started(odd(what))
    except (tractor.MsgTypeError, tractor.MessagingError) as exc:
        await ctx.started(f"{type(exc).__name__}: {exc}")
    return "ended well"


@tractor.context
async def returns_from_context(ctx: tractor.Context, what: str) -> Any:
    await ctx.started()
    return odd(what)


@tractor.context
async def streams_odd(ctx: tractor.Context, what: str) -> str:
    """Try to send it, then send the error's text, and go on."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        try:
            await stream.send(odd(what))
        except (tractor.MsgTypeError, tractor.MessagingError) as exc:
            await stream.send(f"{type(exc).__name__}: {exc}")
    return "ended well"


@tractor.context
async def takes(ctx: tractor.Context, value: Any = None) -> int:
    """Count what comes by the stream."""
    await ctx.started()
    count = 0
    async with ctx.open_stream() as stream:
        async for _ in stream:
            count += 1
    return count


async def accepts(value: Any) -> int:
    return len(value)


async def dies() -> None:
    """End the process without a word."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep_forever()


async def sleeps() -> None:
    await trio.sleep_forever()
