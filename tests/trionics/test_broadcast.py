"""Broadcasting one channel to many subscribers."""

from __future__ import annotations

import math
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor.trionics._broadcast import BroadcastReceiver, Lagged, broadcast_receiver


class Source:
    """A channel that counts how many tasks are in ``receive()``."""

    def __init__(self) -> None:
        self.send_side, self.recv_side = trio.open_memory_channel[Any](math.inf)
        self.inside = 0
        self.calls = 0

    def put(self, *values: Any) -> None:
        for value in values:
            self.send_side.send_nowait(value)

    async def receive(self) -> Any:
        self.calls += 1
        self.inside += 1
        assert self.inside == 1, "two tasks receive at once"
        try:
            value = await self.recv_side.receive()
        finally:
            self.inside -= 1
        if isinstance(value, Exception):
            raise value
        return value

    def receive_nowait(self) -> Any:
        assert not self.inside
        value = self.recv_side.receive_nowait()
        if isinstance(value, Exception):
            raise value
        return value


async def take(receiver: BroadcastReceiver[Any], count: int) -> list[Any]:
    return [await receiver.receive() for _ in range(count)]


async def drain(receiver: BroadcastReceiver[Any]) -> list[Any]:
    return [value async for value in receiver]


# -- every subscriber gets every value --


def test_everybody_gets_everything() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 8)
        got: dict[int, list[int]] = {}

        async def subscriber(number: int, task_status: trio.TaskStatus[None]) -> None:
            async with root.subscribe() as receiver:
                task_status.started()
                got[number] = await drain(receiver)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                await nursery.start(subscriber, number)
            for value in range(50):
                source.put(value)
                await trio.testing.wait_all_tasks_blocked()
            source.send_side.close()
        assert got == {number: list(range(50)) for number in range(4)}
        assert source.calls == 51

    trio.run(main)


def test_a_subscriber_begins_now() -> None:
    async def main() -> None:
        source = Source()
        source.put("a", "b", "c")
        root = broadcast_receiver(source, 8)
        assert await root.receive() == "a"
        async with root.subscribe() as receiver:
            assert await receiver.receive() == "b"
            async with receiver.subscribe() as nested:
                assert await nested.receive() == "c"
            assert await take(receiver, 1) == ["c"]
        assert await take(root, 2) == ["b", "c"]

    trio.run(main)


def test_several_tasks_share_one_subscriber() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 8)
        got: list[int] = []

        async def reader() -> None:
            got.append(await root.receive())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked()
            source.put(1, 2, 3)
        assert sorted(got) == [1, 2, 3]

    trio.run(main)


def test_receive_func_and_buffer_size() -> None:
    async def main() -> None:
        async def receive() -> int:
            await trio.lowlevel.checkpoint()
            return 7

        root = broadcast_receiver(Source(), 2, receive)
        assert await root.receive() == 7
        with pytest.raises(trio.WouldBlock):
            root.receive_nowait()

    trio.run(main)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        broadcast_receiver(Source(), 0)


# -- lag --


def test_who_is_a_buffer_behind_has_lost_nothing() -> None:
    async def main() -> None:
        source = Source()
        source.put(*range(5))
        root = broadcast_receiver(source, 3)
        async with root.subscribe() as slow:
            assert await take(root, 3) == [0, 1, 2]
            assert await take(slow, 3) == [0, 1, 2]
            assert slow.statistics().lost == 0

    trio.run(main)


def test_lagged_has_the_exact_count_and_then_the_oldest_comes() -> None:
    async def main() -> None:
        source = Source()
        source.put(*range(10))
        root = broadcast_receiver(source, 3)
        async with root.subscribe() as slow:
            await take(root, 7)
            with pytest.raises(Lagged, match=r"4 values were lost.* 3 behind") as caught:
                await slow.receive()
            assert (caught.value.lost, caught.value.max_buffer_size) == (4, 3)
            assert isinstance(caught.value, trio.TooSlowError)
            assert await take(slow, 4) == [4, 5, 6, 7]
            assert slow.statistics().lost == 4

    trio.run(main)


def test_lagged_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(Lagged(4, 3)))
    assert (copy.lost, copy.max_buffer_size, str(copy)) == (4, 3, str(Lagged(4, 3)))


