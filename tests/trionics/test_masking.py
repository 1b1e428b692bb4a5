"""Errors that a cancellation hides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tractor.trionics._masking import BoxedMaybeException, maybe_raise_from_masking_exc, unmasked


class Masked(Exception):
    pass


async def fail_and_checkpoint(scope: trio.CancelScope) -> None:
    try:
        raise Masked("the reason")
    finally:
        scope.cancel()
        await trio.lowlevel.checkpoint()


def test_without_help_the_error_is_lost() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            await fail_and_checkpoint(scope)
        assert scope.cancelled_caught

    trio.run(main)


def test_the_hidden_error_is_raised_with_a_note() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            try:
                async with maybe_raise_from_masking_exc() as box:
                    await fail_and_checkpoint(scope)
            finally:
                assert isinstance(box.value, Masked)

    with pytest.raises(Masked, match="the reason") as caught:
        trio.run(main)
    error = caught.value
    assert error.__context__ is None
    (note,) = error.__notes__
    assert "hidden by a cancellation" in note
    assert "Cancelled" in note
    assert any(entry.name == "fail_and_checkpoint" for entry in caught.traceback)


def test_the_extra_note() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc(extra_note="see the manual"):
                await fail_and_checkpoint(scope)

    with pytest.raises(Masked) as caught:
        trio.run(main)
    assert caught.value.__notes__[0].startswith("see the manual\n(hidden by ")


@pytest.mark.parametrize("warned", [True, False])
def test_not_raised_it_is_boxed_and_maybe_logged(
    caplog: pytest.LogCaptureFixture, warned: bool
) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc(
                raise_unmasked=False, always_warn_on=(trio.Cancelled,) if warned else ()
            ) as box:
                await fail_and_checkpoint(scope)
        assert scope.cancelled_caught
        assert isinstance(box.value, Masked)
        assert box.raise_on_exit is False
        assert not hasattr(box.value, "__notes__")

    trio.run(main)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert all("hides an error: Masked('the reason')" in text for text in caplog.messages)


def test_a_group_that_a_teardown_hides() -> None:
    """An error from a nursery, then a send channel's ``aclose()`` in the cancelled scope."""

    async def fail() -> None:
        raise Masked

    async def main() -> None:
        send, receive = trio.open_memory_channel[int](0)
        with trio.CancelScope() as scope, receive:
            async with maybe_raise_from_masking_exc(), send, trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    async def cancel_first() -> None:
        send, receive = trio.open_memory_channel[int](0)
        with trio.CancelScope() as scope, receive:
            async with maybe_raise_from_masking_exc(), send:
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(fail)
                finally:
                    scope.cancel()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(cancel_first)
    assert isinstance(caught.value.exceptions[0], Masked)
    with pytest.raises(BaseExceptionGroup):
        trio.run(main)


def test_errors_hidden_in_a_nurserys_tasks() -> None:
    async def fail(scope: trio.CancelScope, error: Exception) -> None:
        try:
            raise error
        finally:
            scope.cancel()
            await trio.lowlevel.checkpoint()

    async def main(*errors: Exception) -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc(), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for error in errors:
                    nursery.start_soon(fail, scope, error)

    with pytest.raises(Masked):
        trio.run(main, Masked())
    with pytest.raises(ExceptionGroup, match="hidden by cancellations") as caught:
        trio.run(main, Masked(), OSError())
    assert {type(each) for each in caught.value.exceptions} == {Masked, OSError}


async def nothing(scope: trio.CancelScope) -> None:
    scope.cancel()


async def lock(scope: trio.CancelScope) -> None:
    lock = trio.Lock()

    async def hold() -> None:
        async with lock:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lock.acquire)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()


async def bare_lock(scope: trio.CancelScope) -> None:
    lock = trio.StrictFIFOLock()
    await trio.lowlevel.cancel_shielded_checkpoint()

    async def hold(task_status: trio.TaskStatus[None]) -> None:
        async with lock:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(hold)
        scope.deadline = trio.current_time() + 1
        await lock.acquire()


