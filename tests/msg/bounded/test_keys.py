"""Keys that meet in one place of a table are refused, and honest ones are not."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tractor.msg import mk_dec
from tractor.msg.bounded import _keys
from tractor.msg.bounded._bounded import Bounded
from tractor.msg.bounded._keys import MANY, KeyTypes
from tractor.msg.types import Error, decode_large

sys.path.insert(0, str(Path(__file__).parents[2] / "hostile"))

from meeting_keys import meeting

encode = msgspec.msgpack.encode

PRIME = 2**61 - 1
"""Numbers that differ by it have one hash."""


def as_dict(keys: Iterable[Any]) -> bytes:
    encoded = [encode(key) + b"\0" for key in keys]
    return b"\xdf" + len(encoded).to_bytes(4, "big") + b"".join(encoded)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """85,000 integers that take a second or more."""
    return as_dict(meeting(17))


class Row(msgspec.Struct):
    """With fields of both kinds."""

    a: Any
    b: dict[int, int]


RAW = msgspec.Raw


@pytest.mark.parametrize(
    ("spec", "around"),
    [
        (Any, lambda raw: raw),
        (dict, lambda raw: raw),
        (dict[int, int], lambda raw: raw),
        (dict[int | str, int], lambda raw: raw),
        (dict[float, int], lambda raw: raw),
        (dict[float, Any], lambda raw: raw),
        (Any, lambda raw: ["x", {"a": [raw]}]),
        (Any, lambda raw: [[[[[[[b"x", raw]]]]]]]),
        (Any, lambda raw: {1: {2: raw}}),
        (dict[str, list[dict[int, int]]], lambda raw: {"a": [{}, raw]}),
        (Row, lambda raw: {"a": 1, "b": raw}),
        (Row, lambda raw: {"a": raw, "b": {}}),
        (dict[tuple[int, int], Any], lambda raw: {(1, 2): raw}),
    ],
)
def test_integers_that_meet_are_refused(spec: Any, around: Any, bomb: bytes) -> None:
    data = encode(around(RAW(bomb)))
    decode = mk_dec(spec).decode
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        decode(data)


def test_a_key_that_is_none_hides_no_others(bomb: bytes) -> None:
    keys = int.from_bytes(bomb[1:5], "big")
    for bad in (b"\x93\1\2\3\0", b"\xc4\1x\0", b"\x80\0"):
        both = b"\xdf" + (keys + 1).to_bytes(4, "big") + bomb[5:] + bad
        for spec in (Any, dict[int, int]):
            with pytest.raises(msgspec.ValidationError, match="meet in one place"):
                mk_dec(spec).decode(both)


def test_a_message_that_is_no_payload_is_looked_at(bomb: bytes) -> None:
    error = Error(src_uid=("a", "b"), src_type_str="x", boxed_type_str="y", cid=0)
    error._bad_msg_as_dict = {"pld": RAW(bomb)}
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        decode_large(encode(error))


def test_sets_of_integers_that_meet_are_refused() -> None:
    # The table of a set is searched in another order; of one hash there are few.
    keys = [Decimal(5 + PRIME * n) for n in range(1, 10_000)]
    for spec in (set[Decimal], frozenset[Decimal], dict[str, set[Decimal]]):
        value = {"a": keys} if "dict" in str(spec) else keys
        with pytest.raises(msgspec.ValidationError, match="a set of 9999 keys"):
            mk_dec(spec).decode(encode(value))


@dataclass(frozen=True)
class Point:
    """A key with fields."""

    x: Decimal


class Frozen(msgspec.Struct, frozen=True):
    """A key with fields."""

    x: Decimal


def of_one_hash(kind: Any, count: int = 12_000) -> list[Any]:
    """Different keys that share their hash."""
    numbers = range(1, count)
    if kind is UUID:
        return [UUID(int=5 + PRIME * n) for n in numbers]
    found = [Decimal(5 + PRIME * n) for n in numbers]
    return [kind(one) for one in found] if kind in (Point, Frozen) else found


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (dict[UUID, int], UUID),
        (dict[UUID, Any], UUID),
        (dict[UUID | int, int], UUID),
        (dict[Decimal, int], Decimal),
        (dict[Decimal | None, int], Decimal),
    ],
)
@pytest.mark.parametrize("last", [[], ["no such key"]])
def test_keys_of_one_hash_are_refused(spec: Any, kind: Any, last: list[Any]) -> None:
    data = as_dict([*of_one_hash(kind), *last])
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        mk_dec(spec).decode(data)


@pytest.mark.parametrize("at_once", [True, False])
def test_bytes_and_text_are_uuids(at_once: bool) -> None:
    found = [one.bytes for one in of_one_hash(UUID)]
    data = as_dict(found if at_once else [*found, "x", 1])
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        mk_dec(dict[UUID, int]).decode(data)


def test_keys_that_a_hook_makes_are_looked_at() -> None:
    def hook(kind: type, value: Any) -> Any:
        return Fraction(value)

    decode = Bounded(dict[Fraction, int], hook).decode
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        decode(as_dict(str(5 + PRIME * n) for n in range(1, 12_000)))
    honest = {Fraction(n, 7): n for n in range(2000)}
    assert decode(as_dict(map(str, honest))) == dict.fromkeys(honest, 0)


rng = random.Random(3)

HONEST: list[tuple[Any, Any]] = [
    (dict[int, int], {n: n for n in range(100_000)}),
    (Any, {n * 2**20: 0 for n in range(100_000)}),
    (Any, {rng.getrandbits(64): [0] for _ in range(30_000)}),
    (Any, {n / 8: "x" for n in range(30_000)}),
    (Any, {"a": dict.fromkeys(range(30000), b"x"), "b": {1: {"c": 1.5}}}),
    (Any, {str(n): n for n in range(30_000)}),
    (dict[UUID, int], {UUID(int=rng.getrandbits(128)): 0 for _ in range(10_000)}),
    (dict[Decimal, int], {Decimal(n) / 100: n for n in range(10_000)}),
    (dict[timedelta, int], {timedelta(seconds=n): n for n in range(10_000)}),
    (
        dict[datetime, int],
        {datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n): n for n in range(10_000)},
    ),
    (dict[date, int], {date.fromordinal(700_000 + n): n for n in range(10_000)}),
    (dict[tuple[int, str], int], {(n, "x"): n for n in range(5_000)}),
    (set[int], set(range(0, 500_000, 7))),
    (set[UUID], {UUID(int=n) for n in range(5_000)}),
    (dict[Frozen, int], {}),
]


@pytest.mark.parametrize(("spec", "value"), HONEST)
def test_honest_keys_are_taken(spec: Any, value: Any) -> None:
    assert mk_dec(spec).decode(encode(value)) == value


def test_a_small_table_is_quick_whatever_is_in_it() -> None:
    few = of_one_hash(UUID, MANY)
    assert mk_dec(dict[UUID, int]).decode(as_dict(few)) == dict.fromkeys(few, 0)


def test_many_small_tables_share_their_time() -> None:
    # One takes a tenth of the time that all may take, so that one fits on a slow machine and all do not on a fast one.
    table = RAW(as_dict(of_one_hash(UUID, 300)))
    assert len(mk_dec(list[dict[UUID, int]]).decode(encode([table]))) == 1
    with pytest.raises(msgspec.ValidationError, match="meet in one place"):
        mk_dec(list[dict[UUID, int]]).decode(encode([table] * 1000))


@pytest.mark.parametrize("at", range(1, 8))
def test_one_slow_moment_refuses_nothing(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    looks = 0

    def clock() -> int:
        nonlocal looks
        looks += 1
        return looks * 1000 + (10**10 if looks >= at else 0)

    monkeypatch.setattr(_keys, "thread_time_ns", clock)
    honest = {UUID(int=n): n for n in range(4 * MANY)}
    assert mk_dec(dict[UUID, int]).decode(encode(honest)) == honest


@pytest.mark.parametrize(
    "head", [b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff"]
)
@pytest.mark.parametrize("spec", [Any, dict[int, int], set[int], dict[UUID, int]])
def test_headers_that_lie_are_told_by_the_decoder(spec: Any, head: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        mk_dec(spec).decode(head + b"\1" * 5000)


@pytest.mark.parametrize(
    ("spec", "numbers", "chosen"),
    [
        (dict[str, int], False, []),
        (dict[str, Any], True, []),
        (dict[int, str], True, []),
        (list[dict[date, bytes]], False, []),
        (dict[UUID | int, int], True, [UUID]),
        (dict[float, set[Decimal]], False, [float, Decimal]),
        (dict[tuple[int, UUID], int], False, [tuple[int, UUID]]),
        (dict[tuple[int, ...], int], False, [tuple[int, ...]]),
        (set[frozenset[int]], True, [frozenset[int]]),
        (dict[Frozen, int], False, [Frozen]),
        (dict[Point, int], False, [Point]),
        (dict[timedelta, int], False, [timedelta]),
        (Row, True, []),
    ],
)
def test_what_a_type_takes_as_keys(spec: Any, numbers: bool, chosen: list[Any]) -> None:
    keys = KeyTypes(spec)
    assert keys.has_numbers == numbers
    assert keys.chosen == chosen
    assert keys.can_meet == (numbers or bool(chosen))


BLOB = b"\x93" * 100_000
"""As an array's bytes may be: each could begin a container."""


@pytest.mark.parametrize(
    ("value", "few"),
    [
        (BLOB, True),
        ([BLOB, {"dtype": "<f8", "shape": [10, 10]}, msgspec.msgpack.Ext(3, BLOB)], True),
        ({"a": [1, -1, 2.5, None, True, "text", 2**40, BLOB]}, True),
        ([BLOB, list(range(MANY))], False),
        ([BLOB, dict.fromkeys(range(MANY), 0)], False),
        ([BLOB, [[[[0] * 20] * 4]]], False),
    ],
)
def test_what_holds_few_values_is_known_without_a_copy(value: Any, few: bool) -> None:
    assert _keys.holds_few(encode(value)) is few


def test_what_is_no_msgpack_is_not_taken_for_few() -> None:
    for data in (b"", b"\xc1", b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\xdf\x00\x00"):
        assert not _keys.holds_few(data)


def test_keys_that_meet_beside_a_blob_are_refused() -> None:
    data = b"\x92" + encode(BLOB) + as_dict(meeting(17))
    with pytest.raises(msgspec.ValidationError, match="meet"):
        mk_dec(list[Any]).decode(data)
