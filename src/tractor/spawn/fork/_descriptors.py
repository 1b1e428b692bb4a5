"""Closing what a forked child has inherited, without leaving its numbers to others.

Objects of the parent live on in the child, and think that they own descriptors.  Each may come to its end at any time,
and then closes a number; so does a library that finds itself in another process and drops its connections.  A number
that was simply closed would mean something else by then: a socket or a pipe that the child has opened itself.

So each number is made void: a descriptor that can be closed, and with which every other call fails as with one that is
closed (``O_PATH``; where there is none, one that cannot be written to and holds no data).  Who closes it frees the
number.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import socket
import sys
from collections.abc import Collection

_SHARE = 4
"""At most one in so many of the numbers that this process may use is left taken."""

_kept_alive: list[object] = []
"""What must not be finalized, because the numbers that it may own are free."""


def close_descriptors(keep: Collection[int]) -> None:
    """Close every descriptor but 0, 1, 2 and those to keep.

    Afterwards no object of the parent can close, by its end or by its ``close()``, a descriptor that is opened later:
    its number stays taken until then.  Where this took more than a quarter of the numbers that there are, files and
    sockets are closed through their objects first, which frees the numbers.  Where it still did, all are freed, and
    every object that the garbage collector knows is kept alive: then its end, at least, can't come.

    Args:
        keep: Descriptors that this process is to use.
    """
    kept = {0, 1, 2, *keep}
    stale = _open_descriptors() - kept
    room = _limit() // _SHARE
    if len(stale) <= room:
        _make_void(stale)
        return
    objects = _all_objects()
    _close_owners(objects, stale)
    stale = _open_descriptors() - kept
    if len(stale) <= room:
        _make_void(stale)
    else:
        _kept_alive.append(objects)
        _close(stale)


def _make_void(stale: set[int]) -> None:
    try:
        void = os.open(os.devnull, getattr(os, "O_PATH", os.O_RDONLY))
    except OSError:
        # No null device, or no descriptor left in the whole system.
        _kept_alive.append(_all_objects())
        _close(stale)
        return
    # Its number is that by which the folder of descriptors was read, which is not open any more.
    for fd in stale - {void}:
        try:
            os.dup2(void, fd, inheritable=False)
        except OSError:
            # Above a limit that was lowered: nobody else gets this number.
            _close([fd])
    os.close(void)


def _all_objects() -> list[object]:
    # What is frozen, as all is that this process has inherited from one that was forked itself, is not told.
    gc.unfreeze()
    objects = gc.get_objects()
    gc.freeze()
    return objects


def _close_owners(objects: list[object], stale: Collection[int]) -> None:
    # By their types, and by the methods of those: a proxy is not asked what it stands for, nothing is flushed.
    for file in [obj for obj in objects if issubclass(type(obj), io.FileIO)]:
        with contextlib.suppress(Exception):
            if io.FileIO.fileno(file) in stale:  # type: ignore[arg-type]
                io.FileIO.close(file)  # type: ignore[arg-type]
    for sock in [obj for obj in objects if issubclass(type(obj), socket.SocketType)]:
        with contextlib.suppress(Exception):
            if socket.SocketType.fileno(sock) in stale:  # type: ignore[arg-type]
                socket.SocketType.close(sock)  # type: ignore[arg-type]


def _close(fds: Collection[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _limit() -> int:
    """How many numbers a descriptor can have."""
    if sys.platform == "win32":
        raise NotImplementedError
    return os.sysconf("SC_OPEN_MAX")


def _open_descriptors() -> set[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return {int(name) for name in os.listdir(folder)}
    return {fd for fd in range(_limit()) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
