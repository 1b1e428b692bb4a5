"""Lifespans, background tasks and slow requests, run in actors; each notes what happens in a file."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import tractor

VARIABLE = "TRACTOR_TEST_LIFE"
"""Names the file; actors inherit it."""


def note(word: str) -> None:
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(f"{word}\n")


class Database:
    """What a lifespan shares."""

    def __init__(self) -> None:
        self.rows = ["one", "two"]


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    note("open")
    await trio.lowlevel.checkpoint()
    db = Database()
    yield db
    # Without `finally`, and it waits: it is left in order, whatever ends the actor.
    await trio.sleep(0.01)
    note("closed")


class AsClass:
    """A lifespan that is a class."""

    async def __aenter__(self) -> str:
        note("open")
        return "state of a class"

    async def __aexit__(self, *_: Any) -> None:
        note("closed")


@asynccontextmanager
async def fails_to_open() -> AsyncIterator[None]:
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError("no database there")
    yield


@asynccontextmanager
async def fails_to_close() -> AsyncIterator[None]:
    yield
    await trio.lowlevel.checkpoint()
    raise OSError("the disk is full")


@asynccontextmanager
async def fails_later() -> AsyncIterator[str]:
    async def watch() -> None:
        await trio.sleep(0.05)
        raise TimeoutError("the lease was lost")

    async with trio.open_nursery() as tn:
        tn.start_soon(watch)
        yield "leased"


@asynccontextmanager
async def ends_by_itself() -> AsyncIterator[str]:
    async with trio.open_nursery() as tn:
        tn.cancel_scope.deadline = trio.current_time() + 0.05
        yield "short"


@asynccontextmanager
async def never_opens() -> AsyncIterator[None]:
    note("opening")
    try:
        await trio.sleep_forever()
        yield
    finally:
        note("given up")


@asynccontextmanager
async def never_closes() -> AsyncIterator[None]:
    note("open")
    yield
    try:
        note("closing")
        await trio.sleep_forever()
    finally:
        note("cut")


@asynccontextmanager
async def with_workers() -> AsyncIterator[tractor.Portal]:
    async with tractor.open_nursery() as an:
        yield await an.start_actor("below", enable_modules=[__name__])
        await an.cancel()
    note("closed")


@asynccontextmanager
async def in_the_background() -> AsyncIterator[str]:
    """A background task that is started before the actor serves."""
    tractor.current_actor().background.start_soon(tick)
    note("open")
    yield "ticks"
    note("closed")


async def sync_function() -> None:
    """No lifespan."""


async def tick() -> None:
    try:
        await trio.sleep_forever()
    finally:
        note("background ends")


# -- endpoints --


async def rows() -> list[str]:
    db: Database = tractor.actor_state()
    return db.rows


async def state() -> Any:
    return tractor.actor_state()


async def through_below() -> int:
    portal: tractor.Portal = tractor.actor_state()
    return await portal.run(pid)


async def pid() -> int:
    return os.getpid()


async def start_tick() -> None:
    tractor.current_actor().background.start_soon(tick)


async def fail_in_background() -> None:
    async def job() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("the job has failed")

    tractor.current_actor().background.start_soon(job)


async def forever() -> None:
    try:
        await trio.sleep_forever()
    finally:
        note("request ends")


@tractor.context
async def hold(ctx: tractor.Context, fail: bool = False) -> None:
    await ctx.started(os.getpid())
    if fail:
        await fail_in_background()
    await trio.sleep_forever()


@tractor.context
async def until_told(ctx: tractor.Context) -> str:
    """Ends when its opener says so."""
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        async for _ in stream:
            break
    return "done"


async def drain(timeout: float) -> bool:
    return await tractor.current_actor().drain(timeout)


async def log_a_line(name: str) -> None:
    logging.getLogger(name).info("asked by a peer")


async def disabled_loggers() -> list[str]:
    """Of the runtime's."""
    known = list(logging.Logger.manager.loggerDict)
    return [n for n in known if n.startswith("tractor") and logging.getLogger(n).disabled]


async def forever_unnoted() -> None:
    await trio.sleep_forever()


@tractor.context
async def holds_one_of(ctx: tractor.Context, name: str) -> list[str]:
    """Holds a context of a third actor, and tells with which error that ends."""
    async with tractor.find_actor(name, raise_on_none=True) as portal:
        assert isinstance(portal, tractor.Portal)
        try:
            async with portal.open_context(hold):
                await ctx.started()
                await trio.sleep_forever()
        except tractor.RemoteActorError as exc:
            return [exc.src_type_str, exc.src_uid[0] if exc.src_uid else ""]
    return []


async def has_one_that_fails() -> None:
    """A subactor whose background fails while its context is held."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("low", enable_modules=[__name__])
        async with portal.open_context(hold, fail=True):
            await trio.sleep_forever()


async def tries_to_drain(name: str) -> str:
    """Asks an actor that is none of its children; tells the error."""
    async with tractor.find_actor(name, raise_on_none=True) as portal:
        assert isinstance(portal, tractor.Portal)
        try:
            await portal.run_from_ns("self", "_drain", timeout=0)
        except tractor.RemoteActorError as exc:
            return exc.src_type_str
    return ""


async def level_of(name: str) -> int:
    return logging.getLogger(name).level


def rows_in_a_thread() -> list[str]:
    db: Database = tractor.actor_state()
    return db.rows


async def fails_in_background() -> None:
    await fail_in_background()
    await trio.sleep_forever()


async def drain_from_a_nursery(timeout: float) -> bool:
    """A task of a request is part of it."""
    found: list[bool] = []

    async def ask() -> None:
        found.append(await tractor.current_actor().drain(timeout))

    async with trio.open_nursery() as tn:
        tn.start_soon(ask)
    return found[0]
