"""Descriptors handed to another process over a Unix socket (``SCM_RIGHTS``)."""

from __future__ import annotations

import array
import os
import socket
import sys
from collections.abc import Sequence

import trio


async def send_fds(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send bytes, and descriptors with the first of them; the own ones stay open.

    Args:
        sock: connected and non-blocking; nothing else is being sent.
        data: at least one byte.
        fds: open here.

    Raises:
        OSError: the peer is gone, or a descriptor is not open.
        trio.ClosedResourceError: the socket was closed on this side meanwhile.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    await trio.lowlevel.checkpoint_if_cancelled()
    while True:
        try:
            sent = sock.sendmsg([data], rights)
        except (BlockingIOError, InterruptedError):
            await trio.lowlevel.wait_writable(sock)
            continue
        data, rights = data[sent:], []
        if not data:
            return


async def recv_fds(sock: socket.socket, size: int, count: int) -> tuple[bytes, list[int]]:
    """Receive a message of a known size, and the descriptors that came with it.

    Args:
        sock: connected and non-blocking.
        size: bytes of the message; what follows stays in the socket.
        count: how many descriptors there are to be.

    Returns:
        The message and the descriptors, which are now this process's to close; none is inherited by programs that it
        starts.

    Raises:
        ConnectionAbortedError: the peer has sent another number of descriptors; those that came were closed.
        ConnectionResetError: the peer left within the message.
        OSError: the connection broke.
        trio.ClosedResourceError: the socket was closed on this side meanwhile.
    """
    got = b""
    fds: list[int] = []
    try:
        while len(got) < size:
            await trio.lowlevel.wait_readable(sock)
            part, fresh = _recv(sock, size - len(got), count)
            fds += fresh
            if part is None:
                continue
            if not part:
                raise ConnectionResetError("the peer left before it had sent its descriptors")
            got += part
        if len(fds) != count:
            raise ConnectionAbortedError(f"the peer has sent {len(fds)} descriptors, not {count}")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return got, fds


def _recv(sock: socket.socket, size: int, count: int) -> tuple[bytes | None, list[int]]:
    """One read; ``None`` for bytes when there was nothing to read after all."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    room = socket.CMSG_SPACE(count * array.array("i").itemsize)  # type: ignore[attr-defined, unused-ignore]
    try:
        part, control, seen, _ = sock.recvmsg(size, room, flags)  # type: ignore[attr-defined, unused-ignore]
    except (BlockingIOError, InterruptedError):
        return None, []
    fds: list[int] = []
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):  # type: ignore[attr-defined, unused-ignore]
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            fds.extend(numbers)
    if seen & socket.MSG_CTRUNC:
        # The kernel has closed those that there was no room for.
        for fd in fds:
            os.close(fd)
        raise ConnectionAbortedError(f"the peer has sent more descriptors, not {count}")
    if not flags:
        for fd in fds:
            os.set_inheritable(fd, False)
    return part, fds
