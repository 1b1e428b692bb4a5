"""Whether a process lives, told apart from a later one with the same number."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

from tractor.process._proc import ON_LINUX, ProcStat, look, proc_is_own, read_stat
from tractor.process._state import ProcessVar
from tractor.process.host._host_id import HostId, host_id, is_same_boot


class ProcessId(NamedTuple):
    """What identifies a process among those of all hosts, for good.

    Attributes:
        host: where its pid is one.
        pid: its process id.
        start_time: its :func:`process_start_time`; ``None``: not known.
    """

    host: HostId
    pid: int
    start_time: float | None

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """That of a process of this host, as it runs now."""
        return cls(host_id(), pid, process_start_time(pid))

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this host, which alone may look at it and send it signals."""
        return self.host == host_id()


def process_start_time(pid: int) -> float | None:
    """When the process started, in seconds after the machine's boot; on Linux, else ``None``.

    With the pid it identifies a process for good.  ``None`` also when there is no such process, and when this one is
    out of descriptors.
    """
    stat = _stat_or_none(pid)
    return stat.start_time if stat else None


def _stat_or_none(pid: int) -> ProcStat | None:
    """``None`` also where it can't be looked at."""
    try:
        return read_stat(pid) if ON_LINUX else None
    except OSError:
        return None


def pid_alive(pid: int, start_time: float | None = None) -> bool:
    """Whether the process runs.  A zombie does not.

    Where that can't be told, out of descriptors, it counts as running.

    Args:
        pid: A positive process id.
        start_time: What :func:`process_start_time` said of it; a later process that got the same
            pid is then not taken for it.
    """
    if pid <= 0:
        raise ValueError(f"a process id is positive, not {pid}")
    if ON_LINUX:
        try:
            stat = look(pid)
        except OSError:
            return _alive_without_a_look(pid)
        if stat is not None:
            return not stat.has_ended and start_time in (None, stat.start_time)
        if proc_is_own():
            return False
    return _alive_without_a_look(pid)


def still_runs(process: ProcessId) -> bool | None:
    """Whether a process runs that a record names; ``None``: that is another pid namespace's to know, or no host's.

    What ran before the machine was booted runs no more.
    """
    if process.is_here:
        return pid_alive(process.pid, process.start_time)
    return None if not process.host or is_same_boot(process.host) else False


_orders: ProcessVar[Callable[[int, float], int | None] | None] = ProcessVar(lambda: None)


def note_orders(orderer_of: Callable[[int, float], int | None] | None) -> None:
    """Say who ordered a process, by its pid and start time, where another one forks for all; ``None``: nobody does."""
    _orders.value = orderer_of


def _above(pid: int, stat: ProcStat) -> int:
    """The process that has forked this one, or has ordered that."""
    by = None if _orders.value is None else _orders.value(pid, stat.start_time)
    return stat.ppid if by is None else by


def is_below(process: ProcessId, ancestor: int) -> bool:
    """Whether a process that runs was forked by another one, or by one that was, as the kernel and the zygote say.

    ``False`` also where that can't be told: no Linux, another host, a parent between them that is dead.

    Args:
        process: the one below.
        ancestor: the other one's pid, on this host.
    """
    pid, start_time = process.pid, process.start_time
    if not process.is_here or pid <= 1 or start_time is None:
        return False
    stat = _stat_or_none(pid)
    if not stat or stat.start_time != start_time:
        return False
    # As deep as a tree of processes can reasonably be.
    for _ in range(1024):
        above = _above(pid, stat)
        if above == ancestor and above > 1:
            return True
        pid, stat = above, _stat_or_none(above) if above > 1 else None
        if not stat:
            return False
    return False


def kill_process(process: ProcessId) -> None:
    """Send SIGKILL to a process, and to no later one with its number.

    Does nothing when it is gone, is another user's, or one of another host.
    """
    if not process.is_here:
        return
    pid, start_time = process.pid, process.start_time
    try:
        fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    except OSError as exc:
        if exc.errno == errno.ESRCH:
            return
        fd = -1
    try:
        # Looked at with the descriptor open: what that means is the process meant.
        if not pid_alive(pid, start_time):
            return
        if fd >= 0:
            signal.pidfd_send_signal(fd, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        else:
            os.kill(pid, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if fd >= 0:
            os.close(fd)


def _alive_without_a_look(pid: int) -> bool:
    """What system calls tell that need no descriptor: all of an own child, of others not whether it is a zombie."""
    try:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None  # type: ignore[attr-defined, unused-ignore]
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
