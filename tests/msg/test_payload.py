"""Checks of payloads before sending, and the texts of violations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tractor._exceptions import MsgTypeError
from tractor.msg import Return, Started, Yield, apply_codec, mk_codec, mk_dec, validate_payload_msg
from tractor.msg._payload import encode_payload, payload_type_error
from tractor.msg._pld_rx import PldRx
from tractor.msg._shown import SHOWN_CHARS


class Thing:
    def __repr__(self) -> str:
        return "<a thing>"


class Unprintable(Thing):
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_valid_payload() -> None:
    assert validate_payload_msg(Started(1, "x"), "x", mk_dec(str)) is None


@pytest.mark.parametrize("cls", [Started, Return])
def test_violation_says_what_where_and_which_spec(cls: Any) -> None:
    with pytest.raises(MsgTypeError) as caught:
        validate_payload_msg(cls(4, 10), 10, mk_dec(str | None))
    exc = caught.value
    name = cls.__name__
    lines = exc.message.splitlines()
    assert lines[0] == f"invalid `{name}` msg payload"
    assert lines[1].strip() == "10"
    assert lines[2] == "has type <class 'int'>"
    assert lines[3] == f"does not match type-spec `{name}.pld: str | None`"
    assert exc.cid == 4
    assert exc.bad_msg == cls(4, 10)
    assert exc.expected_msg_type is cls
    assert isinstance(exc.__cause__, msgspec.ValidationError)


def test_violation_can_be_returned() -> None:
    error = validate_payload_msg(Return(4, None), None, mk_dec(str), raise_mte=False)
    assert isinstance(error, MsgTypeError)
    assert "has type <class 'NoneType'>" in str(error)


def test_decoder_and_codec_of_a_dialog() -> None:
    codec = mk_codec(enc_hook=repr, ext_types=[Thing])
    rx = PldRx(mk_dec(str))
    dialog: Any = SimpleNamespace(pld_rx=rx)
    rx.codec = codec
    assert validate_payload_msg(Started(1, Thing()), Thing(), dialog) is None
    rx.codec = None
    with pytest.raises(MsgTypeError):
        validate_payload_msg(Started(1, Thing()), Thing(), dialog)
    with apply_codec(codec):
        assert validate_payload_msg(Started(1, Thing()), Thing(), dialog) is None


def test_parity_is_checked_on_demand() -> None:
    decoder = mk_dec(list[int])
    assert validate_payload_msg(Started(1, (1, 2)), (1, 2), decoder) is None
    with pytest.raises(MsgTypeError, match=r"arrives as \[1, 2\]"):
        validate_payload_msg(Started(1, (1, 2)), (1, 2), decoder, strict_pld_parity=True)
    assert validate_payload_msg(Started(1, [1]), [1], decoder, strict_pld_parity=True) is None


@pytest.mark.parametrize("value", [Thing(), 2**80, "\ud800", [[Unprintable()]], {1: {Thing()}}])
def test_unencodable_value_names_the_type_and_the_hooks(value: Any) -> None:
    with pytest.raises(MsgTypeError) as caught:
        encode_payload(mk_codec().enc, value, "Yield", cid=3)
    text = str(caught.value)
    assert "invalid `Yield` msg payload" in text
    assert repr(type(value)) in text
    assert "enc_hook" in text
    assert "ext_types" in text
    assert caught.value.cid == 3
    assert caught.value.__cause__ is not None


def test_inmost_type_is_named() -> None:
    with pytest.raises(MsgTypeError, match="Encoding objects of type Thing"):
        encode_payload(mk_codec().enc, {"a": [Thing()]}, "Yield")


def test_cyclic_value_is_unencodable() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(MsgTypeError, match="RecursionError"):
        encode_payload(mk_codec().enc, cycle, "Return")


def test_failing_hook_is_told() -> None:
    def hook(obj: Any) -> Any:
        raise LookupError("hook is broken")

    codec = mk_codec(enc_hook=hook, ext_types=[Thing])
    with pytest.raises(MsgTypeError, match="LookupError: hook is broken"):
        encode_payload(codec.enc, Thing(), "Yield")


def test_receivers_error_shows_the_decoded_value() -> None:
    raw = msgspec.Raw(msgspec.msgpack.encode({"a": 1}))
    message = Yield(8, raw)
    exc = payload_type_error(Yield, raw, "int", bad_msg=message)
    assert "{'a': 1}" in exc.message
    assert "does not match type-spec `Yield.pld: int`" in exc.message
    assert (exc.cid, exc.bad_msg, exc.expected_msg_type) == (8, message, Yield)
    by_name = payload_type_error("Yield", msgspec.Raw(b"\xc1"), "int", cid=2)
    assert r"b'\xc1'" in by_name.message
    assert (by_name.cid, by_name.expected_msg_type) == (2, None)


def test_long_and_unprintable_values() -> None:
    text = payload_type_error(Yield, "x" * 10 * SHOWN_CHARS, "int").message
    assert len(text) < 2 * SHOWN_CHARS
    assert "more characters" in text
    assert "its repr() failed" in payload_type_error(Yield, Unprintable(), "int").message
