"""Pauses between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.retry import RetryPauses


def test_pauses_double_up_to_the_limit_and_begin_anew_after_a_success() -> None:
    backoff = RetryPauses(0.25, 2.0, lambda: 0.0)
    assert [backoff.next() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    backoff.reset()
    assert backoff.next() == 0.25


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12))
def test_chance_shortens_a_pause_to_no_less_than_half(chances: list[float]) -> None:
    left = iter(chances)
    backoff = RetryPauses(0.1, 5.0, lambda: next(left))
    step = 0.1
    for _ in chances:
        assert step / 2 <= backoff.next() <= step
        step = min(step * 2, 5.0)
