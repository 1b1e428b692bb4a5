"""``tractor dash``: a page about this user's actors, for a browser."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from tractor._util.dist._name import pip_install
from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.cli.watch._common import quiet_pipe, seconds
from tractor.control._client import runtime_dirs
from tractor.observe._finding import LIMIT

EXIT_INTERRUPTED = 130
NEEDED = ("starlette", "hypercorn")


def main(argv: Sequence[str], prog: str) -> int:
    """Serve the page until ctrl-c.

    Args:
        argv: an actor, and options.
        prog: for messages.

    Returns:
        1: a library is missing, or the port can't be had; else 128 and the number of the signal that ended it.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return fail(
            f"{prog}: it needs {' and '.join(missing)} (`{pip_install('dash')}`); `tractor ps --watch` needs nothing"
        )
    from tractor.observe.page._serve import Dash

    dirs = runtime_dirs(map(Path, options.runtime_dir))
    try:
        dash = Dash(dirs, options.actor, options.port, options.control, options.limit)
    except OSError as exc:
        return fail(f"{prog}: port {options.port} can't be had: {exc}; --port 0 takes a free one")
    keys = sys.stdin.isatty() and sys.stdout.isatty()
    if keys:
        what = "looks and acts" if options.control else "only looks"
        print(f"This page {what}. Its address is good once; enter gives another, ctrl-c ends it.")
    with quiet_pipe():
        number = trio.run(
            partial(dash.run, say=partial(print, flush=True), open_it=options.open, keys=keys)
        )
        return EXIT_INTERRUPTED if number == signal.SIGINT else 128 + number
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Show your actors on this host on a page for a browser, at an address of this host alone.",
    )
    made.add_argument("actor", nargs="?", metavar="ACTOR", help="it and all below it")
    made.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="PORT",
        help="listen there (default: 0, a free one)",
    )
    made.add_argument("--open", action="store_true", help="open it in your browser")
    made.add_argument(
        "--control",
        action="store_true",
        help="let the page act: cancel, log levels, services; it asks each time",
    )
    made.add_argument(
        "--limit",
        type=seconds,
        default=LIMIT,
        metavar="SECONDS",
        help=f"for how long to wait for answers (default: {LIMIT:g})",
    )
    made.add_argument(
        "--runtime-dir", action="append", default=[], metavar="DIR", help="look there, too"
    )
    return made


def _port(text: str) -> int:
    if text.isdecimal() and text.isascii() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
