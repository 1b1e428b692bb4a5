"""The messages themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor import msg
from tractor.msg import types
from tractor.msg._union import union_members

text = st.text(max_size=8)
uid = st.tuples(text, text)
cid = st.integers(0, 2**63 - 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
addrs = st.lists(st.tuples(text, st.integers(0, 65535) | text), max_size=2)
messages = st.one_of(
    st.builds(types.Aid, text, text, st.none() | cid, st.none() | st.booleans(), st.booleans()),
    st.builds(
        types.SpawnSpec,
        st.dictionaries(text, plain, max_size=2),
        st.dictionaries(text, plain, max_size=2),
        st.dictionaries(text, st.none() | text, max_size=2),
        addrs,
        st.none() | addrs,
    ),
    st.builds(types.Start, cid, text, text, st.dictionaries(text, plain, max_size=2), uid, text),
    st.builds(types.StartAck, cid, st.sampled_from(["asyncgen", "context"])),
    st.builds(types.Started, cid, plain),
    st.builds(types.Yield, cid, plain),
    st.builds(types.Stop, cid),
    st.builds(types.Return, cid, plain),
    st.builds(types.CancelAck, cid, st.booleans()),
    st.builds(types.Credit, cid, st.integers(0, 1000), cid),
    st.builds(
        types.Error,
        src_uid=uid,
        src_type_str=text,
        boxed_type_str=text,
        relay_path=st.lists(uid, max_size=3),
        message=text,
        tb_str=text,
        canceller=st.none() | uid,
        cid=st.none() | cid,
    ),
)
whole = msg.mk_codec(Any)


@given(messages)
def test_round_trip(message: msgspec.Struct) -> None:
    again = whole.decode(whole.encode(message))
    assert type(again) is type(message)
    assert msgspec.structs.astuple(again) == msgspec.structs.astuple(message)


@given(messages)
def test_dict_round_trip(message: msgspec.Struct) -> None:
    fields = msgspec.structs.asdict(message)
    name = type(message).__name__
    again = types.from_dict_msg({"msg_type": name, **fields})
    assert type(again) is type(message)
    assert msgspec.structs.asdict(again) == fields
    assert msgspec.structs.asdict(types.from_dict_msg(fields, type(message))) == fields
    assert f"{name}(\n" in repr(types.from_dict_msg({"_tag": name, **fields}, None, "_tag", True))


@given(st.binary(max_size=60))
def test_garbage_is_an_error_of_the_codec(data: bytes) -> None:
    try:
        message = whole.decode(data)
    except msgspec.DecodeError:
        return
    assert type(message) in types.__msg_types__


def test_payload_stays_undecoded_by_default() -> None:
    codec = msg.mk_codec()
    for cls in (types.Started, types.Yield, types.Return):
        message = codec.decode(codec.encode(cls(1, {"a": [1]})))
        assert isinstance(message.pld, msgspec.Raw)
        assert msgspec.msgpack.decode(message.pld) == {"a": [1]}


@pytest.mark.parametrize("spec", [str, int | None, msgspec.Raw, list[bytes]])
def test_cancel_ack_and_errors_decode_under_every_spec(spec: Any) -> None:
    codec = msg.mk_codec(spec)
    assert codec.decode(codec.encode(types.CancelAck(3, True))) == types.CancelAck(3, True)
    error = types.Error(src_uid=("a", "b"), src_type_str="X", boxed_type_str="X")
    assert codec.decode(codec.encode(error)) == error


def test_spec_limits_payloads() -> None:
    codec = msg.mk_codec(int)
    assert codec.decode(codec.encode(types.Yield(1, 5))).pld == 5
    with pytest.raises(msgspec.ValidationError):
        codec.decode(codec.encode(types.Yield(1, "five")))


def test_message_lists_agree() -> None:
    assert len(types.__msg_types__) == 11
    assert len(union_members(types.mk_msg_spec(str))) == 11
    assert msg.__msg_spec__ == msg.MsgType == types.mk_msg_spec(msgspec.Raw)
    assert msg.Msg is msg.PayloadMsg
    tags = {cls.__struct_config__.tag for cls in types.__msg_types__}
    assert tags == set(range(1, 12))


def test_every_name_of_the_package_resolves() -> None:
    for name in types.__all__:
        assert hasattr(types, name)
    for cls in types.__msg_types__:
        assert getattr(msg, cls.__name__) is cls


@pytest.mark.parametrize(
    ("fields", "msg_type", "error", "text"),
    [
        ({"cid": 1}, None, ValueError, "msg_type"),
        ({"msg_type": "Nope", "cid": 1}, None, ValueError, "Nope"),
        ({"msg_type": ["Stop"], "cid": 1}, None, ValueError, "Stop"),
        ({"msg_type": None, "cid": 1}, None, ValueError, "msg_type"),
        ({"msg_type": "Stop", 5: 1}, None, TypeError, "strings"),
        ({"msg_type": "Stop", "cid": 1}, types.Yield, ValueError, "Stop"),
        ({"msg_type": "Yield", "cid": 1}, None, TypeError, "pld"),
        ({"msg_type": "Stop", "cid": 1, "more": 2}, None, TypeError, "more"),
    ],
)
def test_dict_that_is_no_message(
    fields: dict[str, Any], msg_type: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        types.from_dict_msg(fields, msg_type)


def test_pretty_variant_is_complete_too() -> None:
    pretty = types.from_dict_msg(
        {"msg_type": "Error", "src_uid": ("a", "b"), "src_type_str": "X", "boxed_type_str": "X"},
        use_pretty=True,
    )
    assert "src_type_str: str = 'X'" in repr(pretty)
    assert "cid: int | None = None" in repr(pretty)
    assert "_bad_msg" not in repr(pretty)
    with pytest.raises(TypeError, match="src_uid"):
        types.from_dict_msg({"msg_type": "Error"}, use_pretty=True)


def test_dict_of_a_message_with_a_payload_type() -> None:
    message = types.from_dict_msg({"cid": 1, "pld": 2}, types.Yield[int])
    assert message == types.Yield(1, 2)
    pretty = types.from_dict_msg({"cid": 1, "pld": 2}, types.Yield, use_pretty=True)
    assert repr(pretty) == "Yield(\n  cid: int = 1,\n  pld: Any = 2,\n)"


def test_the_dict_stays_as_it_was() -> None:
    fields = {"msg_type": "Stop", "cid": 1}
    types.from_dict_msg(fields)
    assert fields == {"msg_type": "Stop", "cid": 1}


def test_pretty_variants_share_no_default() -> None:
    fields = {"msg_type": "Error", "src_uid": ("a", "b"), "src_type_str": "X"}
    one, two = (
        types.from_dict_msg({**fields, "boxed_type_str": "X"}, use_pretty=True) for _ in range(2)
    )
    assert one.relay_path is not two.relay_path  # type: ignore[attr-defined]


def test_spec_of_any_payload_is_the_default() -> None:
    assert types.mk_msg_spec() == types.mk_msg_spec(Any)
    codec = msg.mk_codec(Any)
    assert codec.decode(codec.encode(types.Started(1, {"a": [None]}))).pld == {"a": [None]}


def test_identities_in_sets() -> None:
    aids = {types.Aid("a", "1"), types.Aid("b", "1"), types.Aid("a", "2", 5)}
    assert len(aids) == 2
    assert types.Aid("whatever", "2") in aids
    with pytest.raises(AttributeError, match="immutable"):
        types.Aid("a", "1").pid = 3  # type: ignore[misc]


def test_aid() -> None:
    aid = types.Aid("name", "0123456789", 42)
    assert aid.uid == ("name", "0123456789")
    assert aid.reprol() == "name@42"
    assert aid.reprol(sin_uuid=False) == "name[012345]@42"
    same = types.Aid("other", "0123456789")
    assert aid == same
    assert hash(aid) == hash(same)
    assert aid != types.Aid("name", "x", 42)
    assert aid != ("name", "0123456789")
