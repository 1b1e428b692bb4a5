"""Which trio run the calling code belongs to: a process may have several, one for each thread."""

from __future__ import annotations

from typing import Any

import trio

Run = trio.lowlevel.TrioToken
"""What stands for a run."""


def current_run() -> Run | None:
    """The run of this thread; in a worker thread of trio's that of the task that waits for it; else ``None``."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    # Private, and the only place where trio keeps it.
    data: Any = getattr(trio._threads, "PARENT_TASK_DATA", None)
    token: Run | None = getattr(data, "token", None)
    return token


def is_over(run: Run) -> bool:
    """Whether a run has ended."""
    try:
        run.run_sync_soon(_nothing)
    except (trio.RunFinishedError, OSError):
        # Or it has crashed, or was abandoned, and its wake-up socket is closed.
        return True
    return False


def _nothing() -> None:
    pass
