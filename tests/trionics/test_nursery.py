"""Nursery helpers: maybe_open_nursery, start_or_cancel, gather_contexts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tractor.trionics._nursery import gather_contexts, maybe_open_nursery, start_or_cancel

# -- maybe_open_nursery --


def test_a_given_nursery_is_used_and_left_open() -> None:
    async def main() -> None:
        async with trio.open_nursery() as given:
            async with maybe_open_nursery(given, shield=True) as nursery:
                assert nursery is given
                nursery.start_soon(trio.sleep_forever)
            assert not given.cancel_scope.shield
            assert len(given.child_tasks) == 1
            given.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("shield", [True, False])
def test_a_new_nursery_waits_for_its_tasks(shield: bool) -> None:
    async def main() -> None:
        done = trio.Event()

        async def task() -> None:
            await trio.testing.wait_all_tasks_blocked()
            done.set()

        async with maybe_open_nursery(shield=shield) as nursery:
            nursery.start_soon(task)
        assert done.is_set()
        assert nursery.cancel_scope.shield is shield

    trio.run(main)


def test_another_library_and_its_keywords() -> None:
    seen: dict[str, Any] = {}

    @asynccontextmanager
    async def open_nursery(**kwargs: Any) -> AsyncIterator[str]:
        seen.update(kwargs)
        yield "nursery"

    async def main() -> None:
        lib = SimpleNamespace(open_nursery=open_nursery)
        async with maybe_open_nursery(lib=lib, name="x") as nursery:
            assert nursery == "nursery"

    trio.run(main)
    assert seen == {"name": "x"}


# -- start_or_cancel --


def test_start_gives_what_was_reported() -> None:
    async def task(first: int, *, task_status: trio.TaskStatus[int]) -> None:
        task_status.started(first + 1)
        names.append(trio.lowlevel.current_task().name)

    names: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            assert await start_or_cancel(nursery, task, 1) == 2
            assert await start_or_cancel(nursery, task, 2, name="named") == 3

    trio.run(main)
    assert names[0].endswith(".task")
    assert names[1] == "named"


async def absorbs_its_cancellation(*, task_status: trio.TaskStatus[None]) -> None:
    with trio.move_on_after(1e6) as scope:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            scope.cancel()
            raise


async def returns(*, task_status: trio.TaskStatus[None]) -> None:
    await trio.lowlevel.checkpoint()


def test_a_cancelled_start_is_cancelled() -> None:
    async def swallow(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    async def main() -> None:
        for fn in (swallow, absorbs_its_cancellation):
            async with trio.open_nursery() as nursery:

                async def cancel(nursery: trio.Nursery = nursery) -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(cancel)
                with pytest.raises(trio.Cancelled):
                    await start_or_cancel(nursery, fn)
            assert nursery.cancel_scope.cancelled_caught or nursery.cancel_scope.cancel_called

    trio.run(main)


def test_a_function_that_forgets_to_report() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match="without calling") as caught:
                await start_or_cancel(nursery, returns)
            assert not hasattr(caught.value, "__notes__")
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.cancel()
            with (
                trio.CancelScope(shield=True),
                pytest.raises(RuntimeError, match="without calling") as caught,
            ):
                await start_or_cancel(nursery, returns)
            assert caught.value.__notes__ == ["the nursery was cancelled before"]

    trio.run(main)


def test_errors_before_the_start_are_raised_also_in_a_cancelled_scope() -> None:
    async def fail(*, task_status: trio.TaskStatus[None]) -> None:
        scope.cancel()
        raise RuntimeError("mine, not of start()")

    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                with pytest.raises(RuntimeError, match="mine"):
                    await start_or_cancel(nursery, fail)

    trio.run(main)


# -- gather_contexts --


class Managers:
    """Context managers that meet at their entry and at their exit: each needs all the others."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.entering = self.exiting = 0
        self.all_entering, self.all_exiting = trio.Event(), trio.Event()
        self.ends: list[str] = []

    @asynccontextmanager
    async def one(self, value: int) -> AsyncIterator[int]:
        task = trio.lowlevel.current_task()
        self.entering += 1
        if self.entering == self.count:
            self.all_entering.set()
        await self.all_entering.wait()
        try:
            yield value
        except trio.Cancelled:
            self.ends.append("cancelled")
            raise
        else:
            self.ends.append("normal")
        finally:
            assert trio.lowlevel.current_task() is task
            self.exiting += 1
            if self.exiting == self.count:
                self.all_exiting.set()
            with trio.CancelScope(shield=True):
                await self.all_exiting.wait()

    def all(self) -> list[Any]:
        return [self.one(number) for number in range(self.count)]


