"""What a test left behind: processes, threads, file descriptors, socket files."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tractor.ipc._debug_sock import CONTROL_DIR
from tractor.process._dirs import runtime_dir_path
from tractor.process._proc import ON_LINUX, all_pids, read_stat
from tractor.process._stat import pid_alive
from tractor.reaping._table import read_process
from tractor.testing._addrs import reservations
from tractor.testing._adopter import Adopter, bears_mark, private_mark
from tractor.transport._uds_leftovers import SOCKET_NAME


@dataclass(frozen=True)
class Resources:
    """What exists at one moment; members of two records are equal while they are the same thing."""

    processes: frozenset[tuple[int, str]]
    """Pid and start time of each descendant, also of those that were orphaned."""
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    """Number and target of each open file descriptor."""
    socket_files: frozenset[Path]

    @classmethod
    def now(cls) -> Resources:
        """Take stock."""
        return cls(
            processes=frozenset(_processes()),
            # trio keeps idle worker threads under this name; a busy one has its job's name.
            threads=frozenset(
                t for t in threading.enumerate() if not t.name.startswith("Trio thread ")
            ),
            descriptors=frozenset(_descriptors()),
            socket_files=frozenset(_socket_files()),
        )

    def more_than(self, before: Resources) -> list[str]:
        """One line for each thing that is here and was not there *before*."""
        return [
            *(
                f"process {pid}: {_command_line(pid)}"
                for pid, _ in sorted(self.processes - before.processes)
            ),
            *(f"thread {thread!r}" for thread in self.threads - before.threads),
            *(f"fd {fd}: {to}" for fd, to in sorted(self.descriptors - before.descriptors)),
            *(f"socket file {path}" for path in sorted(self.socket_files - before.socket_files)),
        ]


# One for all tests of a process, found in the first.
_adopter = functools.cache(Adopter.find)


def _processes() -> Iterator[tuple[int, str]]:
    """The descendants of this process, by pid and start time."""
    if not ON_LINUX:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                yield child.pid, str(child.create_time())
        return
    adopter = _adopter()
    if adopter is None:
        yield from _among_all_processes()
        return
    for pid in adopter.below():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield pid, str(read_stat(pid).start_time)


def _among_all_processes() -> Iterator[tuple[int, str]]:
    """The same without an adopter, by a look at each process of the machine.

    With those that were orphaned: whatever runs with our runtime directory in its environment, if
    that directory is one that was made for this very run.  Reads as little as it can of each.
    """
    mark = private_mark()
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    marked: set[int] = set()
    for pid in all_pids():
        try:
            stat = read_stat(pid)
            parents[pid], started[pid] = stat.ppid, str(stat.start_time)
            if mark is not None and bears_mark(pid, mark):
                marked.add(pid)
        except OSError:
            continue  # it ended while we looked, or is another user's
    me = os.getpid()
    for pid in parents:
        above = pid
        while above in parents and above != me:
            above = parents[above]
        if pid != me and (above == me or pid in marked):
            yield pid, started[pid]


def _command_line(pid: int) -> str:
    process = read_process(pid)
    if process is None:
        return "gone by now"
    return "a zombie" if process.is_zombie else " ".join(process.argv).strip() or process.comm


def _descriptors() -> Iterator[tuple[int, str]]:
    if os.name != "posix":
        return
    reserved = reservations()
    for entry in os.listdir("/proc/self/fd" if ON_LINUX else "/dev/fd"):
        fd = int(entry)
        if fd in reserved:
            continue
        # The descriptor of this very listing is closed by now, and so left out.
        with contextlib.suppress(OSError):
            if ON_LINUX:
                yield fd, os.readlink(f"/proc/self/fd/{entry}")
            else:
                info = os.fstat(fd)
                yield fd, f"{stat.filemode(info.st_mode)} inode {info.st_ino}"


def _socket_files() -> Iterator[Path]:
    unseen = [os.fspath(runtime_dir_path())]
    while unseen:
        with contextlib.suppress(OSError), os.scandir(unseen.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        unseen.append(entry.path)
                    elif stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                        path = Path(entry.path)
                        if not _is_of_a_killed_root(path):
                            yield path


def _is_of_a_killed_root(path: Path) -> bool:
    """Whether only the next root removes a file: one for users, of a process that nobody was there to tidy up after."""
    named = SOCKET_NAME.fullmatch(path.name)
    return (
        named is not None and path.parent.name == CONTROL_DIR and not pid_alive(int(named["pid"]))
    )


def leaks_since(before: Resources, grace: float = 1.0) -> list[str]:
    """What is left over since *before* and does not vanish within *grace* seconds."""
    deadline = time.monotonic() + grace
    while left := Resources.now().more_than(before):
        if time.monotonic() >= deadline:
            return left
        gc.collect()
        time.sleep(0.02)
    return []


def clean_up(before: Resources) -> None:
    """Kill and reap the processes and remove the socket files that are new since *before*."""
    now = Resources.now()
    doomed = [pid for pid, _ in now.processes - before.processes]
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    for pid in doomed:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for path in now.socket_files - before.socket_files:
        path.unlink(missing_ok=True)
