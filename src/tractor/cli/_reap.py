"""``tractor reap``: end stray actors, and remove what they have left."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED
from tractor.reaping._shm import find_orphaned_shm, reap_shm
from tractor.reaping._signals import reap, survivors
from tractor.reaping._strays import StrayId, find_descendants, find_orphans, find_zombies
from tractor.transport._uds_leftovers import find_orphaned_uds, reap_uds

T = TypeVar("T")

MAX_SWEEPS = 5
"""An actor that is killed may leave new orphans; but nobody is hunted for ever."""

DESCRIPTION = """\
End stray actors of yours: orphans, whose parent is gone, and the actors below them; or, with -p,
the actors below one process. They get SIGINT, and after the grace SIGKILL.

Only what is tractor's and yours is touched: processes that look alike, other users' processes, and
socket files and shared memory in use are left alone.
"""


def main(argv: Sequence[str], prog: str) -> int:
    """End stray actors, and remove socket files and shared memory that dead ones have left.

    Args:
        argv: the command's arguments.
        prog: for messages.

    Returns:
        0; or 1 if something survived, or could not be removed or looked at.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    # The "only" flags choose what to look at, and so may come together.
    only = options.shm_only or options.uds_only
    report = _Report(dry_run=options.dry_run)
    jobs: list[tuple[bool, Callable[[], None]]] = [
        (not only, lambda: _reap_actors(options, report)),
        (
            options.shm or options.shm_only,
            lambda: _remove("segment", find_orphaned_shm, reap_shm, report),
        ),
        (
            options.uds or options.uds_only,
            lambda: _remove("socket", find_orphaned_uds, reap_uds, report),
        ),
    ]
    for chosen, job in jobs:
        if chosen:
            try:
                job()
            except (OSError, RuntimeError) as exc:  # of which NotImplementedError is one
                report.failed = True
                print(f"{prog}: {exc}", file=sys.stderr)
    report.end()
    return EXIT_FAILED if report.failed else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit code: 1 if something survived or an error was met, else 0",
    )
    made.add_argument(
        "-p",
        "--parent",
        type=_pid,
        metavar="PID",
        help="end the actors below this process, whether it lives in good order or not",
    )
    made.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="with -p: end every process below PID, also those that can't be recognised as actors",
    )
    made.add_argument(
        "-g",
        "--grace",
        type=_seconds,
        default=3.0,
        metavar="SECONDS",
        help="how long an actor may take to end by itself (default: %(default)s)",
    )
    made.add_argument("-n", "--dry-run", action="store_true", help="only tell what would be done")
    for flag, what in (
        ("shm", "shared memory segments whose owner is dead and which no process holds"),
        ("uds", "socket files of dead actors"),
    ):
        made.add_argument(f"--{flag}", action="store_true", help=f"also remove {what}")
        made.add_argument(
            f"--{flag}-only", action="store_true", help=f"as --{flag}, and leave processes alone"
        )
    return made


def _pid(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return value


class _Report:
    """What is said, a line for each thing, and whether all went well."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.failed = False
        self._lines = 0

    def tell(self, what: str, done: str, failed: bool = False) -> None:
        """Say what happened to one thing."""
        self._lines += 1
        self.failed = self.failed or failed
        print(f"{what}: {done}", flush=True)

    def end(self) -> None:
        """Say so when there was nothing."""
        if not self._lines and not self.failed:
            print("nothing to reap")


def _reap_actors(options: argparse.Namespace, report: _Report) -> None:
    seen: set[tuple[int, float | None]] = set()
    for _ in range(MAX_SWEEPS):
        found = [
            process
            for process in _strays(options.parent, options.all)
            if (process, process.start_time) not in seen
        ]
        if not found:
            break
        seen.update((process, process.start_time) for process in found)
        if report.dry_run:
            for process in found:
                report.tell(_label(process), "would be ended")
        else:
            _end(found, options.grace, report)
    for zombie in find_zombies(options.parent):
        report.tell(f"zombie {zombie} ({zombie.name})", f"waits for its parent {zombie.ppid}")


def _strays(parent: int | None, everything: bool) -> list[StrayId]:
    if parent is not None:
        return find_descendants(parent, only_actors=not everything)
    found: dict[int, StrayId] = {}
    for orphan in find_orphans():
        found[orphan] = orphan
        try:
            below = find_descendants(orphan, only_actors=True)
        except ProcessLookupError:
            continue
        found.update((process, process) for process in below)
    return list(found.values())


def _end(processes: list[StrayId], grace: float, report: _Report) -> None:
    signalled, killed = reap(processes, grace=grace)
    left = survivors(processes)
    for process in processes:
        if process in left:
            report.tell(_label(process), "survived SIGKILL", failed=True)
        elif process in killed:
            report.tell(_label(process), "killed")
        elif process in signalled:
            report.tell(_label(process), "ended after SIGINT")
        else:
            report.tell(_label(process), "ended by itself")


def _label(process: StrayId) -> str:
    return f"process {process} ({process.name}, parent {process.ppid})"


def _remove(
    kind: str,
    find: Callable[[], list[T]],
    reap_all: Callable[[Iterable[T]], tuple[list[T], list[tuple[T, OSError]]]],
    report: _Report,
) -> None:
    things = find()
    if report.dry_run:
        for thing in things:
            report.tell(f"{kind} {thing}", "would be removed")
        return
    removed, errors = reap_all(things)
    for thing in removed:
        report.tell(f"{kind} {thing}", "removed")
    for thing, error in errors:
        # Removed by somebody else meanwhile: that is what was wanted.
        gone = isinstance(error, FileNotFoundError)
        report.tell(f"{kind} {thing}", f"left alone: {error.strerror}", failed=not gone)
