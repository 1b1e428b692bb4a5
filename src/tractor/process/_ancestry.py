"""The processes above this one, up to the tree's root: the end of any of them is the end of this one."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tractor.process._at_fork import on_fork
from tractor.process._stat import ProcessId, pid_alive, process_start_time
from tractor.process._state import of_process

MAX_KEPT = 32
"""Processes, the nearest ones; a boot record has room for these.  Those further up are lost by way of these."""

_above: list[ProcessId] = of_process([])


def set_ancestry(above: Iterable[ProcessId], server_pid: int | None = None) -> None:
    """Note which processes are above this one, root first, parent last; once, in a child.

    If the parent can't be seen here the numbers mean nothing (another pid namespace), and none is kept.

    Args:
        above: The actors above this one.
        server_pid: A process of the parent's that has forked this one: its end is the end of this one, too.
    """
    found = list(above)
    _above[:] = found if found and pid_alive(*found[-1]) else []
    if _above and server_pid is not None and server_pid > 1:
        # Before the parent, which stays the last.
        _above.insert(-1, (server_pid, process_start_time(server_pid)))


def ancestry() -> list[ProcessId]:
    """The processes above this one, root first, parent last; none in a root."""
    # A sub-interpreter's parent is its own process.
    return [one for one in _above if one[0] != os.getpid()]


def lineage() -> list[ProcessId]:
    """The processes above a child of this one: :func:`ancestry` and this process."""
    pid = os.getpid()
    return [*ancestry(), (pid, process_start_time(pid))][-MAX_KEPT:]


# What user code forks off is not part of the tree.
on_fork(_above.clear, always=True)
