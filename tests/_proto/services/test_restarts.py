"""Intensity and backoff of supervisors: numbers in, numbers out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.services.restarts import Backoff, Intensity, Restart

PLAIN = Backoff(initial=0.1, factor=2, maximum=30, jitter=0)


def decisions(intensity: Intensity, *times: float) -> list[bool]:
    return [intensity.decide(Restart(at, None), at) for at in times]


@pytest.mark.parametrize(("last", "fits"), [(5.0, True), (4.999, False)])
def test_the_window_is_half_open(last: float, fits: bool) -> None:
    assert decisions(Intensity(3, 5.0), 0, 1, 2, last) == [True, True, True, fits]


def test_no_restarts_are_allowed() -> None:
    assert decisions(Intensity(0, 5.0), 0) == [False]


def test_there_is_no_limit() -> None:
    intensity = Intensity(None, 5.0)
    assert all(decisions(intensity, *range(1000)))
    assert intensity.planned == []


def test_what_was_prevented_does_not_count() -> None:
    intensity = Intensity(1, 60.0)
    first = Restart(0.0, None)
    assert intensity.decide(first, 0.0)
    intensity.withdraw(first)
    assert decisions(intensity, 1, 2) == [True, False]


def test_the_errors_of_those_that_count_are_kept() -> None:
    intensity = Intensity(1, 5.0)
    for at, error in ((0.0, "a"), (10.0, "b"), (11.0, "c")):
        intensity.decide(Restart(at, error), at)
    assert [known.error for known in intensity.planned] == ["b", "c"]


def test_delays_grow_up_to_the_maximum() -> None:
    delays = [PLAIN.delay(n, 0.5) for n in range(1, 12)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
    assert PLAIN.delay(5000, 0.5) == 30


def test_a_normal_end_waits_as_at_first() -> None:
    assert PLAIN.delay(0, 0.9) == 0.1


@given(
    n=st.integers(1, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
    initial=st.floats(1e-6, 10),
    factor=st.floats(1, 1e6),
    jitter=st.floats(0, 1),
)
def test_delays_stay_within_their_bounds(
    n: int, chance: float, initial: float, factor: float, jitter: float
) -> None:
    backoff = Backoff(initial=initial, factor=factor, maximum=60.0, jitter=jitter)
    delay = backoff.delay(n, chance)
    assert initial * (1 - jitter) * 0.999 <= delay <= 60.0 * (1 + jitter)
    assert delay <= backoff.delay(n + 1, chance) * 1.000001


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"initial": 0}, "initial=0.*above 0"),
        ({"initial": float("inf")}, "initial=inf"),
        ({"factor": 0.5}, "factor=0.5.*at least 1"),
        ({"maximum": 0.05}, "maximum=0.05.*at least `initial`, 0.1"),
        ({"jitter": 1.1}, r"jitter=1.1.*from 0 to 1"),
        ({"reset_after": -1}, "reset_after=-1"),
        ({"reset_after": float("nan")}, "reset_after=nan"),
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Backoff(**wrong)
