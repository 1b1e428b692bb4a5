"""The pure half of the output of services: lines, their prefix, and what is dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.manager._lines import MAX_LINE, UNFINISHED, LineBuffer


def _all(lines: LineBuffer) -> bytes:
    taken = b""
    while lines.has_lines:
        taken += lines.take(1)
    return taken


def test_each_line_has_the_name_before_it() -> None:
    lines = LineBuffer("api.0")
    lines.feed(b"one\ntw", 0.0)
    assert _all(lines) == b"api.0 | one\n"
    lines.feed(b"o\n\nthree\n", 0.1)
    assert _all(lines) == b"api.0 | two\napi.0 | \napi.0 | three\n"
    assert lines.deadline is None


def test_what_is_unfinished_is_printed_after_a_second() -> None:
    lines = LineBuffer("a")
    lines.feed(b"wait", 10.0)
    assert lines.deadline == 10.0 + UNFINISHED
    # More of the same line does not put it off.
    lines.feed(b"ing", 10.9)
    lines.expire(10.99)
    assert not lines.has_lines
    lines.expire(11.0)
    assert _all(lines) == b"a | waiting\n"
    assert lines.deadline is None
    lines.feed(b" more\n", 12.0)
    assert _all(lines) == b"a |  more\n"


def test_a_new_line_has_a_second_of_its_own() -> None:
    lines = LineBuffer("a")
    lines.feed(b"x", 0.0)
    lines.feed(b"\ny", 0.8)
    assert lines.deadline == 0.8 + UNFINISHED


def test_a_line_that_is_too_long_goes_on_in_the_next() -> None:
    lines = LineBuffer("a")
    lines.feed(b"x" * (MAX_LINE * 2 + 5) + b"\ny\n", 0.0)
    printed = _all(lines).splitlines()
    assert [len(line) - 4 for line in printed] == [MAX_LINE, MAX_LINE, 5, 1]
    # Also where its end is not in sight: no more than one line's worth is kept back.
    lines.feed(b"z" * (MAX_LINE * 3), 0.0)
    assert [len(line) - 4 for line in _all(lines).splitlines()] == [MAX_LINE, MAX_LINE]
    assert lines.held == MAX_LINE


@pytest.mark.parametrize("char", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_cut(char: str, shift: int) -> None:
    text = "x" * shift + char * MAX_LINE
    lines = LineBuffer("a")
    lines.feed(text.encode() + b"\n", 0.0)
    printed = [line.removeprefix("a | ") for line in _all(lines).decode().splitlines()]
    assert "".join(printed) == text


def test_what_is_not_taken_is_dropped_in_whole_lines_and_counted() -> None:
    lines = LineBuffer("a", max_held=1000)
    for i in range(200):
        lines.feed(f"line {i}\n".encode(), 0.0)
        assert lines.held <= 1000
    first, *printed = _all(lines).decode().splitlines()
    dropped = int(first.removeprefix("a | … ").split()[0])
    assert printed == [f"a | line {i}" for i in range(dropped, 200)]
    assert len(printed) > 50
    lines.feed(b"next\n", 0.0)
    assert _all(lines) == b"a | next\n"


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\n\n", b"d" * 20_000, b"\r"]), max_size=40)
)
def test_nothing_is_lost_or_prefixed_twice(pieces: list[bytes]) -> None:
    lines = LineBuffer("n", max_held=10**9)
    printed = b""
    for i, piece in enumerate(pieces):
        lines.feed(piece, float(i) / 100)
        printed += _all(lines)
    lines.finish()
    printed += _all(lines)
    whole = b"".join(pieces)
    got = printed.split(b"\n")
    assert got.pop() == b""
    assert all(line.startswith(b"n | ") and line.count(b"n | ") == 1 for line in got)
    bodies = [line.removeprefix(b"n | ") for line in got]
    assert b"".join(bodies) == whole.replace(b"\n", b"")
    assert all(len(body) <= MAX_LINE for body in bodies)
