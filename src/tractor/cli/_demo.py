"""``tractor demo``: the same as ``python -m tractor.demo``."""

from __future__ import annotations

from collections.abc import Sequence

from tractor.demo.__main__ import main as run_demo
from tractor.demo.__main__ import parser as parser


def main(argv: Sequence[str], prog: str) -> int:
    """Run the demo.

    Args:
        argv: the demo's arguments.
        prog: not used; the demo names itself.

    Returns:
        The demo's exit code.

    Raises:
        SystemExit: as from the demo: wrong arguments, or ``--help``.
    """
    return run_demo(argv)
