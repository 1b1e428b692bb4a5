"""`await chan.send()` in asyncio: it waits for room, and ends with the link; `qsize` is the room."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from ep_run import run_as_guest as run

from tractor import TrioCancelled, TrioTaskExited
from tractor.to_asyncio import (
    LinkedTaskChannel,
    _link,
    open_channel_from,
    run_task,
)

T = TypeVar("T")


async def send_all(chan: LinkedTaskChannel, count: int, ends: list[Any] | None = None) -> int:
    """Sends numbers; notes what has ended that."""
    chan.started_nowait()
    try:
        for i in range(count):
            await chan.send(i)
    except BaseException as exc:
        if ends is not None:
            ends.append(type(exc))
        raise
    return count


async def until_senders_wait(chan: LinkedTaskChannel, count: int = 1) -> None:
    while chan.statistics().asyncio_senders_waiting < count:
        await trio.sleep(0)


@pytest.mark.parametrize("qsize", [1, 3, 256])
def test_a_fast_sender_waits_for_a_slow_reader_and_order_is_kept(qsize: int) -> None:
    most: list[int] = []

    async def main() -> list[int]:
        got = []
        async with open_channel_from(send_all, qsize=qsize, count=600) as (chan, _):
            await until_senders_wait(chan)
            assert chan.statistics().to_trio == chan.statistics().size == qsize
            async for value in chan:
                got.append(value)
                most.append(chan.statistics().to_trio)
                if value % 100 == 0:
                    await trio.sleep(0.001)
        return got

    assert run(main) == list(range(600))
    assert max(most) <= qsize


def test_256_are_held_by_default_in_each_direction() -> None:
    async def main() -> None:
        async with open_channel_from(send_all, count=10_000) as (chan, _):
            await until_senders_wait(chan)
            assert chan.statistics().to_trio == 256
            for i in range(256):
                await chan.send(i)
            with trio.move_on_after(0.01) as scope:
                await chan.send(256)
            assert scope.cancelled_caught
            assert chan.statistics().to_asyncio == 256

    run(main)


def test_qsize_bounds_both_directions() -> None:
    async def main() -> None:
        async with open_channel_from(send_all, qsize=2, count=9) as (chan, _):
            for i in range(2):
                await chan.send(i)
            with trio.move_on_after(0.01) as scope:
                await chan.send(2)
            assert scope.cancelled_caught

    run(main)


def test_several_senders_take_turns() -> None:
    async def three(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()

        async def one(name: str) -> None:
            for i in range(50):
                await chan.send((name, i))

        async with asyncio.TaskGroup() as tg:
            for name in "abc":
                tg.create_task(one(name))

    async def main() -> list[Any]:
        async with open_channel_from(three, qsize=1) as (chan, _):
            await until_senders_wait(chan, 3)
            return [value async for value in chan]

    got = run(main)
    for name in "abc":
        assert [i for who, i in got if who == name] == list(range(50))


def test_a_cancelled_sender_has_sent_nothing_and_hands_its_turn_on() -> None:
    async def two(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await chan.send("fills it")
        first = asyncio.create_task(chan.send("cancelled"))
        second = asyncio.create_task(chan.send("second"))
        while chan.statistics().asyncio_senders_waiting < 2:
            await asyncio.sleep(0)
        assert await chan.get() == "go"
        # Its turn has come, and it has not run yet: the reader took a value in this turn of trio.
        first.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first

    async def main() -> list[Any]:
        async with open_channel_from(two, qsize=1) as (chan, _):
            await until_senders_wait(chan, 2)
            await chan.send("go")
            return [value async for value in chan]

    assert run(main) == ["fills it", "second"]


# -- it ends with the link --


def test_trio_leaves_while_the_task_waits_for_room() -> None:
    ends: list[Any] = []

    async def main() -> None:
        async with open_channel_from(send_all, qsize=1, count=9, ends=ends) as (chan, _):
            await until_senders_wait(chan)

    run(main)
    assert ends == [TrioTaskExited]


def test_trio_leaves_with_values_that_a_waiting_sender_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told at once, and may read them then."""
    monkeypatch.setattr(_link, "GRACE", 60)

    async def send_then_read(chan: LinkedTaskChannel) -> list[Any]:
        chan.started_nowait()
        try:
            while True:
                await chan.send(0)
        except TrioTaskExited:
            return [await chan.get(), await chan.get()]

    async def main() -> Any:
        async with open_channel_from(send_then_read, qsize=2) as (chan, _):
            await chan.send("one")
            await chan.send("two")
        return await chan.wait_for_result()

    assert run(main) == ["one", "two"]


