"""Codecs and payload decoders."""

from __future__ import annotations

import contextlib
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from tractor.msg import (
    MsgCodec,
    NamespacePath,
    PldRx,
    Return,
    Stop,
    Yield,
    apply_codec,
    current_codec,
    limit_msg_spec,
    mk_codec,
    mk_dec,
)
from tractor.msg._codec import unknown_types
from tractor.msg.hooks import combine, nspath_hooks, path_hooks

encode = msgspec.msgpack.encode


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class Other:
    pass


def enc_hook(obj: Any) -> Any:
    if isinstance(obj, NamespacePath):
        return str(obj)
    if isinstance(obj, Point):
        return [obj.x, obj.y]
    raise TypeError(f"no way to encode {type(obj)}")


def dec_hook(cls: type, obj: Any) -> Any:
    if cls is NamespacePath and isinstance(obj, str) and ":" in obj:
        return NamespacePath(obj)
    if cls is Point and isinstance(obj, list):
        return Point(*obj)
    raise ValueError(f"no {cls.__name__}: {obj!r}")


def test_mk_codec_defaults() -> None:
    codec = mk_codec()
    assert codec.pld_spec is msgspec.Raw
    assert codec.pld_spec_str == "Raw"
    assert "Yield[Raw]" in codec.msg_spec_str
    assert codec.enc.encode(1) == codec.encode(1)
    assert codec.dec.decode(codec.encode(Return(1, None))).cid == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: mk_codec(enc_hook=enc_hook),
        lambda: mk_codec(ext_dec=dec_hook, ext_types=[]),
        lambda: mk_dec(str, dec_hook),
        lambda: mk_dec(None, dec_hook),
        lambda: mk_dec(None),
        lambda: mk_dec(None, ext_types=[]),
    ],
)
def test_hook_without_types_is_refused(call: Any) -> None:
    with pytest.raises(TypeError, match="ext_types"):
        call()


def test_unknown_library_is_refused() -> None:
    with pytest.raises(ValueError, match="pickle"):
        mk_codec(libname="pickle")


def test_codec_with_extension_type() -> None:
    codec = mk_codec(None, enc_hook=enc_hook, ext_types=[NamespacePath], ext_dec=dec_hook)
    path = NamespacePath("mod:fn")
    again = codec.decode(codec.encode(Yield(1, path))).pld
    assert type(again) is NamespacePath
    assert again == path
    assert codec.decode(codec.encode(Yield(1, None))).pld is None


def test_codec_leaves_extension_payloads_to_their_reader() -> None:
    codec = mk_codec(enc_hook=enc_hook, ext_types=[Point])
    raw = codec.decode(codec.encode(Yield(1, Point(1, 2)))).pld
    point = mk_dec(None, dec_hook, [Point]).decode(raw)
    assert (type(point), point.x, point.y) == (Point, 1, 2)


@pytest.mark.parametrize(
    ("spec", "text", "good", "bad"),
    [
        (str, "str", ["x"], [1, None]),
        (str | None, "str | None", ["x", None], [1]),
        (type(None), "None", [None], [0]),
        (Any, "Any", [1, "x", [None]], []),
        (list[int], "list[int]", [[1], []], [["x"], 1]),
        (dict[str, int] | bool, "dict[str, int] | bool", [{"a": 1}, True], [{"a": "b"}]),
    ],
)
def test_plain_payload_decoder(spec: Any, text: str, good: list[Any], bad: list[Any]) -> None:
    decoder = mk_dec(spec)
    assert (decoder.spec, decoder.spec_str, decoder.hook) == (spec, text, None)
    for value in good:
        assert decoder.decode(msgspec.Raw(encode(value))) == value
        assert decoder.dec.decode(encode(value)) == value
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.Raw(encode(value)))


@pytest.mark.parametrize("spec", [None, NamespacePath, NamespacePath | None, bool, Any, int | str])
def test_extension_payload_decoder(spec: Any) -> None:
    decoder = mk_dec(spec, dec_hook, [NamespacePath])
    again = decoder.decode(encode("mod:fn"))
    assert type(again) is NamespacePath
    assert decoder.hook is dec_hook
    assert "NamespacePath" in decoder.spec_str