@pytest.mark.parametrize("nowait", [False, True])
def test_lag_may_be_logged(caplog: pytest.LogCaptureFixture, nowait: bool) -> None:
    async def main() -> None:
        source = Source()
        source.put(*range(5))
        root = broadcast_receiver(source, 2, raise_on_lag=nowait)
        async with root.subscribe(raise_on_lag=False) as slow:
            await take(root, 5)
            value = slow.receive_nowait() if nowait else await slow.receive()
            assert value == 3

    trio.run(main)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "tractor.trionics")
    assert record.getMessage() == "a subscriber lagged: 3 values were lost, its buffer is 2"


# -- nowait --


def test_receive_nowait() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 4)
        async with root.subscribe() as other:
            with pytest.raises(trio.WouldBlock):
                root.receive_nowait()
            source.put("a")
            assert root.receive_nowait() == "a"
            assert other.receive_nowait() == "a"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(root.receive)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.WouldBlock):
                    other.receive_nowait()
                source.put("b")
            assert other.receive_nowait() == "b"
            source.put(KeyError("x"))
            with pytest.raises(KeyError):
                root.receive_nowait()
            with pytest.raises(KeyError):
                await other.receive()

    trio.run(main)


def test_a_nowait_function_goes_with_a_receive_function() -> None:
    async def main() -> None:
        source = Source()
        source.put(1)
        root = broadcast_receiver(
            source, 2, source.receive, receive_nowait_func=source.receive_nowait
        )
        assert root.receive_nowait() == 1

    trio.run(main)


# -- cancellation --


def test_a_cancelled_receiver_hands_over() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 4)
        scopes = [trio.CancelScope() for _ in range(3)]
        got: dict[int, Any] = {}

        async def subscriber(number: int) -> None:
            async with root.subscribe() as receiver:
                with scopes[number]:
                    got[number] = await receiver.receive()

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(subscriber, number)
                await trio.testing.wait_all_tasks_blocked()
            assert root.statistics().tasks_waiting == 2
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert (source.inside, root.statistics().tasks_waiting) == (1, 1)
            source.put("x")
        assert got == {1: "x", 2: "x"}
        assert scopes[0].cancelled_caught

    trio.run(main)


def test_hand_over_passes_by_those_that_are_cancelled_or_closed_with_it() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 4)
        scope = trio.CancelScope()
        ends: list[str] = []

        async def cancelled() -> None:
            async with root.subscribe() as receiver:
                with scope:
                    await receiver.receive()

        async def closed(task_status: trio.TaskStatus[Any]) -> None:
            async with root.subscribe() as receiver:
                task_status.started(receiver)
                with pytest.raises(trio.ClosedResourceError):
                    await receiver.receive()
                ends.append("closed")

        async def last() -> None:
            ends.append(await root.receive())

        async with trio.open_nursery() as nursery:
            # The scope is entered by one task only, the others are cancelled or closed with it.
            nursery.start_soon(cancelled)
            await trio.testing.wait_all_tasks_blocked()
            receiver = await nursery.start(closed)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(last)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await receiver.aclose()
            await trio.testing.wait_all_tasks_blocked()
            source.put("x")
        assert ends == ["closed", "x"]

    trio.run(main)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def main() -> None:
        source = Source()
        source.put(1)
        root = broadcast_receiver(source, 4)
        async with root.subscribe() as other:
            assert await other.receive() == 1
            with trio.CancelScope() as scope:
                scope.cancel()
                await root.receive()
            assert scope.cancelled_caught
            assert await root.receive() == 1

    trio.run(main)


def test_receive_is_a_checkpoint_also_when_a_value_is_held() -> None:
    async def main() -> None:
        source = Source()
        source.put(1)
        root = broadcast_receiver(source, 4)
        async with root.subscribe() as other:
            await other.receive()
            with trio.testing.assert_checkpoints():
                await root.receive()

    trio.run(main)


# -- ends --


