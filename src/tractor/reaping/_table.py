"""The machine's processes, as far as the reaper must know them."""

from __future__ import annotations

import functools
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from tractor._util.dist._name import pip_install
from tractor.process._proc import ON_LINUX, OUT_OF_RESOURCES, all_pids, read_proc, read_stat

_INTERPRETER = re.compile(r"(python|pypy|libpython)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class ProcessInfo:
    """One process at the moment when it was looked at."""

    pid: int
    ppid: int
    uid: int | None
    """The real user id; ``None`` where there are none."""
    start_time: float | None
    """With the pid it identifies the process; comparable with others of this platform only."""
    comm: str
    """The short name."""
    argv: tuple[str, ...]
    """The command line, or the process title that replaced it; empty where it can't be read."""
    is_zombie: bool

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the user of this process."""
        return self.uid is None or self.uid == os.getuid()  # type: ignore[attr-defined, unused-ignore]


def process_table() -> dict[int, ProcessInfo]:
    """All processes that can be seen, by pid.

    Raises:
        OSError: this process is out of descriptors.
        RuntimeError: not on Linux, and psutil is not installed.
    """
    found = map(read_process, all_pids() if ON_LINUX else _pids())
    return {process.pid: process for process in found if process is not None}


def read_process(pid: int) -> ProcessInfo | None:
    """One process, or ``None`` if there is none (any more).

    Raises:
        OSError: this process is out of descriptors.
        RuntimeError: not on Linux, and psutil is not installed.
    """
    return _read_proc(pid) if ON_LINUX else _read_psutil(pid)


def _read_proc(pid: int) -> ProcessInfo | None:
    try:
        stat = read_stat(pid)
        uid = int(read_proc(pid, "status").partition(b"\nUid:")[2].split(maxsplit=1)[0])
        line = _command_line(pid)
        if read_stat(pid).start_time != stat.start_time:
            return None  # it ended meanwhile, and what was read is of two processes
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        return None
    except (IndexError, ValueError):
        return None
    # A title that is shorter than the command line that it replaced is padded with NULs.
    argv = tuple(os.fsdecode(word) for word in line.rstrip(b"\0").split(b"\0")) if line else ()
    return ProcessInfo(
        pid=pid,
        ppid=stat.ppid,
        uid=uid,
        start_time=stat.start_time,
        comm=os.fsdecode(stat.comm),
        argv=argv,
        is_zombie=stat.has_ended,
    )


def _command_line(pid: int) -> bytes:
    """As it stands in ``/proc``; nothing where one may not look."""
    try:
        return read_proc(pid, "cmdline")
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        return b""


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise RuntimeError(
            f"looking at processes on {sys.platform} needs psutil: {pip_install('testing')}"
        ) from None
    return psutil


def _pids() -> list[int]:
    pids: list[int] = _psutil().pids()
    return pids


def _read_psutil(pid: int) -> ProcessInfo | None:
    psutil = _psutil()
    error: type[Exception] = psutil.Error
    try:
        process = psutil.Process(pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        uid = process.uids().real if hasattr(process, "uids") else None
        ppid, start_time, comm = process.ppid(), process.create_time(), process.name()
    except error:
        return None
    try:
        argv = tuple(process.cmdline())
    except error:
        argv = ()
    return ProcessInfo(pid, ppid, uid, start_time, comm, argv, is_zombie)


def descendants(table: dict[int, ProcessInfo], parent: int) -> list[ProcessInfo]:
    """All processes below *parent*, each before those below it."""
    children: dict[int, list[ProcessInfo]] = {}
    for process in table.values():
        if process.pid != process.ppid:
            children.setdefault(process.ppid, []).append(process)
    found: list[ProcessInfo] = []
    # The table is not a snapshot of one moment: a reused pid could close a circle.
    seen = {parent}
    level = [parent]
    while level:
        below = [p for pid in level for p in children.get(pid, ()) if p.pid not in seen]
        seen.update(process.pid for process in below)
        found += below
        level = [process.pid for process in below]
    return found


def runs_python(process: ProcessInfo) -> bool | None:
    """Whether the program is Python, or has it inside; ``None`` where one may not look."""
    if not ON_LINUX:
        program = _exe_by_psutil(process)
        return bool(_INTERPRETER.match(os.path.basename(program))) if program else None
    try:
        program = os.readlink(f"/proc/{process.pid}/exe").removesuffix(" (deleted)")
        if _INTERPRETER.match(os.path.basename(program)):
            return True
        with open(f"/proc/{process.pid}/maps", encoding="utf-8", errors="replace") as maps:
            return any("/libpython" in line or "/libpypy" in line for line in maps)
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        return None


def _exe_by_psutil(process: ProcessInfo) -> str:
    psutil = _psutil()
    try:
        program: str = psutil.Process(process.pid).exe()
    except psutil.Error:
        return ""
    return program


def in_own_namespace(process: ProcessInfo) -> bool:
    """Whether it is not a container's: that has a reaper of its own, and other pids in its titles."""
    if not ON_LINUX:
        return True
    try:
        return os.readlink(f"/proc/{process.pid}/ns/pid") == _own_namespace()
    except OSError:
        return False


@functools.cache
def _own_namespace() -> str:
    return os.readlink("/proc/self/ns/pid")