@pytest.mark.parametrize("own", [True, False])
def test_all_are_entered_and_exited_at_the_same_time(own: bool) -> None:
    async def main() -> None:
        managers = Managers(4)
        async with trio.open_nursery() as nursery:
            async with gather_contexts(iter(managers.all()), None if own else nursery) as values:
                assert values == (0, 1, 2, 3)
                assert managers.exiting == 0
            assert managers.ends == ["normal"] * 4
            assert not nursery.child_tasks

    trio.run(main)


@pytest.mark.parametrize("own", [True, False])
def test_an_error_of_the_block_cancels_the_contexts(own: bool) -> None:
    async def main() -> None:
        managers = Managers(3)
        async with trio.open_nursery() as nursery:
            with pytest.raises(ValueError, match="mine"):
                async with gather_contexts(managers.all(), None if own else nursery):
                    raise ValueError("mine")
            assert managers.ends == ["cancelled"] * 3
            assert not nursery.cancel_scope.cancel_called

    trio.run(main)


@pytest.mark.parametrize("own", [True, False])
def test_a_cancelled_block_waits_for_the_exits(own: bool) -> None:
    async def main() -> None:
        managers = Managers(3)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with gather_contexts(managers.all(), None if own else nursery):
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert managers.ends == ["cancelled"] * 3

    trio.run(main)


@asynccontextmanager
async def fails(when: str) -> AsyncIterator[None]:
    await trio.lowlevel.checkpoint()
    if when == "enter":
        raise LookupError(when)
    yield
    raise LookupError(when)


@asynccontextmanager
async def endless(ends: list[str]) -> AsyncIterator[None]:
    try:
        await trio.sleep_forever()
        yield
    finally:
        ends.append("left")


def test_a_failing_entry_ends_the_others_entries() -> None:
    async def main() -> None:
        ends: list[str] = []
        with pytest.raises(LookupError, match="enter"):
            async with gather_contexts([endless(ends), fails("enter")]):
                raise AssertionError("entered")
        assert ends == ["left"]
        with pytest.raises(ExceptionGroup) as caught:
            async with (
                trio.open_nursery() as nursery,
                gather_contexts([endless(ends), fails("enter")], nursery),
            ):
                raise AssertionError("entered")
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        assert ends == ["left", "left"]

    trio.run(main)


def test_a_failing_entry_in_a_nursery_that_is_not_around_the_caller() -> None:
    async def main() -> None:
        async def host(task_status: trio.TaskStatus[trio.Nursery]) -> None:
            with pytest.raises(ExceptionGroup):  # noqa: PT012
                async with trio.open_nursery() as nursery:
                    task_status.started(nursery)
                    await trio.sleep_forever()

        async with trio.open_nursery() as outer:
            nursery = await outer.start(host)
            ends: list[str] = []
            with pytest.raises(RuntimeError, match="failed to enter"):
                async with gather_contexts([endless(ends), fails("enter")], nursery):
                    raise AssertionError("entered")
            assert ends == ["left"]

    trio.run(main)


def test_a_failing_exit() -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="exit") as caught:
            async with gather_contexts([fails("exit")]):
                pass
        assert not hasattr(caught.value, "__notes__")
        with pytest.raises(ExceptionGroup) as several:
            async with gather_contexts([fails("exit"), fails("exit")]):
                pass
        assert len(several.value.exceptions) == 2

    trio.run(main)


def test_a_manager_that_fails_in_the_midst_cancels_the_block() -> None:
    @asynccontextmanager
    async def breaks() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                await trio.testing.wait_all_tasks_blocked()
                raise LookupError

            nursery.start_soon(fail)
            yield

    async def main() -> None:
        with pytest.raises(LookupError):
            async with gather_contexts([breaks()]):
                await trio.sleep_forever()

    trio.run(main)


@pytest.mark.parametrize("own", [True, False])
def test_nothing_to_gather(own: bool) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with pytest.raises(ValueError, match="no context managers"):
                async with gather_contexts([], None if own else nursery):
                    raise AssertionError("entered")

    trio.run(main)
