"""What an error's text shows of a payload."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from tractor._proto.connection.containers import end_of
from tractor.msg import Error, MsgDec, mk_dec
from tractor.msg._boxing import BAD_MSG_BYTES, pack_error
from tractor.msg._payload import payload_type_error
from tractor.msg._shown import SHOWN_CHARS, shown
from tractor.msg.bounded._bounded import SMALL
from tractor.msg.bounded._keys import KeyCheck
from tractor.msg.types import Yield

encode = msgspec.msgpack.encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9) | st.none(), inner)
    ),
    max_leaves=10,
)


def raw_of(value: Any) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


@given(anything)
def test_a_large_value_begins_as_it_would_if_it_were_decoded(value: Any) -> None:
    value = [value, "x" * SMALL]
    text, kind = shown(raw_of(value))
    beginning, _, end = text.rpartition("... ")
    assert beginning == repr(value)[:SHOWN_CHARS]
    assert end == f"(of {len(encode(value))} bytes)"
    assert kind is list


@given(anything)
def test_a_small_value_is_shown_as_what_it_is(value: Any) -> None:
    if len(encode(value)) <= SMALL:
        text, kind = shown(raw_of(value))
        assert kind is type(value)
        assert text[:SHOWN_CHARS] == repr(value)[:SHOWN_CHARS]


LARGE = [
    {"a": "x" * SMALL},
    ["x"] * SMALL,
    "x" * SMALL,
    b"x" * SMALL,
    Ext(5, b"x" * SMALL),
    [Ext(5, b"x" * SMALL)] * 9,
    [datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)] * SMALL,
    "\u00e9\U0001f600" * SMALL,
    [[[[]]]] * SMALL,
    [{}, {1: []}] * SMALL,
]


@pytest.mark.parametrize("value", LARGE)
def test_the_type_of_a_large_value(value: Any) -> None:
    text, kind = shown(raw_of(value))
    assert kind is type(value)
    assert len(text) < SHOWN_CHARS + 50
    assert text.endswith(f"... (of {len(encode(value))} bytes)")
    if type(value) is not Ext and not text.startswith("[Ext(4"):
        assert text[:500] == repr(value)[:500]


@pytest.mark.parametrize("bad", [b"\xc1", b"\xdc\xff\xff\xc1", b"\xdd\xff\xff\xff\xff", b""])
def test_what_is_no_msgpack_is_shown_as_bytes_or_as_far_as_it_goes(bad: bytes) -> None:
    for data in (bad, bad + b"\xc1" * SMALL):
        text, kind = shown(msgspec.Raw(data))
        assert (text[:2], kind) == ("b'", bytes)


def test_a_list_of_millions_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def noted(view: memoryview, pos: int) -> int:
        steps.append(pos)
        return end_of(view, pos)

    monkeypatch.setattr("tractor.msg._shown.end_of", noted)
    payloads = (b"\xdd\0\x4c\x4b\x40" + one * 5_000_000 for one in (b"\x90", b"\1", b"\xa0"))
    for data in payloads:
        text, _ = shown(msgspec.Raw(data))
        assert len(text) < SHOWN_CHARS + 50
    assert len(steps) <= 2 * SHOWN_CHARS


@pytest.mark.parametrize("keys", [100, 2_000, 20_000])
def test_a_refused_payload_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    looks: list[int] = []
    refuse = KeyCheck.refuse
    payload = raw_of({2**40 + n: 0 for n in range(keys)})
    decoder: MsgDec = mk_dec(dict[int, str])
    with pytest.raises(msgspec.ValidationError) as caught:
        decoder.decode(payload)

    def noted(self: KeyCheck, data: Any) -> None:
        looks.append(len(data))
        refuse(self, data)

    monkeypatch.setattr(KeyCheck, "refuse", noted)
    exc = payload_type_error(
        Yield, payload, decoder.spec_str, bad_msg=Yield(1, payload), cause=caught.value
    )
    packed = pack_error(exc, cid=1)
    assert type(packed) is Error
    assert sum(looks) <= 2 * BAD_MSG_BYTES
    assert f"  {{{2**40}: 0, {2**40 + 1}: 0" in packed.message
    assert "does not match type-spec" in packed.message
    assert "Expected `str`, got `int`" in packed.message
