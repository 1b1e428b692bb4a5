"""Processes for the reaper's tests: stray actors, and what only looks like one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT = 20.0
"""Seconds that anything here may take before a test fails."""

ACTOR = [sys.executable, "-m", "tractor._child", "--uid", "('stray', 'abc')"]
"""The beginning of an actor's command line."""

_LAUNCH = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[2:], executable=sys.argv[1] or None, close_fds=False,
                         start_new_session=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
os._exit(0)
"""


def until(condition: object, what: str) -> None:
    """Wait until a call gives something true."""
    deadline = time.monotonic() + LIMIT
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {LIMIT} s: {what}"
        time.sleep(0.005)


def state(pid: int) -> str:
    """The letter for a process's state; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def runs(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Started:
    """A process below a launcher, which can be ended to orphan it."""

    def __init__(self, argv: list[str], executable: str = "", fds: tuple[int, ...] = ()) -> None:
        self._launcher = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCH, executable, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
        )
        assert self._launcher.stdout is not None
        self.pid = int(self._launcher.stdout.readline())
        self.launcher = self._launcher.pid

    def orphan(self) -> int:
        """End the launcher."""
        self._end_launcher()
        until(lambda: not runs(self.pid) or parent_of(self.pid) != self.launcher, "an orphan")
        return self.pid

    def _end_launcher(self) -> None:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.close()
        self._launcher.stdout.close()
        self._launcher.wait(LIMIT)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: state(self.pid) == "T", "stopped")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._end_launcher()
        until(lambda: not runs(self.pid), "killed")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)  # where this process adopts orphans


@contextlib.contextmanager
def started(
    argv: list[str], executable: str = "", fds: tuple[int, ...] = (), says: Path | None = None
) -> Iterator[Started]:
    """Run a program below a launcher; with *says* once that file exists."""
    process = Started(argv, executable, fds)
    try:
        if says is not None:
            until(says.exists, f"{says.name} by {argv}")
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def booting_actor(stopped: bool = True) -> Iterator[tuple[Started, int]]:
    """An actor that waits for its boot record, so that nothing of its runtime is at work yet.

    Yields it and the write end of its boot pipe, which this process holds.
    """
    read_fd, write_fd = os.pipe()
    argv = [*ACTOR, "--parent_addr", "('127.0.0.1', 1)", "--boot_fd", str(read_fd)]
    try:
        with started(argv, fds=(read_fd,)) as process:
            os.close(read_fd)
            read_fd = -1
            until(lambda: has_word(process.pid, "--boot_fd"), "the actor's command line")
            if stopped:
                process.stop()
            yield process, write_fd
    finally:
        for fd in (read_fd, write_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


def has_word(pid: int, word: str) -> bool:
    """Whether it is on the command line of a process, other than of the launcher's copy."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return word.encode() in words and b"-S" not in words


def titled(title: str, ready: Path, more: str = "") -> list[str]:
    """A Python program with a process title, in which ``{pid}`` stands for its own pid."""
    code = (
        "import os, time, setproctitle\n"
        f"setproctitle.setproctitle({title!r}.format(pid=os.getpid()))\n"
        f"{more}\n"
        f"open({str(ready)!r}, 'w').close()\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, "-c", code]


def set_adopter(on: bool) -> None:
    """Have this process adopt the orphans below it, or no longer."""
    pr_set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(pr_set_child_subreaper, int(on), 0, 0, 0) == 0
