"""Waiting for the end of any process, own child or not, without reaping it."""

from __future__ import annotations

import trio

from tractor.process._sentinel_main import close_exit_fd, open_exit_fd
from tractor.process._stat import pid_alive

_POLL_FIRST, _POLL_MAX = 0.001, 0.02


class ExitWatch:
    """A descriptor that becomes readable when a process ends.

    A pidfd on Linux, a kqueue on macOS and the BSDs; where neither can be had it is polled.
    Opening one for a process that is already gone is not an error: :meth:`wait` then returns at once.

    Args:
        pid: The process to watch.  While it is an unreaped child of ours its number is not reused.
    """

    __slots__ = ("_fd", "_gone", "_kqueue", "_pid")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd: int | None = None
        self._gone = False
        self._kqueue: object = None
        try:
            fd, self._kqueue = open_exit_fd(pid)
            self._fd = fd if fd >= 0 else None
        except ProcessLookupError:
            self._gone = True
        except OSError:
            # No such system call, or no descriptor left: polling needs neither.
            self._fd = None

    async def wait(self) -> None:
        """Return when the process has ended.  One task at a time.

        Raises:
            trio.ClosedResourceError: The watch was closed.
            trio.BusyResourceError: Another task waits.
        """
        if self._gone:
            await trio.lowlevel.checkpoint()
        elif self._fd is not None:
            await trio.lowlevel.wait_readable(self._fd)
        else:
            pause = _POLL_FIRST
            await trio.lowlevel.checkpoint()
            while pid_alive(self._pid):
                await trio.sleep(pause)
                pause = min(pause * 2, _POLL_MAX)
        self._gone = True

    def close(self) -> None:
        """Free the descriptor.  Idempotent; a waiting task gets ``ClosedResourceError``."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        trio.lowlevel.notify_closing(fd)
        queue, self._kqueue = self._kqueue, None
        close_exit_fd(fd, queue)