async def condition(scope: trio.CancelScope) -> None:
    condition = trio.Condition()
    async with condition:
        scope.deadline = trio.current_time() + 1
        await condition.wait()


async def semaphore(scope: trio.CancelScope) -> None:
    scope.deadline = trio.current_time() + 1
    await trio.Semaphore(0).acquire()


async def limiter(scope: trio.CancelScope) -> None:
    limiter = trio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")
    scope.deadline = trio.current_time() + 1
    await limiter.acquire()


async def channel(scope: trio.CancelScope) -> None:
    send, receive = trio.open_memory_channel[int](0)
    scope.deadline = trio.current_time() + 1
    with send, receive:
        await receive.receive()


WAITS = [nothing, lock, bare_lock, condition, semaphore, limiter, channel]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_plain_cancellation_stays_one(
    wait: Callable[[trio.CancelScope], Awaitable[None]],
) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc() as box:
                await wait(scope)
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert box.value is None

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("wait", [semaphore, limiter, channel], ids=lambda wait: wait.__name__)
def test_an_error_below_a_wait_is_found(
    wait: Callable[[trio.CancelScope], Awaitable[None]],
) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc():
                try:
                    raise Masked
                finally:
                    await wait(scope)

    with pytest.raises(Masked):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_would_block_of_the_user_is_an_error() -> None:
    async def main() -> None:
        send, receive = trio.open_memory_channel[int](0)
        with send, receive, trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc():
                try:
                    send.send_nowait(1)
                finally:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()

    with pytest.raises(trio.WouldBlock):
        trio.run(main)


def test_with_nothing_to_leave_a_locks_attempt_is_still_known_to_be_caught() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with maybe_raise_from_masking_exc(never_warn_on=()):
                await semaphore(scope)
        assert scope.cancelled_caught

    trio.run(main)


def test_other_masking_types() -> None:
    async def main(unmask_from: tuple[type[BaseException], ...]) -> None:
        async with maybe_raise_from_masking_exc(unmask_from):
            try:
                raise Masked
            finally:
                raise trio.ClosedResourceError

    with pytest.raises(Masked):
        trio.run(main, (trio.ClosedResourceError,))
    with pytest.raises(trio.ClosedResourceError):
        trio.run(main, (trio.Cancelled,))


def test_an_error_that_hides_nothing_passes() -> None:
    async def main() -> None:
        async with maybe_raise_from_masking_exc():
            raise Masked

    with pytest.raises(Masked) as caught:
        trio.run(main)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("wrong", [None, trio.Cancelled, [trio.Cancelled], ("Cancelled",)])
def test_unmask_from_must_be_a_tuple(wrong: Any) -> None:
    async def main() -> None:
        async with maybe_raise_from_masking_exc(unmask_from=wrong):
            raise AssertionError("entered")

    with pytest.raises(ValueError, match="must be a tuple of exception types"):
        trio.run(main)


def test_unmasked_on_chains() -> None:
    hidden, outer, middle = Masked(), KeyError(), KeyError()
    outer.__context__, middle.__context__ = middle, hidden
    assert unmasked(outer, (KeyError,)) is hidden
    assert unmasked(outer) is None
    hidden_by_none = KeyError()
    hidden_by_none.__context__, hidden_by_none.__suppress_context__ = hidden, True
    assert unmasked(hidden_by_none, (KeyError,)) is None
    middle.__context__ = outer
    assert unmasked(outer, (KeyError,)) is None
    assert unmasked(BaseExceptionGroup("", [outer, Masked()]), (KeyError,)) is None


def test_the_box() -> None:
    box = BoxedMaybeException()
    assert (box.value, box.raise_on_exit) == (None, True)
    assert repr(box) == "<BoxedMaybeException empty, raise_on_exit=True>"
    assert box.is_raised(ValueError())
    assert not BoxedMaybeException(raise_on_exit=False).is_raised(ValueError())
    listed = BoxedMaybeException(ValueError("x"), raise_on_exit=(OSError,))
    assert listed.is_raised(OSError())
    # Exactly the listed types.
    assert not listed.is_raised(ConnectionError())
    assert not listed.is_raised(ValueError())
    assert "ValueError('x')" in listed.pformat()
