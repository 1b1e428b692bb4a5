"""Two rings as a :class:`~tractor.transport._contract.ByteIO`, beside the Unix socket that they were handed over by.

Both rings are in one piece of nameless memory.  It, the eventfds and the socket are held by nothing but the two
processes, so whichever way these end, nothing is left.  After the descriptors nothing travels over the socket: its end
is how either side learns that the other one is dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import trio

from tractor.shm.ring._ends import Buffer, ReadEnd, WriteEnd
from tractor.shm.ring._eventfd import eventfd_id
from tractor.shm.ring._fd_passing import recv_fds, send_fds
from tractor.shm.ring._memory import HEADER_SIZE, RingMemory

CAPACITY = 1 << 20
"""Bytes of each of a connection's two rings."""

MAX_CAPACITY = 1 << 26
"""Bytes; what is taken from a peer."""

_HELLO = struct.Struct("<8sQ")
_MAGIC = b"TRSHM\0\0\1"
_FDS = 5

_SEALS = 0
if sys.platform == "linux":
    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class RingIO:
    """Non-blocking I/O on a pair of rings that this object owns from now on.

    Args:
        sock: connected to the peer, owned by this object from now on.
        fds: the memory, then the eventfds of the first ring (announce, credit) and of the second; owned as well.
        capacity: bytes of each ring.
        first: this side writes into the first ring, not into the second.

    Raises:
        ValueError: the memory holds no such rings.
        OSError: it can't be mapped, or there are no descriptors left.
    """

    __slots__ = ("_close", "_in", "_out", "_sock")

    def __init__(self, sock: socket.socket, fds: list[int], capacity: int, first: bool) -> None:
        self._sock = sock
        memory_fd, *bells = fds
        with ExitStack() as undo:
            for fd in bells:
                undo.callback(os.close, fd)
            try:
                extra: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
                mapped = mmap.mmap(memory_fd, 2 * (HEADER_SIZE + capacity), **extra)
            finally:
                os.close(memory_fd)
            undo.callback(_unmap, mapped)
            with memoryview(mapped) as whole:
                rings = []
                for start in (0, HEADER_SIZE + capacity):
                    with whole[start : start + HEADER_SIZE + capacity] as part:
                        rings.append(RingMemory(part))
                    undo.callback(rings[-1].release)
            ends = [(rings[0], bells[0], bells[1]), (rings[1], bells[2], bells[3])]
            if not first:
                ends.reverse()
            self._out = WriteEnd(*ends[0], life=sock.fileno())
            undo.callback(self._out.close)
            self._in = ReadEnd(*ends[1], life=sock.fileno())
            undo.callback(self._in.close)
            self._close = undo.pop_all()

    @property
    def sock(self) -> socket.socket:
        """The socket beside the rings; closed with this object."""
        return self._sock

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there; ``b''`` at the end; ``None`` when it would block.  Raises OSError: the peer is dead."""
        self._require_open()
        return self._in.read(max_bytes)

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        """Write a prefix of the joined buffers; the bytes taken, 0 when it would block.  Raises OSError."""
        self._require_open()
        return self._out.write(buffers)

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        if not self._in.closed and self._in.is_ready():
            await trio.lowlevel.checkpoint()
        else:
            await self._in.bell.wait()

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``; OSError."""
        if not self._out.closed and self._out.is_ready():
            await trio.lowlevel.checkpoint()
        else:
            await self._out.bell.wait()

    def send_eof(self) -> None:
        """Close the sending half.  Raises nothing."""
        self._out.close()

    def close(self) -> None:
        """Close at once: the peer reads what was sent, then the end.  Idempotent."""
        # The rings say that this side has left before the socket says that it is gone.
        self._close.close()
        self._sock.close()

    def _require_open(self) -> None:
        if self._in.closed:
            raise OSError(errno.EBADF, "the rings were closed on this side")


def _unmap(mapped: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):
        mapped.close()


