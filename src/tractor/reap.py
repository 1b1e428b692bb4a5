"""``tractor-reap`` and ``python -m tractor.reap``: the same as ``tractor reap``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tractor.cli._reap import main as reap

__all__ = ["main"]

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments as on the command line; default: those of this process.

    Returns:
        The exit code: see `tractor.cli._reap.main`; 130 after ctrl-c.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    try:
        return reap(sys.argv[1:] if argv is None else argv, "tractor-reap")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
