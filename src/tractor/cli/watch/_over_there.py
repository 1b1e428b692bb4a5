"""``--host NAME``: a command is run on another host, where the hosts table leads, and what it prints is shown here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tractor.cli._exit import fail
from tractor.hosts._engine import get_engine, is_callback
from tractor.hosts._place import Place
from tractor.hosts._table import load_hosts, place_of

OPTION = "--host"

EXIT_USAGE = 2

_SSH_FAILED = 255


def run_there(host: str, argv: Sequence[str], prog: str, colour: bool = False) -> int:
    """Run a command of ``tractor`` on another host.

    Args:
        host: a name of the hosts table, or a URL.
        argv: the command's arguments here.
        prog: for messages; its last word is the command.
        colour: it is to colour what it prints.

    Returns:
        Its exit status; 1: it could not be run there; 2: that is no host, or one whose engine runs no command.
    """
    words = prog.split()
    try:
        place = place_of(host, load_hosts(None))
        command = command_there(place, [words[-1], *without_host(argv)], colour)
    except (OSError, ValueError, TypeError, ImportError) as exc:
        fail(f"{prog}: --host {host}: {exc}")
        return EXIT_USAGE
    sys.stdout.flush()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    except OSError as exc:
        return fail(f"{prog}: --host {host}: {command[0]!r} can't be run: {exc}")
    if done.returncode == _SSH_FAILED and place.engine == "ssh":
        return fail(f"{prog}: --host {host}: ssh could not run it there")
    if done.returncode < 0:
        return fail(f"{prog}: --host {host}: ended by signal {-done.returncode}")
    return done.returncode


def command_there(place: Place, argv: Sequence[str], colour: bool) -> list[str]:
    """The command, run here, that runs one of ``tractor`` at a place.

    Raises:
        ValueError, ImportError: the place's engine runs no commands, or can't be used with its options.
    """
    engine = get_engine(place.engine)
    if is_callback(engine):
        raise ValueError(
            f"{place.engine + '://'!r} runs no commands; `--registry ADDR` asks the actors there themselves"
        )
    engine.check(place)
    variables = [f"{name}={value}" for name, value in place.env.items()]
    program = [place.python, "-m", "tractor", *argv]
    if colour:
        program += ["--color", "always"]
    if variables:
        program = ["env", *variables, *program]
    return list(engine.command(place, program, ()))  # type: ignore[union-attr]


def without_host(argv: Sequence[str]) -> list[str]:
    """A command's arguments without ``--host NAME``."""
    kept: list[str] = []
    given = iter(argv)
    for arg in given:
        if arg == OPTION:
            next(given, None)
        elif not arg.startswith(f"{OPTION}="):
            kept.append(arg)
    return kept
