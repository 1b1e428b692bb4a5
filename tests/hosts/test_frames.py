"""Frames on a host's link: what is sent comes out, in whatever pieces it comes, and what is no frame is told."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.hosts import _frames
from tractor.hosts._frames import Decoder, Frame, FrameError, encode, to_bytes, to_text

# JSON's own: no NaN, and 1 is 1.0.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
objects = st.builds(
    lambda fields, kind: {**fields, "t": kind},
    st.dictionaries(st.text().filter(lambda key: key not in ("raw", "t")), values, max_size=4),
    st.text(),
)
frames = st.lists(st.tuples(objects, st.none() | st.binary(max_size=300)), max_size=4)


def body(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def sent(frame: Frame) -> Frame:
    obj, raw = frame
    return (obj if raw is None else {**obj, "raw": len(raw)}), raw


@given(frames, st.data())
def test_frames_come_out_as_they_were_sent_in_pieces_of_any_size(
    wanted: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(encode(obj, raw) for obj, raw in wanted)
    decoder, got = Decoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += decoder.feed(stream[:size])
        stream = stream[size:]
    assert got == [sent(frame) for frame in wanted]
    assert decoder.is_between_frames


def test_names_that_are_no_utf8_come_out_as_they_were() -> None:
    name = b"caf\xe9/\xff".decode("utf-8", "surrogateescape")
    ((obj, _),) = Decoder().feed(encode({"t": "spawn", "cwd": name}))
    assert obj["cwd"].encode("utf-8", "surrogateescape") == b"caf\xe9/\xff"


def test_no_raw_bytes_and_none_at_all_are_told_apart() -> None:
    decoder = Decoder()
    assert decoder.feed(encode({"t": "a"}, b"") + encode({"t": "b"})) == [
        ({"t": "a", "raw": 0}, b""),
        ({"t": "b"}, None),
    ]


def test_what_is_cut_in_two_is_seen() -> None:
    stream = encode({"t": "ship"}, b"xyz")
    for end in range(1, len(stream)):
        decoder = Decoder()
        assert decoder.feed(stream[:end]) == []
        assert not decoder.is_between_frames


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"t": 1},
        {"t": "a", "raw": 3},
        {"t": "a", "x": float("nan")},
        {"t": "a", "x": float("inf")},
        {"t": "a", "x": b"bytes"},
        {"t": "a", "x": object()},
        {"t": "a", "x": "y" * _frames.MAX_OBJECT},
    ],
)
def test_what_is_no_frame_is_not_sent(obj: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        encode(obj)


def test_raw_bytes_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frames, "MAX_RAW", 10)
    encode({"t": "a"}, bytes(10))
    with pytest.raises(FrameError, match="11 raw bytes are over the limit of 10"):
        encode({"t": "a"}, bytes(11))


GOOD = encode({"t": "good"})

BAD_OBJECTS = {
    "no JSON": b"hello",
    "no UTF-8": b'{"t": "\xff"}',
    "no object": b'["t"]',
    "no type": b"{}",
    "a type that is no string": b'{"t": 7}',
    "nothing": b"",
    "two values": b'{"t": "a"} {"t": "b"}',
    "not a number": b'{"t": "a", "x": NaN}',
    "nested too deep": b'{"t": ' + b"[" * 200_000,
    "a number too long": b'{"t": "a", "n": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("bad", BAD_OBJECTS.values(), ids=BAD_OBJECTS)
def test_behind_a_bad_object_it_goes_on(bad: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(FrameError) as caught:
        decoder.feed(GOOD + body(bad) + GOOD)
    assert caught.value.framing_holds
    assert caught.value.frames == [({"t": "good"}, None)]
    assert decoder.feed(b"") == [({"t": "good"}, None)]
    assert len(str(caught.value)) < 400


BROKEN = {
    "text": b"Traceback (most recent call last):\n",
    "too large": struct.pack(">I", _frames.MAX_OBJECT + 1),
    "raw bytes below zero": body(b'{"t": "a", "raw": -1}'),
    "raw bytes as text": body(b'{"t": "a", "raw": "12"}'),
    "raw bytes as a truth": body(b'{"t": "a", "raw": true}'),
    "too many raw bytes": body(json.dumps({"t": "a", "raw": _frames.MAX_RAW + 1}).encode()),
}


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
def test_where_framing_is_lost_it_stays_lost(bad: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(FrameError) as caught:
        decoder.feed(GOOD + bad + GOOD)
    assert not caught.value.framing_holds
    assert caught.value.frames == [({"t": "good"}, None)]
    with pytest.raises(FrameError, match=r"begins with|raw"):
        decoder.feed(GOOD)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_is_frames_or_a_frame_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    for piece in pieces:
        try:
            decoder.feed(piece)
        except FrameError as exc:
            if not exc.framing_holds:
                return


@given(frames.filter(bool), st.data())
def test_a_flipped_byte_is_frames_or_a_frame_error(
    wanted: list[Frame], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(encode(obj, raw) for obj, raw in wanted))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    decoder, piece = Decoder(), bytes(stream)
    while True:
        try:
            for obj, raw in decoder.feed(piece):
                assert isinstance(obj["t"], str)
                assert (None if raw is None else len(raw)) == obj.get("raw")
            return
        except FrameError as exc:
            if not exc.framing_holds:
                return
            piece = b""


@given(st.binary())
def test_bytes_travel_as_text(data: bytes) -> None:
    assert to_bytes(to_text(data)) == data


@pytest.mark.parametrize("text", ["a", "a===", "ä", "YQ==\n", None, 7, b"YQ=="])
def test_what_is_no_base64_is_told(text: object) -> None:
    with pytest.raises(FrameError):
        to_bytes(text)
