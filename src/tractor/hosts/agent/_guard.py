"""The agent's sentinel: a process beside it that ends what the agent can't, being killed or stopped.

An agent that is killed drops the lifelines, and what can run ends by them; what is stopped is killed by the sentinel.
An agent that is *stopped* keeps them, and would let all below it run on beyond the lease: the sentinel knows when that
ends, and then kills the agent, too.

It has the last word.  Where the agent was killed, and the link is whole, the other side would have to wait for the end
of the lease.  So the sentinel keeps the link open, and says ``dead`` over it: once the agent and every child of it are
gone, and those below them have had the time in which they end.  It writes nothing while the agent lives.  A frame that
the agent was killed in the middle of makes nonsense of it, and the lease is left to tell, as it is where no sentinel
is, or where it is killed, too; and where the link is sealed, which nobody but the agent can write to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from tractor._proto.deadlines import LEASE_SLACK, TEARDOWN_TIME
from tractor.hosts._frames import encode
from tractor.hosts.agent._facts import lease_clock, start_time
from tractor.process.sentinel._sentinel_main import Sentinel

GONE_AFTER = TEARDOWN_TIME - 0.1
"""Seconds after the agent's end in which what is below its children has ended, too; see there."""

MAX_PENDING = 256 * 1024
"""Bytes that a sentinel has not read: then it is stopped itself, and another one is started."""


class LeaseSentinel(Sentinel):
    """A sentinel that also takes these lines:

    - ``lease TIME``: the actor, here the agent, is killed then, by :func:`~tractor.hosts.agent._facts.lease_clock`;
      the next such line takes this one's place;
    - ``leave``: the agent ends; from now on what is below it has the grace.
    """

    def __init__(self, fd: int, link_fd: int) -> None:
        super().__init__(fd)
        self._lease: float | None = None
        self._link_fd = link_fd
        self._died_at: float | None = None

    def run(self) -> None:
        """Watch until the agent is gone and everything below it too; then say so."""
        super().run()
        if self.below or self._died_at is None or self._link_fd < 0:
            # Something could not be killed; or the agent lives, and closes the pipe at its end.
            return
        time.sleep(max(0.0, self._died_at + GONE_AFTER - time.monotonic()))
        with contextlib.suppress(OSError):
            os.write(self._link_fd, encode({"t": "dead"}))

    def take(self, kind: bytes, rest: bytes) -> None:
        """Take one line.  Raises ValueError, OverflowError: it makes no sense."""
        if kind == b"lease":
            self._lease = float(rest)
        elif kind == b"leave":
            self.lost_at = self.lost_at or time.monotonic()
        else:
            super().take(kind, rest)

    def wait(self, timeout: float | None) -> None:
        """Sleep until something happens, at most ``timeout`` seconds, and take note of it."""
        if self._lease is not None:
            left = max(0.0, self._lease - lease_clock())
            timeout = left if timeout is None else min(left, timeout)
        super().wait(timeout)
        if self._died_at is None and self.actor is not None and self.actor.gone():
            self._died_at = time.monotonic()
        if self._lease is not None and lease_clock() >= self._lease:
            self._lease = None
            if self.actor is not None:
                self.actor.kill()


class Guard:
    """The agent's side of it.  Its methods never wait and never fail.

    Args:
        warn: told when the sentinel had to be replaced, or can't be.
        link_fd: where it says that the agent is dead; -1: nowhere.

    Attributes:
        pid: the sentinel's; 0: there is none.
    """

    def __init__(self, warn: Callable[[str], None], link_fd: int) -> None:
        self._warn = warn
        self._link_fd = link_fd
        self._below: dict[int, float | None] = {}
        self._lease_line = b""
        self.pid = 0
        self._fd = -1
        self._pending = bytearray()
        self._start()

    def add(self, pid: int, start: float | None) -> None:
        """A process was started; that one ends, it sees itself."""
        self._below[pid] = start
        self._put(_line(b"below", pid, start))

    def discard(self, pid: int) -> None:
        """A process was reaped."""
        self._below.pop(pid, None)

    def lease(self, until: float) -> None:
        """The lease runs until then."""
        self._lease_line = b"lease %r\n" % (until + LEASE_SLACK)
        self._put(self._lease_line)

    def leave(self, until: float) -> None:
        """The agent ends: it will be gone by then."""
        self.lease(until)
        self._put(b"leave\n")

    def reaped(self, pid: int, status: int) -> bool:
        """Whether a process that was reaped is the sentinel; another one is started then."""
        if pid != self.pid:
            return False
        self.pid = 0
        self._warn(f"the agent's sentinel ended with status {status}; another one is started")
        self._start()
        return True

    def close(self) -> None:
        """End it: nothing is left to be guarded.  Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        pid, self.pid = self.pid, 0
        if pid:
            # An unreaped child: the number means no other process.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
                os.waitpid(pid, 0)

    def _put(self, line: bytes) -> None:
        self._pending += line
        try:
            while self._fd >= 0 and self._pending:
                del self._pending[: os.write(self._fd, self._pending)]
        except BlockingIOError:
            if len(self._pending) > MAX_PENDING:
                self._warn("the agent's sentinel reads nothing; another one is started")
                self.close()
                self._start()
        except OSError:
            # It is gone, and will be reaped.
            self._pending.clear()

    def _start(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self.pid, self._fd = _fork(self._link_fd)
        except OSError as exc:
            self._warn(f"no sentinel could be started ({exc}); actors are left to their lifelines")
            return
        me = os.getpid()
        below = b"".join(_line(b"below", *one) for one in self._below.items())
        self._pending = bytearray(_line(b"self", me, start_time(me)) + self._lease_line + below)
        self._put(b"")


def _line(kind: bytes, pid: int, start: float | None) -> bytes:
    return b"%b %d %b\n" % (kind, pid, b"-" if start is None else repr(start).encode())


def _fork(link_fd: int) -> tuple[int, int]:
    """Start a sentinel; its pid, and the end of the pipe that it is told by.  Raises OSError."""
    read_fd, write_fd = os.pipe()
    # Signals stay blocked in it: it must outlive what ends the others.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # type: ignore[attr-defined, unused-ignore]
    try:
        pid = os.fork()  # type: ignore[attr-defined, unused-ignore]
        if pid == 0:
            _be_sentinel(read_fd, link_fd)
    except BaseException:
        os.close(write_fd)
        raise
    finally:
        os.close(read_fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # type: ignore[attr-defined, unused-ignore]
    os.set_blocking(write_fd, False)  # type: ignore[attr-defined, unused-ignore]
    return pid, write_fd


def _be_sentinel(read_fd: int, link_fd: int) -> None:
    try:
        # Away from the terminal and the engine's group, and with nothing open that others wait for the end of.
        os.setsid()  # type: ignore[attr-defined, unused-ignore]
        signal.set_wakeup_fd(-1)
        os.chdir("/")
        if link_fd >= 0:
            # Above what is overwritten here.
            while link_fd < 4 or read_fd == 3:
                link_fd, read_fd = os.dup(link_fd), os.dup(read_fd)
            os.dup2(link_fd, 3)
        os.dup2(read_fd, 0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _close_from(3 if link_fd < 0 else 4)
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
            comm.write("tractor-sentinel"[:15])
        LeaseSentinel(0, -1 if link_fd < 0 else 3).run()
    finally:
        os._exit(0)


def _close_from(first: int) -> None:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        limit = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else 0
        numbers = list(range(first, min(limit, 65536)))
    for fd in numbers:
        if fd >= first:
            with contextlib.suppress(OSError):
                os.close(fd)
