"""Frames: a 4-byte little-endian unsigned length, then that many bytes of msgpack.

Pure: bytes in, whole frames out.  The length is checked against the maximum before anything is kept for it, so
a peer that lies about a length costs its own connection and no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from tractor.process._state import of_process

HEADER = struct.Struct("<I")
DEFAULT_MAX_FRAME_SIZE = 2**30
"""Bytes; the bound for one message on the wire, both ways."""

COPY_BELOW = 65_536
"""Frames smaller than this are copied out of their chunk, so that a small message kept for long does not keep a
whole chunk alive; larger ones are views."""

FIRST_CONTROL = 0xFFFF_FFF0
"""Where both sides know of it, a header from here on is none of a frame: it begins a record."""

CONTROL = struct.Struct("<4I")
"""A record: its kind, by which it is known, and three numbers."""

GROWTH = 262_144
"""Bytes that are reserved at least for the rest of a large frame, and at most as much as of it has come."""

KEEP = 2**25
"""Bytes of buffers that a process keeps at most for the next large frames."""

KEEP_FOR = 64
"""Chunks without a large frame, on whatever connections, after which it keeps none."""


class Spare:
    """Buffers of large frames that were handed out: used again, one that nobody holds any more.

    Memory that the allocator has just got from the system is slow to write: for large frames it always is.
    """

    __slots__ = ("_buffers", "_idle")

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []
        self._idle = 0

    def __bool__(self) -> bool:
        return bool(self._buffers)

    def __iter__(self) -> Iterator[bytearray]:
        return iter(self._buffers)

    def clear(self) -> None:
        """Keep none."""
        self._buffers.clear()

    def keep(self, buffer: bytearray) -> None:
        """Keep one for later; the oldest go where it is too much."""
        buffers = self._buffers
        if len(buffer) <= KEEP:
            buffers.append(buffer)
            self._idle = KEEP_FOR
            while len(buffers) > 32 or sum(map(len, buffers)) > KEEP:
                del buffers[0]

    def take(self, size: int) -> bytearray | None:
        """One of at least that size that nobody holds; it is kept no more."""
        for at, buffer in enumerate(self._buffers):
            if len(buffer) >= size and _is_free(buffer):
                return self._buffers.pop(at)
        return None

    def grow_old(self) -> None:
        """A chunk without a large frame has come."""
        self._idle -= 1
        if self._idle < 0:
            self._buffers.clear()


spare = of_process(Spare())


class FrameTooLarge(ValueError):
    """A frame's announced length is over the limit; the byte stream is unusable from here on."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a frame of {size} bytes is over the limit of {limit} bytes")
        self.size = size
        self.limit = limit


