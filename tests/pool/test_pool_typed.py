"""Arguments and values of a worker pool: by position, of annotated types."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import ep_typed
import numpy as np
import pytest
import trio
from ep_peer import run
from ep_typed import Point

import tractor
from tractor.trionics import open_worker_pool

FORKED = "main_thread_forkserver" if sys.platform != "win32" else "trio"


def line_of(text: str) -> int:
    """The first line of this file that has this text and does not search for it."""
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line and "line_of" not in line)


def test_arguments_and_values() -> None:
    async def main() -> None:
        async with open_worker_pool(1, start_method=FORKED) as pool:
            points = [Point(1, 2)]
            assert await pool.run(ep_typed.sync_points, points, where=Path("a")) == [Point(2, 1)]
            assert await pool.run(ep_typed.async_points, points) == [Point(2, 1)]
            assert await pool.run(ep_typed.sync_sum, np.ones(3)) == 3.0
            assert await pool.run(ep_typed.gives_path) == Path("/tmp/x")
            partial = functools.partial(ep_typed.sync_points, points=[], where=Path("a"))
            assert await pool.run(partial, points=points) == [Point(2, 1)]
            squares = pool.map(ep_typed.sync_norm, [Point(2), Point(3)])
            assert [p async for p in squares] == [Point(4), Point(9)]
            arrays = pool.map(ep_typed.sync_sum, [np.ones(1), np.ones(2)])
            assert [s async for s in arrays] == [1.0, 2.0]
            fixed = functools.partial(ep_typed.sync_points, where=Path("a"))
            assert [p async for p in pool.map(fixed, [points, []])] == [[Point(2, 1)], []]
            await misfits(pool)
            await callers(pool)

    run(main, limit=60)


async def misfits(pool: Any) -> None:
    points: Any = ep_typed.sync_points
    done = pool.statistics().done
    for fn, args, kwargs in [
        (ep_typed.sync_norm, (), {}),
        (ep_typed.sync_norm, (1, 2), {}),
        (ep_typed.sync_norm, (), {"p": Point(1), "q": 1}),
        (ep_typed.only_by_position, (1,), {}),
        (abs, (1,), {}),
    ]:
        with pytest.raises(TypeError):
            await pool.run(fn, *args, **kwargs)
    assert pool.statistics().done == done
    with pytest.raises(tractor.MsgTypeError, match="the argument 'points' of ep_typed:sync_points"):
        await pool.run(ep_typed.sync_points, [7])
    with pytest.raises(tractor.MsgTypeError, match="the result of ep_typed:sync_lies"):
        await pool.run(ep_typed.sync_lies, 7)
    with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
        await pool.run(ep_typed.sync_points, [], where=object())
    with pytest.raises(tractor.MsgTypeError, match="the item of ep_typed:sync_norm"):
        await anext(pool.map(ep_typed.sync_norm, [7]))
    with pytest.raises(tractor.MsgTypeError, match="the result of ep_typed:sync_lies"):
        await anext(pool.map(ep_typed.sync_lies, [7]))
    with pytest.raises(tractor.MsgTypeError, match="the argument 'where' of ep_typed:sync_points"):
        await anext(pool.map(functools.partial(points, where=7), [[]]))


async def callers(pool: Any) -> None:
    with pytest.raises(tractor.RemoteActorError) as run_error:
        await pool.run(ep_typed.sync_fails, 1)  # (a run)
    assert f"callers() at {__file__}:{line_of('(a run)')}" in str(run_error.value)
    values = pool.map(ep_typed.sync_fails, [1])  # (a map)
    with pytest.raises(tractor.RemoteActorError) as map_error:
        await anext(values)
    assert f"callers() at {__file__}:{line_of('(a map)')}" in str(map_error.value)
    await trio.lowlevel.checkpoint()