class PendingIO:
    """A connection whose rings have not come yet: nothing can be read or written."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """Raises OSError."""
        raise self._too_early()

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        """Raises OSError."""
        raise self._too_early()

    async def wait_readable(self) -> None:
        """Raises OSError; trio.ClosedResourceError after ``close``."""
        await trio.lowlevel.checkpoint()
        raise self._too_early()

    async def wait_writable(self) -> None:
        """Raises OSError; trio.ClosedResourceError after ``close``."""
        await trio.lowlevel.checkpoint()
        raise self._too_early()

    def send_eof(self) -> None:
        """Close the sending half.  Raises OSError."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close at once; a task that waits for the rings gets trio.ClosedResourceError.  Idempotent."""
        if self.sock.fileno() >= 0:
            if trio.lowlevel.in_trio_run():
                trio.lowlevel.notify_closing(self.sock)
            self.sock.close()

    def _too_early(self) -> Exception:
        if self.sock.fileno() < 0:
            return trio.ClosedResourceError("the connection was closed on this side")
        return OSError(errno.ENOTCONN, "the rings of this connection have not come yet")


async def offer_rings(sock: socket.socket, capacity: int = CAPACITY) -> RingIO:
    """Make the rings of a connection and hand them to the peer, which need not answer.

    Args:
        sock: connected and non-blocking; owned by the result, and left alone when this raises.
        capacity: bytes of each ring.

    Raises:
        OSError: out of memory or descriptors, or the peer has left.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    fds: list[int] = []
    try:
        fds.append(os.memfd_create("tractor-rings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        size = HEADER_SIZE + capacity
        os.ftruncate(fds[0], 2 * size)
        # Memory that a peer could take away would end this process by SIGBUS.
        fcntl.fcntl(fds[0], fcntl.F_ADD_SEALS, _SEALS)
        for _ in range(_FDS - 1):
            fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        with mmap.mmap(fds[0], 2 * size) as mapped, memoryview(mapped) as whole:
            for start in (0, size):
                with whole[start : start + size] as part:
                    RingMemory.format(part, capacity)
        await send_fds(sock, _HELLO.pack(_MAGIC, capacity), fds)
    except BaseException:
        _close_all(fds)
        raise
    return RingIO(sock, fds, capacity, first=True)


async def take_rings(sock: socket.socket) -> RingIO:
    """Receive the rings that the peer has made.

    Args:
        sock: connected and non-blocking; owned by the result, and left alone when this raises.

    Raises:
        OSError: the peer left, or sent something else.
        trio.ClosedResourceError: the socket was closed on this side.
    """
    hello, fds = await recv_fds(sock, _HELLO.size, _FDS)
    try:
        magic, capacity = _HELLO.unpack(hello)
        if magic != _MAGIC:
            raise ConnectionAbortedError("the peer does not speak of rings, or of another version")
        _check(fds, capacity)
    except BaseException:
        _close_all(fds)
        raise
    try:
        return RingIO(sock, fds, capacity, first=False)
    except (ValueError, RuntimeError) as exc:
        raise ConnectionAbortedError(f"the peer's rings can't be used: {exc}") from exc


def _check(fds: list[int], capacity: int) -> None:
    """Refuse what would make this process block or crash.  Raises OSError."""
    if sys.platform != "linux":
        raise NotImplementedError
    if not HEADER_SIZE <= capacity <= MAX_CAPACITY:
        raise ConnectionAbortedError(f"the peer's rings have {capacity} bytes")
    # Raises OSError (EINVAL) for what is no such memory.
    seals = fcntl.fcntl(fds[0], fcntl.F_GET_SEALS)
    if seals & _SEALS != _SEALS or os.fstat(fds[0]).st_size != 2 * (HEADER_SIZE + capacity):
        raise ConnectionAbortedError("the peer's rings could lose their memory")
    for fd in fds[1:]:
        try:
            eventfd_id(fd)
        except ValueError as exc:
            raise ConnectionAbortedError(str(exc)) from exc
        os.set_blocking(fd, False)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
