"""Whether a process lives, told apart from a later one with the same number."""

from __future__ import annotations

import os
import sys

__all__ = ["pid_alive", "process_start_time"]

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _stat_fields(pid: int) -> list[bytes] | None:
    """``/proc/<pid>/stat`` from its third field, the state, on; ``None`` if there is no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name, in parentheses and with anything inside.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def process_start_time(pid: int) -> float | None:
    """When the process started, in seconds after the machine's boot; on Linux, else ``None``.

    With the pid it identifies a process for good.  ``None`` also when there is no such process.
    """
    if sys.platform != "linux":
        return None
    fields = _stat_fields(pid)
    return int(fields[19]) / _TICKS if fields else None


def pid_alive(pid: int, start_time: float | None = None) -> bool:
    """Whether the process runs.  A zombie does not.

    Args:
        pid: A positive process id.
        start_time: What :func:`process_start_time` said of it; a later process that got the same
            pid is then not taken for it.
    """
    if pid <= 0:
        raise ValueError(f"a process id is positive, not {pid}")
    if sys.platform == "linux":
        fields = _stat_fields(pid)
        if fields is not None:
            if fields[0] in (b"Z", b"X"):
                return False
            return start_time is None or int(fields[19]) / _TICKS == start_time
        if os.path.exists("/proc/self/stat"):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
