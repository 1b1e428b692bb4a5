"""The table of publish and subscribe: what each kind of line does when it is full, and who is waited for."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.pubsub import MAX_SIZE, SLOW, Delivery, Fanout, Line


def drained(line: Line) -> list[tuple[Hashable, Any, int]]:
    found = []
    while (delivery := line.take()) is not None:
        found.append(tuple(delivery))
    return found


def test_a_lossless_line_holds_the_publisher_up_until_something_is_taken() -> None:
    fanout, line = Fanout(), Line(["a"], "lossless", 2)
    fanout.join(line)
    for value in (1, 2):
        assert not fanout.holds_up("a")
        assert fanout.publish("a", value) == [line]
    assert fanout.holds_up("a")
    # What it does not want it holds up nobody with.
    assert not fanout.holds_up("b")
    assert line.take() == Delivery("a", 1, 0)
    assert not fanout.holds_up("a")
    assert drained(line) == [("a", 2, 0)]


def test_drop_oldest_counts_what_it_drops() -> None:
    line = Line(None, "drop_oldest", 2)
    for value in range(5):
        line.put("a", value)
        assert not line.holds_up
    assert drained(line) == [("a", 3, 3), ("a", 4, 3)]
    line.put("a", 5)
    assert drained(line) == [("a", 5, 3)]


def test_latest_has_one_value_of_each_topic_in_the_order_of_the_first() -> None:
    line = Line(None, "latest")
    for topic, value in [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 1), ("a", 3)]:
        line.put(topic, value)
        assert not line.holds_up
    assert len(line) == 3
    assert drained(line) == [("a", 3, 3), ("b", 2, 3), ("c", 1, 3)]


def test_a_line_with_credit_is_given_no_more_than_it_has_granted() -> None:
    line = Line(None, "latest", credit=0)
    line.put("a", 1)
    assert line.take() is None
    line.grant(1)
    line.put("a", 2)
    assert line.take() == Delivery("a", 2, 1)
    line.put("a", 3)
    assert line.take() is None
    line.grant(2)
    assert line.take() == Delivery("a", 3, 1)
    assert (line.take(), line.credit) == (None, 1)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "1", None, MAX_SIZE + 1])
def test_a_grant_of_a_peer_is_a_number_of_values(wrong: Any) -> None:
    with pytest.raises(ValueError, match="granted"):
        Line(credit=0).grant(wrong)


def test_grants_do_not_add_up_beyond_a_limit() -> None:
    line = Line(credit=0)
    for _ in range(3):
        line.grant(MAX_SIZE)
    assert line.credit == MAX_SIZE
    with pytest.raises(ValueError, match="granted 1"):
        Line().grant(1)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"slow": "newest"}, "slow='newest': it is one of 'lossless', 'latest', 'drop_oldest'"),
        ({"size": 0}, "size=0: it is a number of values, from 1 to"),
        ({"size": MAX_SIZE + 1}, "from 1 to"),
    ],
)
def test_a_line_that_makes_no_sense(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Line(**kwargs)


def test_who_joins_late_gets_the_last_value_of_each_topic_where_they_are_kept() -> None:
    kept, unkept = Fanout(keep_last=True), Fanout()
    for fanout in (kept, unkept):
        for topic, value in [("a", 1), ("b", 1), ("a", 2)]:
            fanout.publish(topic, value)
    late, partial = Line(size=1), Line(["b", "z"])
    kept.join(late)
    kept.join(partial)
    kept.publish("b", 2)
    assert drained(late) == [("b", 1, 0), ("a", 2, 0), ("b", 2, 0)]
    assert drained(partial) == [("b", 1, 0), ("b", 2, 0)]
    other = Line()
    unkept.join(other)
    assert drained(other) == []


def test_who_joins_late_gets_kept_values_in_the_order_of_who_was_early() -> None:
    fanout, early = Fanout(keep_last=True), Line(size=9)
    fanout.join(early)
    for topic, value in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("b", 5)]:
        fanout.publish(topic, value)
    late, newest = Line(size=9), Line(slow="drop_oldest", size=2)
    fanout.join(late)
    fanout.join(newest)
    got = drained(late)
    assert got == [("c", 3, 0), ("a", 4, 0), ("b", 5, 0)]
    assert got == drained(early)[-3:]
    # What has no room is the oldest.
    assert drained(newest) == [("a", 4, 1), ("b", 5, 1)]


def test_leaving() -> None:
    fanout, one, two = Fanout(), Line(["a"]), Line(["b"])
    fanout.join(one)
    fanout.join(two)
    assert fanout.topics == {"a", "b"}
    fanout.publish("a", 1)
    assert fanout.holds_up("a")
    assert not fanout.leave(one)
    # Who has gone is not waited for.
    assert not fanout.holds_up("a")
    assert fanout.publish("a", 2) == []
    assert fanout.leave(two)
    assert not fanout.leave(two)
    assert fanout.topics == set()
    fanout.join(Line())
    assert fanout.topics is None


def test_the_end_comes_after_what_waits() -> None:
    fanout, line = Fanout(), Line(size=2)
    fanout.join(line)
    fanout.publish("a", 1)
    fanout.end()
    assert not fanout.is_over_for(line)
    assert drained(line) == [("a", 1, 0)]
    assert fanout.is_over_for(line)


@given(
    slow=st.sampled_from(SLOW),
    size=st.integers(1, 4),
    steps=st.lists(st.sampled_from(["a", "b", "take"]), max_size=40),
)
def test_nothing_is_lost_that_is_not_counted_and_each_topic_keeps_its_order(
    slow: str, size: int, steps: list[str]
) -> None:
    fanout, line = Fanout(), Line(None, slow, size)
    fanout.join(line)
    published = 0
    got: list[tuple[Hashable, Any, int]] = []
    for step in steps:
        if step != "take":
            if not fanout.holds_up(step):
                published += 1
                fanout.publish(step, published)
        elif (delivery := line.take()) is not None:
            got.append(tuple(delivery))
        assert len(line) <= max(size, 2)
    got += drained(line)
    assert len(got) + line.dropped == published
    for topic in ("a", "b"):
        values = [value for of, value, _ in got if of == topic]
        assert values == sorted(values)
    assert [dropped for *_, dropped in got] == sorted(dropped for *_, dropped in got)
    if slow == "lossless":
        assert [value for _, value, _ in got] == [*range(1, published + 1)]
