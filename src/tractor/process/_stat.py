"""Whether a process lives, told apart from a later one with the same number."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TypeAlias

OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Numbers of errors that tell of this process or machine, never of what was to be looked at."""

ProcessId: TypeAlias = tuple[int, float | None]
"""A pid and its :func:`process_start_time`."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _stat_fields(pid: int) -> list[bytes] | None:
    """``/proc/<pid>/stat`` from its third field, the state, on; ``None`` if there is no process.

    Raises:
        OSError: it could not be looked at, which says nothing about the process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name, in parentheses and with anything inside.
            return file.read().rpartition(b")")[2].split()
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        return None


def has_ended(fields: list[bytes]) -> bool:
    """Whether a process is a zombie, by its ``stat`` from the third field on.

    The state is that of the main thread.  While other threads run, the process does, and holds what it has open.
    """
    return fields[0] in (b"Z", b"X") and int(fields[17]) <= 1


def seconds_since_boot(fields: list[bytes]) -> float:
    """When a process started, by its ``stat`` from the third field on."""
    return int(fields[19]) / _TICKS


def process_start_time(pid: int) -> float | None:
    """When the process started, in seconds after the machine's boot; on Linux, else ``None``.

    With the pid it identifies a process for good.  ``None`` also when there is no such process, and when this one is
    out of descriptors.
    """
    fields = _fields_or_none(pid)
    return seconds_since_boot(fields) if fields else None


def _fields_or_none(pid: int) -> list[bytes] | None:
    """As :func:`_stat_fields`; ``None`` also where it can't be looked at."""
    if sys.platform != "linux":
        return None
    try:
        return _stat_fields(pid)
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
    if sys.platform == "linux":
        try:
            fields = _stat_fields(pid)
        except OSError:
            return _alive_without_a_look(pid)
        if fields is not None:
            return not has_ended(fields) and (
                start_time is None or seconds_since_boot(fields) == start_time
            )
        if os.path.exists("/proc/self/stat"):
            return False
    return _alive_without_a_look(pid)


def is_below(process: ProcessId, ancestor: int) -> bool:
    """Whether a process that runs was forked by another one, or by one that was, as the kernel says.

    ``False`` also where that can't be told: no Linux, another pid namespace, a parent between them that is dead.

    Args:
        process: the one below.
        ancestor: the other one's pid.
    """
    pid, start_time = process
    if pid <= 1 or start_time is None:
        return False
    fields = _fields_or_none(pid)
    if not fields or seconds_since_boot(fields) != start_time:
        return False
    # As deep as a tree of processes can reasonably be.
    for _ in range(1024):
        above = int(fields[1])
        if above == ancestor and above > 1:
            return True
        fields = _fields_or_none(above) if above > 1 else None
        if not fields:
            return False
    return False


def kill_process(pid: int, start_time: float | None) -> None:
    """Send SIGKILL to a process, and to no later one with its number.

    Does nothing when it is gone, or is another user's.
    """
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
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if fd >= 0:
            os.close(fd)


def _alive_without_a_look(pid: int) -> bool:
    """What system calls tell that need no descriptor: all of an own child, of others not whether it is a zombie."""
    try:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
