"""``tractor cancel``: end an actor, and say how that went."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    chosen,
    common_options,
    is_confirmed,
    look,
    look_at,
    print_json,
    quiet_pipe,
    seconds,
    wants_colour,
)
from tractor.cli.watch._over_there import run_there
from tractor.observe._ending import ended_text
from tractor.observe._naming import called, with_all_below
from tractor.observe.afar._ending import end_anywhere

WAIT = 60.0
"""Seconds for the end of all."""


def main(argv: Sequence[str], prog: str) -> int:
    """End an actor and all below it, and wait for that.

    Args:
        argv: the actor, and options.
        prog: for messages.

    Returns:
        0; 1: there is no such actor, several are of that name, the user said no, or one is still there.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return run_there(options.host, argv, prog, wants_colour(options))
    found, tree = look(options)
    actors, why = chosen([options.actor], found, tree, every=options.all)
    if why:
        return fail(f"{prog}: {why}")
    whole = with_all_below(actors, tree.actors)
    # One that goes with another is not told twice.
    below = [one for one in whole if not any(one is it for it in actors)]
    if not options.yes and (refusal := _not_meant([called(one) for one in actors], len(below))):
        return fail(f"{prog}: {refusal}")
    ended = end_anywhere(
        actors, below, found, lambda: look_at(options), hard=options.kill, limit=options.wait
    )
    with quiet_pipe():
        if options.json:
            told = [
                {
                    "name": one.actor.name,
                    "pid": one.actor.pid,
                    "uuid": one.actor.uuid,
                    "rung": one.rung or None,
                    "seconds": one.seconds,
                    "why": one.why or None,
                }
                for one in ended
            ]
            print_json({"v": 1, "time": tree.time, "host": tree.host, "ended": told})
        else:
            for one in ended:
                print(ended_text(one))
    return EXIT_FAILED if any(one.seconds is None for one in ended) or not ended else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="End an actor, with all below it: it is asked, and gets signals if that takes too long.",
    )
    made.add_argument("actor", metavar="ACTOR", help="as `tractor ps` takes it")
    made.add_argument("--all", action="store_true", help="all that the name leads to")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--kill", action="store_true", help="begin with the signals")
    made.add_argument(
        "--wait",
        type=seconds,
        default=WAIT,
        metavar="SECONDS",
        help=f"for how long to wait for their end (default: {WAIT:g})",
    )
    common_options(made)
    return made


def _not_meant(names: list[str], below: int) -> str:
    """Why nothing is done; empty: it is what the user wants."""
    what = ", ".join(names) + (f" and {below} below" if below else "")
    if not sys.stdin.isatty():
        return f"{what}: several are ended only with --yes" if len(names) + below > 1 else ""
    return "" if is_confirmed(f"end {what}") else "nothing was done"
