"""Endpoints of contexts that follow, or break, the rules of the dialog."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Optional

import trio
from ep_matrix import RELEASE
from ep_peer import Notes

import tractor

SEEN = Notes()
"""What endpoints noted, for `seen()`."""

NOT_ASYNC_MARK = "plain"


async def seen(key: str) -> Any:
    """What an endpoint noted under a key, once it did."""
    await SEEN.wait_for(key)
    return SEEN.pop(key)


def status(ctx: tractor.Context) -> dict[str, Any]:
    """Every status of one side of a context."""
    return {
        "state": str(ctx.state),
        "has_outcome": ctx.has_outcome,
        "maybe_error": type(ctx.maybe_error).__name__,
        "cancel_called": ctx.cancel_called,
        "side": ctx.side,
        "peer_side": ctx.peer_side,
    }


@tractor.context
async def echoes(ctx: tractor.Context, first: Any = None, result: Any = None) -> Any:
    """Start with one value, return another."""
    await ctx.started(first)
    return result


@tractor.context
async def waits(ctx: tractor.Context, key: str = "waits") -> str:
    """Start, then wait for the end of the stream."""
    await ctx.started(key)
    async with ctx.open_stream() as stream:
        async for _ in stream:
            pass
    return key


@tractor.context
async def sleeps_before_started(ctx: tractor.Context) -> None:
    await trio.sleep_forever()


@tractor.context
async def starts_twice(ctx: tractor.Context) -> str:
    await ctx.started(1)
    try:
        await ctx.started(2)
    except RuntimeError as exc:
        return str(exc)
    return "no error"


@tractor.context
async def streams_before_started(ctx: tractor.Context) -> None:
    error = "no error"
    try:
        async with ctx.open_stream():
            pass
    except RuntimeError as exc:
        error = str(exc)
    await ctx.started(error)


@tractor.context
async def returns_without_started(ctx: tractor.Context) -> str:
    return "a value"


@tractor.context
async def raises_before_started(ctx: tractor.Context) -> None:
    raise KeyError("before")


@tractor.context
async def raises_after_started(ctx: tractor.Context) -> None:
    await ctx.started()
    raise KeyError("after")


@tractor.context
async def asks_for_its_result(ctx: tractor.Context) -> str:
    await ctx.started()
    try:
        await ctx.wait_for_result()
    except RuntimeError as exc:
        return str(exc)
    return "no error"


@tractor.context
async def streams_after_own_cancel(ctx: tractor.Context, key: str) -> None:
    """What `open_stream()` and `started()` say once the task has cancelled itself."""
    await ctx.started()
    noted = []
    with trio.CancelScope(shield=True):
        await ctx.cancel()
        try:
            async with ctx.open_stream():
                noted.append("opened")
        except (RuntimeError, tractor.ContextCancelled) as exc:
            noted.append(type(exc).__name__)
        try:
            await ctx.started()
        except RuntimeError as exc:
            noted.append(type(exc).__name__)
    SEEN[key] = noted
    await trio.sleep_forever()


@tractor.context
async def uses_a_closed_stream(ctx: tractor.Context) -> list[str]:
    """The names of the errors of using a stream after its close, and of opening another."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        assert await stream.receive() == "first"
    return await errors_of_closed(ctx, stream)


async def errors_of_closed(ctx: tractor.Context, stream: tractor.MsgStream) -> list[str]:
    """The names of the errors that each use of a closed stream raises."""
    errors = []

    async def nowait() -> Any:
        return stream.receive_nowait()

    async def reopen() -> None:
        async with ctx.open_stream():
            pass

    uses: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        stream.receive,
        nowait,
        functools.partial(stream.send, 1),
        reopen,
    ]
    for use in uses:
        try:
            await use()
        except (trio.ClosedResourceError, trio.EndOfChannel) as exc:
            errors.append(type(exc).__name__)
        else:
            errors.append("no error")
    return errors


@tractor.context
async def sends_then_returns(ctx: tractor.Context, count: int, close: bool = True) -> str:
    """Send some values and end, by closing the stream first or not."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for n in range(count):
            await stream.send(n)
        if not close:
            return "from within the stream"
    return "after the stream"


@tractor.context
async def sends_then_raises(ctx: tractor.Context, count: int) -> None:
    await ctx.started()
    async with ctx.open_stream() as stream:
        assert await stream.receive() == "go"
        for n in range(count):
            await stream.send(n)
        raise ValueError("in the stream")


@tractor.context
async def notes_its_states(ctx: tractor.Context, key: str) -> str:
    """Note the status of this side at each phase."""
    noted = [status(ctx)]
    await ctx.started()
    noted.append(status(ctx))
    async with ctx.open_stream() as stream:
        noted.append(status(ctx))
        async for _ in stream:
            pass
        noted.append(status(ctx))
    noted.append(status(ctx))
    RELEASE[key] = trio.Event()
    SEEN[key] = noted
    await RELEASE[key].wait()
    return key


@tractor.context
async def of_any_name(this: tractor.Context, n: int) -> int:
    await this.started(n)
    return n + 1


@tractor.context
async def optional_name(n: int, c: tractor.Context | None = None) -> int:
    assert c is not None
    await c.started(n)
    return n + 1


@tractor.context
async def old_style_optional(n: int, c: Optional[tractor.Context] = None) -> int:  # noqa: UP045
    assert c is not None
    await c.started(n)
    return n + 1


@tractor.context
async def string_name(ctx: "tractor.Context", n: int) -> int:  # noqa: UP037
    await ctx.started(n)
    return n + 1


@tractor.context
async def takes_reserved_names(
    ctx: tractor.Context, allow_overruns: bool, hide_tb: str
) -> tuple[bool, str]:
    await ctx.started()
    return allow_overruns, hide_tb


@tractor.context
async def sees_its_context(ctx: tractor.Context) -> list[Any]:
    """Whether the innermost open context is the right one, with and without one opened here."""
    await ctx.started()
    noted: list[Any] = [tractor.current_ipc_ctx() is ctx, ctx.portal is None]
    portal = tractor.current_actor().get_parent()
    async with portal.open_context(echoes) as (inner, _):
        noted.append(tractor.current_ipc_ctx() is inner)
        noted.append(inner.side)
    noted.append(tractor.current_ipc_ctx() is ctx)
    return noted


@tractor.context
async def opens_to_its_parent(ctx: tractor.Context, fn: str) -> Any:
    """Be the parent side of a context whose child side runs in the parent process."""
    await ctx.started()
    portal = tractor.current_actor().get_parent()
    async with portal.open_context(globals()[fn], first=1, result=2) as (inner, first):
        return [first, await inner.wait_for_result(), inner.side]


@tractor.context
async def raises_at_once(ctx: tractor.Context, first: int, result: int) -> None:
    raise KeyError("at once")


async def calls_its_parent(n: int) -> int:
    """Call back into the parent."""
    result: int = await tractor.current_actor().get_parent().run(adds_one, n=n)
    return result


async def adds_one(n: int) -> int:
    return n + 1


async def has_a_context() -> bool:
    """Whether a call sees a context; it is part of none."""
    return tractor.current_ipc_ctx() is not None


def not_async(n: int = 0) -> int:
    return n


class NotAFunction:
    """Something else that a name can be."""


async def yields(count: int = 3) -> Any:
    for n in range(count):
        yield n
