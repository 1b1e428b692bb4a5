"""How an asyncio task is told of its trio side's end: wherever it waits, without harm to others that wait there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tractor.to_asyncio import (
    AsyncioCancelled,
    AsyncioRuntimeTranslationError,
    LinkedTaskChannel,
    TrioCancelled,
    TrioTaskExited,
    _link,
    maybe_signal_aio_task,
    open_channel_from,
    run_as_asyncio_guest,
)

Target = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_link, "GRACE", 0.05)
    monkeypatch.setattr(_link, "CANCEL_DEADLINE", 0.15)


def leave_once_it_waits(target: Target, **kwargs: Any) -> Any:
    """Enter a block, let the task come to where it waits, leave; the task's value or the error of the link."""

    async def main() -> Any:
        with trio.fail_after(10):
            async with open_channel_from(target, **kwargs) as (chan, _):
                await trio.sleep(0.02)
            return await chan.wait_for_result()

    return run_as_asyncio_guest(main)


async def caught_at(wait: Callable[[], Awaitable[Any]]) -> str:
    try:
        await wait()
    except BaseException as exc:
        return type(exc).__name__
    return "nothing"


def told_at(wait: Callable[[], Awaitable[Any]]) -> str:
    """What a task gets that waits in `wait()` when its trio side leaves."""

    async def target(chan: LinkedTaskChannel) -> str:
        chan.started_nowait()
        return await caught_at(wait)

    found: str = leave_once_it_waits(target)
    return found


async def plain_future() -> None:
    await asyncio.get_running_loop().create_future()


async def event() -> None:
    await asyncio.Event().wait()


async def queue() -> None:
    await asyncio.Queue[int]().get()


async def async_generator() -> None:
    async def items() -> Any:
        yield await asyncio.get_running_loop().create_future()

    async for _ in items():
        pass


@pytest.mark.parametrize(
    "wait", [plain_future, event, queue, lambda: asyncio.sleep(60), async_generator]
)
def test_raised_at_a_future_of_its_own(wait: Callable[[], Awaitable[Any]]) -> None:
    assert told_at(wait) == "TrioTaskExited"


async def another_task() -> None:
    await asyncio.create_task(asyncio.sleep(60))


async def gathered() -> None:
    await asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))


async def shielded() -> None:
    await asyncio.shield(asyncio.sleep(60))


async def waited_for() -> None:
    await asyncio.wait_for(asyncio.sleep(60), 60)


async def task_group() -> None:
    async with asyncio.TaskGroup() as tg:
        tg.create_task(asyncio.sleep(60))


async def shared_future() -> None:
    future = asyncio.get_running_loop().create_future()
    other = asyncio.create_task(caught_at(lambda: future))
    await asyncio.sleep(0)
    try:
        await future
    finally:
        other.cancel()


async def taken_lock() -> None:
    taken = asyncio.Lock()
    await taken.acquire()
    await taken.acquire()


async def in_a_thread() -> None:
    over = threading.Event()
    try:
        await asyncio.get_running_loop().run_in_executor(None, over.wait, 20)
    finally:
        over.set()


@pytest.mark.parametrize(
    "wait",
    [another_task, gathered, shielded, task_group, shared_future, taken_lock, in_a_thread],
)
def test_cancelled_where_others_wait_too(wait: Callable[[], Awaitable[Any]]) -> None:
    assert told_at(wait) == "CancelledError"


def test_wait_for_and_task_groups_leave_no_task_behind() -> None:
    left: list[int] = []

    async def target(chan: LinkedTaskChannel, wait: Callable[[], Awaitable[Any]]) -> None:
        chan.started_nowait()
        before = len(asyncio.all_tasks())
        try:
            await wait()
        finally:
            await asyncio.sleep(0)
            left.append(len(asyncio.all_tasks()) - before)

    for wait in (waited_for, task_group, gathered):
        with contextlib.suppress(AsyncioCancelled, TrioTaskExited):
            leave_once_it_waits(target, wait=wait)
    assert left == [0, 0, 0]


