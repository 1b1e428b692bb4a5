"""Containers and keys of msgpack, counted without decoding."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.connection.containers import (
    Shape,
    containers_in,
    header_of,
    is_container,
    most_containers,
    shape_of,
)

encode = msgspec.msgpack.encode

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
# Plainly built, as drawing is what takes long: recursion begins anew where a draw has become too large, and of a
# text each character is drawn.
pairs = st.tuples(scalars, scalars)
keys = scalars | pairs | st.tuples(scalars, pairs) | st.tuples(pairs, pairs)
# Past the lengths at which the header changes.
long_texts = st.builds(str.__mul__, st.text(min_size=1, max_size=4), st.integers(60, 300))
long_bytes = st.builds(bytes.__mul__, st.binary(min_size=1, max_size=4), st.integers(60, 300))
values = st.recursive(
    keys | st.binary(max_size=40) | long_bytes | long_texts,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=40,
)


def counted(value: Any) -> tuple[int, int]:
    """By hand: containers, and keys that are tuples."""
    if isinstance(value, dict):
        parts = [*map(counted, value), *map(counted, value.values())]
        own = sum(isinstance(key, tuple) for key in value)
    elif isinstance(value, list | tuple):
        parts, own = list(map(counted, value)), 0
    else:
        return 0, 0
    return 1 + sum(n for n, _ in parts), own + sum(n for _, n in parts)


@given(values)
def test_counts_are_exact(value: Any) -> None:
    containers, array_keys = counted(value)
    data = encode(value)
    assert shape_of(data, len(data), len(data)) == Shape(containers, array_keys, True)
    assert containers_in(data, len(data)) == (containers, True)
    assert most_containers(data) >= containers
    assert is_container(data) == (containers > 0)


@given(st.binary(max_size=200))
def test_what_is_no_msgpack_ends_the_count(data: bytes) -> None:
    shape = shape_of(data, len(data), len(data))
    assert shape.containers <= most_containers(data)
    assert containers_in(data, len(data))[0] <= most_containers(data)


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_lengths_that_lie(head: bytes) -> None:
    assert shape_of(head + b"\x01", 10, 10).containers == is_container(head)
    assert containers_in(head + b"\x01", 10)[0] == is_container(head)


def test_it_stops_at_its_bounds() -> None:
    lists = encode([[]] * 100)
    assert shape_of(lists, 10, 100) == Shape(11, 0, False)
    assert containers_in(lists, 10)[0] > 10
    many = encode([[]] * 10_000)
    found, is_whole = containers_in(many, 1000)
    assert 1000 < found < 6000
    assert not is_whole
    assert not containers_in(many, 100_000, steps=2)[1]
    assert not containers_in(encode(["x" * 300] * 10), 100, steps=5)[1]
    assert containers_in(encode(["x" * 300] * 10), 100, steps=21) == (1, True)
    by_pairs = encode({(n, n): n for n in range(100)})
    assert shape_of(by_pairs, 1000, 10).array_keys == 11


def test_every_kind_of_value() -> None:
    ext = [msgspec.msgpack.Ext(5, bytes(n)) for n in (0, 1, 2, 3, 4, 8, 16, 300, 70_000)]
    sizes = [0, 1, 31, 32, 255, 256, 65_535, 65_536]
    value = [
        ext,
        [bytes(n) for n in sizes],
        ["x" * n for n in sizes],
        list(range(17)),
        [0] * 70_000,
    ]
    assert shape_of(encode(value), 100, 100) == Shape(6, 0, True)
    assert containers_in(encode(value), 100) == (6, True)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("make", [str, bytes, "ext"])
def test_containers_behind_data_of_every_length_are_counted(make: Any, size: int) -> None:
    data = b"\x90" * size
    one = msgspec.msgpack.Ext(5, data) if make == "ext" else data if make is bytes else "x" * size
    assert containers_in(encode([one, [], one, {1: one}, [one]]), 100) == (4, True)


@pytest.mark.parametrize(
    "head", [b"\xd9\x02", b"\xda\0\x02", b"\xdb\0\0\0\x02", b"\xc4\x02", b"\xc5\0\x02", b"\xc6\0\0\0\x02",
             b"\xc7\x01\x05", b"\xc8\0\x01\x05", b"\xc9\0\0\0\x01\x05"]
)  # fmt: skip
def test_a_header_longer_than_needed(head: bytes) -> None:
    body = b"\x90" * (1 if head[:1] in b"\xc7\xc8\xc9" else 2)
    assert containers_in(b"\x93\x90" + head + body + b"\x80", 100) == (3, True)


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"\x93", (3, False, 1)),
        (b"\x83", (6, True, 1)),
        (b"\xdc\1\0", (256, False, 3)),
        (b"\xde\1\0", (512, True, 3)),
        (b"\xdd\0\1\0\0", (65_536, False, 5)),
        (b"\xdf\0\1\0\0", (131_072, True, 5)),
    ],
)
def test_headers(head: bytes, wanted: tuple[int, bool, int]) -> None:
    assert header_of(memoryview(head)) == wanted
