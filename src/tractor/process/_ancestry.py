"""The processes above this one, up to the tree's root: the end of any of them is the end of this one."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tractor.process._at_fork import on_fork
from tractor.process._stat import ProcessId, pid_alive
from tractor.process._state import of_process

MAX_KEPT = 32
"""Processes, the nearest ones; a boot record has room for these.  Those further up are lost by way of these."""

_above: list[ProcessId] = of_process([])


def set_ancestry(above: Iterable[ProcessId], server_pid: int | None = None) -> None:
    """Note which processes are above this one, root first, parent last; once, in a child.

    If the parent is a process of this host and can't be seen the numbers mean nothing, and none is kept.

    Args:
        above: The actors above this one.
        server_pid: A process of the parent's that has forked this one: its end is the end of this one, too.
    """
    found = list(above)
    parent = found[-1] if found else None
    if parent is not None and parent.is_here and not pid_alive(parent.pid, parent.start_time):
        found = []
    _above[:] = found
    if _above and server_pid is not None and server_pid > 1:
        # Before the parent, which stays the last.
        _above.insert(-1, ProcessId.of(server_pid))


def ancestry() -> list[ProcessId]:
    """Those processes above this one that are on this host, root first, parent last; none in a root."""
    # A sub-interpreter's parent is its own process.
    return [one for one in _above if one.is_here and one.pid != os.getpid()]


def lineage() -> list[ProcessId]:
    """The processes above a child of this one, on all hosts, root first, this one last."""
    own = ProcessId.of(os.getpid())
    return [*(one for one in _above if one[:2] != own[:2]), own][-MAX_KEPT:]


# What user code forks off is not part of the tree.
on_fork(_above.clear, always=True)
