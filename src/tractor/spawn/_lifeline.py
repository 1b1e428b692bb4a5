"""The child's watch on its parent, which a blocked event loop cannot miss."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable

from tractor._proto.deadlines import LEAVE_AFTER
from tractor.process._stat import ProcessId
from tractor.process.sentinel._sentinel_main import ProcessWatch
from tractor.spawn._boot import release_all_lifelines

_RELEASE_INTERVAL = 0.1


class Lifeline:
    """Watches the processes above this one from a daemon thread.

    The parent's end of the boot pipe sends a byte when it has lost its own parent, and closes when it dies.  A parent
    that is stopped, or whose threads all wait for the GIL, can't pass a loss on: those above it are therefore
    watched, too.

    On loss, in this order: the lifelines of the own subactors are released, so that all levels of
    a tree run in parallel; ``on_lost`` is called; after ``grace`` the process is left by force,
    unless it ended by itself before.

    Args:
        fd: The boot pipe's read end, after the boot record was read.  Owned by the lifeline.
        on_lost: Called once, in the watching thread.  What it raises is dropped.
        grace: Seconds between the loss and the forced exit.
        exit_code: Status of the forced exit.
        last_words: Called right before the forced exit.  What it raises is dropped.
        above: The processes above this one, in any order; see :func:`~tractor.process._ancestry.ancestry`.
    """

    def __init__(
        self,
        fd: int,
        on_lost: Callable[[], None],
        grace: float = LEAVE_AFTER,
        *,
        exit_code: int = 1,
        last_words: Callable[[], None] | None = None,
        above: Iterable[ProcessId] = (),
    ) -> None:
        self._fd = fd
        self._on_lost = on_lost
        self._grace = grace
        self._exit_code = exit_code
        self._last_words = last_words
        # Decides between a loss and a stop() that come together: the first to take it wins.
        self._lock = threading.Lock()
        self._lost = False
        self._stopped = False
        # A byte wakes the thread: what user code has forked off may hold the write end, too.
        self._wake_r, self._wake_w = os.pipe()
        self._above = [ProcessWatch(one.pid, one.start_time) for one in above]
        self._thread = threading.Thread(target=self._watch, name="tractor-lifeline", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._close_watches()
            raise

    @property
    def lost(self) -> bool:
        """Whether the parent is known to be gone."""
        return self._lost

    def stop(self) -> None:
        """End the watch and close its descriptors.  Idempotent.

        After a loss this does nothing: the forced exit stays armed, so that a hang on the way out
        ends too.
        """
        with self._lock:
            if self._lost or self._stopped:
                return
            self._stopped = True
            # With the lock held: the thread closes this end as soon as it knows.
            os.write(self._wake_w, b"\0")
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Signals are the main thread's: one taken here would not interrupt its system calls.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # type: ignore[attr-defined, unused-ignore]
        self._wait_for_end()
        with self._lock:
            if not self._stopped:
                self._lost = True
        if not self._lost:
            for fd in (self._wake_r, self._wake_w, self._fd):
                os.close(fd)
            self._close_watches()
            return
        release_all_lifelines()
        deadline = time.monotonic() + self._grace
        with contextlib.suppress(Exception):
            self._on_lost()
        while (left := deadline - time.monotonic()) > 0:
            # Again and again, for a start that was under way when the parent was lost.
            release_all_lifelines()
            time.sleep(min(left, _RELEASE_INTERVAL))
        if self._last_words is not None:
            with contextlib.suppress(Exception):
                self._last_words()
        os._exit(self._exit_code)

    def _wait_for_end(self) -> None:
        """Return when a process above has ended, when the pipe tells of it, or when woken by :meth:`stop`."""
        poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
        poll.register(self._fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        poll.register(self._wake_r, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        for watch in self._above:
            if watch.gone():
                return
            # One without a descriptor is left to the pipes, which its end goes down by.
            if watch.fd >= 0:
                poll.register(watch.fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        # Whatever the pipe has to say, it is the end: a byte, the end of file, or that it can't be read.
        poll.poll()

    def _close_watches(self) -> None:
        for watch in self._above:
            watch.close()
