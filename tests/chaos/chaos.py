"""Random trees of actors, random work, random disasters: does every operation end, and is nothing left?

``python tests/chaos/chaos.py --minutes 60 --seed 1 --tpt uds``, or ``make chaos ARGS='--minutes 60'``

Prints the counts; the exit status is 1 if a promise was broken, and what was broken is printed with the command that
runs that round again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "endpoints")]

from chaos_outcomes import Figures  # noqa: E402
from chaos_plan import plan_round  # noqa: E402
from chaos_round import carry_out  # noqa: E402
from chaos_shapes import EVENTS, count_event  # noqa: E402

from tractor import spawn  # noqa: E402

__all__ = ["main", "run"]

IN_PARENTS_PROCESS = ("subint",)
"""Backends whose actors have no process of their own."""


def run(
    seed: str,
    backend: str,
    tpt: str,
    out_dir: Path,
    *,
    seconds: float = 0.0,
    rounds: int = 0,
    events: Sequence[str] = (),
    events_alone: bool = False,
    repeat: int = 1,
) -> Figures:
    """Rounds one after the other, told on stdout where one fails.

    Args:
        seed: of all of them; round *n* has the seed ``<seed>/n``.
        backend, tpt: how actors start and talk; ``'both'`` transports take turns.
        out_dir: where snapshots of what hangs go.
        seconds: no round begins later than this.
        rounds: run so many, however long it takes.
        events: those that happen beside the rounds, one after each, in turn.
        events_alone: run nothing else.
        repeat: let each happen so many times, one after the other.
    """
    figures = Figures()
    end = time.monotonic() + seconds
    number = 0
    while number < rounds or time.monotonic() < end:
        one_tpt = ("uds", "tcp")[number % 2] if tpt == "both" else tpt
        if not events_alone:
            figures.add(run_round(f"{seed}/{number}", backend, one_tpt, out_dir))
        if events:
            # Each one on both transports before the next time round.
            figures.add(count_event(events[number // 2 % len(events)], backend, one_tpt, repeat))
        number += 1
        if number % 50 == 0 or repeat > 1:
            print(f"{number} rounds\n{text_of(figures)}\n", flush=True)
    return figures


def run_round(seed: str, backend: str, tpt: str, out_dir: Path) -> Figures:
    """The round of one seed."""
    plan = plan_round(seed, own_processes=backend not in IN_PARENTS_PROCESS)
    figures = carry_out(plan, backend, tpt, out_dir)
    figures.rounds = 1
    if figures.failed:
        print(f"round {seed} FAILED; to see it again:")
        print(f"  {sys.executable} {__file__} --round {seed} --backend {backend} --tpt {tpt}")
        for one in [*figures.hangs, *figures.wrong, *figures.leaks]:
            print(f"  {one}")
        print(f"  snapshots of what hung are in {out_dir}\n  {plan}", flush=True)
    return figures


def text_of(figures: Figures) -> str:
    """A table for people."""
    lines = [f"{figures.rounds} rounds, {figures.actors} actors"]
    for title, counted in (
        ("operations", figures.operations),
        ("faults", figures.faults),
        ("outcomes", figures.outcomes),
    ):
        lines.append(f"{title}: {sum(counted.values())}; {told(counted)}")
    seconds, what = figures.slowest
    lines.append("shapes of outcome, by kind of event:")
    for event, counts in sorted(figures.shapes.items()):
        mark = "TWO SHAPES " if len(counts) > 1 else ""
        lines.append(f"  {event:55} {mark}{told(counts)}")
        if mark:
            lines += [f"    {s!r}: first in {figures.examples[event, s]}" for s in counts]
    lines.append(f"slowest: {seconds:.2f} s, {what}")
    lines.append(
        f"hangs: {len(figures.hangs)}, leaks: {len(figures.leaks)}, wrong ends: {len(figures.wrong)}, "
        f"events of two shapes: {len(figures.ambiguous)}"
    )
    return "\n".join(lines)


def told(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counted.most_common())


@contextlib.contextmanager
def private_dirs() -> Iterator[Path]:
    """Runtime directories of our own, so that what is left can be told; kept if it is not empty of snapshots."""
    directory = Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp"))
    for variable, name in (("XDG_RUNTIME_DIR", "r"), ("XDG_STATE_HOME", "s")):
        (directory / name).mkdir(mode=0o700)
        os.environ[variable] = str(directory / name)
    out_dir = directory / "snapshots"
    out_dir.mkdir()
    yield out_dir
    shutil.rmtree(directory / "r", ignore_errors=True)
    if not list(out_dir.iterdir()):
        shutil.rmtree(directory, ignore_errors=True)


def no_core_dumps() -> None:
    """A segfault that is meant leaves no file of its own."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--round", help="run the one round of this seed, like 1/17")
    parser.add_argument("--backend", default="trio", help=", ".join(spawn.usable_start_methods()))
    parser.add_argument("--tpt", choices=("uds", "tcp", "both"), default="both")
    parser.add_argument(
        "--events-alone", action="store_true", help="only count the shapes of known events"
    )
    parser.add_argument("--only", default="", help="those events whose names have this in them")
    parser.add_argument("--repeat", type=int, default=1, help="each event so many times in a row")
    parser.add_argument("--rounds", type=int, default=0, help="at least so many")
    args = parser.parse_args()
    no_core_dumps()
    os.environ.setdefault("TRACTOR_ENABLE_STACKSCOPE", "1")
    with private_dirs() as out_dir:
        began = time.monotonic()
        if args.round:
            tpt = "uds" if args.tpt == "both" else args.tpt
            figures = run_round(args.round, args.backend, tpt, out_dir)
        else:
            seconds = args.minutes * 60
            deadly = args.backend not in IN_PARENTS_PROCESS
            figures = run(
                args.seed,
                args.backend,
                args.tpt,
                out_dir,
                seconds=seconds,
                rounds=args.rounds,
                events=[
                    name
                    for name in EVENTS
                    if args.only in name and (deadly or not name.startswith("death"))
                ],
                events_alone=args.events_alone,
                repeat=args.repeat,
            )
            for one in figures.wrong + figures.hangs:
                print(one)
        took = time.monotonic() - began
    print(f"seed {args.round or args.seed}, backend {args.backend}, {args.tpt}: {took:.0f} s")
    print(text_of(figures))
    return 1 if figures.failed else 0


if __name__ == "__main__":
    sys.exit(main())
