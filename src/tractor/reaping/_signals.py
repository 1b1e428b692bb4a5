"""Ending processes: asked first, then by force, and never a later process with the same number."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator

from tractor.reaping._table import ProcessInfo, read_process

KILL_TIMEOUT = 2.0
"""Seconds that the kernel may take to end a killed process."""


def reap(
    pids: Iterable[int], *, grace: float = 3.0, poll: float = 0.25
) -> tuple[list[int], list[int]]:
    """End processes: SIGINT, then after ``grace`` SIGKILL.

    Afterwards each has ended, or is among those killed and stuck in the kernel (`find_descendants` or
    ``os.kill(pid, 0)`` then still find it).  Returns as soon as all have ended.  Own children are not waited for:
    they stay zombies until whoever started them does.

    Args:
        pids: process ids.  Those that `find_descendants` and `find_orphans` return know when their
            process started; of a plain number the process is meant that has it now.
        grace: seconds between the two signals.
        poll: seconds between two looks, where the system does not tell of a process's end.

    Returns:
        The pids that got SIGINT, and those of them that needed SIGKILL.  Processes that had
        ended already are in neither.

    Raises:
        ValueError: a pid is not above 1 or is this process; ``grace`` is negative, ``poll`` is not
            positive, or one of them is not finite.  Nothing was done.
        PermissionError: a process belongs to another user.  Nothing was done.
        NotImplementedError: on Windows.
        RuntimeError: neither on Linux nor is ``psutil`` installed.
    """
    if sys.platform == "win32":
        raise NotImplementedError("processes are asked to end by signals, which Windows has not")
    if not (math.isfinite(grace) and grace >= 0):
        raise ValueError(f"`grace` is a number of seconds from 0 on, not {grace!r}")
    if not (math.isfinite(poll) and poll > 0):
        raise ValueError(f"`poll` is a positive number of seconds, not {poll!r}")
    wanted = list(dict.fromkeys(pids))
    for pid in wanted:
        if pid <= 1 or pid == os.getpid():
            raise ValueError(f"process {pid} is not one to reap: give pids above 1, not your own")
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(Target(pid)) for pid in wanted]
        targets = [target for target in found if target.is_there]
        for target in targets:
            if not target.is_own:
                raise PermissionError(f"process {target.pid} belongs to another user")
        signalled = [target for target in targets if target.send(signal.SIGINT)]
        left = _wait(signalled, grace, poll)
        killed = [target for target in left if target.send(signal.SIGKILL)]
        _wait(killed, KILL_TIMEOUT, poll)
    return [target.pid for target in signalled], [target.pid for target in killed]


def survivors(pids: Iterable[int]) -> list[int]:
    """Those processes that run; ids with a start time stand for that very process."""
    found = []
    for pid in pids:
        with Target(pid) as target:
            if target.is_there:
                found.append(pid)
    return found


class Target:
    """One process, held by a pidfd where there are such, else by its start time."""

    def __init__(self, pid: int) -> None:
        self.pid = int(pid)
        self.fd: int | None = None
        with contextlib.suppress(OSError):
            if hasattr(os, "pidfd_open"):
                self.fd = os.pidfd_open(self.pid)
        # Looked at with the pidfd open: from here on it can't be another process's.
        self._seen = read_process(self.pid)
        self._start_time: float | None = getattr(pid, "start_time", None)
        if self._start_time is None and self._seen is not None:
            self._start_time = self._seen.start_time

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    @property
    def is_there(self) -> bool:
        """Whether it was the process meant, and alive, when it was opened."""
        return self._is_meant(self._seen)

    @property
    def is_own(self) -> bool:
        return self._seen is not None and self._seen.is_own

    def _is_meant(self, process: ProcessInfo | None) -> bool:
        return (
            process is not None and not process.is_zombie and process.start_time == self._start_time
        )

    def has_ended(self) -> bool:
        """Whether it has ended by now, as a look at it tells."""
        return not self._is_meant(read_process(self.pid))

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; false if the process has ended."""
        try:
            if self.fd is not None and sys.platform == "linux":
                signal.pidfd_send_signal(self.fd, number)
            elif self.has_ended():
                return False
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def _wait(targets: list[Target], timeout: float, poll: float) -> list[Target]:
    """Wait until all have ended; returns those that have not within *timeout* seconds."""
    deadline = time.monotonic() + timeout
    left = targets
    for _ in _looks(targets, deadline, poll):
        left = [target for target in left if not target.has_ended()]
        if not left or time.monotonic() >= deadline:
            break
    return left


def _looks(targets: list[Target], deadline: float, poll: float) -> Iterator[None]:
    """Yield when it is time to look again: at once, whenever one of them ends, every *poll* seconds."""
    if sys.platform == "win32":
        raise NotImplementedError
    poller = select.poll()
    waiting = {target.fd for target in targets if target.fd is not None}
    for fd in waiting:
        poller.register(fd, select.POLLIN)
    while True:
        yield
        left = max(0.0, min(poll, deadline - time.monotonic()))
        # A readable pidfd stays so: it has done its part.
        for fd, _ in poller.poll(math.ceil(left * 1000)):
            poller.unregister(fd)
