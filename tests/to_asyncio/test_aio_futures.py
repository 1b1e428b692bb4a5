"""Running trio tasks from asyncio, in futures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tractor.to_asyncio import (
    LinkedTaskChannel,
    open_channel_from,
    run_as_asyncio_guest,
    run_task,
    run_trio_task_in_future,
)


def from_asyncio(fn: Callable[[], Awaitable[Any]]) -> Any:
    """Run `fn()` as an asyncio task, within 10 s."""

    async def main() -> Any:
        with trio.fail_after(10):
            return await run_task(fn)

    return run_as_asyncio_guest(main)


async def in_trio(value: Any) -> Any:
    await trio.sleep(0.001)
    if isinstance(value, BaseException):
        raise value
    return value


def test_value_and_error() -> None:
    async def ask() -> Any:
        with pytest.raises(KeyError, match="no"):
            await run_trio_task_in_future(in_trio, KeyError("no"))
        # This one can't be raised into a coroutine.
        with pytest.raises(RuntimeError, match="StopIteration"):
            await run_trio_task_in_future(in_trio, StopIteration())
        return await run_trio_task_in_future(in_trio, None), await run_trio_task_in_future(
            in_trio, 5
        )

    assert from_asyncio(ask) == (None, 5)


def test_cancelling_the_future_cancels_the_trio_task_and_waits_for_it() -> None:
    log: list[str] = []

    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.02)
            log.append("trio task is done")

    async def ask() -> None:
        future = run_trio_task_in_future(clean_up)
        await asyncio.sleep(0.01)
        assert future.cancel()
        assert not future.done()
        with pytest.raises(asyncio.CancelledError):
            await future
        log.append("future is done")
        assert future.cancelled()
        assert not future.cancel()

    from_asyncio(ask)
    assert log == ["trio task is done", "future is done"]


def test_cancelling_the_task_that_awaits_the_future() -> None:
    log: list[str] = []

    async def note() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            log.append("trio cancelled")
            raise

    async def wait(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await run_trio_task_in_future(note)

    async def main() -> None:
        async with open_channel_from(wait):
            await trio.sleep(0.01)

    run_as_asyncio_guest(main)
    assert log == ["trio cancelled"]


def test_a_task_that_returns_all_the_same_gives_its_value() -> None:
    async def stubborn() -> str:
        with trio.move_on_after(60) as scope:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                scope.shield = True
        return "done anyway"

    async def ask() -> Any:
        future = run_trio_task_in_future(stubborn)
        await asyncio.sleep(0.01)
        future.cancel()
        try:
            return await future
        except asyncio.CancelledError:
            return "cancelled"

    # Its Cancelled is still on its way out of the scope that the future's cancel has cancelled.
    assert from_asyncio(ask) in ("done anyway", "cancelled")


def test_what_still_runs_when_trio_ends_is_cancelled() -> None:
    futures: list[asyncio.Future[Any]] = []

    async def ask() -> None:
        futures.append(run_trio_task_in_future(trio.sleep_forever))

    async def main() -> None:
        await run_task(ask)
        await trio.sleep(0.01)

    run_as_asyncio_guest(main)
    assert futures[0].cancelled()


def test_elsewhere_the_error_names_infect_asyncio() -> None:
    async def ask() -> None:
        with pytest.raises(RuntimeError, match="infect_asyncio=True"):
            run_trio_task_in_future(in_trio, 1)

    asyncio.run(ask())


def test_a_nursery_that_trios_end_cancels_is_a_cancelled_future() -> None:
    futures: list[asyncio.Future[Any]] = []

    async def two() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    async def ask() -> None:
        futures.append(run_trio_task_in_future(two))

    async def main() -> None:
        await run_task(ask)
        await trio.testing.wait_all_tasks_blocked()

    run_as_asyncio_guest(main)
    assert futures[0].cancelled()


@pytest.mark.parametrize("error", [None, KeyError("late")])
def test_a_future_that_somebody_else_has_set_keeps_that(error: Exception | None) -> None:
    async def ask() -> Any:
        future = run_trio_task_in_future(in_trio, error)
        future.set_result("mine")
        await run_trio_task_in_future(trio.sleep, 0.01)
        return await future

    assert from_asyncio(ask) == "mine"
