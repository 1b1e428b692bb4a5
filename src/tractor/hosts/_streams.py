"""Frames over trio's streams: one at a time in, and out in their order."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

import trio

from tractor.hosts._frames import Decoder, Frame, FrameError

CHUNK = 256 * 1024
"""Bytes that are read at a time."""


class LinkError(Exception):
    """A link can't be used, or not any more; the text says why."""


class Outbox:
    """Frames on their way out, in their order; what is urgent comes before what else waits."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._urgent = bytearray()
        self._waiting: deque[bytes] = deque()
        self._there = trio.Event()
        self.size = 0
        """Bytes that wait, beside urgent ones."""

    def put(self, data: bytes, urgent: bool = False) -> None:
        """Have a frame sent."""
        if urgent:
            self._urgent += data
        else:
            self._waiting.append(data)
            self.size += len(data)
        self._there.set()

    async def run(self) -> None:
        """Send until the stream is broken."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._there.wait()
                self._there = trio.Event()
                while self._urgent or self._waiting:
                    await self._stream.send_all(self._next())

    def _next(self) -> bytes:
        if self._urgent:
            data = bytes(self._urgent)
            self._urgent.clear()
        else:
            data = self._waiting.popleft()
            self.size -= len(data)
        return data


class Incoming:
    """Frames of a stream, behind what start-up files may have printed."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()

    async def skip_to(self, line: bytes) -> None:
        """Read up to the end of a line.  Raises LinkError."""
        seen = bytearray()
        while line not in seen:
            seen += await self._some()
            if len(seen) > CHUNK:
                raise LinkError(f"no agent answers there, but {bytes(seen[:200])!r}…")
        self._feed(bytes(seen).partition(line)[2])

    async def next(self) -> Frame:
        """The next frame.  Raises LinkError at the end, or where something else comes."""
        while not self._frames:
            self._feed(await self._some())
        return self._frames.popleft()

    async def _some(self) -> bytes:
        try:
            data = await self._stream.receive_some(CHUNK)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise LinkError(f"the link broke: {exc}") from exc
        if not data:
            raise LinkError("the link has ended")
        return bytes(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._frames += self._decoder.feed(data)
        except FrameError as exc:
            raise LinkError(f"what came over the link is no frame: {exc}") from exc
