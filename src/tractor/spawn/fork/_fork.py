"""Forking in a thread that has no past: the child then has no trio run, no context and no frames of the parent."""

from __future__ import annotations

import contextlib
import contextvars
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator

from tractor.spawn._signal_help import note_forked_off_thread
from tractor.spawn.fork._reset import reset_process

FORK_TIMEOUT = 10.0
"""Seconds in which the forking thread must have told the child's pid."""

_PID = struct.Struct("<q")


def fork_from_worker_thread(
    child_target: Callable[[], int | None] | None = None,
    *,
    thread_name: str = "main-thread-fork",
    join_timeout: float = 10.0,
) -> int:
    """Fork this process in a fresh thread, which is the child's only and main thread.

    The child is not an actor, whatever this process is: it has default runtime vars and signal handlers, fresh standard
    streams and an empty context, none of the parent's exit handlers, and may call :func:`trio.run`.  It keeps every
    descriptor.  It ends with ``os._exit``: when ``child_target`` returns (status 0, or what it returns), exits (that
    status) or raises (1, with a traceback on stderr).

    Args:
        child_target: What the child runs; ``None``: nothing.
        thread_name: The thread's name, here.
        join_timeout: Seconds to wait for the child's pid, and then for the thread's end.

    Returns:
        The child's pid.  The caller is to reap it.

    Raises:
        RuntimeError: No pid came in time, or this interpreter can't fork; no process is left behind.
        OSError: The system call failed, or there are no descriptors left.
        NotImplementedError: This platform has no ``fork()``.
    """

    def child_main(mask: set[int]) -> int:
        reset_process(mask)
        status = None if child_target is None else child_target()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        return status or 0

    return fork_in_fresh_thread(child_main, thread_name, join_timeout)


def fork_in_fresh_thread(
    child_main: Callable[[set[int]], int],
    thread_name: str = "main-thread-fork",
    timeout: float = FORK_TIMEOUT,
) -> int:
    """Fork in a fresh thread and tell the child's pid.

    Args:
        child_main: What the child runs, in a fresh context, with every signal blocked; gets the signal mask of this
            thread.  Its result is the exit status.  It need not return.
        thread_name: The thread's name, here.
        timeout: Seconds to wait for the pid.

    Raises:
        RuntimeError, OSError, NotImplementedError: As :func:`fork_from_worker_thread`.
    """
    if not hasattr(os, "fork"):
        raise NotImplementedError(f"there is no fork() on {sys.platform!r}")
    fork = _Fork(child_main)
    thread = threading.Thread(target=fork.run, name=thread_name, daemon=True)
    try:
        thread.start()
    except BaseException:
        fork.close()
        raise
    try:
        pid = fork.wait(timeout)
    except BaseException:
        fork.abandon()
        raise
    thread.join(timeout)
    return pid


class _Fork:
    """One fork: the thread that does it, and the thread that waits for it."""

    def __init__(self, child_main: Callable[[set[int]], int]) -> None:
        self._child_main = child_main
        self._read_fd, self._write_fd = os.pipe()
        # Decides between a pid that is told and a caller that has given up.
        self._lock = threading.Lock()
        self._abandoned = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """In the worker thread."""
        if sys.platform == "win32":
            raise NotImplementedError
        # No handler of the parent's may run in the child, so no signal may arrive before they are reset.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = -1
        try:
            with _without_warning():
                pid = os.fork()
        except BaseException as exc:
            self._error = exc
        if pid == 0:
            _be_the_child(self._child_main, {*mask})
        with self._lock:
            if pid > 0 and self._abandoned:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            elif not self._abandoned:
                # Negative: there is an error instead.
                os.write(self._write_fd, _PID.pack(pid))
            os.close(self._write_fd)

    def wait(self, timeout: float) -> int:
        """In the calling thread: the child's pid.  Raises the fork's error, or RuntimeError."""
        if sys.platform == "win32":
            raise NotImplementedError
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise RuntimeError(
                f"the forking thread has not told a pid within {timeout} s: "
                "another thread may hold a lock that fork() waits for"
            )
        data = os.read(self._read_fd, _PID.size)
        os.close(self._read_fd)
        self._read_fd = -1
        pid: int = _PID.unpack(data)[0]
        if pid < 0:
            assert self._error is not None
            raise self._error
        return pid

    def abandon(self) -> None:
        """The caller takes no pid any more: whatever is forked, or was, is killed.  Idempotent."""
        with self._lock:
            self._abandoned = True
        if self._read_fd < 0:
            return
        os.set_blocking(self._read_fd, False)  # type: ignore[attr-defined, unused-ignore]
        with contextlib.suppress(BlockingIOError):
            # It came after all, too late.
            data = os.read(self._read_fd, _PID.size)
            if data and (pid := _PID.unpack(data)[0]) > 0:
                os.kill(pid, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
                os.waitpid(pid, 0)
        os.close(self._read_fd)
        self._read_fd = -1

    def close(self) -> None:
        """No thread was started."""
        os.close(self._read_fd)
        os.close(self._write_fd)


def _be_the_child(child_main: Callable[[set[int]], int], mask: set[int]) -> None:
    """Run the child, in its only thread; never returns."""
    status = 1
    note_forked_off_thread()
    try:
        status = contextvars.Context().run(child_main, mask)
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        os._exit(status & 0xFF)


@contextlib.contextmanager
def _without_warning() -> Iterator[None]:
    """Have no DeprecationWarning for fork() in a process with threads.

    Its point, that the child may wait for a lock whose holder it has not got, is answered by what :func:`reset_process`
    replaces.  The filter is for this module alone, and only while it forks.
    """
    before = list(warnings.filters)
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module=rf"{__name__.replace('.', '[.]')}$"
    )
    added = warnings.filters[0]
    try:
        yield
    finally:
        if added not in before and isinstance(warnings.filters, list):
            # Another thread may have put its own list in place meanwhile.
            with contextlib.suppress(ValueError):
                warnings.filters.remove(added)
