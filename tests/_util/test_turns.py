"""Giving way without a pass of the loop for each message; and with one, where trio's queue can't be looked at."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tractor._util import _turns
from tractor._util._turns import PER_TURN, SECONDS, Turns


@pytest.mark.parametrize("blind", [False, True])
def test_a_task_that_was_just_started_runs_first(
    monkeypatch: pytest.MonkeyPatch, blind: bool
) -> None:
    if blind:
        monkeypatch.setattr(_turns, "_run_queue", lambda: (trio.lowlevel.current_task(),))

    async def main() -> None:
        turns = Turns()
        for _ in range(50):
            ran: list[Any] = []

            async def other(ran: list[Any] = ran) -> None:
                ran.append(None)

            async with trio.open_nursery() as tn:
                tn.start_soon(other)
                steps = 0
                while not ran:
                    await turns.give_way()
                    steps += 1
                assert steps == 1 if not blind else steps <= PER_TURN

    trio.run(main)


def test_a_turn_that_is_limited_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_turns, "perf_counter", lambda: now)

    async def main() -> None:
        nonlocal now
        turns = Turns()
        turns.began()
        now += 1
        assert not turns.must_pass()
        assert turns.limit() == turns.limit() == now + SECONDS
        now += SECONDS / 2
        assert not turns.must_pass()
        assert turns.limit() < now + SECONDS
        now += SECONDS
        assert turns.must_pass()
        ran: list[int] = []

        async def other() -> None:
            ran.append(1)

        async with trio.open_nursery() as tn:
            tn.start_soon(other)
            await turns.let_pass()
            assert ran
        turns.began()
        now += 1
        assert not turns.must_pass()

    trio.run(main)


def test_a_blind_one_passes_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "_run_queue", lambda: (trio.lowlevel.current_task(),))

    async def main() -> None:
        turns = Turns()
        assert all(turns.must_pass() for _ in range(3))
        await turns.give_way()
        assert turns.must_pass()

    trio.run(main)
