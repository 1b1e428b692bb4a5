"""The arithmetic of a byte ring, without memory or processes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.ring import (
    CREDIT_SHARE,
    MAX_CAPACITY,
    NEWS,
    ReadCursor,
    RingError,
    WriteCursor,
    split_count,
)

capacities = st.integers(1, 40)


@given(
    capacity=capacities,
    start=st.integers(0, 39),
    steps=st.lists(st.tuples(st.sampled_from("wpart"), st.integers(1, 50)), max_size=80),
)
def test_what_is_written_is_read_in_order_and_nothing_unread_is_overwritten(
    capacity: int, start: int, steps: list[tuple[str, int]]
) -> None:
    """Any interleaving of writing, announcing, taking and crediting, with a byte array for the memory."""
    start %= capacity
    writer, reader = WriteCursor(capacity, start), ReadCursor(capacity, start)
    memory: list[int | None] = [None] * capacity
    written = taken = untold = on_the_way = 0

    def put(number: int, place: int) -> None:
        assert memory[place] is None, "an unread byte would be overwritten"
        memory[place] = number

    for what, size in steps:
        if what == "w":
            spans = writer.spans(size)
            done = sum(end - begin for begin, end in spans)
            assert done == min(size, writer.free)
            for begin, end in spans:
                for place in range(begin, end):
                    put(written, place)
                    written += 1
            writer.wrote(done)
            untold += done
        elif what == "p":
            place = writer.place(size)
            if place >= 0:
                for offset in range(size):
                    put(written, place + offset)
                    written += 1
                untold += size
        elif what == "a":
            reader.announce(untold)
            untold = 0
        elif what == "r":
            spans = reader.spans(size)
            for begin, end in spans:
                for place in range(begin, end):
                    assert memory[place] == taken
                    memory[place] = None
                    taken += 1
            on_the_way += reader.took(sum(end - begin for begin, end in spans))
        else:
            writer.credit(on_the_way)
            on_the_way = 0
        assert 0 <= writer.free <= capacity
        assert written - taken == reader.unread + untold
        assert writer.free + reader.unread + untold + reader.owed + on_the_way == capacity


@given(capacity=capacities, part=st.integers(1, 40))
def test_a_writer_without_room_gets_credit_before_its_reader_runs_dry(
    capacity: int, part: int
) -> None:
    writer, reader = WriteCursor(capacity), ReadCursor(capacity)
    for _ in range(20):
        size = writer.free
        writer.wrote(size)
        reader.announce(size)
        credits = []
        while reader.unread:
            credits.append(reader.took(min(part, reader.unread)))
        assert sum(credits) > 0
        assert reader.owed * CREDIT_SHARE < capacity
        writer.credit(sum(credits))
        assert writer.free > 0


@given(capacity=capacities, size=st.integers(0, 60))
def test_spans_are_the_same_bytes_for_both_and_wrap_once(capacity: int, size: int) -> None:
    for start in range(capacity):
        spans = WriteCursor(capacity, start).spans(size)
        reader = ReadCursor(capacity, start)
        reader.announce(capacity)
        assert reader.spans(size) == spans
        assert len(spans) <= 2
        assert all(0 <= begin < end <= capacity for begin, end in spans)
        for (_, end), (begin, _) in pairwise(spans):
            assert (end, begin) == (capacity, 0)


def test_in_one_piece_means_without_a_wrap() -> None:
    writer = WriteCursor(10, 7)
    assert writer.place(4) == -1
    assert writer.free == 10
    assert writer.place(3) == 7
    assert writer.position == 0
    assert writer.place(7) == 0
    assert writer.place(1) == -1
    writer.credit(10)
    assert writer.place(3) == 7


@pytest.mark.parametrize(("free", "credit"), [(10, 1), (4, 7), (10, -1)])
def test_more_credit_than_was_written_is_refused(free: int, credit: int) -> None:
    writer = WriteCursor(10)
    writer.wrote(10 - free)
    with pytest.raises(RingError, match=f"credits {credit} bytes of {10 - free} that were written"):
        writer.credit(credit)
    assert writer.free == free


@pytest.mark.parametrize(
    ("unread", "owed", "size"), [(10, 0, 1), (3, 2, 6), (0, 0, 11), (0, 0, -1)]
)
def test_more_bytes_than_there_is_room_for_are_refused(unread: int, owed: int, size: int) -> None:
    reader = ReadCursor(10)
    reader.announce(unread + owed)
    reader.took(owed)
    with pytest.raises(RingError, match=f"announces {size} bytes in a ring of 10"):
        reader.announce(size)
    assert reader.unread == unread


@given(st.lists(st.tuples(st.integers(0, MAX_CAPACITY), st.booleans()), max_size=200))
def test_counts_add_up_and_news_stays_news(told: list[tuple[int, bool]]) -> None:
    """As an eventfd adds; between two looks there is at most a ringful of bytes."""
    size = 0
    total = 0
    for part, is_news in told:
        part = min(part, MAX_CAPACITY - size)
        size += part
        total += part + NEWS * is_news
    assert split_count(total) == (size, any(is_news for _, is_news in told))


@pytest.mark.parametrize("make", [WriteCursor, ReadCursor])
@pytest.mark.parametrize(
    ("capacity", "start"), [(0, 0), (-1, 0), (MAX_CAPACITY + 1, 0), (5, 5), (5, -1)]
)
def test_what_is_out_of_range_is_named(
    make: type[WriteCursor | ReadCursor], capacity: int, start: int
) -> None:
    with pytest.raises(ValueError, match=str(start if capacity == 5 else capacity)):
        make(capacity, start)
