"""Processes below this one that use a whole CPU."""

from __future__ import annotations

import contextlib
import os
import time

from tractor.process._proc import read_stat
from tractor.reaping._strays import find_descendants

BUSY = 0.95
"""The share of a CPU above which a process counts as one that runs away."""

SAMPLE = 0.2
"""Seconds over which the use of the CPU is measured."""


def find_runaway_subactors(
    parent: int | None = None, *, threshold: float = BUSY, sample: float = SAMPLE
) -> list[tuple[int, float]]:
    """The descendants of a process that keep a CPU busy.  Blocks while it measures.

    Args:
        parent: a process id; default: this process.
        threshold: the share of one CPU that is too much.
        sample: seconds over which it is measured.

    Returns:
        Process ids, each with its share of a CPU: 1.0 is one whole.
    """
    pids = [int(pid) for pid in find_descendants(os.getpid() if parent is None else parent)]
    if not pids:
        return []
    began, used = time.monotonic(), cpu_seconds(pids)
    time.sleep(sample)
    spent, now = time.monotonic() - began, cpu_seconds(pids)
    shares = ((pid, (now[pid] - used[pid]) / spent) for pid in pids if pid in now and pid in used)
    return [(pid, share) for pid, share in shares if share > threshold]


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """The CPU time, in seconds, that each process has used; those that are gone are left out."""
    used = {}
    for pid in pids:
        if os.path.exists("/proc/self/stat"):
            with contextlib.suppress(OSError):
                used[pid] = read_stat(pid).cpu_seconds
            continue
        import psutil

        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            used[pid] = times.user + times.system
    return used
