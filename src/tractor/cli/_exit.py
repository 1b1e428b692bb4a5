"""How a command says that it has failed."""

from __future__ import annotations

import sys

EXIT_FAILED = 1


def fail(text: str) -> int:
    """Print the reason; returns the exit code."""
    print(text, file=sys.stderr)
    return EXIT_FAILED
