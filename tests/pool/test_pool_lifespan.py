"""Lifespans and background tasks of a pool's workers."""

from __future__ import annotations

import ep_life
import pytest
from ep_life_tools import Notes
from ep_life_tools import notes as notes
from ep_supervise_tools import run

import tractor
from tractor.trionics import WorkerDied, open_worker_pool

FORKED = "main_thread_forkserver"


def test_each_worker_has_its_lifespan_and_functions_share_its_state(notes: Notes) -> None:
    async def main() -> None:
        async with open_worker_pool(2, start_method=FORKED, lifespan=ep_life.database) as pool:
            assert notes() == ["open"] * 2
            assert await pool.run(ep_life.rows) == ["one", "two"]
            # In a thread of its own there.
            assert await pool.run(ep_life.rows_in_a_thread) == ["one", "two"]

    run(main)
    assert sorted(notes()) == ["closed"] * 2 + ["open"] * 2


def test_a_lifespan_that_fails_is_the_error_of_the_pools_start() -> None:
    async def main() -> None:
        async with open_worker_pool(2, start_method=FORKED, lifespan=ep_life.fails_to_open):
            raise AssertionError("not reached")

    with pytest.raises(tractor.RemoteActorError, match="no database there") as caught:
        run(main)
    assert caught.value.boxed_type is ConnectionRefusedError


def test_a_worker_whose_background_fails_is_replaced(notes: Notes) -> None:
    async def main() -> None:
        async with open_worker_pool(1, start_method=FORKED, lifespan=ep_life.database) as pool:
            for _ in range(4):
                with pytest.raises(WorkerDied) as caught:
                    await pool.run(ep_life.fails_in_background)
                cause = caught.value.__cause__
                assert isinstance(cause, tractor.RemoteActorError)
                assert cause.boxed_type is LookupError
                assert await pool.run(ep_life.rows) == ["one", "two"]
            assert pool.statistics().replaced == 4

    run(main)
    assert notes() == ["open", "closed"] * 5
