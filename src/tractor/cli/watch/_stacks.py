"""``tractor stacks``: where an actor's tasks and threads are."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.cli.watch._common import common_options, one_actor, quiet_pipe, wants_colour
from tractor.cli.watch._over_there import run_there
from tractor.observe._finding import Found
from tractor.observe._naming import called
from tractor.observe._requests import ask_each
from tractor.observe._stacks_text import profile_text, running_stack, stacks_text
from tractor.observe.afar._ending import is_near
from tractor.runtime.seen._samples import Missing, Sample

ASK_LIMIT = 3.0
"""Seconds for the stacks, which may be a megabyte, of an actor that was found."""

INTERVAL = 0.02
"""Seconds between two looks of ``--repeat``."""

PY_SPY = "py-spy"


def main(argv: Sequence[str], prog: str) -> int:
    """Show where an actor's tasks are, also while its loop is blocked.

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
    if options.native:
        return _native(actors, found, prog)
    text, missing = _collected(options, actors, found)
    with quiet_pipe():
        if options.output is None:
            print(text, end="")
        else:
            try:
                with open(options.output, "w", encoding="utf-8") as file:
                    file.write(text)
            except OSError as exc:
                return fail(f"{prog}: {options.output!r} could not be written: {exc}")
    for one in missing:
        fail(f"{prog}: {one.what} gave no stacks: {one.why}; `tractor stacks --native` asks py-spy")
    return EXIT_FAILED if missing else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Show where the tasks of an actor are, also while its loop is blocked.",
    )
    made.add_argument("actor", metavar="ACTOR", help="as `tractor ps` takes it")
    made.add_argument("--tree", action="store_true", help="and all actors below it")
    made.add_argument("--threads", action="store_true", help="threads, too")
    made.add_argument("--all", action="store_true", help="the runtime's tasks and frames, too")
    made.add_argument(
        "--native",
        action="store_true",
        help="by py-spy, from outside: for one that C code keeps from answering; shows no waiting tasks",
    )
    made.add_argument(
        "--repeat",
        type=_count,
        metavar="N",
        help="look so often, and count where the running task was: a poor man's profile",
    )
    made.add_argument("-o", "--output", metavar="FILE", help="write it there")
    common_options(made)
    return made


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100000")
    return int(text)


def _collected(
    options: argparse.Namespace, actors: list[Sample], found: Found
) -> tuple[str, list[Missing]]:
    limit = max(options.limit, ASK_LIMIT)
    if options.repeat:
        return _profiled(options, actors, found, limit)
    told, missing = ask_each(actors, found, limit, "stacks")
    if options.json:
        listed = [
            {"name": one.name, "uuid": one.uuid, "pid": one.pid, **answer} for one, answer in told
        ]
        return _json(found, {"actors": listed, "missing": missing}), missing
    lines: list[str] = []
    for one, answer in told:
        state = f"  {one.state}" if one.state != "run" else ""
        lines.append(f"{called(one)}{state}")
        shown = stacks_text(answer, threads=options.threads, everything=options.all)
        lines += [f"  {line}" for line in shown]
    return "".join(f"{line}\n" for line in lines), missing


def _profiled(
    options: argparse.Namespace, actors: list[Sample], found: Found, limit: float
) -> tuple[str, list[Missing]]:
    met: dict[str, list[tuple[str, ...]]] = {called(one): [] for one in actors}
    missing: list[Missing] = []
    for _ in range(options.repeat):
        told, missing = ask_each(actors, found, limit, "stacks")
        if not told:
            break
        for one, answer in told:
            met[called(one)].append(running_stack(answer))
        time.sleep(INTERVAL)
    if options.json:
        listed = [
            {"actor": name, "stacks": [list(stack) for stack in stacks]}
            for name, stacks in met.items()
        ]
        return _json(found, {"actors": listed, "missing": missing}), missing
    lines: list[str] = []
    for name, stacks in met.items():
        lines += [name, *profile_text(stacks)] if stacks else []
    return "".join(f"{line}\n" for line in lines), missing


def _json(found: Found, more: dict[str, object]) -> str:
    whole = {"v": 1, "time": found.time, "host": found.host, **more}
    return msgspec.json.encode(whole).decode() + "\n"


def _native(actors: list[Sample], found: Found, prog: str) -> int:
    program, code = shutil.which(PY_SPY), 0
    for one in actors:
        if one.pid is None or not is_near(one, found):
            hint = "`--host NAME` runs the command there"
            code = fail(f"{prog}: {called(one)} has no process of its own on this host; {hint}")
            continue
        if program is None:
            return fail(f"{prog}: --native needs py-spy (`pip install py-spy`)")
        print(called(one), flush=True)
        done = subprocess.run([program, "dump", "--pid", str(one.pid)], check=False)
        if done.returncode:
            hint = "root, or kernel.yama.ptrace_scope=0, may be needed"
            code = fail(f"{prog}: py-spy could not look at {called(one)}; {hint}")
    sys.stdout.flush()
    return code
