"""``tractor trace``: what actors do for some seconds, as a file for a viewer."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import chosen, common_options, look, print_json, quiet_pipe, seconds
from tractor.control._client import runtime_dirs
from tractor.observe._naming import with_all_below
from tractor.observe._words import plain
from tractor.observe.tracing._collecting import Collector
from tractor.observe.tracing._format import Trace
from tractor.observe.tracing._recorded import Recording
from tractor.observe.tracing._taking import VIEWER, in_words, missing_of
from tractor.observe.tracing._writing import TraceFile, Written
from tractor.runtime.seen._samples import Missing

SECONDS = 10.0
LONGEST = 600.0
EVENTS = 200_000
MOST_EVENTS = 1_000_000

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str], prog: str) -> int:
    """Record what actors do, and write it to a file.

    Args:
        argv: an actor, and options.
        prog: for messages.

    Returns:
        0; 1: there is no such actor, several are of that name, not all have told what they do, or the file could not be
        written as a whole; 130: ctrl-c has ended it early, and what there was is written.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    path = Path(options.output)
    found, tree = look(options)
    actors, why = list(tree.actors), ""
    if options.actor is not None:
        actors, why = chosen([options.actor], found, tree, every=options.all)
        actors = with_all_below(actors, tree.actors)
    if not actors:
        return fail(f"{prog}: {why or 'there are no actors of yours on this host'}")
    try:
        file = TraceFile(path)
    except OSError as exc:
        return fail(f"{prog}: {path} can't be written: {exc.strerror}")
    wanted = None if options.actor is None else {one.uuid for one in actors if one.uuid}
    dirs = runtime_dirs(map(Path, options.runtime_dir))
    collector = Collector(dirs, wanted, options.events, options.messages)
    if sys.stderr.isatty():
        text = f"recording {len(actors)} actors for {options.seconds:g} s; ctrl-c ends it early"
        print(text, file=sys.stderr)
    try:
        with _ctrl_c(collector.stop) as interrupted:
            collector.run(options.seconds)
            recording = collector.finish()
    except BaseException:
        file.give_up()
        raise
    missing = missing_of(actors, recording)
    if not recording.actors:
        file.give_up()
        for one in missing:
            fail(f"{prog}: {one.what} tells nothing: {one.why}")
        return EXIT_FAILED
    trace = Trace(dataclasses.replace(recording, missing=missing))
    try:
        written = file.write(trace)
    except OSError as exc:
        return fail(f"{prog}: {path} can't be written: {exc.strerror}; nothing is in it")
    with quiet_pipe():
        _tell(options, path, recording, trace, written)
    failed = _complain(prog, path, recording, missing, written)
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if failed else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Record what your actors on this host do: calls, contexts, streams, starts and ends of subactors, "
        "cancels, CPU and memory. The file is Trace Event JSON, which Perfetto's viewer shows; in it are names and "
        "times, never arguments or values. Actors that start meanwhile are recorded, too.",
        epilog=f"Perfetto's viewer: {VIEWER}",
    )
    made.add_argument(
        "actor", nargs="?", metavar="ACTOR", help="it and all below it (default: all)"
    )
    made.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="where to write; compressed if the name ends in .gz",
    )
    made.add_argument(
        "--seconds",
        type=_duration,
        default=SECONDS,
        metavar="S",
        help=f"for how long, at most {LONGEST:g} (default: {SECONDS:g}); ctrl-c ends it early, and writes",
    )
    made.add_argument(
        "--events",
        type=_events,
        default=EVENTS,
        metavar="N",
        help=f"how many of each actor; those after them are lost, and counted (default: {EVENTS})",
    )
    made.add_argument(
        "--messages", action="store_true", help="each message of a stream, too; that is not cheap"
    )
    made.add_argument("--all", action="store_true", help="of several actors of that name, all")
    common_options(made)
    return made


def _duration(text: str) -> float:
    value = seconds(text)
    if value > LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is more than {LONGEST:g} seconds")
    return value


def _events(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 0 < value <= MOST_EVENTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST_EVENTS}")
    return value


@contextlib.contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have the first ctrl-c call ``stop``, and fill the list; a second one interrupts."""
    came: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(
    options: argparse.Namespace, path: Path, recording: Recording, trace: Trace, written: Written
) -> None:
    if options.json:
        more = {"file": str(path), "bytes": written.size, "records": written.records}
        print_json({"v": 1, **more, "left-out": written.left_out, **trace.metadata})
        return
    print(plain(f"{in_words(path, recording, written)}; {VIEWER} shows it"))


def _complain(
    prog: str, path: Path, recording: Recording, missing: Sequence[Missing], written: Written
) -> bool:
    """Say what is not in the file; whether that is a failure."""
    for one in recording.actors:
        if one.lost:
            fail(
                f"{prog}: {one.name}@{one.pid}: {one.lost} events lost; --events, or a quicker disk"
            )
        if one.unknown:
            fail(f"{prog}: {one.name}@{one.pid}: {one.unknown} events of a kind that is not known")
    for absent in missing:
        fail(f"{prog}: {absent.what}: {absent.why}")
    if written.error is not None:
        fail(
            f"{prog}: {path} was cut: {written.error.strerror}; it has the first {written.records} "
            f"records, and {written.left_out} are left out"
        )
    return bool(missing) or written.error is not None
