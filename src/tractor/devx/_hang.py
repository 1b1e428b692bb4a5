"""For hangs below trio: what every thread does, written by a watchdog that needs neither the loop nor the GIL."""

from __future__ import annotations

import faulthandler
import os
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tractor._util._frames import thread_frame
from tractor.process._state import ProcessVar, of_process


@dataclass(frozen=True)
class _Watch:
    deadline: float
    fd: int

    @property
    def pending(self) -> bool:
        """Whether nothing was written yet, and it is not too late for the interpreter's watchdog to do it."""
        return self.deadline > time.monotonic() and os.fstat(self.fd).st_size == 0


_watches: list[_Watch] = of_process([])
"""Those of the blocks that are open; the watchdog of the interpreter serves one, the first that is due."""

_lock = ProcessVar(threading.Lock)

GIL_LIMIT = 2.0
"""Seconds after which the GIL counts as held.  Only then are stacks read without it: reading those of threads that run
can crash the process."""


@contextmanager
def dump_on_hang(
    seconds: float = 30.0, *, path: str = "/tmp/tractor_hang.dump", all_threads: bool = True
) -> Iterator[str]:
    """Write the stacks of this process's threads to a file if the block takes longer than ``seconds``.

    The block goes on; nothing is raised or stopped.  Works also while C code holds the GIL, two seconds later and,
    of nested blocks, for the first one that is due.  While one is open, the interpreter's one watchdog is taken:
    ``faulthandler.dump_traceback_later()`` that was called before is off.

    Args:
        seconds: how long the block may take.
        path: the file, which is replaced; it is a file and not a stream, because stderr may be what hangs.
        all_threads: the stacks of all threads; else only of the one that runs the block, and never while C code
            holds the GIL.

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
        with _timer(seconds, fd, None if all_threads else threading.get_ident()):
            if all_threads:
                with _watchdog(seconds + GIL_LIMIT, fd):
                    yield path
            else:
                yield path
    finally:
        state = os.fstat(fd)
        os.close(fd)
        # What is no plain file, as /dev/stderr, is not this program's to remove.
        if stat.S_ISREG(state.st_mode) and state.st_size == 0:
            # Another process may have removed its own, which was the same: there was nothing in it.
            with suppress(OSError):
                os.unlink(path)


@contextmanager
def _timer(seconds: float, fd: int, ident: int | None) -> Iterator[None]:
    """Have a thread write the stacks while it holds the GIL: of the thread ``ident``, or of all."""

    def write() -> None:
        # Nothing lets go of the GIL before all stacks are read, so they are of one moment.
        if ident is None:
            faulthandler.dump_traceback(file=fd)
            with _lock.value:
                _rearm()
            return
        stack = "".join(traceback.format_stack(thread_frame(ident)))
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


@contextmanager
def _watchdog(seconds: float, fd: int) -> Iterator[None]:
    """Have the interpreter's own thread write the stacks of all, unless they have been by then."""
    watch = _Watch(time.monotonic() + seconds, fd)
    with _lock.value:
        _watches.append(watch)
        _rearm()
    try:
        yield
    finally:
        with _lock.value:
            _watches.remove(watch)
            _rearm()


def _rearm() -> None:
    """Point the watchdog at the block that is due first."""
    faulthandler.cancel_dump_traceback_later()
    pending = [watch for watch in _watches if watch.pending]
    if pending:
        first = min(pending, key=lambda watch: watch.deadline)
        left = max(first.deadline - time.monotonic(), 0.001)
        faulthandler.dump_traceback_later(left, file=first.fd)
