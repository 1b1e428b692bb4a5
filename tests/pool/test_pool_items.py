"""Items of maps: where they come from, tries, time limits, names, failures as values."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import ep_pool
import pytest
import trio
from ep_peer import run

import tractor
from tractor.pool._items import Handling, may_help
from tractor.pool._jobs import Pace, call_of
from tractor.pool._messages import Given
from tractor.trionics import ItemTimeout, WorkerDied, WorkerPool, open_worker_pool

FORKED = "main_thread_forkserver" if sys.platform != "win32" else "trio"

LIMIT = 60
"""Seconds, against hangs."""


def with_pool(test: Any, workers: int = 2, **kwargs: Any) -> None:
    async def main() -> None:
        async with open_worker_pool(workers, start_method=FORKED, **kwargs) as pool:
            await test(pool)

    run(main, limit=LIMIT)


# -- rules --


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (WorkerDied(), True),
        (ItemTimeout(), True),
        (tractor.RemoteActorError("", boxed_type=ValueError), True),
        (tractor.RemoteActorError("of an unknown type"), True),
        (tractor.RemoteActorError("", boxed_type=KeyboardInterrupt), False),
        (tractor.RemoteActorError("", boxed_type=tractor.MsgTypeError), False),
        (tractor.MsgTypeError(""), False),
        (tractor.ContextCancelled(""), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_is_tried_again(error: BaseException, helps: bool) -> None:
    assert may_help(error) is helps


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"retries": -1}, ValueError, "retries=-1"),
        ({"retries": True}, TypeError, "retries=True"),
        ({"retries": 1.0}, TypeError, "retries=1.0"),
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"timeout": math.inf}, ValueError, "timeout=inf"),
        ({"timeout": math.nan}, ValueError, "timeout=nan"),
        ({"key": "name"}, TypeError, "key='name'"),
    ],
)
def test_options_out_of_range(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Handling(**options).check()


def test_what_a_job_is_called() -> None:
    from tractor.pool._jobs import Job

    nobody: Any = None
    item = call_of(ep_pool.square, Given.ITEM, {}, by_item=True)
    assert Job(1, item, "a\nb", nobody, 3).what() == "item 3 of ep_pool:square: 'a\\nb'"
    named = Job(1, item, Path("a/b"), nobody, 3, Handling(key=lambda path: path.name))
    assert named.what() == "item 3 of ep_pool:square: 'b'"
    star = call_of(ep_pool.add, Given.POSITIONS, {}, by_item=True)
    assert Job(1, star, (1, 2), nobody, 0).what() == "item 0 of ep_pool:add: (1, 2)"
    assert star.given is Given.KEYWORDS
    single = call_of(math.sqrt, Given.POSITIONS, {"math:sqrt": Pace()})
    job = Job(1, single, single.arguments((4,), {}), nobody)
    assert job.what() == "math:sqrt(4)"


# -- sources --


async def arrives(count: int, log: list[str] | None = None) -> AsyncIterator[int]:
    try:
        for n in range(count):
            await trio.lowlevel.checkpoint()
            yield n
    finally:
        if log is not None:
            log.append("closed")


async def breaks() -> AsyncIterator[int]:
    yield 1
    raise OSError("no more")


def test_items_come_from_async_iterables() -> None:
    async def main(pool: WorkerPool) -> None:
        assert [v async for v in pool.map(ep_pool.square, arrives(50))] == [
            n * n for n in range(50)
        ]
        send, receive = trio.open_memory_channel[int](0)
        values = pool.map(ep_pool.asquare, receive, in_flight=2)
        async with send, trio.open_nursery() as tn:
            tn.start_soon(send.send, 3)
            # Given although the next item has not come.
            assert await anext(values) == 9
        with pytest.raises(StopAsyncIteration):
            await anext(values)
        assert receive.statistics().tasks_waiting_receive == 0

        with pytest.raises(OSError, match="no more"):
            [v async for v in pool.map(ep_pool.square, breaks())]

        # Left early: the generator is closed, and read no further than was allowed.
        log: list[str] = []
        values = pool.map(ep_pool.square, arrives(10**9, log), in_flight=3)
        async for _ in values:
            break
        await values.aclose()
        assert log == ["closed"]
        assert values._state.taken <= 4

    with_pool(main)


def test_a_source_that_waits_does_not_keep_the_pool_open() -> None:
    async def main() -> None:
        async def read(values: Any) -> None:
            with pytest.raises(tractor._exceptions.RuntimeFailure, match="pool is closed"):
                await anext(values)

        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as tn, open_worker_pool(1, start_method=FORKED) as pool:
            values = pool.map(ep_pool.square, receive)
            tn.start_soon(read, values)
            while not receive.statistics().tasks_waiting_receive:
                await trio.lowlevel.checkpoint()
        await send.aclose()
        with pytest.raises(tractor._exceptions.RuntimeFailure, match="pool is closed"):
            await anext(pool.map(ep_pool.square, arrives(1)))

    run(main, limit=LIMIT)


def squares(count: int) -> Iterator[int]:
    yield from range(count)


def test_length_starmap_names_and_payloads_that_fail(tmp_path: Path) -> None:
    async def main(pool: WorkerPool) -> None:
        values = pool.map(ep_pool.square, range(3))
        assert len(values) == 3
        assert values.__length_hint__() == 3
        assert [v async for v in values] == [0, 1, 4]
        assert (len(values), values.__length_hint__(), bool(values)) == (3, 0, True)
        assert len(pool.map(ep_pool.square, iter([1, 2]))) == 2
        unknown = pool.map(ep_pool.square, squares(3))
        with pytest.raises(TypeError, match="can't be counted"):
            len(unknown)
        assert operator.length_hint(unknown, 7) == 7
        endless = pool.map(ep_pool.square, range(2**70))
        assert operator.length_hint(endless, 7) == 7
        assert await anext(endless) == 0
        await endless.aclose()
        assert bool(unknown)
        assert not pool.statistics().failed

        pairs = [(1, 2), (3, 4)]
        assert [v async for v in pool.starmap(ep_pool.add, pairs)] == [3, 7]
        uneven: list[Any] = [(1,), [2, 3]]
        assert [v async for v in pool.starmap(ep_pool.aadd, uneven)] == [2, 5]
        assert [v async for v in pool.starmap(math.sqrt, [(4,), (9,)])] == [2.0, 3.0]
        assert [v async for v in pool.starmap(math.hypot, [(3, 4), ()])] == [5.0, 0.0]
        wrong: list[Any] = [(1, 2), 7, (1, 2, 3), "ab", (object(),)]
        found = [v async for v in pool.starmap(ep_pool.add, wrong, return_exceptions=True)]
        assert found[0] == 3
        for number, item in list(enumerate(wrong))[1:]:
            text = f"item {number} of ep_pool:add: {str(item)[:9]}".replace("ab", "'ab'")
            error = found[number]
            assert isinstance(error, tractor.MsgTypeError)
            assert text in "".join([str(error), *getattr(error, "__notes__", [])]), error
            assert "Jobs" not in str(error)

        found = [v async for v in pool.map(ep_pool.either, range(4), return_exceptions=True)]
        assert (found[0], found[3]) == (0, 3)
        assert isinstance(found[1], tractor.MsgTypeError)
        assert "Values" not in str(found[1])
        assert "item 1 of ep_pool:either" in found[1].__notes__[0]
        great: list[Any] = [
            v async for v in pool.map(ep_pool.square, [2**32, 2**70], return_exceptions=True)
        ]
        assert all(isinstance(error, tractor.MsgTypeError) for error in great)
        assert "Jobs" not in str(great[1])
        assert "Values" not in str(great[0])
        assert "item 1 of ep_pool:square: 118" in great[1].__notes__[0]
        assert isinstance(found[2], tractor.RemoteActorError)
        assert found[2].boxed_type is LookupError
        with pytest.raises(tractor.RemoteActorError) as caught:
            [v async for v in pool.map(ep_pool.fail, [Path("/some/where")], key=lambda p: p.name)]
        assert "item 0 of ep_pool:fail: 'where'" in caught.value.__notes__[0]
        with pytest.raises(ZeroDivisionError):
            await anext(pool.map(ep_pool.square, [1], key=lambda n: n / 0))

    with_pool(main)


# -- tries and time --


def test_failures_are_tried_again_and_only_what_kills_is_lost(tmp_path: Path) -> None:
    async def main(pool: WorkerPool) -> None:
        path = tmp_path / "tries"
        assert [v async for v in pool.starmap(ep_pool.fail_until, [(str(path), 3)], retries=2)] == [
            3
        ]
        assert pool.statistics().retried == 2
        path.unlink()
        with pytest.raises(tractor.RemoteActorError, match="try 2") as caught:
            [v async for v in pool.starmap(ep_pool.fail_until, [(str(path), 9)], retries=1)]
        assert any("was tried 2 times" in note for note in caught.value.__notes__)
        path.unlink()
        assert [v async for v in pool.starmap(ep_pool.die_until, [(str(path), 2)], retries=1)] == [
            2
        ]
        # Many were in the hands of the worker that dies, each time: the others lose no try.
        found = [
            v
            async for v in pool.map(ep_pool.die_on_7, range(300), retries=1, return_exceptions=True)
        ]
        assert isinstance(found[7], WorkerDied)
        assert "item 7 of ep_pool:die_on_7: 7" in str(found[7])
        assert found[:7] + found[8:] == [*range(7), *range(8, 300)]

    with_pool(main)


def test_who_has_no_try_left_is_not_lost_by_the_death_that_another_one_brings(
    tmp_path: Path,
) -> None:
    async def main(pool: WorkerPool) -> None:
        items = [(str(tmp_path), n) for n in range(100)]
        values = pool.starmap(ep_pool.fail_then_die_on_7, items, retries=1, return_exceptions=True)
        found = [value async for value in values]
        assert isinstance(found[7], WorkerDied)
        assert found[:7] + found[8:] == [*range(7), *range(8, 100)]

    with_pool(main)


def test_a_call_that_takes_too_long_is_ended() -> None:
    async def main(pool: WorkerPool) -> None:
        with pytest.raises(ItemTimeout, match="item 0 of ep_pool:ahang: 'waits'") as caught:
            [v async for v in pool.map(ep_pool.ahang, ["waits"], timeout=0.1, retries=1)]
        assert any("was tried 2 times" in note for note in caught.value.__notes__)
        # It was cancelled: its worker stays.
        assert pool.statistics().replaced == 0
        ways = ["spins", "holds the GIL"]
        found = [v async for v in pool.map(ep_pool.hang, ways, timeout=0.2, return_exceptions=True)]
        assert all(isinstance(error, ItemTimeout) for error in found)
        assert isinstance(found[1], TimeoutError)
        assert "item 0 of ep_pool:hang: 'spins' took longer than timeout=0.2 s" in str(found[0])
        ways = list("abcd")
        assert [v async for v in pool.map(ep_pool.hang, ways, timeout=LIMIT)] == ways

    with_pool(main)
