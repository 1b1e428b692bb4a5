"""The record of limits, and the count of what happens too often."""

from __future__ import annotations

import msgspec
import pytest

import tractor
from tractor._proto.limits import Limits, RateLimit


def test_the_numbers_of_the_specification() -> None:
    assert tractor.Limits is Limits
    assert Limits().to_dict() == {
        "max_frame_size": 2**30,
        "frame_progress": 30.0,
        "max_unsent": 64 * 2**20,
        "max_served": 4096,
        "max_served_total": 65_536,
        "turn_messages": 256,
        "turn_seconds": 0.005,
        "max_refused": 1000,
        "max_registrations": 64,
        "max_waiters": 1024,
        "max_name": 255,
        "max_containers": 1_000_000,
        "max_half_open": 1024,
    }


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_more_than_nothing(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Limits(**{name: value})


@pytest.mark.parametrize("size", [1023, 2**32])
def test_a_frame_size_that_makes_no_sense(size: int) -> None:
    with pytest.raises(ValueError, match="max_frame_size"):
        msgspec.structs.replace(Limits(), max_frame_size=size)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Limits().max_served = 1  # type: ignore[misc]


def test_so_many_within_a_second_and_no_more() -> None:
    rate = RateLimit(3)
    assert [rate.count(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert rate.count(10.9) is False
    assert [rate.count(11.1) for _ in range(4)] == [True, True, True, False]


def test_slow_events_never_reach_it() -> None:
    rate = RateLimit(2)
    assert all(rate.count(n * 0.51) for n in range(100))
