"""Other faces of a pool: an executor of `concurrent.futures`, and a function for scripts."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import operator
import sys
import threading
from pathlib import Path
from typing import Any

import ep_pool
import pytest
import trio
from ep_peer import run

import tractor
from tractor.trionics import PoolExecutor, WorkerDied, open_worker_pool

FORKED = "main_thread_forkserver" if sys.platform != "win32" else "trio"

LIMIT = 60
"""Seconds, against hangs."""


# -- as an executor --


def in_thread(executor: PoolExecutor, tmp_path: Path) -> None:
    """What a library does that was given an executor."""
    assert isinstance(executor, concurrent.futures.Executor)
    assert executor.submit(ep_pool.add, 1, y=2).result() == 3
    awaited: Any = executor.submit(ep_pool.aadd, 1).result()
    assert awaited == 2
    assert executor.submit(math.sqrt, 4).result() == 2.0
    assert executor.submit(pow, 2, 10).result() == 1024
    assert executor.submit(functools.partial(operator.sub, 7), 2).result() == 5
    assert list(executor.map(ep_pool.add, range(5), range(5))) == [0, 2, 4, 6, 8]
    error = executor.submit(ep_pool.fail, "x").exception()
    assert isinstance(error, tractor.RemoteActorError)
    assert error.boxed_type is ValueError
    assert isinstance(executor.submit(ep_pool.die).exception(), WorkerDied)
    for fn, args, kind in [
        (lambda: 1, (), ValueError),
        (1, (), TypeError),
        (ep_pool.add, (1, 2, 3), TypeError),
        (ep_pool.add, (object(),), tractor.MsgTypeError),
        (ep_pool.unsendable, (3,), tractor.MsgTypeError),
    ]:
        assert isinstance(executor.submit(fn, *args).exception(), kind)  # type: ignore[arg-type]

    # One runs, the others wait, and can be cancelled.
    release = str(tmp_path / "release")
    running = executor.submit(ep_pool.wait_for, release)
    waiting = [executor.submit(ep_pool.note_number, n, str(tmp_path / "ran")) for n in range(5)]
    while not running.running():
        threading.Event().wait(0.01)
    assert not running.cancel()
    assert waiting[1].cancel()
    assert all(future.cancel() for future in waiting[2:])
    done, left = concurrent.futures.wait(waiting[1:], timeout=LIMIT)
    assert len(done) == 4
    assert not left
    with pytest.raises(concurrent.futures.CancelledError):
        waiting[1].result()
    Path(release).touch()
    with executor:
        pass
    assert running.done()
    assert waiting[0].done()
    assert (tmp_path / "ran").read_text() == "0\n"
    with pytest.raises(RuntimeError, match=r"after shutdown\(\)"):
        executor.submit(ep_pool.square, 1)


def test_as_an_executor(tmp_path: Path) -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT):
            async with open_worker_pool(1, start_method=FORKED) as pool:
                await trio.to_thread.run_sync(in_thread, pool.as_executor(), tmp_path)
                await in_the_loop(pool.as_executor())

                # `shutdown(cancel_futures=True)`, and a pool that closes.
                executor = pool.as_executor()
                held = executor.submit(ep_pool.wait_for, str(tmp_path / "never"))
                # Not known to be quick, so no worker is given it ahead.
                waits = executor.submit(ep_pool.ignore, 1)
                while not held.running():
                    await trio.sleep(0.01)
                executor.shutdown(wait=False, cancel_futures=True)
                assert waits.cancelled()
                other = pool.as_executor()
                late = other.submit(ep_pool.square, 1)
            for future in (held, late):
                with pytest.raises(tractor._exceptions.RuntimeFailure, match="pool is closed"):
                    future.result()
            with pytest.raises(RuntimeError, match="pool is closed"):
                other.submit(ep_pool.square, 1)
            with pytest.raises(RuntimeError, match="pool is closed"):
                pool.as_executor()
            kept.append(other)

    kept: list[PoolExecutor] = []
    run(main)
    with pytest.raises(RuntimeError, match="pool is closed"):
        kept[0].submit(ep_pool.square, 1)


async def in_the_loop(executor: PoolExecutor) -> None:
    """Who waits in the loop's thread would wait for ever, and is told so."""
    future = executor.submit(ep_pool.square, 3)
    for wait in (future.result, future.exception, executor.shutdown):
        with pytest.raises(RuntimeError, match="thread of the event loop"):
            wait()
    while not future.done():
        await trio.sleep(0.01)
    assert future.result() == 9
    executor._pid += 1
    with pytest.raises(RuntimeError, match="a fork of it"):
        executor.submit(ep_pool.square, 1)


def test_as_an_executor_of_asyncio() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=FORKED) as an:
            portal = await an.run_in_actor(ep_pool.use_in_asyncio, infect_asyncio=True)
            assert await portal.wait_for_result() == [0, 2, 4]

    run(main, limit=LIMIT)


# -- for scripts --


def test_a_script_without_async() -> None:
    seen: list[Any] = []
    pool: Any = {"workers": 2, "start_method": FORKED}
    assert tractor.run_pool(ep_pool.square, range(5), on_value=seen.append, **pool) == seen
    assert seen == [0, 1, 4, 9, 16]
    found = tractor.run_pool(ep_pool.fail_on_7, [6, 7, 8], return_exceptions=True, **pool)
    assert found[::2] == [6, 8]
    assert isinstance(found[1], tractor.RemoteActorError)
    with pytest.raises(tractor.RemoteActorError, match="seven"):
        tractor.run_pool(ep_pool.fail_on_7, [7], **pool)
    with pytest.raises(ZeroDivisionError):
        tractor.run_pool(ep_pool.square, [1], on_value=lambda n: n / 0, **pool)


def test_a_script_is_told_where_it_is_async() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="open_worker_pool"):
            tractor.run_pool(ep_pool.square, [1])

    trio.run(main)
