"""A progress bar on a terminal, a few lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

BAR_WIDTH = 32
REDRAW_INTERVAL = 0.1
"""Seconds between two drawings of the bar."""

LINE_STEP = 20
"""Percent between two lines where there is no terminal."""

_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """How far a count is.

    Args:
        total: the count at the end, at least 1.
        out: where to write; a bar if it is a terminal.
        clock: seconds, of any origin.
    """

    def __init__(
        self, total: int, out: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._out = out
        self._clock = clock
        self._on_terminal = out.isatty()
        self._began = clock()
        self._drawn_at: float | None = None
        self._percent_shown = 0

    def show(self, done: int) -> None:
        """Tell of ``done`` of ``total``; most calls write nothing."""
        percent = 100 * done // self._total
        if self._on_terminal:
            now = self._clock()
            if (
                done < self._total
                and self._drawn_at is not None
                and now - self._drawn_at < REDRAW_INTERVAL
            ):
                return
            self._drawn_at = now
            full = BAR_WIDTH * done // self._total
            bar = "#" * full + "." * (BAR_WIDTH - full)
            self._write(f"{_CLEAR_LINE}[{bar}] {percent:3}%  {self._figures(done)}")
        elif percent // LINE_STEP > self._percent_shown // LINE_STEP:
            self._percent_shown = percent
            self._write(f"{percent:3}%  {self._figures(done)}\n")

    def close(self) -> None:
        """Remove the bar, so that whatever is printed next has a line of its own."""
        if self._on_terminal and self._drawn_at is not None:
            self._write(_CLEAR_LINE)

    def _figures(self, done: int) -> str:
        elapsed = self._clock() - self._began
        rate = f"{done / elapsed:.0f} files/s" if elapsed > 0 else ""
        return f"{done}/{self._total} files  {rate}".rstrip()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
