"""``python -m tractor.demo``: the options, and the order of events."""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import islice

import trio

from tractor.demo._asyncio_act import (
    asyncio_complaints,
    render_asyncio_act,
    run_asyncio_act,
)
from tractor.demo._cluster import Run, run_cluster
from tractor.demo._index import find_files, printable
from tractor.demo._progress import Progress
from tractor.demo._proof import crash_complaints, index_complaints, process_complaints
from tractor.demo._report import render
from tractor.demo._shm_act import render_shm_act, run_shm_act, shm_complaints
from tractor.ipc import HAS_UDS

__all__ = ["main"]

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

SKIPPED_IN_STDLIB = ("site-packages", "dist-packages")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: arguments as on the command line; default: those of this process.

    Returns:
        The exit code: 0 when everything that the demo claims was proven, 1 when not, 130 after
        ctrl-c.

    Raises:
        SystemExit: with code 2 for wrong arguments, with code 0 after ``--help``.
    """
    run = Run()
    try:
        options, folder, paths = _parse(argv)
        code = _run(options, folder, paths, run)
    except BaseException as exc:
        if isinstance(exc, SystemExit) or not _is_interrupt(exc):
            raise
        print("\ninterrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    return code if _proved_gone(run) else EXIT_FAILED


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, str, list[str]]:
    """The options, the folder and the files; SystemExit(2) if there is nothing to be done."""
    takes = parser("python -m tractor.demo")
    options = takes.parse_args(argv)
    folder = options.folder
    skip: tuple[str, ...] = ()
    if folder is None:
        folder, skip = sysconfig.get_path("stdlib"), SKIPPED_IN_STDLIB
    if not os.path.exists(folder):
        takes.error(f"there is no folder {printable(folder)!r}")
    if not os.path.isdir(folder):
        takes.error(f"{printable(folder)!r} is a file; give the folder that it is in")
    paths = list(islice(find_files(folder, skip), options.limit))
    if not paths:
        takes.error(f"there is no .py file in {printable(folder)!r} or below it")
    return options, folder, paths


def parser(prog: str) -> argparse.ArgumentParser:
    """What the demo takes."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Index a folder of Python files with a cluster of actors, crash one "
        "of them, ask a server that is written for asyncio, and prove that no process is left.",
    )
    made.add_argument("folder", nargs="?", help="default: this Python's standard library")
    made.add_argument(
        "-w",
        "--workers",
        type=partial(_at_least_one, "workers"),
        default=_cores(),
        metavar="N",
        help="actors to start (default: one for each core, %(default)s)",
    )
    transports = ["tcp", "uds"] if HAS_UDS else ["tcp"]
    made.add_argument("--transport", choices=transports, default=transports[-1])
    made.add_argument(
        "--limit",
        type=partial(_at_least_one, "limit"),
        metavar="N",
        help="index the first N files only",
    )
    made.add_argument("--no-crash", action="store_true", help="end the cluster in peace")
    return made


def _at_least_one(what: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{what} must be a whole number from 1 on, not {text!r}")
    return number


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(options: argparse.Namespace, folder: str, paths: list[str], run: Run) -> int:
    print(
        f"{len(paths)} Python files in {printable(folder)}, "
        f"{options.workers} workers over {options.transport}",
        flush=True,
    )
    try:
        trio.run(
            partial(
                run_cluster,
                paths,
                workers=options.workers,
                transport=options.transport,
                crash=not options.no_crash,
                run=run,
                progress=Progress(len(paths), sys.stderr),
            )
        )
    except BaseException as exc:
        if _is_interrupt(exc) or not isinstance(exc, Exception):
            raise
        traceback.print_exc()
        return EXIT_FAILED
    print(f"{len(run.pids)} workers were ready after {run.start_seconds:.2f} s\n")
    print(render(run.summary, run.index_seconds, printable(folder)))
    complaints = index_complaints(run, len(paths))
    if not options.no_crash:
        _show_crash(run)
        complaints += crash_complaints(run)
    complaints += _show_asyncio_act(options.transport, run)
    complaints += _show_shm_act(options.transport, run)
    for complaint in complaints:
        print(f"NOT PROVEN: {complaint}", file=sys.stderr)
    return EXIT_FAILED if complaints else 0


def _show_asyncio_act(transport: str, run: Run) -> list[str]:
    act = trio.run(run_asyncio_act, transport, run)
    print(f"\n{render_asyncio_act(act)}")
    return asyncio_complaints(act)


def _show_shm_act(transport: str, run: Run) -> list[str]:
    act = trio.run(run_shm_act, transport, run)
    print(f"\n{render_shm_act(act)}")
    return shm_complaints(act)


def _show_crash(run: Run) -> None:
    if run.crash is None or run.victim is None:
        return
    print(
        f"\n{run.victim[0]} was told to crash. Its exception type, {run.crash.src_type_str}, "
        f"exists in no other process;\nwhat the root caught is a {type(run.crash).__name__}:\n"
    )
    print(run.crash.pformat())


def _proved_gone(run: Run) -> bool:
    """Say of each worker's process that it is gone; whether all are."""
    complaints = process_complaints(run)
    for complaint in complaints:
        print(f"NOT PROVEN: {complaint}", file=sys.stderr)
    if not complaints:
        pids = ", ".join(map(str, run.pids.values())) or "none was started"
        print(f"\nno process is left (workers were: {pids})", flush=True)
    return not complaints


def _is_interrupt(exc: BaseException) -> bool:
    """Whether it is, or is among other things, what ctrl-c raises."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(KeyboardInterrupt) is not None
    return isinstance(exc, KeyboardInterrupt)


if __name__ == "__main__":
    sys.exit(main())
