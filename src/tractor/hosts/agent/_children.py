"""Processes that an agent has started, each with its lifeline and what it has printed."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tractor.hosts.agent._facts import start_time
from tractor.process._proc import ON_LINUX, all_pids, read_stat
from tractor.process.sentinel._sentinel_main import ProcessWatch

RING_SIZE = 256 * 1024
"""Bytes that one child has printed and that could not be sent yet."""

LAST_WORDS = 16 * 1024
"""So many of them go before the news of its end where the link is slow."""

DRAIN_TIME = 0.2
"""Seconds after its end in which what a child has printed is still read: others may hold the pipe open."""

_READ_SIZE = 64 * 1024

_PIPE_SIZE = 1024 * 1024
"""Bytes that a pipe holds at most, unless root has said otherwise."""


class Order(NamedTuple):
    """What is to be started.

    Attributes:
        argv: program and arguments; ``{boot_fd}`` and ``{python}`` in them are replaced.
        env: variables beside the agent's own.
        cwd: working directory; ``~`` is the home; ``None``: the agent's.
        path: entries to be added to ``sys.path`` there, as paths.
        boot: what the boot pipe holds.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    path: Sequence[str]
    boot: bytes


class Child:
    """A process, from its start until its end was told.

    Attributes:
        id: what the other side calls it.
        pid: its process id, which is no other's until :meth:`ended` was called.
        start: when it started, in seconds after the boot; ``None``: nothing tells.
        output: the read end of its stdout and stderr; -1: closed.
        status: how it ended (``-N``: killed by signal ``N``); ``None``: it was not reaped.
        ended_at: when that was noted.
        printed: what was not sent yet.
        dropped: bytes that were lost before that.
        is_full: no more is read for now.
    """

    def __init__(self, ident: str | int, pid: int, lifeline: int, output: int) -> None:
        self.id = ident
        self.pid = pid
        self.start = start_time(pid)
        self.output = output
        self.status: int | None = None
        self.ended_at = 0.0
        self.printed = bytearray()
        self.dropped = 0
        self.is_full = False
        self._lifeline = lifeline

    def read(self) -> bool:
        """Read once what it has printed; ``False``: there was nothing.  At the end of file its output is closed."""
        try:
            data = os.read(self.output, _READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.printed += data
        self.keep(RING_SIZE)
        if not data:
            self.close_output()
        return bool(data)

    def drain(self) -> None:
        """Read what is there, a pipe's worth, and no more from then on: others may write to it for ever."""
        for _ in range(_PIPE_SIZE // _READ_SIZE):
            if self.output < 0 or not self.read():
                break
        self.close_output()

    def keep(self, size: int) -> None:
        """Keep no more than the last bytes of what it has printed."""
        too_many = len(self.printed) - size
        if too_many > 0:
            self.dropped += too_many
            del self.printed[:too_many]

    def take(self, size: int) -> tuple[bytes, int]:
        """The oldest bytes, at most so many, and how many were lost before them; they are here no more."""
        data, dropped = bytes(self.printed[:size]), self.dropped
        del self.printed[:size]
        self.dropped = 0
        return data, dropped

    def signal(self, number: int) -> bool:
        """Send a signal; ``False``: it has ended."""
        if self.status is not None:
            return False
        # It has not been reaped, so the number is its own.
        try:
            os.kill(self.pid, number)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let it see the end of its lifeline.  Idempotent."""
        fd, self._lifeline = self._lifeline, -1
        if fd >= 0:
            # The byte is for an end that a process which it has forked off may hide, holding the other end, too.
            with contextlib.suppress(OSError):
                if _has_reader(fd):
                    os.write(fd, b"\0")
            os.close(fd)

    def ended(self, status: int, now: float) -> None:
        """It was reaped."""
        self.status, self.ended_at = status, now
        self.release()

    def close_output(self) -> None:
        """Read no more.  Idempotent."""
        fd, self.output = self.output, -1
        if fd >= 0:
            os.close(fd)


def start_child(ident: str | int, order: Order) -> Child:
    """Start a process in a process group of its own: what is meant for the engine's group does not reach it.

    It has the null device as stdin, one pipe as stdout and stderr, the boot pipe's read end, and no other descriptor
    of the agent's.  The import path goes before what ``PYTHONPATH`` has: it adds to ``sys.path`` and replaces nothing.

    Raises:
        OSError: no such program or folder, or the machine is out of something.
        ValueError: something that can be no argument, variable or path, or a boot record that a pipe can't hold.
    """
    with contextlib.ExitStack() as here:
        boot_fd, lifeline = _pipe(here)
        output, printed = _pipe(here)
        os.set_blocking(lifeline, False)  # type: ignore[attr-defined, unused-ignore]
        os.set_blocking(output, False)  # type: ignore[attr-defined, unused-ignore]
        # Before there is a process: a write that would wait fails, and leaves nothing behind.
        if order.boot and os.write(lifeline, order.boot) != len(order.boot):
            raise ValueError(f"a pipe can't hold a boot record of {len(order.boot)} bytes")
        popen = subprocess.Popen(
            [_filled_in(arg, boot_fd) for arg in order.argv],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            env=_environment(order),
            cwd=None if order.cwd is None else os.path.expanduser(order.cwd),
            pass_fds=(boot_fd,),
            process_group=0,
        )
        # It is reaped with all others, by the agent.
        popen.returncode = 0
        child = Child(ident, popen.pid, lifeline, output)
        here.pop_all()
    os.close(boot_fd)
    os.close(printed)
    return child


def _pipe(here: contextlib.ExitStack) -> tuple[int, int]:
    fds = os.pipe()
    for fd in fds:
        here.callback(os.close, fd)
    return fds


def _filled_in(arg: str, boot_fd: int) -> str:
    return arg.replace("{boot_fd}", str(boot_fd)).replace("{python}", sys.executable)


def _environment(order: Order) -> dict[str, str]:
    env = {**os.environ, **order.env}
    if order.path:
        if bad := [entry for entry in order.path if os.pathsep in entry]:
            raise ValueError(f"an import path's entry can't have {os.pathsep!r} in it: {bad[0]!r}")
        before = env.get("PYTHONPATH")
        env["PYTHONPATH"] = os.pathsep.join([*order.path, *([before] if before else [])])
    return env


def _has_reader(fd: int) -> bool:
    poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
    poll.register(fd, select.POLLOUT)  # type: ignore[attr-defined, unused-ignore]
    # A pipe without a reader would give SIGPIPE, which the agent's starter may have set to end it.
    return bool(poll.poll(0) == [(fd, select.POLLOUT)])  # type: ignore[attr-defined, unused-ignore]


def reap(note: Callable[[int, int], None]) -> None:
    """Take up every child that has ended, orphans of what was started included; tells pid and status of each."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)  # type: ignore[attr-defined, unused-ignore]
        except ChildProcessError:
            return
        if pid == 0:
            return
        note(pid, os.waitstatus_to_exitcode(status))


def processes_below(root: int, but: int) -> dict[int, float]:
    """What runs below a process, by the kernel's word, without one child and what is below that.

    Returns:
        When each started, by pid; zombies are left out.  Empty where nothing tells.
    """
    if not ON_LINUX:
        return {}
    above: dict[int, tuple[int, float]] = {}
    try:
        pids = all_pids()
    except OSError:
        return {}
    for pid in pids:
        # It may end while we look.
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = read_stat(pid)
            if not stat.has_ended:
                above[pid] = stat.ppid, stat.start_time
    found = {root}
    while True:
        more = {pid for pid, (ppid, _) in above.items() if ppid in found and pid != but} - found
        if not more:
            return {pid: above[pid][1] for pid in found - {root}}
        found |= more


def kill_below(root: int, but: int) -> None:
    """Kill what :func:`processes_below` finds."""
    for pid, start in processes_below(root, but).items():
        process = ProcessWatch(pid, start)
        process.kill()
        process.close()
