"""maybe_open_context: one instance for all users of an actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor.trionics import _cached, maybe_open_context


class Shared:
    """A context manager that counts its instances."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.fail_entries = 0
        self.exit_error: Exception | None = None
        self.hold_entry: trio.Event | None = None
        self.hold_exit: trio.Event | None = None
        self.exit_cancelled = False

    @asynccontextmanager
    async def open(self, **kwargs: Any) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        assert self.opened == self.closed or kwargs, "two instances at a time"
        await trio.lowlevel.checkpoint()
        if self.hold_entry is not None:
            await self.hold_entry.wait()
        if self.fail_entries:
            self.fail_entries -= 1
            raise LookupError("entry")
        self.opened += 1
        number = self.opened
        try:
            yield number, kwargs
        finally:
            try:
                if self.hold_exit is not None:
                    await self.hold_exit.wait()
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                self.exit_cancelled = True
                raise
            finally:
                self.closed += 1
                if self.exit_error is not None:
                    raise self.exit_error


def in_nursery(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Run ``main`` inside a nursery, and check that nothing of the cache is left."""

    async def around() -> None:
        async with trio.open_nursery() as nursery:
            await main(nursery)
            assert _cached._slots.get() == {}
            assert not nursery.child_tasks

    trio.run(around)


def test_the_second_user_hits() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        async with maybe_open_context(opener, tn=tn) as (hit, value):
            assert (hit, value) == (False, (1, {}))
            async with maybe_open_context(opener, tn=tn) as (hit, again):
                assert hit
                assert again is value
            assert (shared.opened, shared.closed) == (1, 0)
        assert (shared.opened, shared.closed) == (1, 1)
        async with maybe_open_context(opener, tn=tn) as (hit, value):
            assert (hit, value) == (False, (2, {}))

    in_nursery(main)


def test_the_instance_outlives_the_task_that_opened_it() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        release_first = trio.Event()

        async def first(task_status: trio.TaskStatus[None]) -> None:
            async with maybe_open_context(opener, tn=tn):
                task_status.started()
                await release_first.wait()

        async with trio.open_nursery() as users:
            await users.start(first)
            async with maybe_open_context(opener, tn=tn) as (hit, _):
                assert hit
                release_first.set()
                await trio.testing.wait_all_tasks_blocked()
                assert not users.child_tasks
                assert shared.closed == 0
            assert shared.closed == 1

    in_nursery(main)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"kwargs": {"a": 1, "b": 2}}, {"kwargs": {"b": 2, "a": 1}}, True),
        ({"kwargs": {"a": 1}}, {"kwargs": {"a": 2}}, False),
        ({"kwargs": {"a": 1}, "key": "k"}, {"kwargs": {"a": 2}, "key": "k"}, True),
        ({"kwargs": {"a": 1}, "key": "k"}, {"kwargs": {"a": 1}, "key": "l"}, False),
        (
            {"kwargs": {"a": [1]}, "key": lambda a: tuple(a)},
            {"kwargs": {"a": [1]}, "key": lambda a: tuple(a)},
            True,
        ),
        ({"key": int}, {"key": int}, True),
    ],
)
def test_keys(first: dict[str, Any], second: dict[str, Any], same: bool) -> None:
    async def main(tn: trio.Nursery) -> None:
        opener = Shared().open
        async with maybe_open_context(opener, tn=tn, **first) as (_, value):
            assert value[1] == first.get("kwargs", {})
            async with maybe_open_context(opener, tn=tn, **second) as (hit, _):
                assert hit is same

    in_nursery(main)


def test_other_functions_share_nothing() -> None:
    async def main(tn: trio.Nursery) -> None:
        async with (
            maybe_open_context(Shared().open, key="k", tn=tn),
            maybe_open_context(Shared().open, key="k", tn=tn) as (hit, _),
        ):
            assert not hit

    in_nursery(main)


def test_an_unhashable_key() -> None:
    async def main(tn: trio.Nursery) -> None:
        with pytest.raises(TypeError, match=r"can't be hashed.*pass `key`"):
            async with maybe_open_context(Shared().open, {"a": [1]}, tn=tn):
                raise AssertionError("entered")

    in_nursery(main)


def test_those_who_come_during_the_entry_wait_for_it() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.hold_entry = trio.Event()
        hits: list[bool] = []

        async def user() -> None:
            async with maybe_open_context(opener, tn=tn) as (hit, _):
                hits.append(hit)
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as users:
            for _ in range(4):
                users.start_soon(user)
            await trio.testing.wait_all_tasks_blocked()
            assert hits == []
            shared.hold_entry.set()
        assert sorted(hits) == [False, True, True, True]
        assert (shared.opened, shared.closed) == (1, 1)

    in_nursery(main)


def test_a_failed_entry_is_not_kept() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.fail_entries = 2
        ends: list[object] = []

        async def user() -> None:
            try:
                async with maybe_open_context(opener, tn=tn) as (hit, _):
                    ends.append(hit)
                    await trio.testing.wait_all_tasks_blocked()
            except LookupError as error:
                ends.append(str(error))

        async with trio.open_nursery() as users:
            for _ in range(4):
                users.start_soon(user)
        assert sorted(map(str, ends)) == ["False", "True", "entry", "entry"]

    in_nursery(main)


def test_a_cancelled_entry_is_tried_again_by_the_next() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.hold_entry = trio.Event()
        scope = trio.CancelScope()
        hits: list[bool] = []

        async def first() -> None:
            with scope:
                async with maybe_open_context(opener, tn=tn):
                    raise AssertionError("entered")

        async def second() -> None:
            async with maybe_open_context(opener, tn=tn) as (hit, _):
                hits.append(hit)

        async with trio.open_nursery() as users:
            users.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            users.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            shared.hold_entry.set()
        assert hits == [False]

    in_nursery(main)


def test_the_last_user_gets_the_exits_error() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.exit_error = OSError("exit")
        with pytest.raises(OSError, match="exit"):  # noqa: PT012
            async with maybe_open_context(opener, tn=tn):
                async with maybe_open_context(opener, tn=tn):
                    pass
                assert shared.closed == 0
        assert not tn.cancel_scope.cancel_called

    in_nursery(main)


def test_who_comes_during_the_exit_gets_a_new_instance_after_it() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.hold_exit = trio.Event()
        got: list[Any] = []

        async def user() -> None:
            async with maybe_open_context(opener, tn=tn) as (hit, (number, _)):
                got.append((hit, number, shared.closed))

        async with trio.open_nursery() as users:
            users.start_soon(user)
            await trio.testing.wait_all_tasks_blocked()
            users.start_soon(user)
            await trio.testing.wait_all_tasks_blocked()
            assert got == [(False, 1, 0)]
            shared.hold_exit.set()
        assert got == [(False, 1, 0), (False, 2, 1)]

    in_nursery(main)


def test_a_cancelled_last_user_cancels_the_exit_and_waits_for_it() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        shared.hold_exit = trio.Event()
        with trio.CancelScope() as scope:
            async with maybe_open_context(opener, tn=tn):
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert shared.exit_cancelled
        assert shared.closed == 1

    in_nursery(main)


def test_an_error_of_a_block_is_its_own() -> None:
    async def main(tn: trio.Nursery) -> None:
        shared = Shared()
        opener = shared.open
        async with maybe_open_context(opener, tn=tn):
            with pytest.raises(KeyError):
                async with maybe_open_context(opener, tn=tn):
                    raise KeyError
            await trio.lowlevel.checkpoint()
        assert shared.closed == 1

    in_nursery(main)


def test_an_instance_that_ends_in_the_midst_ends_its_users() -> None:
    async def main(tn: trio.Nursery) -> None:
        breaks = trio.Event()

        @asynccontextmanager
        async def opener() -> AsyncIterator[None]:
            async with trio.open_nursery() as nursery:

                async def background() -> None:
                    await breaks.wait()
                    raise OSError("background")

                nursery.start_soon(background)
                yield

        ended: list[ExceptionGroup[Exception]] = []

        async def user() -> None:
            with pytest.raises(ExceptionGroup) as caught:
                async with maybe_open_context(opener, tn=tn):
                    await trio.sleep_forever()
            ended.append(caught.value)

        async with trio.open_nursery() as users:
            for _ in range(3):
                users.start_soon(user)
            await trio.testing.wait_all_tasks_blocked()
            breaks.set()
        assert len(ended) == 3
        assert all(isinstance(group.exceptions[0], OSError) for group in ended)

    in_nursery(main)


def test_an_instance_cancelled_with_its_nursery_ends_its_users() -> None:
    shared = Shared()
    opener = shared.open

    async def main() -> None:
        # The user is shielded from the nursery's cancellation, its instance is not.
        async with trio.open_nursery() as tn:
            with (  # noqa: PT012
                trio.CancelScope(shield=True),
                pytest.raises(RuntimeError, match="ended while it was in use"),
            ):
                async with maybe_open_context(opener, tn=tn):
                    tn.cancel_scope.cancel()
                    await trio.sleep_forever()

    trio.run(main)
    assert shared.closed == 1


def test_without_a_runtime_a_nursery_is_needed() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="without a runtime needs a nursery: pass `tn`"):
            async with maybe_open_context(Shared().open):
                raise AssertionError("entered")

    trio.run(main)


def test_the_default_is_the_actors_service_nursery(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(tn: trio.Nursery) -> None:
        class FakeActor:
            service_nursery = tn

        monkeypatch.setattr(_cached, "current_actor", FakeActor)
        async with maybe_open_context(Shared().open):
            assert len(tn.child_tasks) == 1

    in_nursery(main)


def test_the_nursery_must_enclose_the_caller() -> None:
    async def use(tn: trio.Nursery) -> None:
        async with maybe_open_context(Shared().open, tn=tn):
            pass

    async def main() -> None:
        async with trio.open_nursery() as outer:
            await use(outer)
            async with trio.open_nursery() as inner:
                await use(outer)
                await use(inner)
                with pytest.raises(RuntimeError, match="does not enclose this task"):
                    await refused_from(outer, inner)
                inner.start_soon(use, outer)
                inner.start_soon(use, inner)

    async def refused_from(outer: trio.Nursery, inner: trio.Nursery) -> None:
        """A task of the outer nursery may not use the inner one."""
        errors: list[RuntimeError] = []

        async def task() -> None:
            try:
                await use(inner)
            except RuntimeError as error:
                errors.append(error)

        outer.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        raise errors[0]

    trio.run(main)


def test_a_run_of_its_own_has_a_cache_of_its_own() -> None:
    opener = Shared().open
    hits: list[bool] = []

    async def abandon() -> None:
        async with trio.open_nursery() as tn:
            manager = maybe_open_context(opener, tn=tn)
            hit, _ = await manager.__aenter__()
            hits.append(hit)
            _cached._slots.get()["left over"] = _cached._Slot()
            await manager.__aexit__(None, None, None)

    async def look() -> None:
        assert _cached._slots.get() == {}

    trio.run(abandon)
    trio.run(look)
    assert hits == [False]


USERS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(0, 8)),
        st.sampled_from(["a", "b"]),
    ),
    max_size=8,
)


@given(users=USERS, failures=st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_any_mix_of_users(users: list[tuple[int, int, int | None, str]], failures: int) -> None:
    """Users come, stay, fail and are cancelled: one instance a key at a time, none left."""

    async def main() -> None:
        shared = {name: Shared() for name in "ab"}
        openers = {name: each.open for name, each in shared.items()}
        for each in shared.values():
            each.fail_entries = failures

        async with trio.open_nursery() as tn:

            async def user(comes: int, stays: int, cancelled: int | None, name: str) -> None:
                await trio.sleep(comes)
                with trio.move_on_after(1e6 if cancelled is None else cancelled + 0.5):
                    try:
                        async with maybe_open_context(openers[name], tn=tn):
                            assert shared[name].opened == shared[name].closed + 1
                            await trio.sleep(stays)
                            assert shared[name].opened == shared[name].closed + 1
                    except LookupError:
                        pass

            async with trio.open_nursery() as all_users:
                for each_user in users:
                    all_users.start_soon(user, *each_user)
            assert _cached._slots.get() == {}
            for each in shared.values():
                assert each.opened == each.closed

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
