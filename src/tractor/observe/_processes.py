"""What the system says of processes: for those that can't answer, and to tell one from a later one of its number."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

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
        start_time: in seconds since the boot; ``None``: unknown.
        age: seconds since its start.
        cpu_seconds: CPU time that it has used.
        rss: bytes that are resident; ``None``: unknown.
    """

    state: str
    ppid: int
    start_time: float | None
    age: float
    cpu_seconds: float
    rss: int | None


class Stray(NamedTuple):
    """A process that is an actor by its title or command line."""

    name: str
    pid: int


def has_proc() -> bool:
    """Whether this system tells of processes by files."""
    return ON_LINUX and os.path.exists("/proc/self/stat")


def can_tell() -> bool:
    """Whether anything tells of processes: ``/proc``, or psutil, where it is installed."""
    return has_proc() or importlib.util.find_spec("psutil") is not None


def facts_of(pids: Iterable[int]) -> dict[int, Facts]:
    """What is known of each; a process that is gone is not in it, nor is any where neither ``/proc`` nor psutil is."""
    if not has_proc():
        return _facts_by_psutil(pids)
    found: dict[int, Facts] = {}
    now = since_boot()
    for pid in pids if now is not None else ():
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


def _facts_by_psutil(pids: Iterable[int]) -> dict[int, Facts]:
    """As :func:`facts_of`, by psutil where it is installed."""
    try:
        psutil: Any = importlib.import_module("psutil")
    except ImportError:
        return {}
    found: dict[int, Facts] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            process = psutil.Process(pid)
            with process.oneshot():
                state = _STATES.get(process.status(), "run")
                times = _or_none(psutil, process.cpu_times)
                memory = _or_none(psutil, process.memory_info)
                found[pid] = Facts(
                    state=state,
                    ppid=process.ppid(),
                    # By another clock than that of an actor's own word.
                    start_time=None,
                    age=max(0.0, time.time() - process.create_time()),
                    cpu_seconds=0.0 if times is None else times.user + times.system,
                    rss=None if memory is None else memory.rss,
                )
    return found


_STATES = {"stopped": "stopped", "tracing-stop": "stopped", "zombie": "zombie", "dead": "zombie"}
"""psutil's words that are none for a process which runs or waits."""


def _or_none(psutil: Any, ask: Callable[[], Any]) -> Any:
    """What psutil says; ``None``: not of this process, as of a zombie."""
    try:
        return ask()
    except (psutil.Error, OSError):
        return None


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
