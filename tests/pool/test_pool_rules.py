"""Rules for a pool's workers: initializers, and when a worker is replaced."""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ep_pool
import pytest
from ep_peer import run

import tractor
from tractor.pool._rules import rules_of
from tractor.process._proc import resident_bytes
from tractor.trionics import open_worker_pool

FORKED = "main_thread_forkserver" if sys.platform != "win32" else "trio"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ((None, (), 0, None), ValueError, "max_tasks=0"),
        ((None, (), None, -1), ValueError, "max_rss=-1"),
        ((None, (), 2.5, None), TypeError, "max_tasks=2.5"),
        ((None, (), True, None), TypeError, "max_tasks=True"),
        ((None, (1,), None, None), ValueError, "without an initializer"),
        ((lambda: 1, (), None, None), ValueError, "lambda"),
        ((ep_pool.make_ready, (), None, None), TypeError, "missing a required argument: 'name'"),
    ],
)
def test_rules_out_of_range(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rules_of(*options)


def test_what_a_worker_may_still_be_given() -> None:
    assert rules_of(None, (), None, None).left(7) is None
    assert [rules_of(None, (), 2, None).left(had) for had in (0, 1, 2, 3)] == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("initializer", "in_thread"), [(ep_pool.make_ready, True), (ep_pool.amake_ready, False)]
)
def test_what_an_initializer_returns_is_the_workers_state(
    initializer: Any, in_thread: bool
) -> None:
    async def main() -> None:
        async with open_worker_pool(
            2, start_method=FORKED, initializer=initializer, initargs=("me",)
        ) as pool:
            assert pool.statistics().workers == 2
            found = [v async for v in pool.map(ep_pool.ready_name, range(20))]
            assert found == [["me", in_thread]] * 20
            assert pool.statistics().done == 20

    run(main, limit=60)


def test_an_initializer_that_fails_is_the_pools_error(tmp_path: Path) -> None:
    path = tmp_path / "tries"

    async def main(times: int) -> None:
        path.write_bytes(b"")
        async with open_worker_pool(
            1,
            start_method=FORKED,
            initializer=ep_pool.fail_to_be_ready,
            initargs=(str(path), times),
        ) as pool:
            with pytest.raises(tractor.trionics.WorkerDied):
                await pool.run(ep_pool.die)
            await pool.run(ep_pool.square, 1)

    for times in (0, 1):
        with pytest.raises(tractor.RemoteActorError, match="no database") as caught:
            run(functools.partial(main, times), limit=60)
        assert caught.value.boxed_type is ConnectionRefusedError
    assert len(path.read_bytes()) == 4


def test_workers_are_replaced_by_number_of_tasks_and_each_item_runs_once(tmp_path: Path) -> None:
    path = tmp_path / "numbers"

    async def main() -> None:
        note = functools.partial(ep_pool.note_number, path=str(path))
        async with open_worker_pool(2, start_method=FORKED, max_tasks=20) as pool:
            pids = Counter([v async for v in pool.map(note, range(90))])
            assert max(pids.values()) <= 20
            assert len(pids) >= 5
            stats = pool.statistics()
            assert (stats.done, stats.failed, stats.dropped) == (90, 0, 0)
            assert stats.replaced >= 3

    run(main, limit=60)
    assert sorted(map(int, path.read_text().split())) == list(range(90))


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only Linux tells resident memory"
)
def test_workers_that_grow_are_replaced() -> None:
    async def main() -> None:
        # A fork has at first what this process has, which is more, the more tests have run in it.
        own = resident_bytes(os.getpid())
        assert own is not None
        most = own + (250 << 20)
        async with open_worker_pool(1, start_method=FORKED, max_rss=most) as pool:
            pids = [v async for v in pool.map(ep_pool.grow, [1, 1, 400, 1, 1])]
            assert pids[0] == pids[1] == pids[2]
            assert pids[3] == pids[4] != pids[2]
            assert pool.statistics().replaced == 1
        # Also where a worker that does nothing has more.
        async with open_worker_pool(1, start_method=FORKED, max_rss=1) as pool:
            pids = [v async for v in pool.map(ep_pool.grow, [0] * 3, in_flight=1)]
            assert len(set(pids)) == 3

    run(main, limit=60)
