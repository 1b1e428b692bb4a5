"""Containers and keys of msgpack, counted without decoding."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.containers import Shape, is_container, most_containers, shape_of

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
    assert most_containers(data) >= containers
    assert is_container(data) == (containers > 0)


@given(st.binary(max_size=200))
def test_what_is_no_msgpack_ends_the_count(data: bytes) -> None:
    shape = shape_of(data, len(data), len(data))
    assert shape.containers <= most_containers(data)


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_lengths_that_lie(head: bytes) -> None:
    assert shape_of(head + b"\x01", 10, 10).containers == is_container(head)


def test_it_stops_at_its_bounds() -> None:
    lists = encode([[]] * 100)
    assert shape_of(lists, 10, 100) == Shape(11, 0, False)
    assert not shape_of(lists, 1000, 1000, steps=5).is_whole
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
