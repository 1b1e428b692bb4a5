"""Finding stray actors."""

from __future__ import annotations

import contextlib
import os
import re
import sys

from tractor.reaping._actors import TITLE_PREFIX, actor_name, is_actor, is_sentinel
from tractor.reaping._table import ProcessInfo, descendants, process_table, runs_python

if sys.platform != "win32":
    import fcntl
    import termios

ADOPTERS = frozenset(
    {
        "catatonit",
        "conmon",
        "containerd-shim",
        "docker-init",
        "dumb-init",
        "init",
        "launchd",
        "s6-svscan",
        "systemd",
        "tini",
    }
)
"""Programs that are given other programs' orphans, in place of pid 1, and never start an actor."""

_PYTHON_NAME = re.compile(r"(.*/)?(python|pypy)", re.IGNORECASE)


class StrayId(int):
    """A process id, with what tells the process from a later one that got the same number.

    Attributes:
        start_time: when the process started, on a clock of the platform's; ``None`` if not known.
        name: the actor's, where it is one.
        ppid: its parent, when it was found.
    """

    start_time: float | None
    name: str
    ppid: int

    @classmethod
    def of(cls, process: ProcessInfo) -> StrayId:
        """The id of a process that was looked at."""
        self = cls(process.pid)
        self.start_time = process.start_time
        self.name = actor_name(process)
        self.ppid = process.ppid
        return self


def find_descendants(parent: int, *, only_actors: bool = False) -> list[StrayId]:
    """The processes below another one, at any depth, that belong to the own user.

    Zombies are left out, and so are this process and those above it.

    Args:
        parent: a process id.
        only_actors: leave out what can't be recognised as a subactor.  An actor that a fork backend
            made is recognised by its title, or on Linux its short name.

    Returns:
        Process ids, parents before their children.  They know when their process started, so that
        `reap` does not hit a later one with the same number.

    Raises:
        ValueError: ``parent`` is not positive.
        ProcessLookupError: there is no such process: what was below it is an orphan by now.
        RuntimeError: not on Linux, and ``psutil`` is not installed.
    """
    if parent <= 0:
        raise ValueError(f"a process id is positive, not {parent}")
    table = process_table()
    if parent not in table:
        raise ProcessLookupError(f"there is no process {parent}: what it left behind is an orphan")
    above = _self_and_above(table)
    return [
        StrayId.of(process)
        for process in descendants(table, parent)
        if process.is_own
        and not process.is_zombie
        and process.pid not in above
        and (not only_actors or is_actor(process))
    ]


def find_orphans() -> list[StrayId]:
    """The subactors of the own user whose parent is gone.

    A subactor is recognised by its process title, its command line (``-m tractor._child``) or its
    short name, and by being a Python interpreter.  It is an orphan if its parent is pid 1 or another
    program that adopts orphans (``systemd --user``, ``tini``, ...).  Where the parent may have started
    it, say a Python program that is a container's pid 1, or is some other program, the actor's
    lifeline decides: it is an orphan if no process holds the other end.

    The sentinel of an actor that is gone counts, too: it should be at its end, unless somebody stopped it.

    Actors of a container with pids of its own are never among them, seen from outside of it; nor is this
    process or one above it.  The actors below an orphan are found with `find_descendants`.

    Returns:
        Process ids; see `find_descendants`.

    Raises:
        RuntimeError: not on Linux, and ``psutil`` is not installed.
    """
    table = process_table()
    above = _self_and_above(table)
    return [
        StrayId.of(process)
        for process in table.values()
        if process.pid not in above
        and (is_actor(process) or is_sentinel(process))
        and _is_orphan(process, table)
    ]


def find_zombies(parent: int | None = None) -> list[StrayId]:
    """Processes of the own user that have ended, and whose parent has not collected them.

    They hold nothing but their pid, and no signal reaches them: they vanish once their parent waits
    for them, or ends.

    Args:
        parent: all zombies below this process; default: those that had an actor's title or short name.
            Outside of Linux nothing tells an actor's zombie from another without ``setproctitle``.

    Returns:
        Process ids; see `find_descendants`.

    Raises:
        ValueError: ``parent`` is not positive.
        RuntimeError: not on Linux, and ``psutil`` is not installed.
    """
    if parent is not None and parent <= 0:
        raise ValueError(f"a process id is positive, not {parent}")
    table = process_table()
    candidates = table.values() if parent is None else descendants(table, parent)
    return [
        StrayId.of(process)
        for process in candidates
        if process.is_zombie
        and process.is_own
        and (parent is not None or process.comm.startswith(TITLE_PREFIX))
    ]


def _self_and_above(table: dict[int, ProcessInfo]) -> set[int]:
    """This process and those above it: ending one of them would end whoever asked for it."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = table[pid].ppid if pid in table else 0
    return found


def _is_orphan(process: ProcessInfo, table: dict[int, ProcessInfo]) -> bool:
    parent = table.get(process.ppid)
    if parent is not None:
        if is_actor(parent):
            # It may be an orphan itself, and then takes this one with it.
            return False
        if (parent.pid == 1 or parent.comm in ADOPTERS) and not _may_start_actors(parent):
            return True
    elif process.ppid != 0:
        # The parent ended just now; who adopts the actor is seen next time.
        return False
    forked = parent is not None and parent.argv == process.argv
    return not forked and _lifeline_is_lost(process)


def _may_start_actors(process: ProcessInfo) -> bool:
    answer = runs_python(process)
    if answer is None:
        answer = any(_PYTHON_NAME.match(name) for name in (process.comm, *process.argv[:1]))
    return answer


def _lifeline_is_lost(process: ProcessInfo) -> bool:
    """Whether it is certain that nobody holds the other end of an actor's boot pipe.

    The descriptor's number is on the actor's command line; the pipe is opened once more, and nothing is
    taken out of it.
    """
    words = process.argv
    if sys.platform != "linux" or "--boot_fd" not in words[:-1]:
        return False
    number = words[words.index("--boot_fd") + 1]
    path = f"/proc/{process.pid}/fd/{number}"
    with contextlib.suppress(OSError):
        if number.isdecimal() and os.readlink(path).startswith("pipe:"):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                # A boot record that a stopped child has not read yet must stay.
                unread = int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)  # type: ignore[name-defined, unused-ignore]
                return unread == 0 and os.read(fd, 1) == b""
            finally:
                os.close(fd)
    return False
