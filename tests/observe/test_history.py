"""Rates, and the CPU of the last minute, from several looks."""

from __future__ import annotations

from typing import Any

import pytest
from ep_observe import sample

from tractor.observe._history import History, Rates, short, with_times
from tractor.runtime.seen._samples import TreeSample


def look(time: float, **more: Any) -> TreeSample:
    return TreeSample(time=time, host="h", actors=(sample("a", "a-uuid", 1, **more),))


def test_rates_are_those_between_two_looks() -> None:
    history = History()
    history.add(look(10.0, calls_total=5, messages_in=10, messages_out=0, cpu_seconds=1.0, cpu=3.0))
    assert history.latest is not None
    (one,) = history.latest.actors
    assert history.rates(one) == Rates(None, None)
    assert one.cpu == 3.0
    history.add(
        look(12.0, calls_total=25, messages_in=30, messages_out=20, cpu_seconds=2.0, cpu=3.0)
    )
    (one,) = history.latest.actors
    assert history.rates(one) == history.total() == Rates(10.0, 20.0)
    assert one.cpu == 50.0


def test_another_process_of_the_name_begins_anew() -> None:
    history = History()
    history.add(look(10.0, calls_total=5))
    other = TreeSample(time=11.0, host="h", actors=(sample("a", "b-uuid", 2, calls_total=9),))
    history.add(other)
    assert history.rates(other.actors[0]) == Rates(None, None)
    assert history.total() == Rates(None, None)


def test_what_an_actor_does_not_say_is_unknown() -> None:
    history = History()
    history.add(look(10.0, calls_total=5))
    history.add(look(11.0, state="stopped"))
    assert history.total() == Rates(None, None)


def test_the_last_minute_as_bars() -> None:
    history = History()
    for second in range(0, 90, 5):
        history.add(look(float(second), cpu=0.0 if second < 80 else 100.0))
    assert history.latest is not None
    (one,) = history.latest.actors
    assert history.bars(one) == "▁" * 10 + "██"
    assert history.bars(sample("b", "b", 2)) == ""


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (3.4, "3"), (1234.0, "1.2k"), (5.6e6, "5.6M"), (7e9, "7.0G")]
)
def test_a_rate_in_words(number: float | None, text: str) -> None:
    assert short(number) == text


def test_what_an_actor_can_not_tell_is_known_from_the_first_look_that_showed_it() -> None:
    def seen(time: float, **states: tuple[str, float | None]) -> TreeSample:
        made = [
            sample(name, name, 1, state=state, since=since)
            for name, (state, since) in states.items()
        ]
        return TreeSample(time=time, host="h1", actors=tuple(made))

    def times(tree: TreeSample) -> dict[str, float | None]:
        return {one.name: one.since for one in tree.actors}

    first = with_times(seen(1.0, a=("run", 0.5), b=("stopped", None), c=("blocked", 0.9)), None)
    assert times(first) == {"a": 0.5, "b": None, "c": 0.9}
    second = with_times(
        seen(2.0, a=("stopped", None), b=("stopped", None), c=("blocked", 1.9), d=("mute", None)),
        first,
    )
    # Nobody has seen when `b` was stopped, nor `d` before.
    assert times(second) == {"a": 2.0, "b": None, "c": 0.9, "d": None}
    third = with_times(seen(3.0, a=("stopped", None), c=("run", 0.5), d=("zombie", None)), second)
    assert times(third) == {"a": 2.0, "c": 0.5, "d": 3.0}
