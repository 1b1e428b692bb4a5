"""Moments that processes tell each other: one clock within a machine's run, a duration across."""

from __future__ import annotations

import time

import pytest

from tractor.process.host import _clock
from tractor.process.host._clock import heard, told
from tractor.process.host._host_id import host_id


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert _clock.time.monotonic() == 1000.0  # type: ignore[attr-defined]
    return clock


def test_on_one_machine_a_moment_is_the_same_however_late_it_is_heard(now: list[float]) -> None:
    moment = told(990.0)
    assert moment == (990.0, 10.0)
    now[0] += 500
    boot = host_id().partition(".")[0]
    for host in (host_id(), f"{boot}.1", None):
        assert heard(moment, host) == 990.0


def test_another_machines_clock_means_nothing(now: list[float]) -> None:
    moment = told(990.0)
    now[0] = 7.0
    assert heard(moment, "feed.1") == -3.0
    # As passed on by a third: what it has heard, it tells anew.
    now[0] = 8.0
    assert told(-3.0) == (-3.0, 11.0)
