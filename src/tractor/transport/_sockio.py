"""A connected stream socket as a :class:`~tractor.transport._contract.ByteIO`."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

import trio

from tractor.process._at_fork import close_in_child

RETRY_PAUSE = 0.01
"""Seconds until the next try to connect to a Unix socket whose queue of connections is full."""

MAX_BUFFERS = 64
"""Buffers handed to one ``sendmsg``; well below every platform's IOV_MAX."""


class SocketIO:
    """Non-blocking I/O on a connected socket that this object owns from now on."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        close_in_child(sock)

    @property
    def sock(self) -> socket.socket:
        """The socket; closed with this object."""
        return self._sock

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there; ``b''`` at the end; ``None`` when it would block.  Raises OSError."""
        try:
            return self._sock.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            return None

    def recv_into_nowait(self, room: memoryview) -> int | None:
        """Write what is there into ``room``; how much, 0 at the end, ``None`` when it would block.  Raises OSError."""
        try:
            return self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return None

    def send_nowait(self, buffers: list[bytes | bytearray | memoryview]) -> int:
        """Write a prefix of the joined buffers; the bytes taken, 0 when it would block.  Raises OSError."""
        try:
            if len(buffers) == 1:
                return self._sock.send(buffers[0])
            if not hasattr(self._sock, "sendmsg"):
                return self._sock.send(buffers[0])
            return self._sock.sendmsg(buffers[:MAX_BUFFERS])  # type: ignore[no-any-return, unused-ignore]
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("the socket was closed on this side")
        await trio.lowlevel.wait_readable(self._sock)

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("the socket was closed on this side")
        await trio.lowlevel.wait_writable(self._sock)

    def send_eof(self) -> None:
        """Close the sending half.  Raises OSError."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close at once; a task that waits on the socket gets trio.ClosedResourceError.  Idempotent."""
        if self._sock.fileno() >= 0:
            # Outside of a trio run (interpreter exit) nobody can be waiting.
            if trio.lowlevel.in_trio_run():
                trio.lowlevel.notify_closing(self._sock)
            # Of the connection, not of this descriptor: a process that was forked off may have inherited it.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()


async def connect_socket(family: int, address: Any) -> socket.socket:
    """A connected stream socket, non-blocking and close-on-exec.

    Raises:
        OSError: nothing accepts there.
    """
    if family == getattr(socket, "AF_UNIX", None):
        return await _connect_unix(address)
    with trio.socket.socket(family, socket.SOCK_STREAM) as sock:
        await sock.connect(address)
        return socket.socket(fileno=sock.detach())


async def _connect_unix(path: str) -> socket.socket:
    """Connect to a socket file; waits, as a blocking connect would, while the listener's queue is full.

    A non-blocking connect does not begin anything then (Linux: EAGAIN): waiting for the socket to become writable
    would take it for connected.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            await trio.lowlevel.checkpoint()
            try:
                sock.connect(path)
            except (BlockingIOError, InterruptedError):
                await trio.sleep(RETRY_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
