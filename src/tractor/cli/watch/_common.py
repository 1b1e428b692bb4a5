"""What these commands share: their options, how they print, and how actors are found for them."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tractor.cli._actors import add_registry_option
from tractor.cli._exit import fail
from tractor.control._client import runtime_dirs
from tractor.observe._assembling import assemble
from tractor.observe._finding import LIMIT, Found, find, find_at
from tractor.observe._naming import called, matching, with_all_below
from tractor.observe.afar._by_message import NoRegistrar
from tractor.runtime.seen._samples import Sample, TreeSample


def common_options(parser: argparse.ArgumentParser, limit: float = LIMIT) -> None:
    """Add the options that each of these commands has."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--limit",
        type=seconds,
        default=limit,
        metavar="SECONDS",
        help=f"for how long to wait for answers, in all (default: {limit:g})",
    )
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours: on a terminal, always, or never (default: auto, and never with NO_COLOR set)",
    )
    places_options(parser)


def places_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to look."""
    parser.add_argument(
        "--runtime-dir", action="append", default=[], metavar="DIR", help="look there, too"
    )
    add_registry_option(
        parser, "ask this registrar for actors, and them over their own transport; may be repeated"
    )
    add_host_option(parser)


def add_host_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be run on another host: ``args.host``."""
    parser.add_argument(
        "--host",
        metavar="NAME",
        help="run this command there, a name of the hosts table (TRACTOR_HOSTS) or a URL",
    )


def seconds(text: str) -> float:
    """A number of seconds; for argparse.  Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def wants_colour(options: argparse.Namespace) -> bool:
    """Whether to colour what is printed."""
    if options.color == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return bool(options.color == "always")


def width() -> int | None:
    """Characters of a line on the terminal; ``None``: it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """End silently where the reader of what is printed has gone."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left of the buffer must not fail once more, at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """One object on one line."""
    print(msgspec.json.encode(value).decode(), flush=True)


def look(
    options: argparse.Namespace, more: Sequence[Mapping[str, Any]] = (), dialogs: bool = False
) -> tuple[Found, TreeSample]:
    """What there is now.

    Raises:
        SystemExit: with code 1; no registrar that was named answers.
    """
    try:
        return look_at(options, more, dialogs)
    except NoRegistrar as exc:
        raise SystemExit(fail(f"tractor: {exc}")) from None


def look_at(
    options: argparse.Namespace, more: Sequence[Mapping[str, Any]] = (), dialogs: bool = False
) -> tuple[Found, TreeSample]:
    """What there is now.  Raises NoRegistrar: no registrar that was named answers."""
    if options.registry:
        found = find_at(options.registry, options.limit)
    else:
        dirs = runtime_dirs(map(Path, options.runtime_dir))
        found = find(dirs, more, limit=options.limit, dialogs=dialogs)
    return found, assemble(found)


def one_actor(
    options: argparse.Namespace,
) -> tuple[list[Sample], Found, TreeSample, str]:
    """The actor that a command is about, with ``--tree`` those below it, too.

    Returns:
        The actors, what there is, and why there are none; empty: there are.
    """
    found, tree = look(options)
    actors, why = chosen([options.actor], found, tree, every=options.tree)
    if options.tree and not why:
        actors = with_all_below(actors, tree.actors)
    return actors, found, tree, why


def is_confirmed(question: str) -> bool:
    """Whether the user at the terminal says yes."""
    return input(f"{question}? [y/N] ").strip().lower() in ("y", "yes")


def chosen(
    names: Iterable[str], found: Found, tree: TreeSample, every: bool
) -> tuple[list[Sample], str]:
    """The actors that are meant, and why these are not the ones; empty: they are.

    Args:
        names: what the user has written.
        found, tree: what there is.
        every: of several that a name leads to, all are meant.
    """
    actors: list[Sample] = []
    for name in names:
        these = matching(name, tree.actors, found.addrs)
        if not these:
            return [], f"there is no actor {name!r} of yours in reach; `tractor ps` lists them"
        if len(these) > 1 and not every:
            listed = "".join(f"\n  {called(one)}" for one in these)
            return [], f"several actors are called {name!r}; name one, or give --all:{listed}"
        actors += [one for one in these if one not in actors]
    return actors, ""
