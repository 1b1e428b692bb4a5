"""The table of commands, and the way from the arguments to one of them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tractor._util._names import nearest
from tractor._util.dist._version import __version__
from tractor.cli._arguments import Parser

EXIT_INTERRUPTED = 130


class Command(NamedTuple):
    """One line of the table.

    Attributes:
        module: has ``main(argv, prog) -> int``, and ``parser(prog)`` for what it takes; imported when the command is
            used.
        summary: one line for ``tractor --help``.
    """

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "cancel": Command("tractor.cli.watch._cancel", "end an actor, and say how that went"),
    "certs": Command("tractor.cli._certs", "make a test CA and certificates for TLS"),
    "completion": Command(
        "tractor.cli._completion", "print the script that completes commands in a shell"
    ),
    "dash": Command("tractor.cli.watch._dash", "show your actors on a page for a browser"),
    "debug": Command("tractor.cli._debug", "attach a REPL to a running actor in debug mode"),
    "demo": Command("tractor.cli._demo", "index Python files with a cluster of actors"),
    "doctor": Command("tractor.cli.watch._doctor", "say what is wrong with your actors"),
    "hosts": Command("tractor.cli._hosts", "show the hosts table, and try each host"),
    "keygen": Command("tractor.cli._keygen", "make a key file, which actors must hold to connect"),
    "log": Command("tractor.cli.watch._log", "show or set the log level of an actor"),
    "ps": Command("tractor.cli.watch._ps", "show your actors: state, memory, tasks, calls, lag"),
    "reap": Command("tractor.cli._reap", "end stray actors and remove what they have left"),
    "recent": Command("tractor.cli.watch._recent", "show what has happened to an actor"),
    "reload": Command("tractor.cli._services", "have `tractor run` read its file anew"),
    "restart": Command("tractor.cli._services", "restart a service of `tractor run`"),
    "run": Command("tractor.cli._run", "run the services of a file"),
    "services": Command("tractor.cli._services", "show the services of `tractor run`"),
    "stacks": Command("tractor.cli.watch._stacks", "show where the tasks of an actor are"),
    "start": Command("tractor.cli._services", "start a service of `tractor run` that is down"),
    "stop": Command("tractor.cli._services", "stop a service of `tractor run`"),
    "top": Command("tractor.cli.watch._top", "show your actors on a full screen"),
    "trace": Command(
        "tractor.cli.watch._trace", "record what your actors do, as a file to look at"
    ),
    "tree": Command("tractor.cli._tree", "show a running tree: actors, tasks, what they wait for"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments as on the command line; default: those of this process.

    Returns:
        The exit code: 0 when the command did what it is for, 1 when not, 130 after ctrl-c.  Without arguments the
        commands are listed.

    Raises:
        SystemExit: with code 2 for wrong arguments, with code 0 after ``--help`` or ``--version``.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(args[0]) if args else None
    if command is None:
        return _without_command(args)
    # Those that come while it is loaded are acted on as later ones are; process 1 would not even get them.
    with signals_held() if args[0] == "run" else contextlib.nullcontext():
        try:
            code: int = importlib.import_module(command.module).main(args[1:], f"tractor {args[0]}")
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        return code


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Keep signals that end a manager waiting until it takes them; afterwards they are as they were."""
    if sys.platform == "win32":
        yield
        return
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _without_command(args: list[str]) -> int:
    """Show the help, or the version, or say what is wrong with the arguments."""
    width = max(map(len, COMMANDS))
    parser = Parser(
        prog="tractor",
        description="Structured concurrency across processes.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {c.summary}" for name, c in sorted(COMMANDS.items()))
        + "\n\n`tractor COMMAND --help` tells more about one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tractor {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    if not args:
        parser.print_help()
        return 0
    if not args[0].startswith("-"):
        meant = nearest(args[0], COMMANDS)
        hint = f"did you mean {meant!r}?" if meant else "`tractor` alone lists them"
        parser.error(f"{args[0]!r} is no command; {hint}")
    parser.parse_args(args)
    parser.error("the COMMAND comes first")