@pytest.mark.parametrize(
    "error", [trio.EndOfChannel("e"), KeyError("k"), trio.ClosedResourceError("c")]
)
def test_an_error_reaches_everybody_after_the_values(error: Exception) -> None:
    async def main() -> None:
        source = Source()
        source.put(1, 2, error, "never received")
        root = broadcast_receiver(source, 4)
        async with root.subscribe() as slow, root.subscribe() as other:
            assert await take(root, 2) == [1, 2]
            for _ in range(2):
                with pytest.raises(type(error)):
                    await root.receive()
            assert await take(slow, 2) == [1, 2]
            for receiver in (slow, slow, root):
                with pytest.raises(type(error)):
                    await receiver.receive()
            with pytest.raises(type(error)):
                await take(other, 3)
            async with root.subscribe() as late:
                with pytest.raises(type(error)):
                    late.receive_nowait()
            assert source.calls == 3

    trio.run(main)


def test_an_error_wakes_who_waits() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 4)
        ended: list[int] = []

        async def subscriber(number: int) -> None:
            async with root.subscribe() as receiver:
                with pytest.raises(KeyError):
                    await receiver.receive()
                ended.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(subscriber, number)
            await trio.testing.wait_all_tasks_blocked()
            source.put(KeyError())
        assert sorted(ended) == [0, 1, 2]

    trio.run(main)


def test_raising_an_end_again_does_not_lengthen_its_traceback() -> None:
    async def main() -> int:
        source = Source()
        source.put(KeyError())
        root = broadcast_receiver(source, 4)
        lengths = set()
        for _ in range(3):
            with pytest.raises(KeyError) as caught:
                await root.receive()
            lengths.add(len(caught.traceback))
        return max(lengths) - min(lengths)

    # The first one went through `_receive_for_all()`, the others did not.
    assert trio.run(main) <= 2


def test_closing() -> None:
    async def main() -> None:
        source = Source()
        source.put(1)
        root = broadcast_receiver(source, 4)
        assert root.statistics().subscribers == 1
        async with root.subscribe() as other:
            assert root.statistics().subscribers == 2
            async with root:
                pass
            await root.aclose()
            assert other.statistics().subscribers == 1
            with pytest.raises(trio.ClosedResourceError):
                await root.receive()
            with pytest.raises(trio.ClosedResourceError):
                root.receive_nowait()
            with pytest.raises(trio.ClosedResourceError):
                async with root.subscribe():
                    pass
            assert await other.receive() == 1
        assert repr(other).startswith("<BroadcastReceiver closed, one of 0")

    trio.run(main)


def test_closing_wakes_the_receiving_task_and_hands_over() -> None:
    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, 4)
        got: list[Any] = []

        async def first() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await root.receive()
            got.append("closed")

        async def second(task_status: trio.TaskStatus[None]) -> None:
            async with root.subscribe() as receiver:
                task_status.started()
                got.append(await receiver.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            await nursery.start(second)
            await trio.testing.wait_all_tasks_blocked()
            await root.aclose()
            await trio.testing.wait_all_tasks_blocked()
            source.put("x")
        assert got == ["closed", "x"]

    trio.run(main)


def test_a_closed_subscriber_still_unwinds_in_a_cancelled_scope() -> None:
    async def main() -> None:
        root = broadcast_receiver(Source(), 4)
        with trio.CancelScope() as scope:
            async with root.subscribe() as receiver:
                scope.cancel()
        assert receiver.statistics().closed
        assert root.statistics().subscribers == 1

    trio.run(main)


# -- two-way --


def test_subscribers_of_a_channel_can_send() -> None:
    async def main() -> None:
        sent: list[int] = []

        async def send(value: int) -> None:
            sent.append(value)

        root: Any = broadcast_receiver(Source(), 4, send_afunc=send)
        async with root.subscribe() as receiver, receiver.subscribe() as nested:
            for number, each in enumerate((root, receiver, nested)):
                await each.send(number)
        assert sent == [0, 1, 2]
        with pytest.raises(trio.ClosedResourceError):
            await nested.send(3)
        assert not hasattr(broadcast_receiver(Source(), 4), "send")

    trio.run(main)


def test_statistics_are_frozen_and_plain() -> None:
    async def main() -> None:
        source = Source()
        source.put(1, 2, 3)
        root = broadcast_receiver(source, 2, raise_on_lag=False)
        async with root.subscribe() as other:
            await take(other, 3)
            stats = root.statistics()
        assert (stats.max_buffer_size, stats.buffered, stats.received) == (2, 2, 3)
        assert (stats.behind, stats.lost, stats.raise_on_lag, stats.closed) == (3, 0, False, False)
        with pytest.raises(AttributeError):
            stats.lost = 1  # type: ignore[misc]

    trio.run(main)


# -- against a model --


class Model:
    """One subscriber of the model: what it has yet to read, without any bound."""

    def __init__(self, position: int) -> None:
        self.position = position


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 4)),
        st.tuples(st.just("nowait"), st.integers(0, 4)),
        st.tuples(st.just("cancelled read"), st.integers(0, 4)),
        st.tuples(st.just("subscribe"), st.integers(0, 4)),
        st.tuples(st.just("close"), st.integers(0, 4)),
    ),
    max_size=60,
)


