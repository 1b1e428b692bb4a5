# ruff: noqa: PT012
# A pool raises at the end of its block, so the block belongs into `pytest.raises()`.
"""`open_worker_pool()`: what it gives, errors, cancellation, deaths."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ep_pool
import pytest
import trio
import trio.testing
from ep_supervise_tools import alive, run, until, until_exists

import tractor
from tractor.pool._jobs import Call, Job, JobState, Pace, call_of
from tractor.pool._messages import Given, NotRun
from tractor.trionics import WorkerDied, WorkerPool, open_worker_pool

FORKED = "main_thread_forkserver"

NOBODY: Any = None


@asynccontextmanager
async def forked_pool(workers: int = 2, **kwargs: Any) -> AsyncIterator[WorkerPool]:
    """A pool on the backend that starts quickest."""
    async with open_worker_pool(workers, start_method=FORKED, **kwargs) as pool:
        yield pool


async def pids_of(pool: WorkerPool) -> set[int]:
    """Those of the workers."""
    found = [place._an.children for place in pool._places if place._an is not None]
    return {child.pid for children in found for child in children.values() if child.pid}


# -- values --


def test_values_of_runs_and_maps_on_the_default_backend() -> None:
    async def main() -> None:
        async with open_worker_pool(2) as pool:
            assert await pool.run(ep_pool.add, x=1) == 2
            assert await pool.run(ep_pool.aadd, x=1, y=5) == 6
            assert [v async for v in pool.map(ep_pool.square, range(100))] == [
                x * x for x in range(100)
            ]
            found = [v async for v in pool.map(ep_pool.asquare, range(100), ordered=False)]
            assert sorted(found) == [x * x for x in range(100)]
            assert pool.statistics().done == 202
            pids = await pids_of(pool)
            assert len(pids) == 2
        assert not any(map(alive, pids))
        assert tractor.current_actor(err_on_no_runtime=False) is None

    run(main)


def test_under_a_running_runtime() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(name="mine", start_method=FORKED) as actor:
            async with open_worker_pool(1) as pool:
                assert await pool.run(ep_pool.own_name) == "mine.worker_0"
                assert await pool.run(ep_pool.from_thread) == "mine.worker_0"
            async with open_worker_pool(1, name="w", enable_modules=["ep_calls"]) as pool:
                assert await pool.run(ep_pool.own_name) == "mine.w_0"
            assert tractor.current_actor() is actor

    run(main)


def test_default_size_is_the_usable_cpus() -> None:
    async def main() -> int:
        async with open_worker_pool(start_method=FORKED) as pool:
            return pool.statistics().workers

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert run(main) == usable


def test_what_can_be_called() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            assert await pool.run(functools.partial(ep_pool.add, y=10), x=1) == 11
            by_ten = functools.partial(functools.partial(ep_pool.add, y=10))
            assert [v async for v in pool.map(by_ten, [1, 2])] == [11, 12]
            assert [v async for v in pool.map(ep_pool.Adder.of_class, [1])] == ["Adder 1"]
            assert [v async for v in pool.map(ep_pool.Adder.static, [1])] == [-1]
            assert [v async for v in pool.map(math.factorial, [5])] == [120]
            assert [v async for v in pool.map(str, [5])] == ["5"]
            assert [v async for v in pool.map(ep_pool.square, [])] == []

    run(main)


def local_function() -> Callable[[], None]:
    def local() -> None:
        pass

    return local


@pytest.mark.parametrize(
    ("fn", "error", "text"),
    [
        (lambda x: x, ValueError, "lambda"),
        (local_function(), ValueError, "local"),
        (functools.partial(ep_pool.add, 1), TypeError, "by keyword"),
        (ep_pool.generator, TypeError, "one value"),
        (ep_pool.async_generator, TypeError, "one value"),
        (ep_pool.endpoint, TypeError, "context"),
        (ep_pool.Adder(1).method, TypeError, "method of an object"),
        (ep_pool.replaced, ValueError, "leads to"),
        (1, TypeError, "not a function"),
        ([], TypeError, "not a function"),
    ],
)
def test_what_can_not(fn: Any, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as tn:
            pool = WorkerPool(_NoActor, tn, "worker", [{}])  # type: ignore[arg-type]
            with pytest.raises(error, match=text):
                await pool.run(fn)
            with pytest.raises(error, match=text):
                pool.map(fn, [1])
            assert not pool._jobs.jobs

    run(main)


class _NoActor:
    name = "nobody"


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_needs_a_worker(workers: int) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=f"workers={workers}"):
            async with open_worker_pool(workers):
                pytest.fail("it opened")

    run(main)


def test_bad_arguments_of_a_map() -> None:
    async def main() -> None:
        async with trio.open_nursery() as tn:
            pool = WorkerPool(_NoActor, tn, "worker", [{}])  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="in_flight=0"):
                pool.map(ep_pool.square, [1], in_flight=0)
            with pytest.raises(TypeError, match="not iterable"):
                pool.map(ep_pool.square, 1)  # type: ignore[call-overload]

    run(main)


def test_a_worker_that_can_not_start() -> None:
    async def main() -> None:
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            async with forked_pool(enable_modules=["no_such_module"]):
                pytest.fail("it opened")

    run(main)


def test_sync_functions_run_in_one_thread_which_is_not_the_loops() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            loop = await pool.run(ep_pool.awhereabouts)
            threads = [await pool.run(ep_pool.whereabouts) for _ in range(5)]
            assert all(where == threads[0] for where in threads)
            assert threads[0][0] == loop[0]
            assert threads[0][1] != loop[1]
            assert loop[0] != os.getpid()

    run(main)


def test_payloads_that_can_not_be_sent_cost_their_own_call_only() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            with pytest.raises(tractor.MsgTypeError):
                await pool.run(ep_pool.ignore, x=object())
            # Several in one message: the others arrive.
            found: list[int] = []

            async def one(x: int) -> None:
                if x == 3:
                    with pytest.raises(tractor.MsgTypeError):
                        await pool.run(ep_pool.unsendable, x=x)
                else:
                    found.append(await pool.run(ep_pool.unsendable, x=x))

            assert await pool.run(ep_pool.unsendable, x=9) == 9
            async with trio.open_nursery() as tn:
                for x in range(8):
                    tn.start_soon(one, x)
            assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]
            with pytest.raises(tractor.MsgTypeError):
                async for _ in pool.map(ep_pool.ignore, [1, object(), 2]):
                    pass
            assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


# -- back pressure --


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("in_flight", [1, 5])
def test_items_are_taken_as_values_are_read(ordered: bool, in_flight: int) -> None:
    async def main() -> None:
        taken = 0

        def items() -> Any:
            nonlocal taken
            for x in itertools.count():
                taken += 1
                yield x

        async with forked_pool(1) as pool:
            values = pool.map(ep_pool.square, items(), ordered, in_flight=in_flight)
            assert taken == 0
            for read in range(1, 30):
                await values.__anext__()
                assert read <= taken <= read - 1 + in_flight
            await values.aclose()
            assert pool.statistics().handed_out == 0

    run(main)


def test_the_default_bound_of_long_items_is_two_a_worker(tmp_path: Path) -> None:
    async def main() -> None:
        taken: list[str] = []

        def items() -> Any:
            for x in range(100):
                taken.append(f"{tmp_path}/{x}")
                yield taken[-1]

        async with forked_pool(2) as pool:
            values = pool.map(ep_pool.sleep, items())
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(values.__anext__)
                    await until(lambda: len(list(tmp_path.iterdir())) == 2)
                    scope.cancel()
            assert len(taken) == 4

    run(main)


def test_the_window_grows_with_short_jobs_only() -> None:
    pace = Pace()
    assert pace.window == 1
    pace.note(0.000_01)
    assert pace.window == 512
    pace.note(1.0)
    assert pace.window == 1
    for _ in range(20):
        pace.note(0.001)
    assert 2 <= pace.window <= 11


def test_an_idle_worker_gets_what_waits_behind_a_long_job(tmp_path: Path) -> None:
    # The item that the long one waits for is behind it, at the same worker.
    async def main() -> None:
        marker = f"{tmp_path}/marker"
        async with forked_pool(2) as pool:
            warm = [v async for v in pool.map(ep_pool.wait_for, [""] * 1000)]
            assert len(warm) == 1000
            items = [marker, *[""] * 20, f"+{marker}"]
            assert [v async for v in pool.map(ep_pool.wait_for, items)] == items

    run(main)


def test_an_idle_worker_asks_again_where_it_was_asked_too_early() -> None:
    async def main() -> None:
        async with forked_pool(2) as pool:
            await trio.testing.wait_all_tasks_blocked()
            place = pool._places[0]
            call = call_of(ep_pool.wait_for, Given.ITEM, {}, by_item=True)
            # It was asked when it had nothing, and was given jobs before its answer came.
            place.is_asked = True
            place.had = {number: Job(number, call, "", sink=NOBODY) for number in (-1, -2)}
            place._on(NotRun([], [], answers=True), portal=NOBODY)
            assert not place.is_asked
            with trio.fail_after(10):
                while not place.is_asked:
                    await trio.sleep(0)
            place.had = {}

    run(main)


# -- errors --


@pytest.mark.parametrize("fn", [ep_pool.fail, ep_pool.afail])
def test_an_error_of_a_run_is_its_callers(fn: Any) -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            with pytest.raises(tractor.RemoteActorError, match="no luck") as info:
                await pool.run(fn, x="luck")
            assert info.value.boxed_type is ValueError
            assert f"ep_pool:{fn.__name__}(x='luck')" in "".join(info.value.__notes__)
            assert await pool.run(ep_pool.add, x=1) == 2
            assert pool.statistics().failed == 1

    run(main)


def test_an_error_of_an_item_cancels_the_rest_of_its_map(tmp_path: Path) -> None:
    async def main() -> None:
        path = f"{tmp_path}/sleeper"
        async with forked_pool(2) as pool:
            others = [[f"{tmp_path}/never", f"{tmp_path}/other"]] * 9
            values = pool.map(ep_pool.fail_when_there, [[path, path], [path], *others])
            with pytest.raises(tractor.RemoteActorError, match="the one that fails") as info:
                await values.__anext__()
            assert info.value.boxed_type is ValueError
            assert "item 1 of ep_pool:fail_when_there" in "".join(info.value.__notes__)
            # None of the others runs any more.
            assert Path(path).read_text() == "cancelled"
            assert pool.statistics().handed_out == pool.statistics().waiting == 0
            assert [v async for v in values] == []
            assert pool.statistics().replaced == 0

    run(main)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_among_many_items(ordered: bool) -> None:
    async def main() -> None:
        async with forked_pool(2) as pool:
            for _ in range(3):
                found: list[int] = []
                with pytest.raises(tractor.RemoteActorError, match="seven") as info:
                    async for value in pool.map(ep_pool.fail_on_7, range(1000), ordered):
                        found.append(value)
                assert info.value.boxed_type is LookupError
                assert "item 7 of" in "".join(info.value.__notes__)
                assert 7 not in found
                if ordered:
                    assert found == list(range(len(found)))
                    assert len(found) <= 7

    run(main)


def test_an_error_leaves_the_pools_block_as_itself() -> None:
    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError, match="no way"):
            async with forked_pool() as pool:
                await pool.run(ep_pool.fail, x="way")
        with pytest.raises(KeyError, match="of the block"):
            async with forked_pool():
                raise KeyError("of the block")

    run(main)


def test_a_failing_iterable_ends_the_map() -> None:
    def items() -> Any:
        yield 1
        yield 2
        raise OSError("the items' own")

    async def main() -> None:
        async with forked_pool(1) as pool:
            values = pool.map(ep_pool.square, items(), in_flight=1)
            assert await values.__anext__() == 1
            assert await values.__anext__() == 4
            with pytest.raises(OSError, match="own"):
                await values.__anext__()
            assert [v async for v in values] == []

    run(main)


def test_system_exit_is_an_error_of_its_call() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            with pytest.raises(tractor.RemoteActorError) as info:
                await pool.run(ep_pool.exit_system, code=3)
            assert info.value.boxed_type is SystemExit
            assert await pool.run(ep_pool.add, x=1) == 2
            assert pool.statistics().replaced == 0

    run(main)


# -- cancellation --


def test_a_cancelled_run_cancels_its_remote_task(tmp_path: Path) -> None:
    async def main() -> None:
        path = f"{tmp_path}/sleeper"
        async with forked_pool(1) as pool:
            pid = (await pool.run(ep_pool.awhereabouts))[0]
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(functools.partial(pool.run, ep_pool.note_the_cancel, path=path))
                    await until_exists(path)
                    scope.cancel()
            assert Path(path).read_text() == "cancelled"
            assert (await pool.run(ep_pool.awhereabouts))[0] == pid
            assert pool.statistics().dropped == 1

    run(main)


@pytest.mark.parametrize("fn", [ep_pool.spin, ep_pool.hold_the_gil, ep_pool.refuse_to_end])
def test_a_worker_that_can_not_stop_is_replaced(fn: Any, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pid"
        async with forked_pool(1) as pool:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(functools.partial(pool.run, fn, path=str(path)))
                    await until_exists(path)
                    scope.cancel()
            assert not alive(int(path.read_text()))
            assert await pool.run(ep_pool.add, x=1) == 2
            assert pool.statistics().replaced == 1

    run(main)


def test_jobs_behind_a_cancelled_one_run_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        found: list[str] = []
        async with forked_pool(1) as pool:
            assert len([v async for v in pool.map(ep_pool.wait_for, [""] * 500)]) == 500
            async with trio.open_nursery() as tn:
                stuck = trio.CancelScope()

                async def cancelled() -> None:
                    with stuck:
                        await pool.run(ep_pool.wait_for, path=f"{tmp_path}/never")

                async def behind(path: str) -> None:
                    found.append(await pool.run(ep_pool.wait_for, path=path))

                tn.start_soon(cancelled)
                await until(lambda: pool.statistics().handed_out == 1)
                for number in range(5):
                    tn.start_soon(behind, f"+{tmp_path}/{number}")
                await until(lambda: pool.statistics().handed_out == 6)
                stuck.cancel()
            assert len(found) == 5
            assert len(list(tmp_path.iterdir())) == 5
            assert pool.statistics().replaced == 1

    run(main)


def test_a_run_that_waits_is_just_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with forked_pool(1) as pool, trio.open_nursery() as tn:
            first = functools.partial(pool.run, ep_pool.sleep, path=f"{tmp_path}/first")
            tn.start_soon(first)
            await until_exists(tmp_path / "first")
            with trio.move_on_after(0.01) as scope:
                await pool.run(ep_pool.sleep, path=f"{tmp_path}/second")
            assert scope.cancelled_caught
            assert pool.statistics().waiting == 0
            tn.cancel_scope.cancel()
        assert [path.name for path in tmp_path.iterdir()] == ["first"]

    run(main)


def test_a_cancelled_map_ends_its_items(tmp_path: Path) -> None:
    async def main() -> None:
        paths = [f"{tmp_path}/{x}" for x in range(2)]
        async with forked_pool(2) as pool:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:

                    async def read() -> None:
                        async for _ in pool.map(ep_pool.spin, paths):
                            pass

                    tn.start_soon(read)
                    for path in paths:
                        await until_exists(path)
                    scope.cancel()
            assert not any(alive(int(Path(path).read_text())) for path in paths)
            assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


def test_a_map_left_by_break_ends_its_items(tmp_path: Path) -> None:
    async def main() -> None:
        sleeper = f"{tmp_path}/sleeper"
        async with forked_pool(1) as pool:
            async for _ in pool.map(ep_pool.sleep_at, [None, sleeper], ordered=False):
                break
            await until(lambda: pool.statistics().handed_out == 0)
            assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


def test_one_reader_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with forked_pool(1) as pool, trio.open_nursery() as tn:
            values = pool.map(ep_pool.sleep, [f"{tmp_path}/pid"])
            tn.start_soon(values.__anext__)
            await until_exists(tmp_path / "pid")
            with pytest.raises(trio.BusyResourceError):
                await values.__anext__()
            tn.cancel_scope.cancel()

    run(main)


def test_the_end_of_the_block_ends_what_runs(tmp_path: Path) -> None:
    async def main() -> None:
        errors: list[BaseException] = []

        async def use(pool: WorkerPool, fn: Any, path: str) -> None:
            with pytest.raises(tractor.RuntimeFailure, match="pool is closed") as info:
                await pool.run(fn, path=path)
            errors.append(info.value)

        async with trio.open_nursery() as tn:
            async with forked_pool(1) as pool:
                tn.start_soon(use, pool, ep_pool.spin, f"{tmp_path}/spin")
                await until_exists(tmp_path / "spin")
                tn.start_soon(use, pool, ep_pool.sleep, f"{tmp_path}/waits")
                await until(lambda: pool.statistics().waiting == 1)
            assert not alive(int((tmp_path / "spin").read_text()))
            with pytest.raises(tractor.RuntimeFailure, match="pool is closed"):
                await pool.run(ep_pool.add, x=1)
        assert len(errors) == 2
        assert "closed" in repr(pool)

    run(main)


# -- deaths --


def test_a_workers_death_names_the_call_and_the_pool_goes_on() -> None:
    async def main() -> None:
        async with forked_pool(2) as pool:
            with pytest.raises(WorkerDied, match="SIGKILL") as info:
                await pool.run(ep_pool.die, x="why")
            assert info.value.what == "ep_pool:die(x='why')"
            assert info.value.what in str(info.value)
            assert info.value.returncode == -9
            assert info.value.uid is not None
            assert isinstance(info.value, tractor.ActorFailure)
            for _ in range(4):
                assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


def test_a_death_in_a_map_names_the_item() -> None:
    async def main() -> None:
        async with forked_pool(2) as pool:
            with pytest.raises(WorkerDied, match="item 7 of ep_pool:die_on_7: 7"):
                async for _ in pool.map(ep_pool.die_on_7, [0, 1, 2, 3, 4, 5, 6, 7], in_flight=1):
                    pass
            assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


def test_a_death_among_many_is_no_hang() -> None:
    async def main() -> None:
        async with forked_pool(2) as pool:
            assert len([v async for v in pool.map(ep_pool.die_on_7, range(100, 1100))]) == 1000
            with pytest.raises(WorkerDied, match="item"):
                async for _ in pool.map(ep_pool.die_on_7, range(1000)):
                    pass
            assert pool.statistics().handed_out == 0
            assert [v async for v in pool.map(ep_pool.square, range(50))]

    run(main)


def test_an_idle_worker_that_dies_is_replaced_when_it_is_needed() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            for times in range(2):
                (pid,) = await pids_of(pool)
                os.kill(pid, 9)
                await until(lambda: pool.statistics().workers == 0)
                assert pool.statistics().replaced == times
                assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


def test_workers_that_keep_dying_end_the_pool() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            async with forked_pool(1) as pool:
                for _ in range(3):
                    await until(lambda: pool.statistics().workers == 1)
                    (pid,) = await pids_of(pool)
                    os.kill(pid, 9)
                    await until(lambda: pool.statistics().workers == 0)
                    # What has another one started, and is withdrawn before that serves.
                    job = Job(0, Call("", len, Given.ITEM, {}, Pace()), None, None)  # type: ignore[arg-type]
                    pool._jobs.jobs.append(job)
                    pool._jobs.wake()
                    await trio.testing.wait_all_tasks_blocked()
                    job.state = JobState.OVER
                await trio.sleep_forever()

    run(main)


def test_a_worker_that_was_cancelled_tells_so() -> None:
    async def main() -> None:
        async with forked_pool(1) as pool:
            with pytest.raises(tractor.ContextCancelled) as info:
                await pool.run(ep_pool.end_by_sigterm)
            assert "ep_pool:end_by_sigterm()" in "".join(info.value.__notes__)
            assert await pool.run(ep_pool.add, x=1) == 2

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_of_work_cancellation_and_death(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        outcomes: list[str] = []

        async def kill(pool: WorkerPool) -> None:
            while True:
                await trio.sleep(rng.uniform(0.001, 0.05))
                serving = [h._an for h in pool._places if h.is_serving and h._an is not None]
                for child in [c for an in serving for c in an.children.values() if c.pid]:
                    if rng.random() < 0.3:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child.pid or 0, rng.choice([signal.SIGKILL, signal.SIGTERM]))

        async def work(pool: WorkerPool, rng: random.Random) -> None:
            kind, n = rng.randrange(4), rng.randrange(300)
            if kind == 0:
                assert await pool.run(ep_pool.add, x=n) == n + 1
            elif kind == 1:
                await pool.run(ep_pool.compute, seconds=n / 10_000)
            elif kind == 2:
                assert await pool.run(ep_pool.aadd, x=n) == n + 1
            else:
                found = [v async for v in pool.map(ep_pool.square, range(n), rng.random() < 0.5)]
                assert sorted(found) == [x * x for x in range(n)]

        async def user(pool: WorkerPool, number: int) -> None:
            mine = random.Random(seed * 100 + number)
            for _ in range(10):
                with trio.move_on_after(mine.choice([0.001, 0.02, math.inf])) as scope:
                    try:
                        await work(pool, mine)
                        outcomes.append("done")
                    except (WorkerDied, tractor.ContextCancelled):
                        outcomes.append("died")
                if scope.cancelled_caught:
                    outcomes.append("cancelled")

        async with forked_pool(2) as pool, trio.open_nursery() as tn:
            tn.start_soon(kill, pool)
            async with trio.open_nursery() as users:
                for number in range(4):
                    users.start_soon(user, pool, number)
            tn.cancel_scope.cancel()
            assert len(outcomes) == 40
            assert pool.statistics().handed_out == pool.statistics().waiting == 0

    run(main, limit=50)


# -- ctrl-c --

CTRL_C = """
import sys
import ep_pool, trio
from tractor.trionics import open_worker_pool

async def main():
    async with open_worker_pool(2, start_method="main_thread_forkserver") as pool:
        async for _ in pool.map(ep_pool.spin, sys.argv[1:]):
            pass

if __name__ == "__main__":
    try:
        trio.run(main)
    except KeyboardInterrupt:
        print("ctrl-c")
"""


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_workers_that_compute(whole_group: bool, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    files = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    with subprocess.Popen(
        [sys.executable, str(script), *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(Path(ep_pool.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while not (files[0].exists() and files[1].exists()):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert out == "ctrl-c\n", err
    assert process.returncode == 0
    assert not any(alive(int(file.read_text())) for file in files[:2])
    assert not files[2].exists()


# -- who may --


def test_only_the_parent_gives_jobs() -> None:
    async def main() -> None:
        async with (
            tractor.open_nursery(start_method=FORKED) as an,
            open_worker_pool(1) as pool,
        ):
            portal = await an.start_actor("stranger", enable_modules=["ep_pool"])
            name = await pool.run(ep_pool.own_name)
            assert await portal.run(ep_pool.knock, name=name) == "PermissionError"
            assert await pool.run(ep_pool.add, x=1) == 2
            await portal.cancel_actor()

    run(main)