def test_several_extension_types() -> None:
    decoder = mk_dec(str | None, dec_hook, [NamespacePath, Point])
    assert type(decoder.decode(encode("mod:fn"))) is NamespacePath
    assert type(decoder.decode(encode("plain"))) is str
    assert type(decoder.decode(encode([1, 2]))) is Point
    assert decoder.decode(encode(None)) is None
    with pytest.raises(msgspec.ValidationError, match="NamespacePath"):
        decoder.decode(encode(5))
    with pytest.raises(msgspec.DecodeError):
        decoder.decode(b"\xc1")


def test_an_error_of_a_hook_is_not_a_mismatch() -> None:
    def failing(cls: type, obj: Any) -> Any:
        raise InvalidOperation("a bug")

    decoder = mk_dec(str, failing, [NamespacePath])
    with pytest.raises(InvalidOperation):
        decoder.decode(encode("x"))


def test_type_that_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(TypeError, match="not supported"):
        mk_dec(dict[str, Point | bool], dec_hook, [Point])


def test_unknown_types() -> None:
    assert unknown_types(Point | int | None | NamespacePath) == [Point, NamespacePath]
    assert unknown_types(Decimal | list[int]) == []
    assert unknown_types(Any) == []
    assert unknown_types(Point) == [Point]


def test_codec_applies_to_the_task_and_those_it_starts() -> None:
    mine = mk_codec(int)
    seen: dict[str, MsgCodec] = {}

    async def look(name: str) -> None:
        seen[name] = current_codec()

    async def main() -> None:
        default = current_codec()
        async with trio.open_nursery() as nursery:
            proceed = trio.Event()

            async def sibling() -> None:
                await proceed.wait()
                await look("sibling")

            nursery.start_soon(sibling)
            await trio.testing.wait_all_tasks_blocked()
            with apply_codec(mine) as codec:
                assert codec is mine
                nursery.start_soon(look, "child")
                await look("self")
                proceed.set()
                await trio.testing.wait_all_tasks_blocked()
            await look("after")
        assert seen == {"self": mine, "child": mine, "sibling": default, "after": default}

    trio.run(main)


def test_codec_of_one_dialog() -> None:
    class Dialog:
        _codec: MsgCodec | None = None

    dialog, codec, inner = Dialog(), mk_codec(int), mk_codec(str)
    default = current_codec()
    with apply_codec(codec, dialog):
        assert dialog._codec is codec
        assert current_codec() is default
        with contextlib.suppress(KeyError), apply_codec(inner, dialog):
            assert dialog._codec is inner
            raise KeyError
        assert dialog._codec is codec
    assert dialog._codec is None


def test_limit_msg_spec() -> None:
    default = current_codec()
    with limit_msg_spec(None, ext_types=[Point], enc_hook=enc_hook) as codec:
        assert current_codec() is codec
        assert codec.pld_spec == (None | Point)
    assert current_codec() is default


def test_a_codec_with_hooks_for_several_types() -> None:
    hooks = combine(path_hooks(), nspath_hooks())
    for spec in (int, None, int | None, list[int]):
        codec = mk_codec(spec, **hooks.codec_kwargs())
        for value in (PurePosixPath("/x"), NamespacePath("a:b")):
            raw = codec.encode(Yield(1, value))
            assert codec.decode(raw).pld == codec.pld_dec.decode(codec.encode(value)) == value
        assert codec.decode(codec.encode(Stop(3))) == Stop(3)
        with pytest.raises(msgspec.ValidationError):
            codec.decode(codec.encode(Yield(1, "text")))


def test_a_codec_with_hooks_alone_decodes_by_them() -> None:
    codec = mk_codec(**combine(path_hooks(), nspath_hooks()).codec_kwargs())
    path = PurePosixPath("/x")
    assert isinstance(codec.decode(codec.encode(Yield(1, path))).pld, msgspec.Raw)
    assert codec.pld_dec.decode(codec.encode(path)) == path
    assert codec.pld_dec.decode(codec.encode({"a": 1})) == {"a": 1}
    declared = PldRx(mk_dec(int))
    declared.codec = codec
    assert declared.spec is int
    free = PldRx()
    free.codec = codec
    assert free.decode(codec.encode(path)) == path
