"""Frames: whatever the chunks, the same frames; what is too large is refused by its header alone."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor._proto.connection.framing import (
    COPY_BELOW,
    DEFAULT_MAX_FRAME_SIZE,
    GROWTH,
    KEEP,
    KEEP_FOR,
    FrameBuffer,
    FrameTooLarge,
    spare,
)


def frame(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


def test_the_wire_is_a_little_endian_length_and_the_bytes() -> None:
    assert FrameBuffer().feed(b"\x03\x00\x00\x00abc") == [b"abc"]
    assert FrameBuffer().feed(b"\x00\x01\x00\x00" + b"x" * 256) == [b"x" * 256]


def test_the_default_limit_is_a_gibibyte() -> None:
    assert DEFAULT_MAX_FRAME_SIZE == FrameBuffer().max_frame_size == 1024**3
    assert FrameBuffer().feed(struct.pack("<I", 2**30)) == []
    with pytest.raises(FrameTooLarge):
        FrameBuffer().feed(struct.pack("<I", 2**30 + 1))


# Sizes around nothing, the header, and the size from which frames are views.
PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda n, c: bytes([c]) * n,
        st.sampled_from([0, 3, 4, 5, 1000, COPY_BELOW - 1, COPY_BELOW, COPY_BELOW + 1, 200_000]),
        st.integers(min_value=0, max_value=255),
    ),
)


def cuts(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in at}), len(data)]
    return [data[i:j] for i, j in pairwise(edges)]


@settings(deadline=None)
@given(
    st.lists(PAYLOADS, max_size=6),
    st.lists(st.integers(min_value=0, max_value=2**24), max_size=12),
    st.integers(min_value=0, max_value=8),
)
def test_any_chunks_give_the_same_frames(
    payloads: list[bytes], at: list[int], near_edge: int
) -> None:
    wire = b"".join(map(frame, payloads))
    # Beside the random cuts, one close behind each frame's start: within or right after a header.
    start = 0
    for payload in payloads:
        at = [*at, start + near_edge]
        start += 4 + len(payload)
    buffer = FrameBuffer()
    got: list[bytes | memoryview] = []
    for chunk in cuts(wire, at):
        got += buffer.feed(chunk)
        done = sum(4 + len(g) for g in got)
        assert 0 <= buffer.pending <= len(wire) - done
    assert [bytes(g) for g in got] == payloads
    assert buffer.pending == 0
    assert buffer.missing() == 0


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=20), min_size=1, max_size=8),
    st.lists(st.integers(min_value=0, max_value=2**16), max_size=10),
)
def test_every_frame_comes_with_its_last_byte(payloads: list[bytes], at: list[int]) -> None:
    """Also: `pending` and `missing()` between the chunks."""
    wire = b"".join(map(frame, payloads))
    ends: list[int] = []
    for payload in payloads:
        ends.append((ends[-1] if ends else 0) + 4 + len(payload))
    buffer = FrameBuffer()
    fed = count = 0
    for chunk in cuts(wire, at):
        count += len(buffer.feed(chunk))
        fed += len(chunk)
        whole = [end for end in ends if end <= fed]
        assert count == len(whole)
        assert buffer.pending == fed - (whole[-1] if whole else 0)
        left = ends[count] - fed if count < len(ends) else 0
        assert buffer.missing() == (left if buffer.pending >= 4 else 0)


def test_byte_at_a_time() -> None:
    payloads = [b"", b"a", b"", b"bcd" * 100, b"e"]
    wire = b"".join(map(frame, payloads))
    buffer = FrameBuffer()
    got = [f for i in range(len(wire)) for f in buffer.feed(wire[i : i + 1])]
    assert got == payloads


def test_frames_of_no_bytes() -> None:
    buffer = FrameBuffer(max_frame_size=0)
    assert buffer.feed(bytes(12)) == [b"", b"", b""]
    assert buffer.feed(bytes(3)) == []
    assert buffer.feed(bytes(1)) == [b""]


def test_nothing_fed_is_nothing_kept() -> None:
    buffer = FrameBuffer()
    assert buffer.feed(b"") == []
    assert buffer.pending == 0
    buffer.feed(b"\x05\x00")
    assert buffer.feed(b"") == []
    assert buffer.pending == 2
    assert buffer.feed(b"\x00\x00hello") == [b"hello"]


@pytest.mark.parametrize("chunk", [4096, 65_536, 1_000_001])
def test_a_large_frame(chunk: int) -> None:
    payload = bytes(range(256)) * (3 * 4096)
    wire = frame(b"before") + frame(payload) + frame(b"behind")
    buffer = FrameBuffer()
    got = [f for i in range(0, len(wire), chunk) for f in buffer.feed(wire[i : i + chunk])]
    assert [bytes(f) for f in got] == [b"before", payload, b"behind"]


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_a_frame_in_pieces_is_not_copied_for_each(first: int) -> None:
    """However the header was cut: joining what has come for each chunk would be quadratic."""
    total, chunk = 4 * 2**20, 2**16
    wire = frame(bytes(total))
    buffer = FrameBuffer()
    buffer.feed(wire[:first])
    chunks = [wire[i : i + chunk] for i in range(first, len(wire), chunk)]
    tracemalloc.start()
    try:
        for data in chunks[:-1]:
            assert buffer.feed(data) == []
            buffer.missing()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * total
    assert [len(f) for f in buffer.feed(chunks[-1])] == [total]


def test_a_small_frame_keeps_no_chunk_alive() -> None:
    data = frame(b"x" * (COPY_BELOW - 1)) + frame(b"y" * COPY_BELOW)
    small, large = FrameBuffer().feed(data)
    assert type(small) is bytes
    assert isinstance(large, memoryview)


def test_what_is_kept_of_a_cut_frame_is_only_its_own_bytes() -> None:
    buffer = FrameBuffer()
    assert buffer.feed(frame(b"whole" * 1000) + frame(b"cut")[:6]) == [b"whole" * 1000]
    assert buffer.pending == 6
    assert buffer.missing() == 1


# -- too large ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 100, 2**20])
def test_the_limit_itself_is_allowed(limit: int) -> None:
    payload = bytes(limit)
    assert [bytes(f) for f in FrameBuffer(limit).feed(frame(payload))] == [payload]
    with pytest.raises(FrameTooLarge):
        FrameBuffer(limit).feed(frame(payload + b"x"))


@given(st.integers(min_value=0, max_value=4), st.integers(min_value=101, max_value=2**32 - 1))
def test_refused_by_the_header_alone(first: int, size: int) -> None:
    """At the chunk that completes the header, wherever it was cut, before any byte of the body."""
    header = struct.pack("<I", size)
    buffer = FrameBuffer(max_frame_size=100)
    if first < 4:
        assert buffer.feed(header[:first]) == []
    else:
        first = 0
    with pytest.raises(FrameTooLarge) as caught:
        buffer.feed(header[first:])
    assert (caught.value.size, caught.value.limit) == (size, 100)
    assert str(size) in str(caught.value)
    assert "100" in str(caught.value)
    assert buffer.pending <= 4


@pytest.mark.parametrize("lead", [b"", frame(b"good"), frame(b"good")[:5]])
def test_nothing_is_reserved_for_a_length_that_lies(lead: bytes) -> None:
    buffer = FrameBuffer(max_frame_size=2**10)
    rest = frame(b"good")[5:] if len(lead) == 5 else b""
    tracemalloc.start()
    try:
        buffer.feed(lead)
        with pytest.raises(FrameTooLarge):
            buffer.feed(rest + b"\xff\xff\xff\xff")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**16


def test_nothing_is_reserved_for_a_length_that_is_allowed_but_has_not_come() -> None:
    buffer = FrameBuffer()
    tracemalloc.start()
    try:
        assert buffer.feed(struct.pack("<I", 2**30) + b"abc") == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**16
    assert buffer.missing() == 2**30 - 3


def test_a_frame_in_tiny_pieces_costs_what_it_holds() -> None:
    """No object for each piece: a peer must not turn 100 kB into 100 MB."""
    total = 30_000
    wire = frame(bytes(total))
    buffer = FrameBuffer()
    tracemalloc.start()
    try:
        for i in range(total):
            assert buffer.feed(wire[i : i + 1]) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * total
    assert buffer.feed(wire[total:]) == [bytes(total)]


# -- large frames, received where they stay --


def received(buffer: FrameBuffer, wire: bytes, most: int) -> list[bytes]:
    """Feed as a transport does: into the room for a large frame, if there is any."""
    frames: list[bytes] = []
    pos = 0
    while pos < len(wire):
        room = buffer.room()
        if room is None:
            data = wire[pos : pos + min(most, 70_000)]
            frames += map(bytes, buffer.feed(data))
            pos += len(data)
            continue
        with room:
            n = min(len(room), most, len(wire) - pos)
            room[:n] = wire[pos : pos + n]
        frames += map(bytes, buffer.wrote(n))
        pos += n
    return frames


@settings(deadline=None)
@given(
    st.lists(PAYLOADS, max_size=6),
    st.sampled_from([1000, 65_535, 100_000, 2**20]),
    st.booleans(),
)
def test_frames_received_in_place_are_the_same(
    payloads: list[bytes], most: int, fresh: bool
) -> None:
    if fresh:
        spare.clear()
    wire = b"".join(map(frame, payloads))
    buffer = FrameBuffer()
    assert received(buffer, wire, most) == payloads
    assert buffer.pending == buffer.missing() == 0


def test_a_chunk_may_follow_what_was_received_in_place() -> None:
    large, buffer = bytes(200_000), FrameBuffer()
    assert buffer.feed(frame(large)[:70_000]) == []
    room = buffer.room()
    assert room is not None
    room[:10] = large[:10]
    room.release()
    assert buffer.wrote(10) == []
    assert buffer.pending == 70_010
    frames = buffer.feed(frame(large)[70_010:] + frame(b"next") + b"\1")
    assert list(map(bytes, frames)) == [large, b"next"]
    assert buffer.pending == 1


def test_the_memory_of_a_large_frame_is_used_again_once_nobody_holds_it() -> None:
    spare.clear()
    buffer = FrameBuffer()

    def take(fill: bytes) -> memoryview:
        wire = frame(fill * 300_000)
        assert buffer.feed(wire[:70_000]) == []
        pos = 70_000
        while True:
            room = buffer.room()
            assert room is not None
            with room:
                n = len(room)
                room[:] = wire[pos : pos + n]
            pos += n
            if whole := buffer.wrote(n):
                assert pos == len(wire)
                assert isinstance(whole[0], memoryview)
                return whole[0]

    first = take(b"a")
    part = first[5:10]
    first.release()
    second = take(b"b")
    assert second.obj is not part.obj
    assert bytes(part) == b"aaaaa"
    memory = part.obj
    part.release()
    assert take(b"c").obj is memory
    assert bytes(second) == b"b" * 300_000


def test_kept_memory_is_bounded_and_let_go() -> None:
    spare.clear()
    for _ in range(3):
        spare.keep(bytearray(KEEP // 2))
    assert len(list(spare)) == 2
    spare.keep(bytearray(KEEP + 1))
    assert len(list(spare)) == 2
    buffer = FrameBuffer()
    for _ in range(KEEP_FOR + 1):
        buffer.feed(frame(b"small"))
    assert not spare


def test_room_reserves_no_more_than_has_come() -> None:
    spare.clear()
    buffer = FrameBuffer()
    assert buffer.feed(struct.pack("<I", 2**30) + bytes(70_000)) == []
    with buffer.room() as room:  # type: ignore[union-attr]
        assert len(room) == GROWTH
    assert buffer.wrote(GROWTH) == []
    with buffer.room() as room:  # type: ignore[union-attr]
        assert len(room) == 70_004 + GROWTH
