"""Publishers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

import tractor
from tractor.experimental import msgpub

GetTopics = Callable[[], set[str]]

STARTED: list[str] = []
STOPPED: list[str] = []


async def begin() -> None:
    """Forget what earlier tests have left in this process."""
    STARTED.clear()
    STOPPED.clear()


async def lives() -> list[list[str]]:
    """Which generators have been started and stopped."""
    return [STARTED, STOPPED]


@msgpub
async def counter(
    get_topics: GetTopics, name: str = "counter", limit: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """The integers by their parity, and all of them."""
    STARTED.append(name)
    try:
        n = 0
        while limit is None or n < limit:
            yield {"even" if n % 2 == 0 else "odd": n, "all": n}
            n += 1
    finally:
        STOPPED.append(name)


@msgpub
async def topics_of(get_topics: GetTopics) -> AsyncIterator[dict[str, Any]]:
    """Under the topic 'topics' what topics there are, each time that they change."""
    last: list[str] = []
    while True:
        now = sorted(get_topics())
        if now != last:
            last = now
            yield {"topics": now}
        await trio.sleep(0.001)


@msgpub(tasks={"one", "two"})
async def named(get_topics: GetTopics) -> AsyncIterator[dict[str, Any]]:
    STARTED.append("named")
    try:
        while True:
            yield {"x": id(get_topics)}
            await trio.sleep(0.001)
    finally:
        STOPPED.append("named")


@msgpub
async def failing(get_topics: GetTopics, both: bool = False) -> AsyncIterator[dict[str, Any]]:
    while both and len(get_topics()) < 2:
        await trio.sleep(0.001)
    yield {"a": 1, "b": 1}
    yield {"a": 2, "b": 2}
    raise ValueError("the publisher's own")


@msgpub
async def wrong(get_topics: GetTopics) -> AsyncIterator[Any]:
    yield ["no", "dict"]


def as_text(topic: str, data: Any) -> str:
    return f"{topic}={data}"


NO_FUNCTION = 3


async def listen_and_die() -> None:
    """Subscribe, hear something, and be gone without a word."""
    async with (
        tractor.wait_for_actor("publisher") as portal,
        portal.open_stream_from(counter, topics="all") as stream,
    ):
        await stream.receive()
        os.kill(os.getpid(), signal.SIGKILL)
