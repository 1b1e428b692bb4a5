"""An in-memory transport pair, for tests of everything above the wire."""

from __future__ import annotations

from typing import ClassVar

import trio

from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.address._types import TCPAddress
from tractor.transport._stream import MsgpackTransport

CAPACITY = 262_144
"""Bytes that one direction holds before writes would block."""


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.broken = False
        self.changed = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        self.changed.unpark_all()


class MemoryIO:
    """One end of a bidirectional byte pipe in memory."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._in = incoming
        self._out = outgoing
        self._closed = False

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there; ``b''`` at the end; ``None`` when it would block.  Raises OSError."""
        if self._in.broken:
            raise ConnectionResetError("the memory pipe was broken")
        data = bytes(self._in.data[:max_bytes])
        if not data:
            return b"" if self._in.ended else None
        del self._in.data[:max_bytes]
        self._in.wake()
        return data

    def send_nowait(self, buffers: list[bytes | bytearray | memoryview]) -> int:
        """Write a prefix of the joined buffers; the bytes taken, 0 when it would block.  Raises OSError."""
        if self._out.ended or self._out.broken:
            raise BrokenPipeError("the other end of the memory pipe is closed")
        taken = 0
        for buffer in buffers:
            room = CAPACITY - len(self._out.data)
            part = buffer[:room]
            self._out.data += part
            taken += len(part)
            if len(part) < len(buffer):
                break
        self._out.wake()
        return taken

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        pipe = self._in
        await trio.lowlevel.checkpoint()
        while not (pipe.data or pipe.ended or pipe.broken or self._closed):
            await pipe.changed.park()
        if self._closed:
            raise trio.ClosedResourceError("this end of the memory pipe is closed")

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        pipe = self._out
        await trio.lowlevel.checkpoint()
        while not (len(pipe.data) < CAPACITY or pipe.ended or pipe.broken or self._closed):
            await pipe.changed.park()
        if self._closed:
            raise trio.ClosedResourceError("this end of the memory pipe is closed")

    def send_eof(self) -> None:
        """Close the sending half."""
        self._out.ended = True
        self._out.wake()

    def break_both(self) -> None:
        """Break the pipe as a reset would; for fault tests."""
        for pipe in (self._in, self._out):
            pipe.broken = True
            pipe.wake()

    def close(self) -> None:
        """Close at once; the peer reads what was sent, then the end.  Idempotent."""
        self._closed = True
        self._out.ended = True
        self._in.ended = True
        self._out.wake()
        self._in.wake()


class MemoryTransport(MsgpackTransport):
    """msgpack over memory."""

    address_type: ClassVar[type[TCPAddress]] = TCPAddress
    in_memory = True


def memory_pair(
    max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two transports, connected to each other."""
    there, back = _Pipe(), _Pipe()
    a, b = TCPAddress("127.0.0.1", 1), TCPAddress("127.0.0.1", 2)
    return (
        MemoryTransport(MemoryIO(back, there), a, b, max_frame_size=max_frame_size),
        MemoryTransport(MemoryIO(there, back), b, a, max_frame_size=max_frame_size),
    )
