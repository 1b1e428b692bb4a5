"""``tractor top``: this user's actors on a full screen."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tractor._util.dist._name import pip_install
from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.cli.watch._common import look_at, places_options, seconds
from tractor.control._client import runtime_dirs
from tractor.observe._finding import LIMIT

INTERVAL = 1.0


def main(argv: Sequence[str], prog: str) -> int:
    """Show this user's actors, again and again.

    Args:
        argv: an actor, and options.
        prog: for messages.

    Returns:
        0; 1: the library is missing, or this is no terminal; 128 and the number of a signal that ended it.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return fail(
            f"{prog}: --host has no screen there; run `ssh -t HOST tractor top`, or `tractor ps --watch --host NAME`"
        )
    if importlib.util.find_spec("textual") is None:
        return fail(
            f"{prog}: it needs textual (`{pip_install('top')}`); `tractor ps --watch` needs nothing"
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return fail(f"{prog}: this is no terminal; `tractor ps --watch` needs none")
    from tractor.cli.watch._top_app import Top

    dirs = runtime_dirs(map(Path, options.runtime_dir))
    return Top(partial(look_at, options), options.actor, options.interval, dirs).show()


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog, description="Show your actors on this host on a full screen; `?` tells the keys."
    )
    made.add_argument("actor", nargs="?", metavar="ACTOR", help="it and all below it")
    made.add_argument(
        "--interval",
        type=seconds,
        default=INTERVAL,
        metavar="SECONDS",
        help=f"between two looks (default: {INTERVAL:g})",
    )
    made.add_argument(
        "--limit",
        type=seconds,
        default=LIMIT,
        metavar="SECONDS",
        help=f"for how long to wait for answers (default: {LIMIT:g})",
    )
    places_options(made)
    return made