@given(size=st.integers(1, 5), operations=OPERATIONS)
@settings(max_examples=150, deadline=None)
def test_any_sequence_matches_the_model(size: int, operations: list[tuple[str, int]]) -> None:
    async def main() -> None:
        source = Source()
        source.put(*range(len(operations) + 1))
        root = broadcast_receiver(source, size)
        live: list[tuple[BroadcastReceiver[int], Model, Any]] = [(root, Model(0), None)]
        received = 0

        @asynccontextmanager
        async def all_closed() -> AsyncIterator[None]:
            yield
            for _, _, manager in live:
                if manager is not None:
                    await manager.__aexit__(None, None, None)

        async with all_closed():
            for what, number in operations:
                index = number % len(live)
                receiver, model, manager = live[index]
                if what == "subscribe":
                    new = receiver.subscribe()
                    live.append((await new.__aenter__(), Model(received), new))
                elif what == "close" and manager is not None:
                    await manager.__aexit__(None, None, None)
                    del live[index]
                elif what == "cancelled read":
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await receiver.receive()
                    assert scope.cancelled_caught
                elif what in ("read", "nowait"):
                    lost = max(0, received - model.position - size)
                    try:
                        value = (
                            await receiver.receive()
                            if what == "read"
                            else receiver.receive_nowait()
                        )
                    except Lagged as lagged:
                        told = lagged.lost
                        model.position += told
                        assert told == lost > 0
                    else:
                        assert (lost, value) == (0, model.position)
                        model.position += 1
                        received = max(received, model.position)
                assert receiver.statistics().received == received

    trio.run(main)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_concurrent_subscribers_get_all_or_are_told(data: st.DataObject) -> None:
    """Readers at random paces, some cancelled: whoever reads to the end accounts for each value."""
    size = data.draw(st.integers(1, 4))
    count = data.draw(st.integers(0, 20))
    readers = data.draw(st.integers(1, 4))
    pauses = [data.draw(st.lists(st.integers(0, 3), max_size=20)) for _ in range(readers)]
    cancel_after = [data.draw(st.one_of(st.none(), st.integers(0, 20))) for _ in range(readers)]
    gaps = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))

    async def main() -> None:
        source = Source()
        root = broadcast_receiver(source, size)
        finished: dict[int, int] = {}

        async def reader(number: int, task_status: trio.TaskStatus[None]) -> None:
            position = 0
            async with root.subscribe() as receiver:
                task_status.started()
                after = cancel_after[number]
                with trio.move_on_after(math.inf if after is None else after + 0.5):
                    for pause in [*pauses[number], *([0] * 100)]:
                        await trio.sleep(pause)
                        try:
                            assert await receiver.receive() == position
                            position += 1
                        except Lagged as lagged:
                            position += lagged.lost
                        except trio.EndOfChannel:
                            finished[number] = position
                            return

        async with trio.open_nursery() as nursery:
            for number in range(readers):
                await nursery.start(reader, number)
            for value, gap in enumerate(gaps):
                source.put(value)
                await trio.sleep(gap)
            source.send_side.close()
        for number, after in enumerate(cancel_after):
            if after is None:
                assert finished[number] == count

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_has_missed_values_can_tell_before_the_next_receive() -> None:
    async def main() -> None:
        send, receive = trio.open_memory_channel[int](5)
        reader = broadcast_receiver(receive, 1)
        async with reader.subscribe() as other:
            for n in range(2):
                assert not reader.lags
                send.send_nowait(n)
                assert await other.receive() == n
            assert reader.lags
            with pytest.raises(Lagged):
                await reader.receive()
            assert not reader.lags

    trio.run(main)
