"""Where processes run: the kernel's choice can double the figure of a round trip."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["on_one_cpu"]


@contextmanager
def on_one_cpu(wanted: bool = True) -> Iterator[None]:
    """Keep this process, and those that it starts, on one CPU for the length of the block.

    For work that only ever waits for the other side: there a second CPU gains little, and whether two processes
    share one changes from moment to moment.  Without effect where CPUs can't be chosen.
    """
    if not wanted or sys.platform != "linux":
        yield
        return
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
