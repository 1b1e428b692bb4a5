"""Waiting for the end of any process, own child or not, without reaping it."""

from __future__ import annotations

import trio

from tractor.process._at_fork import close_in_child
from tractor.process._stat import pid_alive
from tractor.process.sentinel._sentinel_main import close_exit_fd, open_exit_fd

_POLL_FIRST, _POLL_MAX = 0.001, 0.02


class ExitWatch:
    """A descriptor that becomes readable when a process ends.

    A pidfd on Linux, a kqueue on macOS and the BSDs; where neither can be had it is polled.
    Opening one for a process that is already gone is not an error: :meth:`wait` then returns at once.

    Args:
        pid: The process to watch.  While it is an unreaped child of ours its number is not reused.
    """

    __slots__ = ("_exit", "_gone", "_pid")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._exit: _ExitFd | None = None
        self._gone = False
        try:
            fd, queue = open_exit_fd(pid)
            if fd >= 0:
                self._exit = _ExitFd(fd, queue)
        except ProcessLookupError:
            self._gone = True
        except OSError:
            # No such system call, or no descriptor left: polling needs neither.
            pass

    async def wait(self) -> None:
        """Return when the process has ended.  One task at a time.

        Raises:
            trio.ClosedResourceError: The watch was closed.
            trio.BusyResourceError: Another task waits.
        """
        if self._gone:
            await trio.lowlevel.checkpoint()
        elif self._exit is not None:
            await trio.lowlevel.wait_readable(self._exit.fd)
        else:
            pause = _POLL_FIRST
            await trio.lowlevel.checkpoint()
            while pid_alive(self._pid):
                await trio.sleep(pause)
                pause = min(pause * 2, _POLL_MAX)
        self._gone = True

    def close(self) -> None:
        """Free the descriptor.  Idempotent; a waiting task gets ``ClosedResourceError``."""
        exit_fd, self._exit = self._exit, None
        if exit_fd is not None:
            trio.lowlevel.notify_closing(exit_fd.fd)
            exit_fd.close()


class _ExitFd:
    """What :func:`open_exit_fd` gives.  In a forked-off process it is closed without a word to the parent's loop."""

    __slots__ = ("__weakref__", "_queue", "fd")

    def __init__(self, fd: int, queue: object) -> None:
        self.fd = fd
        self._queue = queue
        close_in_child(self)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close_exit_fd(fd, self._queue)
