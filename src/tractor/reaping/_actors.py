"""Which processes are actors: told by title, command line or short name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from tractor.process.sentinel._sentinel import ARCHIVED_MAIN, PROGRAM
from tractor.reaping._table import ProcessInfo, in_own_namespace, runs_python

TITLE_PREFIX = "_subactor["
TITLE = re.compile(r"_subactor\[(?P<name>.*)@(?P<pid>\d+)\]", re.DOTALL)
CHILD_MODULE = "tractor._child"
SENTINEL = "/" + "/".join(PROGRAM.parts[-4:])
"""The end of the path of a sentinel's program, in whatever place the package is installed."""
COMM_SIZE = 15
"""Characters of a title that the kernel keeps as a process's short name."""

_TAKES_VALUE = frozenset("WX")
_LONG_TAKES_VALUE = frozenset({"--check-hash-based-pycs"})
_SETS_PATH = re.compile(
    r"import sys; .*; from tractor\._child import main; main\(sys\.argv\[3:\]\)", re.DOTALL
)
"""The program before the ``-m`` of an actor of the default backend: it sets ``sys.path``."""

_UID_ARGUMENT = re.compile(r"\('(?P<name>[^']*)', ")


def is_actor(process: ProcessInfo) -> bool:
    """Whether a process is a subactor: an interpreter that has an actor's title or command line.

    The pid in a title must be the process's own: a program that an actor forked off has its title too.
    """
    return _looks_like_actor(process) and _is_ours(process)


def is_sentinel(process: ProcessInfo) -> bool:
    """Whether a process is an actor's sentinel, which ends the actor's children when they can't."""
    words = process.argv
    if len(words) < 5 or words[1:3] != ("-I", "-S") or not words[-1].isdecimal():
        return False
    is_file = len(words) == 5 and words[3].endswith(SENTINEL)
    is_in_archive = len(words) == 6 and words[3] == "-c" and words[4].endswith(ARCHIVED_MAIN)
    return (is_file or is_in_archive) and _is_ours(process)


def _is_ours(process: ProcessInfo) -> bool:
    """Whether it is a living interpreter of the own user, and no container's."""
    return (
        process.is_own
        and not process.is_zombie
        and bool(runs_python(process))
        and in_own_namespace(process)
    )


def _looks_like_actor(process: ProcessInfo) -> bool:
    if process.argv and process.argv[0].startswith(TITLE_PREFIX):
        # `setproctitle` leaves one word, but a title may have any character in it.
        return _has_own_pid("\0".join(process.argv).rstrip("\0 "), process.pid)
    if is_child_command(process.argv):
        return True
    if process.comm.endswith("]"):
        return _has_own_pid(process.comm, process.pid)
    return process.comm.startswith(TITLE_PREFIX) and len(os.fsencode(process.comm)) >= COMM_SIZE


def _has_own_pid(title: str, pid: int) -> bool:
    match = TITLE.fullmatch(title)
    return match is not None and int(match["pid"]) == pid


def is_child_command(argv: Sequence[str]) -> bool:
    """Whether a command line is that of an interpreter which runs ``-m tractor._child``.

    It must be the interpreter's own option, or follow the program that sets an actor's import path: one of a script,
    or of another ``-c`` program, is none.
    """
    words = iter(argv[1:])
    for word in words:
        if word in _LONG_TAKES_VALUE:
            next(words, None)
            continue
        if word.startswith("--") and len(word) > 2:
            continue
        if not word.startswith("-") or word in ("-", "--"):
            return False
        # One-letter options may share a dash; the last of them may have its value attached.
        for place, letter in enumerate(word[1:], 2):
            attached = word[place:]
            if letter == "m":
                return (attached or next(words, "")) == CHILD_MODULE
            if letter == "c":
                code = attached or next(words, "")
                shown = [next(words, ""), next(words, "")]
                return shown == ["-m", CHILD_MODULE] and bool(_SETS_PATH.fullmatch(code))
            if letter in _TAKES_VALUE:
                if not attached:
                    next(words, None)
                break
    return False


def actor_name(process: ProcessInfo) -> str:
    """The actor's name, to be shown; its short name where it is not known."""
    if is_sentinel(process):
        return f"sentinel of {process.argv[-1]}"
    match = TITLE.fullmatch("".join(process.argv[:1]))
    if match is None and "--uid" in process.argv[:-1]:
        match = _UID_ARGUMENT.match(process.argv[process.argv.index("--uid") + 1])
    return match["name"] if match else process.comm
