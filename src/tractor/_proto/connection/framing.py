"""Frames: a 4-byte little-endian unsigned length, then that many bytes of msgpack.

Pure: bytes in, whole frames out.  The length is checked against the maximum before anything is kept for it, so
a peer that lies about a length costs its own connection and no memory.
"""

from __future__ import annotations

import struct
from typing import Any

HEADER = struct.Struct("<I")
DEFAULT_MAX_FRAME_SIZE = 2**30
"""Bytes; the bound for one message on the wire, both ways."""

COPY_BELOW = 65_536
"""Frames smaller than this are copied out of their chunk, so that a small message kept for long does not keep a
whole chunk alive; larger ones are views."""


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

    After :meth:`feed` has raised, the buffer must not be fed again.
    """

    __slots__ = ("_part", "max_frame_size")

    def __init__(self, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE) -> None:
        self.max_frame_size = max_frame_size
        # What has come of a frame that is not whole, its header first.  It grows as bytes come, by as much as
        # they are, however small the pieces; nothing is reserved for what a header merely announces.
        self._part = bytearray()

    @property
    def pending(self) -> int:
        """Bytes received that do not make a whole frame yet."""
        return len(self._part)

    def missing(self) -> int:
        """Bytes still to come for the frame in progress; 0 when its length is not known yet."""
        if len(self._part) < 4:
            return 0
        size: int = HEADER.unpack_from(self._part)[0]
        return 4 + size - len(self._part)

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """Take a chunk; return the frames that it completes, in order, without their headers.

        Raises:
            FrameTooLarge: a header announces more than ``max_frame_size`` bytes.
        """
        whole: bytes | bytearray = data
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
                raise FrameTooLarge(size, limit)
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

    def _check_head(self) -> None:
        """Refuse an oversized frame as soon as its header is whole."""
        if len(self._part) >= 4:
            size = self.missing() + len(self._part) - 4
            if size > self.max_frame_size:
                raise FrameTooLarge(size, self.max_frame_size)
