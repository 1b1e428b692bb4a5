"""Too many connections without an identity: which of them goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.connection.half_open import SPARED, HalfOpen, source_of


def test_below_the_limit_nobody_goes() -> None:
    table: HalfOpen[int] = HalfOpen(3)
    assert [table.add(i, "a") for i in range(3)] == [None, None, None]
    assert len(table) == 3


def test_a_flood_of_one_source_drops_its_own_oldest() -> None:
    table: HalfOpen[str] = HalfOpen(4)
    table.add("rightful", "near")
    dropped = [table.add(f"flood{i}", "far") for i in range(10)]
    assert dropped == [None] * 3 + [f"flood{i}" for i in range(7)]
    assert "rightful" in table
    assert len(table) == 4


def test_among_one_source_the_newcomer_stays() -> None:
    table: HalfOpen[str] = HalfOpen(2)
    table.add("first", "a")
    table.add("second", "a")
    assert table.add("third", "a") == "first"
    assert "third" in table


def test_two_of_one_host_are_no_crowd_in_a_flood_of_many_addresses() -> None:
    table: HalfOpen[str] = HalfOpen(64)
    for i in range(62):
        table.add(f"flood{i}", f"far{i}")
    table.add("rightful1", "near")
    table.add("rightful2", "near")
    dropped = [table.add(f"more{i}", f"farther{i}") for i in range(62)]
    assert dropped == [f"flood{i}" for i in range(62)]
    assert "rightful1" in table
    assert "rightful2" in table


def test_who_is_done_makes_room() -> None:
    table: HalfOpen[str] = HalfOpen(2)
    table.add("first", "a")
    table.add("second", "a")
    table.discard("first")
    table.discard("first")
    table.discard("never there")
    assert table.add("third", "a") is None


def test_out_of_descriptors_half_of_them_go_and_a_few_never_do() -> None:
    table: HalfOpen[int] = HalfOpen(1000)
    for i in range(SPARED):
        table.add(i, "a")
    assert table.shed() == []
    table.add(SPARED, "b")
    assert table.shed() == list(range((SPARED + 1) // 2))
    assert SPARED in table
    # There is no second time.
    assert table.limit == len(table)
    assert table.add(-1, "b") is not None


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        HalfOpen(0)
    table: HalfOpen[str] = HalfOpen(1)
    table.add("x", "a")
    with pytest.raises(ValueError, match="'x' is noted already"):
        table.add("x", "b")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("a name", "a name", True),
        ("127.0.0.1", "127.7.7.7", True),
        ("127.0.0.1", "::1", True),
        ("::ffff:127.0.0.2", "127.0.0.1", True),
    ],
)
def test_what_counts_as_one_source(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


STEPS = st.lists(st.tuples(st.sampled_from(["add", "end", "shed"]), st.integers(0, 5)), max_size=80)


@given(STEPS, st.integers(1, 20))
def test_the_books_stay_right(steps: list[tuple[str, int]], limit: int) -> None:
    """Never more than the limit; who goes is of the largest source, and its oldest."""
    table: HalfOpen[int] = HalfOpen(limit)
    model: list[tuple[int, str]] = []

    def leaves(item: int) -> None:
        (source,) = [s for i, s in model if i == item]
        sizes = {s: sum(s == t for _, t in model) for _, s in model}
        assert sizes[source] == max(sizes.values())
        assert item == next(i for i, s in model if s == source)
        model.remove((item, source))

    for number, (step, which) in enumerate(steps):
        if step == "add":
            model.append((number, str(which)))
            victim = table.add(number, str(which))
            assert (victim is not None) is (len(model) > limit)
            if victim is not None:
                leaves(victim)
        elif step == "end" and model:
            item, source = model[which % len(model)]
            model.remove((item, source))
            table.discard(item)
        elif step == "shed":
            before = len(model)
            gone = table.shed()
            limit = table.limit
            assert len(gone) == (before // 2 if before > SPARED else 0)
            assert limit >= before - len(gone)
            for item in gone:
                leaves(item)
        assert len(table) == len(model) <= limit
        assert all(item in table for item, _ in model)
