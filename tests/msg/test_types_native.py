"""What msgspec knows by itself: typed it arrives as what it was, untyped as plain data."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import ep_travel
import msgspec
import pytest
from ep_travel import NATIVE, same
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Encoder

from tractor.msg import mk_codec, mk_dec
from tractor.msg.types import Started

encode = Encoder().encode

# Whole minutes: what ISO 8601 and so the wire has.
zones: st.SearchStrategy[Any] = st.none() | st.integers(-23 * 60, 23 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
# In another zone the first and the last day of all have no counterpart.
instants = st.datetimes(
    datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones, allow_imaginary=False
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(),
    str: st.text(),
    bytes: st.binary(),
    bytearray: st.binary().map(bytearray),
    memoryview: st.binary().map(memoryview),
    datetime: instants,
    date: st.dates(),
    time: st.times(timezones=zones),
    timedelta: st.timedeltas(),
    Decimal: st.decimals(),
    UUID: st.uuids(),
    ep_travel.Colour: st.sampled_from(ep_travel.Colour),
    ep_travel.Level: st.sampled_from(ep_travel.Level),
    ep_travel.Shape: st.sampled_from(ep_travel.Shape),
    ep_travel.Rights: st.sampled_from([ep_travel.Rights(n) for n in range(4)]),
    set[int]: st.sets(st.integers(0, 99)),
    frozenset[str]: st.frozensets(st.text()),
    tuple[int, ...]: st.lists(st.integers(0, 99)).map(tuple),
    dict[tuple[int, int], float]: st.dictionaries(
        st.tuples(st.integers(0, 9), st.integers(0, 9)), st.floats()
    ),
    ep_travel.Visit: st.builds(ep_travel.Visit, st.dates(), st.frozensets(st.text())),
    ep_travel.Room: st.builds(
        ep_travel.Room, st.integers(0, 9), st.lists(st.integers(0, 9)).map(tuple)
    ),
    ep_travel.Pair: st.builds(ep_travel.Pair, st.integers(0, 9), st.text()),
    ep_travel.Options: st.fixed_dictionaries({}, optional={"depth": st.integers(0, 9)}),
    ep_travel.Circle | ep_travel.Square: st.builds(ep_travel.Circle, st.floats())
    | st.builds(ep_travel.Square, st.decimals()),
    ep_travel.Row: st.builds(ep_travel.Row, instants, st.builds(ep_travel.Circle, st.floats())),
}
DECODERS = {spec: mk_dec(spec) for spec in VALUES}
typed = st.sampled_from(list(VALUES)).flatmap(lambda spec: st.tuples(st.just(spec), VALUES[spec]))


@given(typed)
def test_round_trip(pair: tuple[Any, Any]) -> None:
    spec, value = pair
    assert same(DECODERS[spec].decode(encode(value)), value)


@given(typed)
def test_round_trip_in_a_message(pair: tuple[Any, Any]) -> None:
    spec, value = pair
    codec = mk_codec()
    raw = codec.decode(codec.encode(Started(7, value))).pld
    assert same(DECODERS[spec].decode(raw), value)


@given(st.binary(max_size=40), st.sampled_from(list(VALUES)))
def test_whatever_comes_is_a_value_or_refused(data: bytes, spec: Any) -> None:
    try:
        value = DECODERS[spec].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert isinstance(value, getattr(spec, "__origin__", spec) if spec in PLAIN else object)


PLAIN = {int, float, str, bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal}


@pytest.mark.parametrize("name", NATIVE)
def test_each_sample(name: str) -> None:
    sample = NATIVE[name]
    assert same(mk_dec(sample.type).decode(encode(sample.value)), sample.value)
    if sample.plain is ep_travel.REFUSED:
        with pytest.raises(msgspec.ValidationError, match="declared type"):
            mk_dec(Any).decode(encode(sample.value))
        return
    assert same(mk_dec(Any).decode(encode(sample.value)), sample.plain)


def test_an_aware_datetime_is_the_same_instant_in_utc() -> None:
    value = NATIVE["aware_datetime"].value
    arrived = mk_dec(datetime).decode(encode(value))
    assert arrived == value
    assert value.utcoffset() == timedelta(hours=5, minutes=30)
    assert arrived.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**64, OverflowError),
        (-(2**63) - 1, OverflowError),
        (1j, TypeError),
        ("\ud800", UnicodeEncodeError),
        (memoryview(b"abcd")[::2], BufferError),
        (range(3), TypeError),
        (msgspec.UNSET, TypeError),
    ],
)
def test_what_does_not_travel(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode(value)


def test_an_enum_of_mixed_values_cannot_be_declared() -> None:
    import enum

    mixed: Any = enum.Enum("mixed", {"A": 1, "B": "b"})
    with pytest.raises(TypeError, match="all str or all int"):
        mk_dec(mixed)
