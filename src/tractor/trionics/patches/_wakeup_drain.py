"""``WakeupSocketpair.drain()`` of trio never returns at the end of its stream.

The drain reads until ``BlockingIOError``.  When all copies of the writing end have been closed,
as happens to a run whose descriptors were closed under it around a fork, ``recv()`` gives ``b""``
at once, for ever: the whole run spins there, and neither a cancellation nor a deadline is looked at
again.  The fix ends the drain at ``b""``.  Such a run still polls its dead pair, but between other
tasks, so it can be cancelled and end.

The drain also asks for a buffer of 64 KiB.  Where that is not to be had, ``MemoryError`` ends the task that runs the
callbacks of other threads, and the run waits for ever at its end.  The fix asks for a few bytes, which is what
the pair holds, and leaves what it can't read for the next time.

:func:`apply` changes trio's class, which is for processes that are ours; :func:`apply_to_this_run` changes one run
alone, which is what a root may do to the run it is opened in.
"""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import Any, Final

from trio._core import _run, _wakeup_socketpair

NAME: Final = "wakeup_socketpair_drain"

READS_BEFORE_GIVING_UP = 8

READ: Final = 64
"""Bytes; trio sets the pair's buffers so small that it never holds many more."""

_marker = "_tractor_drain_ends"


class _Spinning(Exception):
    """The drain went on reading after the end of the stream."""


class _CountedReads:
    """A socket's reading side that gives up on a reader that does not stop at the end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._empty_reads = 0

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        if not data:
            self._empty_reads += 1
            if self._empty_reads >= READS_BEFORE_GIVING_UP:
                raise _Spinning
        return data


def _pair_class() -> Any:
    """trio's class, or ``None`` if this trio has none with a drain that we know."""
    cls = getattr(_wakeup_socketpair, "WakeupSocketpair", None)
    return cls if cls is not None and hasattr(cls, "drain") else None


def repro() -> bool:
    """Drain a pair whose writing end is closed: ``True`` if that would never end."""
    cls = _pair_class()
    if cls is None:
        return False
    try:
        reading, writing = socket.socketpair()
    except OSError:
        # No descriptors left: nothing can be said, and this must not be what fails.
        return False
    try:
        reading.setblocking(False)
        writing.close()
        pair = cls.__new__(cls)
        pair.wakeup_sock = _CountedReads(reading)
        pair.drain()
    except _Spinning:
        return True
    except Exception:
        # Another implementation, of which this probe can say nothing.
        return False
    finally:
        reading.close()
        writing.close()
    return False


def is_needed() -> bool:
    """Whether the bug shows."""
    return repro()


def _drain(self: Any) -> None:
    _read_all(self.wakeup_sock)


def _read_all(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError, MemoryError):
        while sock.recv(READ):
            pass


def apply() -> None:
    """Replace the drain by one that ends; idempotent."""
    cls = _pair_class()
    if cls is not None and not hasattr(cls, _marker):
        setattr(cls, _marker, True)
        cls.drain = _drain


def apply_to_this_run() -> None:
    """Replace the drain of the trio run that this task is in, and of no other; idempotent.

    An implementation that is not known is left alone.
    """
    runner = getattr(getattr(_run, "GLOBAL_RUN_CONTEXT", None), "runner", None)
    pair = getattr(getattr(runner, "entry_queue", None), "wakeup", None)
    cls = _pair_class()
    if cls is not None and isinstance(pair, cls) and not hasattr(cls, _marker):
        # The socket, not the pair: a pair that held itself would need a collection to go.
        pair.drain = partial(_read_all, pair.wakeup_sock)
