"""``tractor ps``: this user's actors."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import (
    chosen,
    common_options,
    look_at,
    print_json,
    quiet_pipe,
    wants_colour,
    width,
)
from tractor.cli.watch._over_there import run_there
from tractor.observe._history import with_times
from tractor.observe._naming import with_all_below
from tractor.observe._openmetrics import openmetrics
from tractor.observe._processes import proportional_bytes
from tractor.observe._table import COLUMNS, columns_for, rows_of, summary, table
from tractor.observe.afar._by_message import NoRegistrar
from tractor.runtime.seen._samples import Sample, TreeSample

SHORTEST = 0.2
"""Seconds between two looks."""

CLEAR = "\x1b[H\x1b[J"


def main(argv: Sequence[str], prog: str) -> int:
    """List this user's actors, once or again and again.

    Args:
        argv: the actors, and options.
        prog: for messages.

    Returns:
        0; 1: there are none, or not those that were named.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return run_there(options.host, argv, prog, wants_colour(options))
    with quiet_pipe():
        if options.schema:
            print_json(msgspec.json.schema(TreeSample))
            return 0
        if options.watch is None:
            try:
                return _once(options, prog, None)[0]
            except NoRegistrar as exc:
                return fail(f"{prog}: {exc}")
        before: TreeSample | None = None
        while True:
            begun = time.monotonic()
            try:
                _, before = _once(options, prog, before)
            except NoRegistrar as exc:
                # It may come back.
                fail(f"{prog}: {exc}")
            time.sleep(max(0.0, begun + options.watch - time.monotonic()))
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(prog=prog, description="Show your actors on this host.")
    made.add_argument(
        "actors",
        nargs="*",
        metavar="ACTOR",
        help="name, name@pid, pid, beginning of a uuid (6 characters), service or address: it and all below it",
    )
    made.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=1.0,
        metavar="SECONDS",
        help="again and again, each second or so many (at least 0.2)",
    )
    made.add_argument("--sort", type=_column, metavar="COL", help="by that column, within a tree")
    made.add_argument("--filter", metavar="NAME", help="those of that name, a pattern as `feed*`")
    made.add_argument("--depth", type=int, metavar="N", help="levels below the roots")
    made.add_argument(
        "--columns", type=_columns, metavar="COL,COL", help=f"of {', '.join(COLUMNS)}"
    )
    made.add_argument(
        "--pss", action="store_true", help="memory with what is shared in parts; slower"
    )
    made.add_argument("--openmetrics", action="store_true", help="text for a scraper")
    made.add_argument("--schema", action="store_true", help="print the JSON Schema of --json")
    common_options(made)
    return made


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not SHORTEST <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {SHORTEST} on")
    return value


def _column(text: str) -> str:
    if text.upper() not in COLUMNS:
        raise argparse.ArgumentTypeError(
            f"there is no column {text!r}; there are {', '.join(COLUMNS)}"
        )
    return text.upper()


def _columns(text: str) -> list[str]:
    return [_column(name.strip()) for name in text.split(",")]


def _once(
    options: argparse.Namespace, prog: str, before: TreeSample | None
) -> tuple[int, TreeSample]:
    found, whole = look_at(options)
    whole = with_times(whole, before)
    actors, why = chosen(options.actors, found, whole, every=True)
    tree = whole
    if actors:
        below = with_all_below(actors, whole.actors)
        tree = msgspec.structs.replace(whole, actors=tuple(below))
    if options.pss:
        tree = msgspec.structs.replace(tree, actors=tuple(map(_with_pss, tree.actors)))
    if before is not None:
        tree = with_rates(tree, before)
    is_empty = not why and not tree.actors
    if options.json:
        print_json(tree)
    elif options.openmetrics:
        print(openmetrics(tree), end="", flush=True)
    elif why or is_empty:
        why = why or "there is no actor of yours on this host"
    else:
        _print(options, tree, since_start=before is None)
    if why and not options.json:
        return fail(f"{prog}: {why}"), whole
    return (EXIT_FAILED if why or is_empty else 0), whole


def _print(options: argparse.Namespace, tree: TreeSample, since_start: bool) -> None:
    rows = rows_of(tree.actors, sort=options.sort, only=options.filter, depth=options.depth)
    columns = options.columns or columns_for(tree.actors, options.pss)
    room = width()
    lines = table(rows, columns, since_start=since_start, colour=wants_colour(options), width=room)
    if options.watch is not None and sys.stdout.isatty():
        print(CLEAR, end="")
    print("\n".join([*lines, *(line[:room] for line in summary(tree))]), flush=True)
    if options.watch is not None and not sys.stdout.isatty():
        print(flush=True)


def _with_pss(one: Sample) -> Sample:
    if one.pid is None:
        return one
    return msgspec.structs.replace(one, pss=proportional_bytes(one.pid))


def with_rates(tree: TreeSample, before: TreeSample) -> TreeSample:
    """With CPU over the time since the look before; of an actor that is new, since its start."""
    past = {(one.uuid, one.pid): one for one in before.actors}
    passed = tree.time - before.time

    def rated(one: Sample) -> Sample:
        then = past.get((one.uuid, one.pid))
        if then is None or None in (then.cpu_seconds, one.cpu_seconds) or passed <= 0:
            return one
        used = (one.cpu_seconds or 0.0) - (then.cpu_seconds or 0.0)
        return msgspec.structs.replace(one, cpu=max(0.0, 100 * used / passed))

    return msgspec.structs.replace(tree, actors=tuple(map(rated, tree.actors)))
