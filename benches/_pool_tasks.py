"""What the workers of every pool run.  Light: each of them imports it."""

from __future__ import annotations

import time

from tractor.demo import FileReport, index_file

__all__ = ["atiny", "index_lines", "spin", "spin_or_fail", "tiny"]


def tiny(x: int) -> int:
    """As little as there is."""
    return x + 1


async def atiny(x: int) -> int:
    """The same as an async function."""
    return x + 1


def index_lines(path: str) -> int:
    """Index a file; the number of its lines."""
    report: FileReport = index_file(path)
    return report.lines


def spin(seconds: float) -> None:
    """Compute for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def spin_or_fail(seconds: float) -> None:
    """Compute for so long; a negative time: for so long, and then fail."""
    spin(abs(seconds))
    if seconds < 0:
        raise ValueError("on purpose")
