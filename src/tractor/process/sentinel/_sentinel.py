"""The actor's side of its sentinel, the process that ends its subactors when neither it nor they can.

The lifeline ends whatever can run a thread, gracefully.  A sentinel is the net behind it, for a process that is stopped
or whose threads all wait for the GIL.  An actor has one while it has subactors.  Its program is
:mod:`tractor.process.sentinel._sentinel_main`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import trio

from tractor import log as _log
from tractor.process._ancestry import ancestry
from tractor.process._at_fork import on_fork
from tractor.process._file_mark import file_mark
from tractor.process._frozen import is_frozen, is_supported
from tractor.process._stat import ProcessId
from tractor.process._state import ProcessVar, of_process

log = _log.get_logger()

PROGRAM = Path(__file__).absolute().with_name("_sentinel_main.py")
MODULE = "tractor.process.sentinel._sentinel_main"
ARCHIVED_MAIN = f"; from {MODULE} import main; main()"
"""How the program that starts it ends where it is in an archive."""


class _Running:
    """One started sentinel, and the lines that have not reached it yet."""

    def __init__(self) -> None:
        read_fd, self._fd = os.pipe()
        try:
            # Never to be waited for, not even if somebody has stopped it.
            os.set_blocking(self._fd, False)  # type: ignore[attr-defined, unused-ignore]
            self.popen = _launch(read_fd)
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(read_fd)
        self._pending = bytearray()

    def put(self, lines: Iterable[bytes]) -> bool:
        """Tell it; ``False``: it is gone."""
        self._pending += b"".join(lines)
        try:
            while self._pending:
                del self._pending[: os.write(self._fd, self._pending)]
        except BlockingIOError:
            # Goes out with the next line.
            return True
        except OSError:
            return False
        return True

    def end(self) -> int:
        """Kill and reap it; its exit status."""
        os.close(self._fd)
        self.popen.kill()
        return self.popen.wait()

    def disown(self) -> None:
        """In a forked child: it is the parent's, and must see the parent's end."""
        os.close(self._fd)
        self.popen.returncode = 0


# One for each process (and sub-interpreter), as there is one actor.
_running: ProcessVar[_Running | None] = ProcessVar(lambda: None)
_children: dict[int, ProcessId] = of_process({})
_files: dict[Path, bytes] = of_process({})
_does_not_work = ProcessVar(lambda: False)


def sentinel_pid() -> int | None:
    """The pid of this actor's sentinel; ``None`` while there is none."""
    return None if _running.value is None else _running.value.popen.pid


@trio.lowlevel.enable_ki_protection
def guard(child: ProcessId) -> ProcessId | None:
    """Have a child killed when this process, or one above it, is gone and the child does not end by itself.

    Starts the sentinel if there is none, or if it was killed.  Where none can be started (no POSIX; with a warning:
    out of processes, an interpreter that does not run alone) the lifeline is all there is.

    Args:
        child: It.  One that shares this process is passed over: it ends with it.  So is one of another host.

    Returns:
        The sentinel's own id if one was started.
    """
    if not child.is_here or child.pid == os.getpid():
        return None
    _children[child.pid] = child
    return _tell([_line("below", child)])


@trio.lowlevel.enable_ki_protection
def guard_files(paths: Iterable[Path]) -> ProcessId | None:
    """Have socket files of this actor or its children removed once this process was killed, and they are dead.

    A file that was removed or replaced meanwhile is left alone.

    Args:
        paths: Files; what is not a socket of the own user is passed over.

    Returns:
        The sentinel's own id if one was started.
    """
    found = {path: line for path in paths if (line := _file_line(path)) is not None}
    lines = [line for path, line in found.items() if _files.get(path) != line]
    _files.update(found)
    return _tell(lines) if lines and _children else None


def forget(pid: int, paths: Iterable[Path] = ()) -> None:
    """A child was reaped, and its files are gone."""
    # The sentinel has seen the end itself.
    _children.pop(pid, None)
    for path in paths:
        _files.pop(path, None)


@trio.lowlevel.enable_ki_protection
def stand_down() -> int | None:
    """End the sentinel, when no child is left; it is reaped.  Idempotent.

    Returns:
        The pid that it had; ``None`` if there was none.
    """
    _children.clear()
    _files.clear()
    running, _running.value = _running.value, None
    if running is None:
        return None
    running.end()
    return running.popen.pid


def _tell(lines: Iterable[bytes]) -> ProcessId | None:
    if _running.value is not None:
        if _running.value.put(lines):
            return None
        running, _running.value = _running.value, None
        status = running.end()
        _does_not_work.value = status > 0
        log.warning(
            "sentinel %s ended with status %s; %s",
            running.popen.pid,
            status,
            "subactors are left to their lifelines"
            if _does_not_work.value
            else "starting another one",
        )
    if _does_not_work.value or not _can_run():
        return None
    try:
        _running.value = _Running()
    except Exception as exc:
        # Whatever keeps the net from being there is no reason not to have the child.
        log.warning("no sentinel could be started (%s); subactors are left to their lifelines", exc)
        return None
    own = _line("self", ProcessId.of(os.getpid()))
    above = [_line("above", one) for one in ancestry()]
    below = [_line("below", one) for one in _children.values()]
    _running.value.put([own, *above, *below, *_files.values()])
    return ProcessId.of(_running.value.popen.pid)


def _after_fork() -> None:
    running, _running.value = _running.value, None
    _children.clear()
    _files.clear()
    if running is not None:
        with contextlib.suppress(OSError):
            running.disown()


on_fork(_after_fork, always=True)


def _can_run() -> bool:
    # The executable of a frozen program is that program.
    return os.name == "posix" and bool(sys.executable) and is_supported()


def _launch(read_fd: int) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        raise NotImplementedError
    # Signals stay blocked in it: it must outlive what ends the others.  In a session of its own neither a
    # ctrl-c, a ctrl-z nor the terminal's end reaches it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return subprocess.Popen(
            [sys.executable, *_program(), str(os.getpid())],
            stdin=read_fd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _program() -> list[str]:
    if is_frozen():
        return ["-m", MODULE]
    if PROGRAM.is_file():
        return ["-I", "-S", str(PROGRAM)]
    # In an archive.
    path = f"import sys; sys.path[:0] = [{str(PROGRAM.parents[3])!a}]"
    return ["-I", "-S", "-c", f"{path}{ARCHIVED_MAIN}"]


def _line(kind: str, process: ProcessId) -> bytes:
    start = "-" if process.start_time is None else repr(process.start_time)
    return f"{kind} {process.pid} {start}\n".encode()


def _file_line(path: Path) -> bytes | None:
    mark = file_mark(path)
    raw = os.fsencode(os.path.abspath(path))
    if mark is None or b"\n" in raw:
        return None
    return b"file %d %d %d %b\n" % (*mark, raw)
