"""The terminal's settings, to be put back when somebody has died while editing a line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from tractor.runtime._vars import runtime_vars

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]


@dataclass(frozen=True)
class TerminalState:
    """What `stty` shows of the terminal on stdin."""

    fd: int
    attributes: list[Any]

    @classmethod
    def save(cls) -> TerminalState | None:
        """The settings now; ``None`` where stdin is not a terminal."""
        if termios is None:
            return None
        try:
            fd = sys.__stdin__.fileno()  # type: ignore[union-attr, unused-ignore]
            return cls(fd, termios.tcgetattr(fd))  # type: ignore[attr-defined, unused-ignore]
        except (AttributeError, OSError, ValueError, termios.error):  # type: ignore[attr-defined, unused-ignore]
            return None

    def restore(self) -> None:
        """Put them back, where they differ.  Does nothing where the terminal is gone; stops no background process."""
        with contextlib.suppress(OSError, termios.error):  # type: ignore[attr-defined, unused-ignore]
            if termios.tcgetattr(self.fd) == self.attributes:  # type: ignore[attr-defined, unused-ignore]
                return
            # A background process that changes its terminal is stopped, unless it blocks this signal.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # type: ignore[attr-defined, unused-ignore]
            try:
                termios.tcsetattr(self.fd, termios.TCSANOW, self.attributes)  # type: ignore[attr-defined, unused-ignore]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)  # type: ignore[attr-defined, unused-ignore]


def has_terminal() -> bool:
    """Whether stdin is a terminal, at which somebody may be; the root's counts, where that is on another host."""
    try:
        return runtime_vars()._terminal_elsewhere or os.isatty(0)
    except OSError:
        return False


def wants_colors(stdout: Any) -> bool:
    """Whether to colour what is printed: not on request (``PYTHON_COLORS``, ``NO_COLOR``), and only on a terminal."""
    asked = os.environ.get("PYTHON_COLORS")
    if asked in ("0", "1"):
        return asked == "1"
    try:
        return not os.environ.get("NO_COLOR") and bool(stdout.isatty())
    except (AttributeError, OSError, ValueError):
        return False
