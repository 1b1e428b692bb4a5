"""What a hanging tree of processes looked like, kept in files."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import trio

from tractor._util._task_tree import (
    dump_file,
    dumped_since,
    format_here,
    format_threads,
    read_dumps,
)
from tractor.process._dirs import runtime_dir_path
from tractor.process._proc import expects_signal, read_proc
from tractor.process._stat import pid_alive
from tractor.process._state import of_process
from tractor.reaping._actors import is_actor
from tractor.reaping._table import ProcessInfo, descendants, process_table

DUMP_LIMIT = 1.0
"""Seconds that all other processes together have for their dumps."""

STATUS_FIELDS = ("Name", "State", "Threads", "SigBlk", "SigCgt", "VmRSS")

_written: list[Path] = of_process([])


def written_snapshots() -> Sequence[Path]:
    """The directories of the snapshots that this process has written, oldest first."""
    return tuple(_written)


def default_dir() -> Path:
    """Where snapshots go: ``$XDG_CACHE_HOME/tractor/hung-dumps``, or the user's own cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base, "tractor", "hung-dumps")
    import platformdirs

    return platformdirs.user_cache_path("tractor", appauthor=False) / "hung-dumps"


def try_snapshot(
    label: str, reason: str, pid: int | None = None, out_dir: Path | str | None = None
) -> Path | None:
    """`write_snapshot`, where a failure is told on stderr instead of hiding what the hang is about."""
    try:
        return write_snapshot(label, reason, pid, out_dir)
    except Exception as exc:
        print(f"no snapshot of {label!r} could be written: {exc!r}", file=sys.stderr)
        return None


def write_snapshot(
    label: str, reason: str, pid: int | None = None, out_dir: Path | str | None = None
) -> Path:
    """Write down what a process and its descendants are doing.

    Blocks for at most about a second.  Actors that have a handler for SIGUSR1 are asked for their
    task trees by that signal; no other process is disturbed.

    Args:
        label: what hangs; part of the directory's name.
        reason: why the snapshot is taken, for ``meta.json``.
        pid: the process at the top; default: this one.
        out_dir: where to make the directory; default: `default_dir`.

    Returns:
        The new directory ``<label>__<time>``, with ``trace.txt`` (process tree and stacks),
        ``bindspace.txt`` (socket files and their owners) and ``meta.json``.

    Raises:
        OSError: it could not be written.
    """
    top = os.getpid() if pid is None else pid
    now = datetime.now().astimezone()
    directory = _new_dir(default_dir() if out_dir is None else Path(out_dir), label, now)
    meta: dict[str, Any] = {
        "label": label,
        "reason": reason,
        "time": now.isoformat(),
        "pid": top,
        "written_by": os.getpid(),
        "argv": sys.argv,
        "python": sys.version,
        "platform": platform.platform(),
        "trio": trio.__version__,
    }
    (directory / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    (directory / "trace.txt").write_text("".join(_trace(top)), errors="backslashreplace")
    (directory / "bindspace.txt").write_text("".join(_bindspace()), errors="backslashreplace")
    _written.append(directory)
    return directory


def _new_dir(base: Path, label: str, now: datetime) -> Path:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", label).strip("._")[:100] or "unnamed"
    stem = f"{plain}__{now:%Y-%m-%dT%H-%M-%S}"
    for suffix in ("", *(f".{number}" for number in range(1, 1000))):
        with contextlib.suppress(FileExistsError):
            directory = base / f"{stem}{suffix}"
            directory.mkdir(mode=0o700)
            return directory
    raise FileExistsError(f"{base} holds 1000 snapshots {stem!r} already")


def _trace(top: int) -> Iterator[str]:
    try:
        table = process_table()
    except RuntimeError as exc:
        yield f"the process tree is unknown: {exc}\n"
        table = {}
    whole = [*([table[top]] if top in table else ()), *descendants(table, top)]
    yield "process tree\n============\n\n"
    yield from _tree(whole)
    if top == os.getpid():
        yield f"\nprocess {top}\n{'=' * 20}\n\n{format_here()}\n{format_threads()}"
    others = [process for process in whole if process.pid != os.getpid()]
    dumps = _dumps([process for process in others if _can_dump(process, table)])
    for process in others:
        yield f"\nprocess {process.pid}\n{'=' * 20}\n\n"
        yield dumps.get(process.pid) or "it gave no task tree\n"
        yield from _kernel_view(process.pid)


def _tree(whole: Sequence[ProcessInfo]) -> Iterator[str]:
    """The processes as an outline; the first one is at the top of it."""
    below: dict[int, list[ProcessInfo]] = {}
    for process in whole[1:]:
        below.setdefault(process.ppid, []).append(process)
    todo = [(process, 0) for process in whole[:1]]
    while todo:
        process, depth = todo.pop()
        command = "a zombie" if process.is_zombie else " ".join(process.argv) or process.comm
        yield f"{'    ' * depth}{process.pid} {command}\n"
        todo += [(child, depth + 1) for child in reversed(below.get(process.pid, ()))]


def _can_dump(process: ProcessInfo, table: dict[int, ProcessInfo]) -> bool:
    """Whether it is an actor that expects the signal, which would end any other process."""
    parent = table.get(process.ppid)
    # A forked actor has its parent's command line, where nothing could give it a title.
    forked = parent is not None and parent.argv == process.argv
    return (
        process.is_own
        and (forked or is_actor(process))
        and expects_signal(process.pid, signal.SIGUSR1)  # type: ignore[attr-defined, unused-ignore]
    )


def _dumps(actors: Sequence[ProcessInfo]) -> dict[int, str]:
    """Ask processes for their dumps; what came within the limit, by pid."""
    pids = [actor.pid for actor in actors]
    began = {pid: len(read_dumps(dump_file(pid))) for pid in pids}
    # Those in the middle relay the signal; who has not got it by half the time is asked from here.
    _signal(actor.pid for actor in actors if actor.ppid not in began)
    now = time.monotonic()
    relayed_by: float = now + DUMP_LIMIT / 2
    deadline = now + DUMP_LIMIT
    found: dict[int, str] = {}
    while len(found) < len(pids) and time.monotonic() < deadline:
        if time.monotonic() >= relayed_by:
            relayed_by = deadline
            _signal(a.pid for a in actors if a.ppid in began and a.pid not in found)
        for pid in pids:
            if pid not in found and (text := dumped_since(pid, began[pid])) is not None:
                found[pid] = text
        time.sleep(0.01)
    for pid in found:
        if not began[pid]:
            dump_file(pid).unlink(missing_ok=True)
    return found


def _signal(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)  # type: ignore[attr-defined, unused-ignore]


def _kernel_view(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in read_proc(pid, "status").decode(errors="replace").splitlines():
            if line.partition(":")[0] in STATUS_FIELDS:
                yield f"{line}\n"
    for name in ("wchan", "syscall"):
        with contextlib.suppress(OSError):
            yield f"{name}: {read_proc(pid, name).decode().strip()}\n"


def _bindspace() -> Iterator[str]:
    directory = runtime_dir_path()
    yield f"{directory}\n"
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                yield f"    {path.relative_to(directory)}: {_owner(path.name)}\n"


def _owner(filename: str) -> str:
    found = re.search(r"@(\d+)\.sock$", filename)
    if found is None or not 0 < int(found[1]) < 2**31:
        return "its name tells no process"
    pid = int(found[1])
    return f"process {pid} runs" if pid_alive(pid) else f"process {pid} is gone"