def test_trio_is_cancelled_while_the_task_waits_for_room() -> None:
    ends: list[Any] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_channel_from(send_all, qsize=1, count=9, ends=ends) as (chan, _):
                await until_senders_wait(chan)
                scope.cancel()
                await trio.sleep_forever()

    run(main)
    assert ends == [TrioCancelled]


def test_trio_reads_no_more() -> None:
    ends: list[Any] = []

    async def main() -> None:
        async with open_channel_from(send_all, qsize=1, count=9, ends=ends) as (chan, _):
            await until_senders_wait(chan)
            await chan.aclose()
            await trio.sleep_forever()

    with pytest.raises(trio.BrokenResourceError):
        run(main)
    assert ends == [trio.BrokenResourceError]


def test_one_that_swallows_the_end_is_cancelled() -> None:
    async def stubborn(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        while True:
            try:
                await chan.send(0)
            except Exception:
                continue

    async def main() -> None:
        async with open_channel_from(stubborn, qsize=1) as (chan, _):
            await until_senders_wait(chan)

    run(main)


def test_unlinked_tasks_that_send_end_with_the_link() -> None:
    ends: dict[str, type[BaseException]] = {}

    async def other(chan: LinkedTaskChannel, name: str) -> None:
        try:
            await chan.send(name)
        except BaseException as exc:
            ends[name] = type(exc)

    async def leave_others(chan: LinkedTaskChannel, tasks: list[Any], stay: bool) -> None:
        await chan.send("fills it")
        tasks += [asyncio.create_task(other(chan, f"{stay} {i}")) for i in range(2)]
        while chan.statistics().asyncio_senders_waiting < 2:
            await asyncio.sleep(0)
        chan.started_nowait()
        if stay:
            await asyncio.sleep(60)

    async def main() -> None:
        for stay in (True, False):
            tasks: list[asyncio.Task[Any]] = []
            async with open_channel_from(leave_others, qsize=1, tasks=tasks, stay=stay):
                if not stay:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            while not all(task.done() for task in tasks):
                await trio.sleep(0.001)

    run(main)
    assert ends == {
        "True 0": TrioTaskExited,
        "True 1": TrioTaskExited,
        "False 0": trio.ClosedResourceError,
        "False 1": trio.ClosedResourceError,
    }


def test_the_bare_half_can_wait_too() -> None:
    async def old_style(to_trio: Any) -> None:
        for i in range(10):
            await to_trio.send(i)

    async def main() -> list[int]:
        async with open_channel_from(old_style, qsize=2) as (chan, first):
            return [first, *[value async for value in chan]]

    assert run(main) == list(range(10))


def test_a_function_for_both_entries() -> None:
    async def main() -> None:
        assert await run_task(send_all, count=3) == 3

    run(main)


# -- qsize as an argument --


async def takes_qsize(qsize: int, chan: LinkedTaskChannel) -> int:
    chan.started_nowait(qsize)
    return qsize


async def has_qsize(chan: LinkedTaskChannel, qsize: int = 5) -> int:
    chan.started_nowait(qsize)
    return qsize


@pytest.mark.parametrize("bad", [0, -1])
def test_too_small(bad: int) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=f"qsize must be at least 1, not {bad}"):
            async with open_channel_from(send_all, qsize=bad, count=1):
                pytest.fail("entered")

    run(main)


@pytest.mark.parametrize("bad", [None, 1.5, float("inf"), "9", True])
def test_no_number_of_values(bad: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="qsize is a number of values"):
            async with open_channel_from(send_all, qsize=bad, count=1):
                pytest.fail("entered")
        with pytest.raises(TypeError, match="qsize is a number of values"):
            await run_task(send_all, qsize=bad, count=1)

    run(main)


def test_a_function_with_a_qsize_of_its_own() -> None:
    async def main() -> None:
        for target, qsize in ((takes_qsize, 256), (takes_qsize, 3), (has_qsize, 3)):
            with pytest.raises(TypeError, match=rf"functools.partial\({target.__name__}, qsize="):
                async with open_channel_from(target, qsize=qsize):
                    pytest.fail("entered")
            with pytest.raises(TypeError, match=r"functools.partial"):
                await run_task(target, qsize=3)
        async with open_channel_from(has_qsize) as (chan, first):
            assert (first, chan.statistics().size) == (5, 256)
        async with open_channel_from(functools.partial(takes_qsize, qsize=7), qsize=2) as (
            chan,
            first,
        ):
            assert (first, chan.statistics().size) == (7, 2)
        assert await run_task(functools.partial(has_qsize, qsize=7), qsize=2) == 7

    run(main)
