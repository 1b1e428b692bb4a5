"""For hangs below trio: what every thread does, written by a watchdog that needs neither the loop nor the GIL."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

__all__ = ["dump_on_hang"]


@dataclass(frozen=True)
class _Watch:
    deadline: float
    fd: int


_watches: list[_Watch] = []
"""Those of the blocks that are open; the watchdog of the interpreter serves one, the first that is due."""

_lock = threading.Lock()

TURN_TIME = 0.05
"""Seconds that the watchdog has for writing."""


@contextmanager
def dump_on_hang(
    seconds: float = 30.0, *, path: str = "/tmp/tractor_hang.dump", all_threads: bool = True
) -> Iterator[str]:
    """Write the stacks of this process's threads to a file if the block takes longer than ``seconds``.

    The block goes on; nothing is raised or stopped.  Works also while C code holds the GIL; of nested blocks the first
    one that is due does.  While one is open, the interpreter's one watchdog is taken:
    ``faulthandler.dump_traceback_later()`` that was called before is off.

    Args:
        seconds: how long the block may take.
        path: the file, which is replaced; it is a file and not a stream, because stderr may be what hangs.
        all_threads: the stacks of all threads; else only of the one that runs the block, which a Python thread
            writes, so that it takes the GIL.

    Yields:
        The path.  Afterwards the file is there if, and only if, something was written.

    Raises:
        ValueError: ``seconds`` is not positive.
        OSError: the file can't be written, or is a link.
    """
    if seconds <= 0:
        raise ValueError(f"a block can't be given {seconds} seconds: the time must be positive")
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with _watchdog(seconds, fd) if all_threads else _timer(seconds, fd):
            yield path
    finally:
        empty = os.fstat(fd).st_size == 0
        os.close(fd)
        if empty:
            # Another process may have removed its own, which was the same: there was nothing in it.
            with suppress(OSError):
                os.unlink(path)


@contextmanager
def _watchdog(seconds: float, fd: int) -> Iterator[None]:
    watch = _Watch(time.monotonic() + seconds, fd)
    with _lock:
        _watches.append(watch)
        _rearm()
    try:
        yield
    finally:
        with _lock:
            _watches.remove(watch)
            _rearm()


def _rearm() -> None:
    """Point the watchdog at the block that is due first, and write what became due while it served another."""
    faulthandler.cancel_dump_traceback_later()
    now = time.monotonic()
    for watch in _watches:
        if watch.deadline <= now and os.fstat(watch.fd).st_size == 0:
            faulthandler.dump_traceback(file=watch.fd)
    pending = [watch for watch in _watches if watch.deadline > now]
    if pending:
        first = min(pending, key=lambda watch: watch.deadline)
        left = max(first.deadline - now, 0.001)
        faulthandler.dump_traceback_later(left, file=first.fd)
        if len(pending) > 1:
            # Then it is the next one's turn, also if no block ends meanwhile.
            _turn.restart(left + TURN_TIME)
            return
    _turn.restart(None)


class _Turn:
    """Points the watchdog at the next block in line when the first one has been written."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def restart(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._next)
            self._timer.daemon = True
            self._timer.start()

    def _next(self) -> None:
        with _lock:
            if self._timer is threading.current_thread():
                _rearm()


_turn = _Turn()


@contextmanager
def _timer(seconds: float, fd: int) -> Iterator[None]:
    ident = threading.get_ident()

    def write() -> None:
        stack = "".join(traceback.format_stack(sys._current_frames().get(ident)))
        os.write(
            fd, f"Timeout ({seconds} s)!\nThread {ident:#x}:\n{stack}".encode(errors="replace")
        )

    timer = threading.Timer(seconds, write)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # It may be writing just now, to a descriptor that is closed next.
        timer.join()
