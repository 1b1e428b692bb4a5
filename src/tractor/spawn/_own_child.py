"""A process that was started, and waiting for its end."""

from __future__ import annotations

from typing import Protocol

import trio

from tractor.process._exit_watch import ExitWatch

_STATUS_POLL = 0.001
"""Seconds between looks for the status of a process that has ended."""


class ExitSource(Protocol):
    """A started process, whoever its parent is."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``), or ``None`` while it runs."""

    async def wait(self) -> int:
        """Wait for the end; any number of tasks may."""

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""

    def close(self) -> None:
        """Free descriptors.  Idempotent."""


class OwnChild:
    """Waiting for a direct child of this process: without a thread, and so that it can be cancelled.

    Subclasses say how it is reaped.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._watch: ExitWatch | None = None
        # Only one task at a time may wait on the watch's descriptor.
        self._wait_lock = trio.Lock()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    def poll(self) -> int | None:
        """Reap the process if it has ended; its exit status, ``None`` while it runs."""
        raise NotImplementedError

    async def wait(self) -> int:
        """Wait for the process's end, reap it, return its exit status.  Any number of tasks may."""
        async with self._wait_lock:
            status = self.poll()
            if status is None:
                if self._watch is None:
                    self._watch = ExitWatch(self._pid)
                await self._watch.wait()
            while (status := self.poll()) is None:
                # The kernel may report the end an instant before the status can be had.
                await trio.sleep(_STATUS_POLL)
            self._close_watch()
        return status

    def close(self) -> None:
        """Free descriptors.  Idempotent."""
        self._close_watch()

    def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
