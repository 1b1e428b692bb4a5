"""``tractor run``: a foreground process manager for the services of a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tractor._errors import RuntimeFailure
from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.manager._check import try_calls
from tractor.manager._init import fork_below_init, take_signals
from tractor.manager._notify import take_from_environment
from tractor.manager._run import run_file
from tractor.manager._starting import require_backend
from tractor.services.file._problems import Problem, ServiceFileError
from tractor.services.file._service_file import ServiceFile, load_services

EXIT_WRONG = 2


def main(argv: Sequence[str], prog: str) -> int:
    """Run the services of a file, or check it.

    Args:
        argv: the file, and options.
        prog: for messages.

    Returns:
        0; 1: a service has failed for good, there were too many restarts, or they could not be started; 2: the file
        is wrong, and nothing was started; 128 and its number: a second signal came.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    # As `python -m` does it: services are found from where the manager is started.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    systemd = take_from_environment()
    if os.getpid() == 1 and not options.check:
        status = fork_below_init()
        if status is not None:
            return status
    path = Path(options.file)
    try:
        require_backend()
        file = load_services(path)
    except ServiceFileError as exc:
        return _report(path, exc.problems, options, str(exc))
    except (OSError, RuntimeFailure) as exc:
        text = f"{exc.strerror}" if isinstance(exc, OSError) else str(exc)
        problem = Problem(line=None, table="", key="", value="", text=text)
        return _report(path, [problem], options, f"{prog}: {path}: {text}")
    if options.check:
        take_signals()
        return _check(file, options)
    return run_file(file, systemd, as_json=options.json)


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Start the services of a TOML file, and start them again when they end. SIGHUP, or `tractor "
        "reload`, reads the file anew; SIGTERM or ctrl-c stops all in order, a second one kills them.",
    )
    made.add_argument("file", metavar="FILE.toml", help="the services")
    made.add_argument(
        "--check",
        action="store_true",
        help="only look whether the file is right, and what it names can be imported",
    )
    made.add_argument(
        "--json",
        action="store_true",
        help="print JSON: what is wrong with the file, else each line of a service as an object",
    )
    return made


def _check(file: ServiceFile, options: argparse.Namespace) -> int:
    problems = try_calls(file)
    if problems:
        return _report(file.path, problems, options, str(ServiceFileError(file.path, problems)))
    if options.json:
        _print_json(file.path, [], file)
    else:
        print(f"{file.path}: {len(file.services)} services are right: {', '.join(file.services)}")
    return 0


def _report(path: Path, problems: Sequence[Problem], options: argparse.Namespace, text: str) -> int:
    if not options.json:
        fail(text)
    else:
        _print_json(path, problems, None)
    return EXIT_WRONG


def _print_json(path: Path, problems: Sequence[Problem], file: ServiceFile | None) -> None:
    found = {
        "v": 1,
        "file": str(path.absolute()),
        "ok": not problems,
        "services": list(file.services) if file is not None else [],
        "problems": problems,
    }
    print(msgspec.json.encode(found).decode(), flush=True)
