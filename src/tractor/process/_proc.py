"""What ``/proc`` tells of processes, on Linux.

The sentinel's program reads it by itself (:mod:`tractor.process.sentinel._sentinel_main`): it imports nothing of the
package.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import time
from typing import NamedTuple

ON_LINUX = sys.platform == "linux"

OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Numbers of errors that tell of this process or machine, never of what was to be looked at."""

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class ProcStat(NamedTuple):
    """``/proc/<pid>/stat``, taken apart."""

    comm: bytes
    """The program's short name."""
    fields: list[bytes]
    """From the third field on, the state."""

    @property
    def has_ended(self) -> bool:
        """Whether the process is a zombie.

        The state is that of the main thread.  While other threads run, the process does, and holds what it has open.
        """
        return self.fields[0] in (b"Z", b"X") and int(self.fields[17]) <= 1

    @property
    def ppid(self) -> int:
        """The parent's pid."""
        return int(self.fields[1])

    @property
    def start_time(self) -> float:
        """Seconds after the machine's boot."""
        return int(self.fields[19]) / _TICKS

    @property
    def resident_bytes(self) -> int:
        """The memory of the process that is resident."""
        return int(self.fields[21]) * _PAGE

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that the process has used."""
        return (int(self.fields[11]) + int(self.fields[12])) / _TICKS


def proc_is_own() -> bool:
    """Whether there is a ``/proc``, and its numbers are those of this process's pid namespace.

    In a new namespace that has none mounted yet they are another's: what is read there is of other processes than
    those that a signal would reach.
    """
    try:
        return _is_own()
    except OSError as exc:
        return exc.errno in OUT_OF_RESOURCES


@functools.cache
def _is_own() -> bool:
    return os.readlink("/proc/self") == str(os.getpid())


if hasattr(os, "register_at_fork"):
    # What is forked off may be in another namespace. This module also runs where nothing but the standard library is.
    os.register_at_fork(after_in_child=_is_own.cache_clear)


def _require_own() -> None:
    if not proc_is_own():
        raise FileNotFoundError(errno.ENOENT, "no /proc of this pid namespace is mounted", "/proc")


def all_pids() -> list[int]:
    """The processes that can be seen.  Raises OSError where there is no ``/proc`` of this pid namespace."""
    _require_own()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def read_proc(pid: int, name: str) -> bytes:
    """A file of a process's folder.  Raises OSError: it can't be read, or there is no such process (any more)."""
    _require_own()
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def read_stat(pid: int) -> ProcStat:
    """A process's ``stat``.  Raises OSError as :func:`read_proc`."""
    # The name stands in parentheses, with anything inside.
    head, _, tail = read_proc(pid, "stat").rpartition(b")")
    return ProcStat(head.partition(b"(")[2], tail.split())


def since_boot() -> float | None:
    """Seconds since the machine's boot, comparable with a start time; ``None``: not on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if ON_LINUX else None  # type: ignore[attr-defined, unused-ignore]


def resident_bytes(pid: int) -> int | None:
    """The memory of a process that is resident; ``None`` where nothing tells."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(read_proc(pid, "statm").split()[1]) * _PAGE
    return None


def look(pid: int) -> ProcStat | None:
    """A process's ``stat``; ``None`` if there is no process.

    Raises:
        OSError: it could not be looked at, which says nothing about the process.
    """
    try:
        return read_stat(pid)
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        return None


def expects_signal(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal that would end it else; ``False`` where nothing tells."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        mask = read_proc(pid, "status").partition(b"\nSigCgt:")[2].split(maxsplit=1)[0]
        return bool(int(mask, 16) >> (number - 1) & 1)
    return False
