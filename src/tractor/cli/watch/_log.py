"""``tractor log``: show or set the log level of a running actor."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    common_options,
    is_confirmed,
    one_actor,
    print_json,
    quiet_pipe,
    seconds,
    wants_colour,
)
from tractor.cli.watch._following import Following
from tractor.cli.watch._over_there import run_there
from tractor.observe._finding import Found
from tractor.observe._naming import called
from tractor.observe._requests import ask_each
from tractor.observe._words import plain
from tractor.runtime.seen._samples import Sample

FOLLOW_INTERVAL = 0.3
"""Seconds between two questions of ``--follow``."""

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
    if options.host is not None:
        return run_there(options.host, argv, prog, wants_colour(options))
    if options.seconds is not None and (options.level is None or options.follow):
        return fail(f"{prog}: --for needs a LEVEL that is set")
    actors, found, tree, why = one_actor(options)
    if why:
        return fail(f"{prog}: {why}")
    if options.follow:
        with quiet_pipe():
            return _follow(options, actors, found, prog)
    if options.level is not None and len(actors) > 1 and not options.yes:
        if not sys.stdin.isatty():
            return fail(f"{prog}: the levels of {len(actors)} actors are set only with --yes")
        if not is_confirmed(f"set the level of {len(actors)} actors"):
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


def _follow(options: argparse.Namespace, actors: list[Sample], found: Found, prog: str) -> int:
    """Print the records of actors until they have ended."""
    limit = max(options.limit, ASK_LIMIT)
    following = Following(options, actors, found, prog)
    while following.actors:
        told = following.ask(limit, "log", follow=options.level)
        records = [
            {"actor": called(one), **record} for one, answer in told for record in answer["records"]
        ]
        for record in sorted(records, key=lambda one: one["time"]):
            if options.json:
                print_json(record)
            else:
                clock = time.strftime("%H:%M:%S", time.localtime(record["time"]))
                words = [record["actor"], record["level"], record["name"], record["text"]]
                print(plain("  ".join([clock, *words])), flush=True)
        for one, answer in told:
            if answer["dropped"]:
                print(f"{called(one)}  … {answer['dropped']} dropped", file=sys.stderr)
        time.sleep(FOLLOW_INTERVAL)
    return following.code


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
    made.add_argument(
        "--follow",
        action="store_true",
        help="show records here, from LEVEL on; what the actor itself prints stays as it is",
    )
    made.add_argument("--yes", action="store_true", help="do not ask")
    common_options(made)
    return made
