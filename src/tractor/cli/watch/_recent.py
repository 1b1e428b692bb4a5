"""``tractor recent``: what has happened to an actor and its subactors."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    common_options,
    one_actor,
    print_json,
    quiet_pipe,
    wants_colour,
)
from tractor.cli.watch._following import Following
from tractor.cli.watch._over_there import run_there
from tractor.observe._finding import Found
from tractor.observe._naming import called
from tractor.observe._recent_text import Happened, event_text, events_of
from tractor.observe._requests import Told, ask_each
from tractor.runtime.seen._samples import Missing

INTERVAL = 0.5
"""Seconds between two questions of ``--follow``."""


def main(argv: Sequence[str], prog: str) -> int:
    """Show the last rare events of an actor.

    Args:
        argv: the actor, and options.
        prog: for messages.

    Returns:
        0; 1: there is no such actor, several are of that name, or not all have answered.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return run_there(options.host, argv, prog, wants_colour(options))
    actors, found, _, why = one_actor(options)
    if why:
        return fail(f"{prog}: {why}")
    with quiet_pipe():
        printed = _Printed(options)
        if not options.follow:
            told, missing = ask_each(actors, found, options.limit, "recent")
            printed.take(told, missing, found)
            for one in missing:
                fail(f"{prog}: {one.what} tells nothing: {one.why}")
            return EXIT_FAILED if missing else 0
        following = Following(options, actors, found, prog)
        while following.actors:
            printed.take(following.ask(options.limit, "recent"), [], found)
            time.sleep(INTERVAL)
        return following.code
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Show what has happened to an actor: starts and ends of its subactors, restarts, cancels, refused "
        "peers. It keeps the last 256 events.",
    )
    made.add_argument("actor", metavar="ACTOR", help="as `tractor ps` takes it")
    made.add_argument("--tree", action="store_true", help="and all actors below it, by time")
    made.add_argument("--follow", action="store_true", help="go on with those that come")
    common_options(made)
    return made


class _Printed:
    """What is told once is not told again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._since: dict[str, int] = {}

    def take(self, told: list[Told], missing: list[Missing], found: Found) -> None:
        """Print what is new."""
        events: list[Happened] = []
        for one, answer in told:
            name, since = called(one), self._since.get(one.uuid, 0)
            events += [event for event in events_of(name, answer) if event.number > since]
            self._since[one.uuid] = answer["count"]
        events.sort(key=lambda event: (event.time, event.actor, event.number))
        self._print(events, missing, found)

    def _print(self, events: list[Happened], missing: list[Missing], found: Found) -> None:
        if not self._options.json:
            for event in events:
                print("\n".join(event_text(event)), flush=True)
        elif self._options.follow:
            for event in events:
                print_json({"actor": event.actor, **event.event})
        else:
            print_json(
                {
                    "v": 1,
                    "time": found.time,
                    "host": found.host,
                    "events": [{"actor": event.actor, **event.event} for event in events],
                    "missing": msgspec.to_builtins(missing),
                }
            )