def test_a_lock_loses_no_wake_up() -> None:
    """The next one in the queue of a lock gets it, also when it is released while the task is being told."""

    async def main() -> list[str]:
        log: list[str] = []

        async def wait_for_lock(chan: LinkedTaskChannel) -> None:
            chan.started_nowait()
            async with lock:
                log.append("not for this one")

        async def second_in_the_queue() -> None:
            async with lock:
                log.append("second")

        lock = asyncio.Lock()
        await lock.acquire()
        async with open_channel_from(wait_for_lock):
            await trio.sleep(0.01)
            second = asyncio.ensure_future(second_in_the_queue())
            await trio.sleep(0.01)
            asyncio.get_running_loop().call_soon(lock.release)
        for _ in range(100):
            if second.done():
                break
            await trio.sleep(0.01)
        return log

    assert run_as_asyncio_guest(main) == ["second"]


def test_a_task_that_has_not_begun_never_does() -> None:
    async def main() -> bool:
        begun = False

        async def target() -> None:
            nonlocal begun
            begun = True

        link = _link.TaskLink(1)
        link.launch(target, {})
        exc = ValueError()
        assert await link.end(exc, strict=False) is exc
        return begun

    assert run_as_asyncio_guest(main) is False


def test_nothing_is_started_in_a_cancelled_scope() -> None:
    async def main() -> bool:
        begun = False

        async def target(chan: LinkedTaskChannel) -> None:
            nonlocal begun
            begun = True

        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_channel_from(target):
                raise AssertionError("entered")
        assert scope.cancelled_caught
        return begun

    assert run_as_asyncio_guest(main) is False


def test_a_task_that_does_not_wait_gets_it_at_its_next_await() -> None:
    async def target(chan: LinkedTaskChannel) -> str:
        chan.started_nowait()
        # Wakes up in the very turn in which the block is left.
        await chan.get()
        return await caught_at(plain_future)

    async def main() -> Any:
        async with open_channel_from(target) as (chan, _):
            await trio.sleep(0.01)
            await chan.send(1)
        return await chan.wait_for_result()

    assert run_as_asyncio_guest(main) == "TrioTaskExited"


def test_a_task_that_only_yields_is_cancelled() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    assert told_at(spin) == "CancelledError"


def test_one_that_swallows_the_word_is_cancelled() -> None:
    async def target(chan: LinkedTaskChannel) -> list[str]:
        chan.started_nowait()
        return [await caught_at(plain_future), await caught_at(plain_future)]

    assert leave_once_it_waits(target) == ["TrioTaskExited", "CancelledError"]


def test_what_a_cancel_stood_for_decides_the_translation() -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await another_task()

    with pytest.raises(TrioTaskExited):
        leave_once_it_waits(target, suppress_graceful_exits=False)


def test_one_that_ignores_errors_in_a_loop_of_reads_is_cancelled_at_once() -> None:
    """The busiest reader that ignores errors keeps neither the loop nor the block's exit busy."""
    rounds = 0

    async def target(chan: LinkedTaskChannel) -> None:
        nonlocal rounds
        chan.started_nowait()
        while True:
            try:
                await chan.get()
            except Exception:
                rounds += 1

    async def main() -> None:
        async with open_channel_from(target):
            await trio.sleep(0.01)

    run_as_asyncio_guest(main)
    assert rounds <= 2


def test_one_that_swallows_everything_is_given_up_with_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.sleep(60)
        # Ends with its loop.
        await asyncio.sleep(60)

    with pytest.raises(AsyncioRuntimeTranslationError, match=r"stubborn.*given up"):
        leave_once_it_waits(stubborn)
    assert "given up" in caplog.text

    async def cancelled() -> None:
        with trio.move_on_after(0.01):
            async with open_channel_from(stubborn):
                await trio.sleep_forever()

    with pytest.raises(AsyncioRuntimeTranslationError):
        run_as_asyncio_guest(cancelled)

    async def failing() -> None:
        async with open_channel_from(stubborn):
            raise ValueError("trio's")

    with pytest.raises(ExceptionGroup) as caught:
        run_as_asyncio_guest(failing)
    kinds = [type(exc) for exc in caught.value.exceptions]
    assert kinds == [ValueError, AsyncioRuntimeTranslationError]


