"""``tractor keygen``: make a key file."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.cli._paths import absolute_path
from tractor.transport._authkey import KEY_FILE_VARIABLE, KEY_SIZE, user_key_path, write_key_file


def main(argv: Sequence[str], prog: str) -> int:
    """Make a key file, and print its path to stdout; how to use it goes to stderr.

    What is true afterwards: the file has 32 random bytes and mode 0600, or nothing has changed. The
    key itself is never printed.

    Args:
        argv: at most one path; default: the user's key file.
        prog: for messages.

    Returns:
        0, or 1 when the file is there already or could not be made.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    takes = parser(prog)
    given: Path | None = takes.parse_args(argv).path
    if given is not None and not given.name:
        takes.error(f"argument PATH: {str(given)!r} names no file")
    path = user_key_path() if given is None else given
    try:
        made = write_key_file(path)
    except OSError as exc:
        return fail(f"{prog}: can't make the key file {str(path)!r}: {exc}")
    if not made:
        return fail(
            f"{prog}: {str(path)!r} is there already and was left as it is; to have a new key, "
            "remove it first (actors that run keep the old one)"
        )
    print(path)
    print(_how_to_use(path, own=given is None), file=sys.stderr)
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description=f"Make a file with {KEY_SIZE} random bytes that only you can read. Actors that "
        "talk over TCP must hold the same key. A file that is there is never changed.",
    )
    made.add_argument(
        "path",
        nargs="?",
        type=absolute_path,
        metavar="PATH",
        help="default: your own key file, which every actor of yours takes unless told otherwise",
    )
    return made


def _how_to_use(path: Path, own: bool) -> str:
    lines = []
    if own:
        lines.append("Every actor that you start takes this key, unless told otherwise.")
        if os.environ.get(KEY_FILE_VARIABLE):
            lines.append(f"But {KEY_FILE_VARIABLE} is set, and names the one that is used now.")
        lines.append("To listen beyond this host, choose it on purpose:")
    else:
        lines.append("To use it, set")
    lines += [
        f"    export {KEY_FILE_VARIABLE}={shlex.quote(str(path))}",
        "before you start the program, or give its bytes to the root:",
        f"    tractor.open_nursery(authkey=pathlib.Path({str(path)!r}).read_bytes())",
        "Peers on other hosts need a copy of the file, with mode 0600.",
    ]
    return "\n".join(lines)
