"""What the system says of processes: for those that can't answer, and to tell one from a later one of its number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from tractor.process._proc import (
    ON_LINUX,
    ProcStat,
    read_proc,
    read_stat,
    since_boot,
)
from tractor.reaping._actors import actor_name, is_actor
from tractor.reaping._table import process_table


class Facts(NamedTuple):
    """A process.

    Attributes:
        state: ``'run'``, ``'stopped'`` or ``'zombie'``.
        ppid: its parent's pid.
        start_time: in seconds since the boot.
        age: seconds since its start.
        cpu_seconds: CPU time that it has used.
        rss: bytes that are resident; ``None``: unknown.
    """

    state: str
    ppid: int
    start_time: float
    age: float
    cpu_seconds: float
    rss: int | None


class Stray(NamedTuple):
    """A process that is an actor by its title or command line."""

    name: str
    pid: int


def facts_of(pids: Iterable[int]) -> dict[int, Facts]:
    """What is known of each; a process that is gone, and all where there is no ``/proc``, are not in it."""
    found: dict[int, Facts] = {}
    now = since_boot()
    for pid in pids if ON_LINUX and now is not None else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = read_stat(pid)
            found[pid] = Facts(
                state=_state(stat),
                ppid=stat.ppid,
                start_time=stat.start_time,
                age=max(0.0, (now or 0.0) - stat.start_time),
                cpu_seconds=stat.cpu_seconds,
                rss=stat.resident_bytes,
            )
    return found


def _state(stat: ProcStat) -> str:
    if stat.has_ended:
        return "zombie"
    return "stopped" if stat.fields[0] in (b"T", b"t") else "run"


def strays() -> list[Stray]:
    """The processes of this user that look like subactors; none where that can't be told."""
    try:
        table = process_table()
    except (OSError, RuntimeError):
        return []
    return [Stray(actor_name(one), one.pid) for one in table.values() if is_actor(one)]


def proportional_bytes(pid: int) -> int | None:
    """The resident memory, what several processes share counted in parts; ``None``: nothing tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = read_proc(pid, "smaps_rollup").partition(b"\nPss:")[2]
        return int(text.split(maxsplit=1)[0]) * 1024
    return None
