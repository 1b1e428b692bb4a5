"""``tractor log``: show or set the log level of a running actor."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    chosen,
    common_options,
    look,
    print_json,
    quiet_pipe,
    seconds,
)
from tractor.observe._naming import called, with_all_below
from tractor.observe._requests import ask_each

ASK_LIMIT = 3.5
"""Seconds: the loop has three."""


def main(argv: Sequence[str], prog: str) -> int:
    """Show the log levels of an actor, or set some.

    Args:
        argv: the actor, a level or log spec, and options.
        prog: for messages.

    Returns:
        0; 1: there is no such actor, several are of that name, or not all have done it.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.seconds is not None and options.level is None:
        return fail(f"{prog}: --for needs a LEVEL")
    found, tree = look(options)
    actors, why = chosen([options.actor], found, tree, every=options.tree)
    if why:
        return fail(f"{prog}: {why}")
    if options.tree:
        actors = with_all_below(actors, tree.actors)
    if options.level is not None and len(actors) > 1 and not options.yes:
        if not sys.stdin.isatty():
            return fail(f"{prog}: the levels of {len(actors)} actors are set only with --yes")
        if input(f"set the level of {len(actors)} actors? [y/N] ").strip().lower() not in (
            "y",
            "yes",
        ):
            return fail(f"{prog}: nothing was done")
    request = {"spec": options.level, "for": options.seconds} if options.level else {}
    told, missing = ask_each(actors, found, max(options.limit, ASK_LIMIT), "log", **request)
    with quiet_pipe():
        if options.json:
            listed = [
                {"name": one.name, "pid": one.pid, "uuid": one.uuid, **answer}
                for one, answer in told
            ]
            rest = msgspec.to_builtins(missing)
            print_json(
                {"v": 1, "time": tree.time, "host": tree.host, "actors": listed, "missing": rest}
            )
        else:
            for one, answer in told:
                levels = ", ".join(f"{name}: {level}" for name, level in answer["levels"].items())
                print(f"{called(one)}  {levels}")
    for absent in missing:
        fail(f"{prog}: {absent.what}: {absent.why}")
    return EXIT_FAILED if missing else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(prog=prog, description="Show or set the log level of a running actor.")
    made.add_argument("actor", metavar="ACTOR", help="as `tractor ps` takes it")
    made.add_argument(
        "level", nargs="?", metavar="LEVEL", help="a level, or a spec as `ipc:debug,runtime:cancel`"
    )
    made.add_argument("--tree", action="store_true", help="and all actors below it")
    made.add_argument(
        "--for",
        dest="seconds",
        type=seconds,
        metavar="SECONDS",
        help="put it back after that time",
    )
    made.add_argument("--yes", action="store_true", help="do not ask")
    common_options(made)
    return made
