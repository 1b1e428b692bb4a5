"""A process above a test session that is given the orphans below it, in place of pid 1.

With it the descendants of the session, the orphaned ones too, are its children and those of the
session: two small files of `/proc` tell all of them, however many processes the machine has.
The session itself is not an adopter: an orphan that ended would stay its zombie, where everywhere else
somebody collects it at once, and would not be told from a child that the code under test forgot.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tractor.process._proc import read_proc, read_stat

VARIABLE = "TRACTOR_TESTS_ADOPTER"
"""The adopter's pid, in the environment of all that runs below it."""

SCRIPT = f'printf init >/proc/$$/comm; trap : INT; {VARIABLE}=$$ "$@"; exit $?'
"""What the adopter does: run the session, collect whatever ends meanwhile, pass on the status.

It is a shell, and named `init`, which it is to the orphans: no program that may have started them.
A ctrl-c is for the session to answer; a trap, other than an ignored signal, is not inherited.
"""

EXEC_LOOKS, EXEC_PAUSE = 100, 0.002
"""How often, and how many seconds apart, a process is looked at whose `exec` is not over."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def children_of(pid: int) -> list[int]:
    """The children of a process, zombies included; none if there is no such process.

    Raises:
        OSError: the list can't be read.
    """
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{task}/children", "rb") as file,
            ):
                found += map(int, file.read().split())
    return found


class Adopter:
    """The adopter of this process's orphans, and what tells them from others that it adopted."""

    def __init__(self, pid: int, above: frozenset[int], mark: bytes | None) -> None:
        """Args: the adopter's pid; this process and all above it; what is in the environment of
        this process's descendants only, ``None`` where all that was adopted is one of them."""
        self._pid = pid
        self._above = above
        self._mark = mark

    @classmethod
    def find(cls) -> Adopter | None:
        """The adopter of the orphans below this process, where they can be told from others."""
        value = os.environ.get(VARIABLE, "")
        if not value.isdecimal() or not lists_children():
            return None
        pid, above = int(value), _self_and_above()
        # Beside this process there may be other workers, or the test that started it.
        mark = None if os.getppid() == pid else private_mark()
        if pid not in above or (mark is None and os.getppid() != pid):
            return None
        return cls(pid, above, mark)

    def below(self) -> list[int]:
        """All processes below this one and below its orphans, zombies included, each once.

        Raises:
            OSError: they could not be listed.
        """
        found: list[int] = []
        seen = set(self._above)
        level = children_of(os.getpid())
        level += (pid for pid in children_of(self._pid) if pid not in seen and self._is_ours(pid))
        while level := [pid for pid in level if pid not in seen]:
            seen.update(level)
            found += level
            level = [child for pid in level for child in children_of(pid)]
        return found

    def _is_ours(self, pid: int) -> bool:
        if self._mark is None:
            return True
        try:
            return bears_mark(pid, self._mark)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False  # it ended while we looked, or is another user's


def bears_mark(pid: int, mark: bytes) -> bool:
    """Whether a process was started with this in its environment.

    Whoever started a process may know already that its program runs, while the kernel has not put the environment there
    yet: it reads as empty then, and so do the arguments.  That moment is waited for.

    Raises:
        OSError: the process is gone, a zombie, a thread of the kernel's, or another user's.
    """
    for _ in range(EXEC_LOOKS):
        if environ := read_proc(pid, "environ"):
            return mark in environ
        if read_proc(pid, "cmdline"):
            break
        time.sleep(EXEC_PAUSE)
    # That moment may have ended between the two looks.
    return mark in read_proc(pid, "environ")


def private_mark() -> bytes | None:
    """The runtime directory, if it was made by this process and so tells what runs below it.

    A process's environment reads as it was at its start: a directory that was set since is not in
    our own, but in that of every process that we have started.
    """
    mark = os.fsencode(os.environ.get("XDG_RUNTIME_DIR", ""))
    if sys.platform != "linux" or not mark or mark in Path("/proc/self/environ").read_bytes():
        return None
    return mark


def _self_and_above() -> frozenset[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = read_stat(pid).ppid
    return frozenset(found)


def lists_children() -> bool:
    """Whether this system's `/proc` has the files that `children_of` reads."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def restart_below_adopter(first: Callable[[], object] = bool) -> None:
    """Start this very program anew, by its command line, below an adopter; it does not return.

    It does return where that has been done already, or can't be: not on Linux, or on one whose
    `/proc` does not list children.  Call it while the program has not begun anything.

    Args:
        first: called before the new start, and not where there is none: it puts the standard
            streams back in their place.
    """
    if VARIABLE in os.environ:
        if os.environ[VARIABLE] == str(os.getppid()):
            # Whoever ends the process that it started means this one.
            _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return
    shell = shutil.which("sh")
    if sys.platform != "linux" or shell is None or not lists_children():
        return
    if _prctl(PR_SET_CHILD_SUBREAPER, 1):
        first()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(shell, ["sh", "-c", SCRIPT, "init", sys.executable, *sys.orig_argv[1:]])


def _prctl(option: int, value: int) -> bool:
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
