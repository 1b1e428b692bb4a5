"""Which trio run the calling code belongs to: a process may have several, one for each thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")

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


class OfRun(Generic[T]):
    """What each trio run has one of: an earlier run's is never found.

    Args:
        name: for people.
        make: makes one, when it is first asked for.
    """

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._make = make
        self._var: trio.lowlevel.RunVar[T] = trio.lowlevel.RunVar(name)

    def get(self) -> T:
        """This run's.  Raises RuntimeError outside of one."""
        try:
            return self._var.get()
        except LookupError:
            made = self._make()
            self._var.set(made)
            return made
