"""LinkedTaskChannel: both sides' members, back pressure, order, what is true after each end; what can't be started."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import traceback
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from ep_run import run_as_guest as run

import tractor
from tractor.to_asyncio import (
    LinkedTaskChannel,
    TrioTaskExited,
    _link,
    open_channel_from,
    run_task,
)
from tractor.trionics._broadcast import Lagged

T = TypeVar("T")
SIZE = 256


async def echo(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    while True:
        chan.send_nowait(await chan.get())


async def idle(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    await asyncio.sleep(60)


# -- order and bounds --


def test_order_is_kept_in_both_directions() -> None:
    async def main() -> list[int]:
        got: list[int] = []

        async def send(chan: LinkedTaskChannel) -> None:
            for i in range(1000):
                await chan.send(i)

        async with open_channel_from(echo) as (chan, _), trio.open_nursery() as tn:
            tn.start_soon(send, chan)
            while len(got) < 1000:
                got.append(await chan.receive())
        return got

    assert run(main) == list(range(1000))


def test_a_sender_in_trio_waits_while_256_are_unread() -> None:
    async def read_when_told(chan: LinkedTaskChannel, go: asyncio.Event) -> list[int]:
        chan.started_nowait()
        await go.wait()
        return [await chan.get() for _ in range(SIZE + 10)]

    async def main() -> Any:
        go = asyncio.Event()
        async with (
            open_channel_from(read_when_told, go=go) as (chan, _),
            trio.open_nursery() as tn,
        ):
            for i in range(SIZE):
                await chan.send(i)

            async def send_the_rest() -> None:
                for i in range(SIZE, SIZE + 10):
                    await chan.send(i)

            tn.start_soon(send_the_rest)
            await trio.testing.wait_all_tasks_blocked()
            stats = chan.statistics()
            assert (stats.to_asyncio, stats.senders_waiting, stats.size) == (SIZE, 1, SIZE)
            go.set()
            return await chan.wait_for_result()

    assert run(main) == list(range(SIZE + 10))


def test_a_cancelled_sender_has_sent_nothing() -> None:
    async def main() -> int:
        async with open_channel_from(idle) as (chan, _):
            for i in range(SIZE):
                await chan.send(i)
            with trio.move_on_after(0.01) as scope:
                await chan.send("lost?")
            assert scope.cancelled_caught
            return chan.statistics().to_asyncio

    assert run(main) == SIZE


def test_a_sender_in_asyncio_gets_would_block_and_loses_nothing() -> None:
    async def fill(chan: LinkedTaskChannel) -> int:
        chan.started_nowait("not counted")
        sent = 0
        while True:
            try:
                chan.send_nowait(sent)
            except trio.WouldBlock:
                return sent
            sent += 1

    async def main() -> tuple[int, list[int]]:
        async with open_channel_from(fill) as (chan, _):
            sent = await chan.wait_for_result()
            return sent, [value async for value in chan]

    assert run(main) == (SIZE, list(range(SIZE)))


def test_qsize_bounds_the_channel_of_run_task() -> None:
    async def fill(chan: LinkedTaskChannel) -> Any:
        for i in range(3):
            chan.send_nowait(i)
        with pytest.raises(trio.WouldBlock):
            chan.send_nowait(3)
        return chan.statistics()

    async def main() -> Any:
        with pytest.raises(ValueError, match="qsize must be at least 1, not 0"):
            await run_task(fill, qsize=0)
        return await run_task(fill, qsize=3)

    stats = run(main)
    assert (stats.size, stats.to_trio, stats.asyncio_task) == (3, 3, "running")


# -- what was sent before an end is delivered before it --


def test_values_come_before_an_error_of_the_sender() -> None:
    async def send_and_fail(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        for i in range(5):
            chan.send_nowait(i)
        raise ValueError("after five")

    got: list[int] = []

    async def main() -> None:
        async with open_channel_from(send_and_fail) as (chan, _):
            async for value in chan:
                got.append(value)
            got.append(-1)

    with pytest.raises(ValueError, match="after five"):
        run(main)
    assert got == list(range(5))


def test_a_block_that_does_not_read_is_cancelled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_link, "GRACE", 0.02)

    async def send_and_fail(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        chan.send_nowait(1)
        raise ValueError("nobody reads")

    async def main() -> None:
        with pytest.raises(ValueError, match="nobody reads"):
            async with open_channel_from(send_and_fail):
                await trio.sleep_forever()

    run(main)


def test_sending_to_a_task_that_has_failed_ends_as_its_failure() -> None:
    async def send_and_fail(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        chan.send_nowait(1)
        raise ValueError("nobody reads")

    async def main() -> None:
        async with open_channel_from(send_and_fail) as (chan, _):
            while True:
                await chan.send(0)

    with pytest.raises(ValueError, match="nobody reads"):
        run(main)


def test_values_come_before_the_exit_of_trio() -> None:
    """Also where the task takes its time between reads."""
    read: list[int] = []

    async def reader(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        while True:
            value = await chan.get()
            await asyncio.sleep(0.001)
            read.append(value)

    async def main() -> None:
        async with open_channel_from(reader) as (chan, _):
            for i in range(50):
                await chan.send(i)

    run(main)
    assert read == list(range(50))


def test_a_cancel_does_not_wait_for_a_slow_reader() -> None:
    async def slow(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        while True:
            await chan.get()
            await asyncio.sleep(0.05)

    async def main() -> bool:
        with trio.move_on_after(0.1) as scope:
            async with open_channel_from(slow) as (chan, _):
                for i in range(200):
                    await chan.send(i)
            raise AssertionError("all were read")
        return scope.cancelled_caught

    assert run(main)


def test_what_is_left_in_the_queue_can_be_read_after_the_word() -> None:
    async def target(chan: LinkedTaskChannel) -> list[int]:
        chan.started_nowait()
        try:
            await asyncio.sleep(60)
        except tractor.TrioCancelled:
            got = [await chan.get(), await chan.get()]
            with pytest.raises(tractor.TrioCancelled):
                chan.send_nowait(1)
            # One that reads on has swallowed the word.
            with pytest.raises(asyncio.CancelledError):
                await chan.get()
            return got
        return []

    async def main() -> Any:
        with trio.CancelScope() as scope:
            async with open_channel_from(target) as (chan, _):
                await chan.send(1)
                await chan.send(2)
                scope.cancel()
                await trio.sleep_forever()
        return await chan.wait_for_result()

    assert run(main) == [1, 2]


# -- after an end --


def test_using_the_channel_after_the_block() -> None:
    async def main() -> list[str]:
        async with open_channel_from(echo) as (chan, _):
            assert not chan.closed()
        assert chan.closed()
        seen = []
        for use in (lambda: chan.send(1), chan.receive):
            with pytest.raises(trio.ClosedResourceError):
                await use()
            seen.append("closed")
        with pytest.raises(TrioTaskExited):
            await chan.wait_for_result()
        with pytest.raises(TrioTaskExited):
            chan.send_nowait(1)
        with pytest.raises(RuntimeError, match="second time"):
            chan.started_nowait()
        chan.cancel_asyncio_task()
        await chan.aclose()
        return seen

    assert run(main) == ["closed", "closed"]


def test_using_the_channel_after_the_task_has_returned() -> None:
    async def one(chan: LinkedTaskChannel) -> str:
        chan.started_nowait()
        return "value"

    async def main() -> Any:
        async with open_channel_from(one) as (chan, _):
            await chan.wait_for_result()
            with pytest.raises(trio.BrokenResourceError, match="has ended"):
                await chan.send(1)
            with pytest.raises(trio.EndOfChannel):
                await chan.receive()
            chan.cancel_asyncio_task("too late")
            return chan.statistics().asyncio_task

    assert run(main) == "returned"


def test_a_sender_that_waits_for_room_learns_of_the_end() -> None:
    async def end_soon(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await asyncio.sleep(0.02)

    async def main() -> None:
        async with open_channel_from(end_soon) as (chan, _):
            while True:
                await chan.send(0)

    with pytest.raises(trio.BrokenResourceError):
        run(main)


def test_leaving_while_a_sender_waits_for_room() -> None:
    async def main() -> str:
        state = "?"

        async def send() -> None:
            nonlocal state
            try:
                while True:
                    await chan.send(0)
            except trio.ClosedResourceError:
                state = "closed"

        async with trio.open_nursery() as tn, open_channel_from(idle) as (chan, _):
            tn.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
        return state

    assert run(main) == "closed"


def test_closing_the_receive_half() -> None:
    async def target(chan: LinkedTaskChannel) -> str:
        chan.started_nowait()
        await chan.get()
        with pytest.raises(trio.BrokenResourceError):
            chan.send_nowait(1)
        return "goes on"

    async def main() -> Any:
        async with open_channel_from(target) as (chan, _):
            await chan.aclose()
            assert chan.closed()
            with pytest.raises(trio.ClosedResourceError):
                await chan.receive()
            await chan.send(1)
            return await chan.wait_for_result()

    assert run(main) == "goes on"


def test_started_twice() -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait(1)
        chan.started_nowait(2)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"second time by .*target"):
            async with open_channel_from(target):
                await trio.sleep_forever()

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues are not shut down before 3.13")
def test_the_queue_is_shut_down_on_a_graceful_exit() -> None:
    async def target(to_trio: Any, from_trio: asyncio.Queue[Any]) -> None:
        to_trio.send_nowait("first")
        with contextlib.suppress(TrioTaskExited):
            await from_trio.get()

    async def main() -> str:
        queue: Any = None

        async def keep(to_trio: Any, from_trio: asyncio.Queue[Any]) -> None:
            nonlocal queue
            queue = from_trio
            await target(to_trio, from_trio)

        async with open_channel_from(keep):
            pass
        try:
            queue.get_nowait()
        except Exception as exc:
            return type(exc).__name__
        return "?"

    assert run(main) == "QueueShutDown"


def test_readers_that_nobody_has_linked_are_woken_at_the_end() -> None:
    async def main() -> str:
        reader: Any = None

        async def target(chan: LinkedTaskChannel) -> None:
            nonlocal reader
            reader = asyncio.ensure_future(chan.get())
            chan.started_nowait()
            await asyncio.sleep(60)

        async with open_channel_from(target):
            await trio.sleep(0.01)
        await trio.sleep(0.01)
        return type(reader.exception()).__name__

    assert run(main) in ("TrioTaskExited", "QueueShutDown")


# -- subscribers --


def test_every_subscriber_gets_every_value() -> None:
    async def main() -> list[list[int]]:
        got: list[list[int]] = [[], []]

        async def read(receiver: Any, into: list[int]) -> None:
            async for value in receiver:
                into.append(value)
                if value == 9:
                    return

        async with (
            open_channel_from(echo) as (chan, _),
            chan.subscribe() as one,
            chan.subscribe() as two,
            trio.open_nursery() as tn,
        ):
            tn.start_soon(read, one, got[0])
            tn.start_soon(read, two, got[1])
            for i in range(10):
                sender: Any = chan if i % 2 else one
                await sender.send(i)
        return got

    assert run(main) == [list(range(10))] * 2


def test_reading_goes_through_the_broadcaster_once_there_is_one() -> None:
    async def count(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        for i in range(SIZE):
            chan.send_nowait(i)
            await asyncio.sleep(0)
        for i in range(10):
            while True:
                try:
                    chan.send_nowait(SIZE + i)
                    break
                except trio.WouldBlock:
                    await asyncio.sleep(0.001)

    async def main() -> Any:
        async with open_channel_from(count) as (chan, _), chan.subscribe() as slow:
            values = [value async for value in chan]
            assert values == list(range(SIZE + 10))
            with pytest.raises(Lagged) as caught:
                await slow.receive()
            return caught.value.lost

    assert run(main) == 10


# -- targets --


def test_older_targets_take_the_bare_halves() -> None:
    async def both(to_trio: Any, from_trio: Any) -> None:
        to_trio.send_nowait("first")
        while True:
            to_trio.send_nowait(await from_trio.get() + 1)

    async def only_send(to_trio: Any) -> None:
        to_trio.send_nowait("first")
        to_trio.send_nowait(7)

    async def only_read(from_trio: Any) -> Any:
        return await from_trio.get()

    async def main() -> list[Any]:
        async with open_channel_from(both) as (chan, first):
            await chan.send(1)
            seen: list[Any] = [first, await chan.receive()]
        async with open_channel_from(only_send) as (chan, first):
            seen += [first, await chan.receive()]
        async with open_channel_from(only_read) as (chan, first):
            await chan.send(9)
            seen += [first, await chan.wait_for_result()]
        return seen

    assert run(main) == ["first", 2, "first", 7, None, 9]


def test_what_is_no_target() -> None:
    async def no_chan() -> None:
        raise AssertionError

    async def no_keyword(chan: Any, /) -> None:
        raise AssertionError

    def not_async(chan: Any) -> int:
        return 3

    async def generator(chan: Any) -> Any:
        yield 1

    async def main() -> None:
        for target, text in (
            (no_chan, r"no_chan\(\) has no parameter named 'chan'"),
            (no_keyword, "no parameter named 'chan'"),
            (not_async, r"not_async\(\) gives a 'int', and no awaitable"),
            (generator, "'async_generator', and no awaitable"),
            (3, "3 is not an async function"),
        ):
            bad: Any = target
            with pytest.raises(TypeError, match=text):
                async with open_channel_from(bad):
                    raise AssertionError
        bad = lambda: 3  # noqa: E731
        with pytest.raises(TypeError, match="no awaitable"):
            await run_task(bad)
        with pytest.raises(TypeError, match="unexpected keyword"):
            async with open_channel_from(idle, nonsense=1):
                raise AssertionError
        with pytest.raises(TypeError, match=r"gets \['chan'\] from tractor"):
            async with open_channel_from(idle, chan=1):
                raise AssertionError

    run(main)


def test_partials_and_awaitables_are_targets() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    def makes_a_future(value: int) -> asyncio.Future[int]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(value)
        return future

    async def main() -> list[int]:
        return [
            await run_task(functools.partial(add, 1), b=2),
            await run_task(makes_a_future, value=4),
        ]

    assert run(main) == [3, 4]


@pytest.mark.parametrize(
    "start", [lambda: run_task(idle), lambda: open_channel_from(idle).__aenter__()]
)
def test_elsewhere_the_error_names_infect_asyncio(start: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="infect_asyncio=True"):
            await start()

    trio.run(main)


def test_context_variables_reach_the_task() -> None:
    import contextvars

    var = contextvars.ContextVar("var", default="unset")

    async def read() -> str:
        return var.get()

    async def main() -> Any:
        var.set("set in trio")
        return await run_task(read)

    assert run(main) == "set in trio"


def test_libraries_see_the_right_framework_on_each_side() -> None:
    import sniffio

    async def which() -> str:
        return sniffio.current_async_library()

    async def main() -> tuple[str, Any]:
        return sniffio.current_async_library(), await run_task(which)

    assert run(main) == ("trio", "asyncio")


def test_a_repr_for_people() -> None:
    async def main() -> str:
        async with open_channel_from(echo) as (chan, _):
            return repr(chan)

    assert run(main) == (
        "<LinkedTaskChannel 'echo': asyncio running, trio running, unread 0/0 of 256>"
    )


def test_a_sync_target_may_use_its_channel_at_once() -> None:
    def target(chan: LinkedTaskChannel) -> Awaitable[int]:
        assert "target" in repr(chan)
        chan.started_nowait("first")
        chan.send_nowait("sent")
        with pytest.raises(RuntimeError, match="second time"):
            chan.started_nowait()

        async def returns() -> int:
            return 5

        return returns()

    async def main() -> list[Any]:
        async with open_channel_from(target) as (chan, first):
            return [first, await chan.receive(), await chan.wait_for_result()]

    assert run(main) == ["first", "sent", 5]


def test_a_cancel_that_was_asked_for_adds_nothing_to_a_strict_exit() -> None:
    async def main() -> None:
        async with open_channel_from(idle, suppress_graceful_exits=False) as (chan, _):
            chan.cancel_asyncio_task()
        with pytest.raises(tractor.AsyncioCancelled):
            await chan.wait_for_result()

    run(main)


def test_another_task_that_sends_is_told_why_it_can_not() -> None:
    async def send(chan: LinkedTaskChannel) -> None:
        chan.send_nowait(1)

    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()

    async def main() -> None:
        async with open_channel_from(target) as (chan, _):
            await chan.wait_for_result()
            with pytest.raises(trio.ClosedResourceError, match=r"target.*has ended"):
                await run_task(send, chan=chan)
        async with open_channel_from(idle) as (chan, _):
            await chan.aclose()
            with pytest.raises(trio.BrokenResourceError, match=r"idle.*receive half"):
                await run_task(send, chan=chan)

    run(main)


def test_asking_for_a_failed_result_again_does_not_grow_its_traceback() -> None:
    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        raise ValueError("it")

    lengths = []

    async def main() -> None:
        async with open_channel_from(target) as (chan, _):
            for _ in range(3):
                with pytest.raises(ValueError, match="it") as caught:
                    await chan.wait_for_result()
                lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))

    with pytest.raises(ValueError, match="it"):
        run(main)
    assert lengths == lengths[:1] * 3
