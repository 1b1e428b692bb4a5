"""No payload harms the process that decodes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor import Limits
from tractor.msg import mk_dec
from tractor.msg._payload import payload_type_error
from tractor.msg.bounded import _bounded
from tractor.msg.bounded._bounded import (
    SMALL,
    Bounded,
    Crowded,
    bounds,
    plain_values,
    refuse_crowded,
)
from tractor.msg.bounded._keys import KeyTypes
from tractor.msg.types import INCOMING, Error, Yield, decode_large

encode = msgspec.msgpack.encode
FILL = "x" * SMALL


class Row(msgspec.Struct):
    """With a field that takes anything."""

    a: Any


class Keyed(msgspec.Struct):
    """With a field that has such keys."""

    a: dict[tuple[int, int], str]


OPEN = [
    Any, dict, list[Any], dict[str, Any], dict[str, Any] | None, list[dict[str, Any]],
    Mapping[str, Any], Row, tuple[Any, ...], dict[str, Row],
]  # fmt: skip


def holder(spec: Any, value: Any) -> Any:
    """A value of the type ``spec`` with ``value`` where that takes anything."""
    if spec in (list[Any], tuple[Any, ...]):
        return [value]
    if spec == list[dict[str, Any]]:
        return [{"a": value}]
    return {"a": {"a": value}} if spec == dict[str, Row] else {"a": value}


@pytest.mark.parametrize("fill", ["", FILL, FILL.encode()])
@pytest.mark.parametrize("spec", OPEN)
def test_keys_that_are_lists_are_refused_where_anything_goes(spec: Any, fill: Any) -> None:
    decode = mk_dec(spec).decode
    for key in ((1, 2), (), ((1, (2,)), 3)):
        for bad in ({key: 1}, [{"b": {"x": 1, key: 2}}], {1: {2: {3: {4: {5: {6: {key: 7}}}}}}}):
            with pytest.raises(msgspec.ValidationError, match="declared type has it"):
                decode(encode(holder(spec, [fill, bad])))
    good = [
        fill,
        b"bytes",
        {1: [2.5, None, True, {"x": []}], "t": 2**64 - 1, None: [[[[[[[{}]]]]]]]},
    ]
    assert (
        msgspec.to_builtins(decode(encode(holder(spec, good))), builtin_types=(bytes,))
        == holder(spec, good)
        or spec == tuple[Any, ...]
    )


@pytest.mark.parametrize("fill", ["", FILL])
def test_keys_that_are_lists_are_taken_where_they_are_declared(fill: str) -> None:
    value: Any = {(1, 2): "a", (3, 4): fill}
    assert mk_dec(dict[tuple[int, int], str]).decode(encode(value)) == value
    assert mk_dec(dict[tuple[int, int], str] | None).decode(encode(value)) == value
    assert mk_dec(Keyed).decode(encode({"a": value})) == Keyed(value)
    assert mk_dec(dict[tuple[int, ...], Any]).decode(encode(value)) == value


@pytest.mark.parametrize(
    "spec", [dict[tuple[int, int], int], dict[str, dict[tuple[int, int], int]]]
)
def test_few_are_taken(spec: Any) -> None:
    def value(n: int) -> Any:
        keyed = {(i, i): i for i in range(n)}
        return keyed if spec == dict[tuple[int, int], int] else {"a": keyed}

    assert mk_dec(spec).decode(encode(value(10_000))) == value(10_000)
    with pytest.raises(msgspec.ValidationError, match="more than 10000"):
        mk_dec(spec).decode(encode(value(10_001)))


@pytest.mark.parametrize(
    "spec", [set[tuple[int, int]], set, frozenset[Any], dict[str, set[tuple[int, int]]]]
)
def test_sets_of_lists_are_bounded(spec: Any) -> None:
    items = [(i, i) for i in range(10_001)]
    with pytest.raises(msgspec.ValidationError, match="10000"):
        mk_dec(spec).decode(encode({"a": items} if "dict" in str(spec) else items))
    assert mk_dec(set[int]).decode(encode(list(range(20_000)))) == set(range(20_000))


_ONES = 2**64 - 1
_P1, _P2, _P5 = 11400714785074694791, 14029467366897019727, 2870177450012600261


def colliding(n: int) -> bytes:
    """A dict of ``n`` pairs of one hash, as msgpack."""

    def turned(x: int, by: int) -> int:
        return ((x << by) | (x >> (64 - by))) & _ONES

    found: list[tuple[int, int]] = []
    first = 0
    back = turned(12345 * pow(_P1, -1, 2**64) & _ONES, 33)
    while len(found) < n:
        first += 1
        acc = turned((_P5 + first * _P2) & _ONES, 31) * _P1 & _ONES
        lane = (back - acc) * pow(_P2, -1, 2**64) & _ONES
        second = lane - 2**64 if lane >= 2**63 else lane
        if abs(second) < 2**61 - 1 and second != -1:
            found.append((first, second))
    assert len(set(map(hash, found))) == 1
    return b"\xdf" + n.to_bytes(4, "big") + b"".join(encode(key) + b"\0" for key in found)


def test_keys_of_one_hash_cost_nothing() -> None:
    bomb = colliding(30_000)
    began = perf_counter()
    for spec in OPEN[:4]:
        with pytest.raises(msgspec.ValidationError):
            mk_dec(spec).decode(bomb)
        with pytest.raises(msgspec.ValidationError):
            mk_dec(dict[tuple[int, int], int]).decode(bomb)
    # Nor does the error about it, which shows the payload.
    assert "Yield" in str(payload_type_error(Yield, msgspec.Raw(bomb), "Any"))
    assert perf_counter() - began < 5


def test_a_message_that_is_no_payload_has_no_such_keys() -> None:
    error = Error(src_uid=("a", "b"), src_type_str="x", boxed_type_str="y", cid=0)
    error._bad_msg_as_dict = {"pld": {(1, 2): FILL}}
    with pytest.raises(msgspec.ValidationError):
        decode_large(encode(error))
    error._bad_msg_as_dict = {"pld": {"a": [FILL, b"x"]}}
    assert decode_large(encode(error)) == error
    large = Yield(3, {(1, 2): FILL})
    assert decode_large(encode(large)) == INCOMING.decode(encode(large))


# -- containers --


@pytest.fixture
def few() -> Iterator[int]:
    """A limit of 1,000, put back afterwards."""
    bounds.use(Limits(max_containers=1000))
    yield 1000
    bounds.use(Limits())


LARGE = 2**20


@pytest.mark.parametrize("spec", [Any, list[list[Any]], list[Any], list[list[int]]])
def test_containers_are_counted_in_large_payloads(few: int, spec: Any) -> None:
    decode = mk_dec(spec).decode
    row = [0] * 2000
    assert len(decode(encode([row] * 999))) == 999
    assert not bounds.reached
    with pytest.raises(Crowded, match="max_containers"):
        decode(encode([row] * 1000))
    assert bounds.reached["max_containers"] == 1
    # A small one can't harm.
    assert len(decode(encode([[]] * 5000))) == 5000


@pytest.mark.parametrize(
    "value",
    [
        b"\x90" * LARGE,
        {"a": b"\x90" * LARGE, "b": "\x80" * LARGE},
        [0x9090909090909090] * 200_000,
        [[b"\x80" * 100] * 20_000],
        ["\u0490" * 1000] * 2000,
    ],
)
def test_what_looks_like_containers_is_none(few: int, value: Any) -> None:
    assert Bounded(Any).decode(encode(value)) == value


def test_who_is_at_the_limit_of_many(few: int) -> None:
    rows = encode([{"a": [n], "b": b"\x90" * 5000} for n in range(499)])
    refuse_crowded(rows)
    with pytest.raises(Crowded):
        refuse_crowded(encode([{"a": [n], "b": b"\x90" * 5000} for n in range(500)]))
    refuse_crowded(encode([rows, [{"a": [n], "b": b"\x90" * 5000} for n in range(499)]]), around=1)


@pytest.mark.parametrize("spec", [Any, dict[str, Any], list[dict[Any, Any]] | None])
def test_a_decoder_is_made_without_describing_what_it_tries_first(
    monkeypatch: pytest.MonkeyPatch, spec: Any
) -> None:
    # Every start makes some.
    seen: list[Any] = []
    monkeypatch.setattr(KeyTypes, "_note", lambda self, node: seen.append(node))
    Bounded(spec)
    assert 1 <= len(seen) <= 30


@pytest.mark.parametrize("spec", [*OPEN, dict[Any, Any], set[int] | list[Any], dict[Decimal, Any]])
@pytest.mark.parametrize(("plain", "key"), [(_bounded.Plain, _bounded._Key), (_bounded.Texts, str)])
def test_text_stands_for_what_a_decoder_tries_first(spec: Any, plain: Any, key: Any) -> None:
    true, short = (KeyTypes(_bounded._closed(spec, one, key)) for one in (plain, str))
    assert true.is_open == short.is_open
    if key is str:
        assert true.can_meet == short.can_meet


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9) | st.none(), inner)
    ),
)


@given(anything, st.booleans())
def test_it_decodes_what_msgspec_does(value: Any, large: bool) -> None:
    data = encode([value, FILL] if large else value)
    assert mk_dec(Any).decode(data) == msgspec.msgpack.decode(data)


def test_what_is_large_is_never_among_the_values_decoded_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []

    def noting(buf: Any) -> Any:
        decoded.append(len(buf))
        return msgspec.msgpack.decode(buf)

    monkeypatch.setattr(_bounded, "_decode_any", noting)
    small, large = encode(1), encode(FILL)
    for raws in ([large], [large, small], [small, large], [small, large, small]):
        assert plain_values(raws) is None
    assert decoded
    assert max(decoded) <= SMALL
    assert plain_values([small, encode("text")]) == [1, "text"]
