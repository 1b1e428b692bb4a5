"""Endpoints of calls and one-way streams."""

from __future__ import annotations

import contextlib
from typing import Any

import trio
import trio.testing
from ep_peer import Notes

import tractor

SEEN = Notes()
"""What endpoints noted, for `seen()`."""

NOT_CALLABLE = 3


async def seen(key: str) -> Any:
    """What an endpoint noted under a key, once it did."""
    await SEEN.wait_for(key)
    return SEEN.pop(key)


async def noted(key: str) -> bool:
    """Whether an endpoint has noted anything under a key."""
    return key in SEEN


async def echo(value: Any = None) -> Any:
    return value


async def two_of(one: int, two: int = 2) -> list[int]:
    return [one, two]


async def counts(key: str) -> int:
    """How often this was called under that key."""
    SEEN[key] = SEEN.get(key, 0) + 1
    result: int = SEEN[key]
    return result


async def sleeps(key: str = "") -> None:
    """Note the beginning, and the end by cancellation."""
    SEEN[f"{key} began"] = True
    try:
        await trio.sleep_forever()
    finally:
        SEEN[key] = "cancelled"


async def returns_when_cancelled(key: str) -> str:
    SEEN[f"{key} began"] = True
    with contextlib.suppress(trio.Cancelled):
        await trio.sleep_forever()
    SEEN[key] = "returned"
    return "a value that nobody wants"


async def holds_on(key: str) -> None:
    """Do not end by being cancelled, until `release()`."""
    SEEN[f"{key} began"] = True
    release = RELEASE[key] = trio.Event()
    with trio.CancelScope(shield=True):
        await release.wait()
    SEEN[key] = "released"


RELEASE: dict[str, trio.Event] = {}


async def release(key: str) -> None:
    RELEASE[key].set()


def not_async() -> None: ...


class Holder:
    """Methods can be endpoints."""

    @staticmethod
    async def method(value: int) -> int:
        return value + 1


@tractor.context
async def a_context(ctx: tractor.Context) -> None:
    await ctx.started()


async def counts_up(count: int, key: str = "", fail_at: int | None = None) -> Any:
    """Yield `0 .. count - 1`; note how the generator was left."""
    try:
        for n in range(count):
            if n == fail_at:
                raise ValueError(f"at {n}")
            SEEN[f"{key} yielded"] = n
            yield n
        SEEN[key] = "finished"
    except trio.Cancelled:
        SEEN[key] = "cancelled"
        raise
    except GeneratorExit:
        SEEN[key] = "closed"
        raise
    finally:
        SEEN[f"{key} finally"] = True


async def waits_after_one(key: str) -> Any:
    """Yield once, then block for ever."""
    try:
        yield 0
        await trio.sleep_forever()
    finally:
        SEEN[key] = "finally"


async def yields_odd() -> Any:
    yield 0
    yield object()


@tractor.stream
async def legacy(stream: tractor.MsgStream, count: int) -> None:
    for n in range(count):
        await stream.send(n)


@tractor.stream
async def legacy_ctx(ctx: tractor.Context, count: int) -> None:
    for n in range(count):
        await ctx.send_yield(n)


async def last_yielded(key: str) -> int:
    """The last value that a generator yielded, once its actor has nothing to do."""
    await SEEN.wait_for(f"{key} yielded")
    await trio.testing.wait_all_tasks_blocked()
    n: int = SEEN[f"{key} yielded"]
    return n
