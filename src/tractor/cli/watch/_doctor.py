"""``tractor doctor``: asks everything once, and says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    chosen,
    common_options,
    look,
    print_json,
    quiet_pipe,
    wants_colour,
)
from tractor.cli.watch._over_there import run_there
from tractor.observe._diagnosis import all_well, diagnose
from tractor.observe._naming import with_all_below


def main(argv: Sequence[str], prog: str) -> int:
    """Say what is wrong with this user's actors.

    Args:
        argv: an actor, and options.
        prog: for messages.

    Returns:
        0; 1: something is wrong, or there is no such actor.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return run_there(options.host, argv, prog, wants_colour(options))
    found, tree = look(options, [{"op": "recent"}], dialogs=True)
    actors = list(tree.actors)
    if options.actor is not None:
        wanted, why = chosen([options.actor], found, tree, every=True)
        if why:
            return fail(f"{prog}: {why}")
        actors = with_all_below(wanted, tree.actors)
    if not actors:
        return fail(f"{prog}: there is no actor of yours on this host")
    findings = diagnose(found, actors)
    with quiet_pipe():
        if options.json:
            told = [one._asdict() for one in findings]
            print_json({"v": 1, "time": tree.time, "host": tree.host, "findings": told})
        else:
            print("\n".join([*map(str, findings), all_well(actors)]))
    return EXIT_FAILED if findings else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Say what is wrong with your actors on this host: blocked loops, full streams, stopped processes, "
        "zombies, services that crash again and again, versions that differ.",
    )
    made.add_argument("actor", nargs="?", metavar="ACTOR", help="it and all below it")
    common_options(made)
    return made
