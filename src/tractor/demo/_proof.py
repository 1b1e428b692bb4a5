"""Checking what the demo claims: every file reported, the crash arrived, nobody is left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tractor.demo._cluster import CRASH_MESSAGE, Run
from tractor.process._stat import pid_alive
from tractor.reaping._table import process_table


def index_complaints(run: Run, files: int) -> list[str]:
    """What speaks against "each of the files was indexed exactly once"."""
    complaints = []
    if run.summary.files != files:
        complaints.append(f"{files} files were found, {run.summary.files} reported on")
    if run.returned != files:
        complaints.append(f"{files} files were found, the workers say that they did {run.returned}")
    return complaints


def crash_complaints(run: Run) -> list[str]:
    """What speaks against "the crash came back, boxed, and says who failed, how and why"."""
    error = run.crash
    if error is None:
        return ["a worker was told to crash, and no error came back"]
    complaints = []
    if error.src_uid != run.victim:
        complaints.append(f"{run.victim} was told to crash, the error names {error.src_uid}")
    if error.src_type is not None or "IndexerOnFire" not in error.src_type_str:
        complaints.append(
            f"the error is of type {error.src_type_str!r}, not of the unknown IndexerOnFire"
        )
    if CRASH_MESSAGE not in error.message:
        complaints.append(f"the error does not say why: {error.message!r}")
    if "crash_on_purpose" not in error.tb_str:
        complaints.append("the remote traceback does not show the line that failed")
    return complaints


def process_complaints(run: Run) -> list[str]:
    """What speaks against "no process is left": workers, also as zombies, and other children."""
    started = [*run.pids.items(), *run.act_pids.items()]
    complaints = [f"process {pid} ({name}) still exists" for name, pid in started if _exists(pid)]
    known = {pid for _, pid in started}
    complaints += [
        f"process {pid}, a child of this one, still exists"
        for pid in _children_of(os.getpid())
        if pid not in known
    ]
    return complaints


def _exists(pid: int) -> bool:
    """Whether there is a process of ours with this pid, be it a zombie."""
    if os.name != "posix":
        return pid_alive(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # the number is another user's by now
    return True


def _children_of(parent: int) -> Iterator[int]:
    """Pids of a process's children, where the platform tells."""
    # psutil is not installed.
    with contextlib.suppress(RuntimeError):
        yield from (p.pid for p in process_table().values() if p.ppid == parent)