def test_cleaning_up_may_take_a_moment() -> None:
    async def target(chan: LinkedTaskChannel) -> str:
        chan.started_nowait()
        try:
            await plain_future()
        except TrioTaskExited:
            await asyncio.sleep(0.01)
        return "clean"

    assert leave_once_it_waits(target) == "clean"


def test_a_word_inside_a_task_group_is_no_error_of_the_task() -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        async with asyncio.TaskGroup() as tg:
            tg.create_task(asyncio.sleep(60))
            await plain_future()

    async def main() -> None:
        async with open_channel_from(target):
            await trio.sleep(0.01)

    run_as_asyncio_guest(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_errors_that_would_stop_the_loop_belong_to_the_link(error: type[BaseException]) -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await asyncio.sleep(0.01)
        raise error

    async def main() -> str:
        with pytest.raises(error):
            async with open_channel_from(target):
                await trio.sleep_forever()
        await trio.sleep(0.01)
        return "the loop runs on"

    assert run_as_asyncio_guest(main) == "the loop runs on"


class Falsy(Exception):
    def __len__(self) -> int:
        return 0


def test_an_error_that_is_false_is_an_error() -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        raise Falsy

    async def main() -> None:
        with trio.fail_after(10):
            async with open_channel_from(target):
                await trio.sleep_forever()

    with pytest.raises(Falsy):
        run_as_asyncio_guest(main)


@pytest.mark.parametrize("cancels", [False, True])
def test_an_error_that_comes_of_what_was_told_is_trios(cancels: bool) -> None:
    """Also where it was told by a cancel; an error that comes of a cancel of its own is independent."""

    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        try:
            await asyncio.gather(asyncio.sleep(60))
        except asyncio.CancelledError:
            if not cancels:
                raise ValueError("asyncio's") from None
        try:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
        except asyncio.CancelledError:
            raise ValueError("asyncio's") from None

    async def main() -> None:
        async with open_channel_from(target):
            await trio.sleep(0.01)
            raise KeyError("trio's")

    with pytest.raises(ExceptionGroup if cancels else KeyError):
        run_as_asyncio_guest(main)


# -- the function itself --


def signal_task(wait: Callable[[], Awaitable[Any]], **kwargs: Any) -> tuple[tuple[bool, str], str]:
    async def main() -> tuple[tuple[bool, str], str]:
        task = asyncio.ensure_future(caught_at(wait))
        await trio.sleep(0.01)
        told = maybe_signal_aio_task(task, TrioCancelled("x"), **kwargs)
        for _ in range(100):
            if task.done():
                return told, task.result()
            await trio.sleep(0.001)
        task.cancel()
        return told, "still waiting"

    return run_as_asyncio_guest(main)


def test_signalling_a_task_that_waits() -> None:
    (done, how), seen = signal_task(plain_future)
    assert done
    assert "raised TrioCancelled" in how
    assert seen == "TrioCancelled"


def test_signalling_without_and_with_a_fallback() -> None:
    (done, why), seen = signal_task(another_task)
    assert (done, seen) == (False, "still waiting")
    assert "Task" in why
    (done, how), seen = signal_task(another_task, allow_cancel_fallback=True)
    assert (done, seen) == (True, "CancelledError")
    assert "cancelled" in how


def test_signalling_with_a_future_that_was_captured_before() -> None:
    async def main() -> tuple[bool, bool, Any]:
        task = asyncio.ensure_future(caught_at(plain_future))
        await trio.sleep(0.01)
        cause = ValueError()
        exc = TrioCancelled("x")
        stale, _ = maybe_signal_aio_task(
            task, exc, pre_captured_fut=asyncio.get_running_loop().create_future()
        )
        fresh, _ = maybe_signal_aio_task(
            task, exc, cause=cause, pre_captured_fut=getattr(task, "_fut_waiter", None)
        )
        await trio.sleep(0.01)
        assert exc.__cause__ is cause
        after, why = maybe_signal_aio_task(task, exc)
        assert not after
        assert "ended" in why
        return stale, fresh, task.result()

    assert run_as_asyncio_guest(main) == (False, True, "TrioCancelled")