class FrameBuffer:
    """Cuts whole frames out of a byte stream that arrives in chunks of any size.

    Args:
        max_frame_size: bytes; a longer frame is refused.

    Attributes:
        on_control: is given each record; gives the frame that takes its place among the others, if any.  ``None``:
            there are no records.

    After :meth:`feed` has raised, the buffer must not be fed again.
    """

    __slots__ = ("_filled", "_part", "_total", "max_frame_size", "on_control")

    def __init__(self, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE) -> None:
        self.max_frame_size = max_frame_size
        self.on_control: Callable[[int, int, int, int], memoryview | None] | None = None
        # What has come of a frame that is not whole, its header first.  It grows as bytes come, by as much as
        # they are, however small the pieces; nothing is reserved for what a header merely announces.
        self._part = bytearray()
        # While :meth:`room` is used: the bytes of it that have come, and those of the whole frame with its header;
        # else 0.
        self._filled = 0
        self._total = 0

    @property
    def pending(self) -> int:
        """Bytes received that do not make a whole frame yet."""
        return self._filled or len(self._part)

    def missing(self) -> int:
        """Bytes still to come for the frame in progress; 0 when its length is not known yet."""
        if self._filled:
            return self._total - self._filled
        if len(self._part) < 4:
            return 0
        return self._length() - len(self._part)

    def _length(self) -> int:
        """Bytes of the frame or record in progress, whose header has come."""
        size: int = HEADER.unpack_from(self._part)[0]
        return CONTROL.size if self._is_control(size) else 4 + size

    def _is_control(self, size: int) -> bool:
        return size >= FIRST_CONTROL and self.on_control is not None and size > self.max_frame_size

    def room(self) -> memoryview | None:
        """Where to write what comes next of a large frame that has begun; ``None``: none has, :meth:`feed` it.

        No more than that frame fits in.  Let go of the view and call :meth:`wrote` before anything else.
        """
        if not self._filled:
            left = self.missing()
            if left < COPY_BELOW:
                return None
            self._filled = len(self._part)
            self._total = self._filled + left
            # The whole frame would be too much to ask for: nothing is reserved, only used if it is there.
            buffer = spare.take(self._total) or spare.take(self._filled + GROWTH)
            if buffer is not None:
                buffer[: self._filled] = self._part
                self._part = buffer
        if self._filled == len(self._part):
            more = min(self._total, max(2 * self._filled, self._filled + GROWTH)) - self._filled
            self._part += bytes(more)
        return memoryview(self._part)[self._filled : self._total]

    def wrote(self, n: int) -> list[bytes | memoryview]:
        """The first ``n`` bytes of :meth:`room` have come; the frame, if it is whole now."""
        self._filled += n
        if self._filled < self._total:
            return []
        whole, self._part = self._part, bytearray()
        total, self._filled, self._total = self._total, 0, 0
        spare.keep(whole)
        return [memoryview(whole)[4:total]]

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """Take a chunk; return the frames that it completes, in order, without their headers.

        Raises:
            FrameTooLarge: a header announces more than ``max_frame_size`` bytes.
        """
        whole: bytes | bytearray = data
        if spare:
            spare.grow_old()
        if self._filled:
            return self._feed_rest(data)
        if self._part:
            self._part += data
            if len(self._part) < 4 or self.missing() > 0:
                self._check_head()
                return []
            # Never touched again, so views of it stay good.
            whole, self._part = self._part, bytearray()
        frames: list[Any] = []
        view: memoryview | None = None
        pos = 0
        end = len(whole)
        limit = self.max_frame_size
        unpack = HEADER.unpack_from
        while (start := pos + 4) <= end:
            (size,) = unpack(whole, pos)
            if size > limit:
                if not self._is_control(size):
                    raise FrameTooLarge(size, limit)
                stop = pos + CONTROL.size
                if stop > end:
                    break
                assert self.on_control is not None
                frame = self.on_control(*CONTROL.unpack_from(whole, pos))
                if frame is not None:
                    frames.append(frame)
                pos = stop
                continue
            stop = start + size
            if stop > end:
                break
            if size < COPY_BELOW:
                frames.append(whole[start:stop])
            else:
                if view is None:
                    view = memoryview(whole)
                frames.append(view[start:stop])
            pos = stop
        if pos < end:
            self._part += memoryview(whole)[pos:]
        if whole is not data:
            # Those that were copied are of its type.
            frames = [bytes(one) if type(one) is bytearray else one for one in frames]
        return frames

    def _feed_rest(self, data: bytes) -> list[bytes | memoryview]:
        """As :meth:`feed`, behind what was written into :meth:`room`."""
        take = min(len(data), self.missing())
        self._part[self._filled : self._filled + take] = data[:take]
        frames = self.wrote(take)
        return frames + self.feed(data[take:]) if take < len(data) else frames

    def _check_head(self) -> None:
        """Refuse an oversized frame as soon as its header is whole."""
        if len(self._part) >= 4:
            size = self._length() - 4
            if size > self.max_frame_size:
                raise FrameTooLarge(size, self.max_frame_size)


def _is_free(buffer: bytearray) -> bool:
    """Whether nobody holds a view of it: its size can change."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
