"""The agent: one thread, one loop, which waits for no link and for no child.

It ends, and takes all below it along, when it is told to, when the link ends or its lease does, when the process above
it (the engine's) has ended, and on SIGTERM, SIGHUP and SIGINT: the lifelines are released, what ends by itself has the
grace of :data:`~tractor._proto.deadlines.SENTINEL_GRACE`, within which an actor leaves by force at the latest, and what
is left then is killed; within :data:`~tractor._proto.deadlines.TEARDOWN_TIME` in all.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from tractor._proto.deadlines import SENTINEL_GRACE, TEARDOWN_TIME
from tractor._proto.lease import Lease
from tractor.hosts.agent import _fields as fields
from tractor.hosts.agent._children import kill_below, processes_below, reap, start_child
from tractor.hosts.agent._facts import facts, lease_clock
from tractor.hosts.agent._guard import Guard
from tractor.hosts.agent._link import STUCK, Link, LinkLost
from tractor.hosts.agent._looks import MOST, Look, open_look
from tractor.hosts.agent._roster import Roster
from tractor.hosts.agent._store import CodeStore
from tractor.process._stdio import dup_above_stdio, take_numbers
from tractor.process.sentinel._sentinel_main import open_exit_fd

try:
    import ctypes
except ImportError:  # an interpreter that was built without
    ctypes = None  # type: ignore[assignment]

HELLO_TIMEOUT = 30.0
"""Seconds in which the other side must have said hello, which tells the lease's deadline."""

TICK = 0.05
"""Seconds between looks at what there is nothing to wait on for."""

STALLED = 1.0
"""Seconds that a ping goes without an answer: then no child is made to wait any more for its output to be sent."""

GONE_BY = TEARDOWN_TIME - 0.1
"""Seconds after which an agent that leaves is gone, also if something below it could not be killed."""

LAST_WRITE = 0.1
"""Seconds in which the link has to take the last frames."""

MAX_TEXT = 2000
"""Characters of an error's text: what was wrong may be as long as a frame, and its echo would be no frame any more."""
REACH_TIMEOUT = 1.0
"""Seconds in which an address of the other side has to take a connection."""

_PR_SET_CHILD_SUBREAPER = 36


class Agent:
    """What the program does; see the module.

    Args:
        link: to the other side.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._began = lease_clock()
        self._lease: Lease | None = None
        self._left_at: float | None = None
        self._why = ""
        self._signalled: int | None = None
        self._awake, self._wake = os.pipe()
        for fd in (self._awake, self._wake):
            os.set_blocking(fd, False)  # type: ignore[attr-defined, unused-ignore]
        self._take_signals()
        _adopt_orphans()
        link.send({"t": "hello", **facts()})
        link.flush()
        self._roster = Roster(link)
        self._store = CodeStore(os.environ)
        self._looks: list[Look] = []
        self._guard = Guard(self._warn, link.open_fd)
        self._above = os.getppid()
        self._above_fd, self._above_queue = self._watch_above()
        self._handlers: dict[str, Callable[[dict[str, Any], bytes | None], None]] = {
            "hello": self._on_hello,
            "have": self._on_have,
            "ship": self._on_ship,
            "reach": self._on_reach,
            "spawn": self._on_spawn,
            "term": self._on_signal,
            "kill": self._on_signal,
            "release": self._on_release,
            "look": self._on_look,
            "pong": self._on_pong,
            "end": self._on_end,
        }

    # -- the loop -------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the end; the exit status, 0 if it was asked for."""
        while not self._is_over():
            self._tend()
            self._wait()
        for look in self._looks:
            look.close()
        self._roster.flush()
        self._link.send({"t": "gone", "why": self._why})
        self._guard.close()
        self._store.close()
        self._link.close(LAST_WRITE)
        return 0 if self._why == _ASKED else 1

    def _tend(self) -> None:
        """Do what is due, and have written what can be."""
        now = lease_clock()
        if self._lease is None:
            if now >= self._began + HELLO_TIMEOUT:
                self._leave(f"no hello came within {HELLO_TIMEOUT:g} s")
        elif self._lease.is_over(now):
            self._leave("its lease is over: no ping was answered in time")
        if os.getppid() != self._above:
            self._leave("the process above it has ended")
        if self._signalled is not None:
            self._leave(f"signal {self._signalled}")
        if self._left_at is not None and now >= self._left_at + SENTINEL_GRACE:
            self._kill_all()
        for look in [look for look in self._looks if now >= look.ends_at]:
            self._answer(look, {"error": "no answer came in time"})
        stalled = self._lease is not None and now >= self._stalled_from(self._lease)
        self._roster.send(now, stalled or self._left_at is not None)
        self._link.flush()
        self._ping(now)
        if self._link.lost is not None:
            self._leave(self._link.lost)

    def _ping(self, now: float) -> None:
        lease = self._lease
        # Behind nothing that waits: so its time is that of its sending.
        if lease is None or self._left_at is not None or self._link.waiting:
            return
        if now < lease.next_ping_at() and not self._roster.window.wants_ping:
            return
        number = lease.ping(now)
        self._link.send({"t": "ping", "n": number})
        self._roster.window.ping(number)
        self._link.flush()

    def _stalled_from(self, lease: Lease) -> float:
        """When the link counts as stalled, if it goes on like that."""
        oldest = lease.oldest_unanswered()
        # Also one that is due, and can't be sent for what waits before it.
        due = lease.next_ping_at()
        return (due if oldest is None else min(oldest, due)) + STALLED

    def _wait(self) -> None:
        """Sleep until something happens, and take note of it."""
        poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
        ready: dict[int, Callable[[], object]] = {self._awake: self._on_wake}
        if self._left_at is None:
            # What has ended stays readable: from now on these would only keep the loop busy.
            if self._above_fd >= 0:
                ready[self._above_fd] = self._on_above_gone
            if self._link.waiting < STUCK:
                ready[self._link.read_fd] = self._on_readable
            for look in self._looks:
                ready[look.fd] = partial(self._on_answer, look)
        for child in self._roster:
            if child.output >= 0 and not child.is_full:
                ready[child.output] = child.read
        for fd in ready:
            poll.register(fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        if self._link.waiting:
            both = self._link.write_fd in ready
            poll.register(self._link.write_fd, select.POLLOUT | (select.POLLIN if both else 0))  # type: ignore[attr-defined, unused-ignore]
        for fd, event in poll.poll(self._patience() * 1000 + 1):
            if fd in ready and event & ~select.POLLOUT:  # type: ignore[attr-defined, unused-ignore]
                ready[fd]()

    def _patience(self) -> float:
        """Seconds until something is due."""
        if self._left_at is not None:
            return TICK
        times = [self._began + HELLO_TIMEOUT]
        if self._lease is not None:
            times = [self._lease.ends_at()]
            if not self._link.waiting:
                times.append(self._lease.next_ping_at())
            if any(child.is_full for child in self._roster):
                times.append(self._stalled_from(self._lease))
        times += [look.ends_at for look in self._looks]
        end_told_at = self._roster.next_at()
        if end_told_at is not None:
            times.append(end_told_at)
        left = min(times) - lease_clock()
        return max(0.0, left if self._above_fd >= 0 else min(left, 10 * TICK))

    # -- what happens ---------------------------------------------------------------------------------

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._awake, 4096)
        reap(self._on_reaped)

    def _on_reaped(self, pid: int, status: int) -> None:
        if not self._guard.reaped(pid, status):
            self._guard.discard(pid)
            self._roster.ended(pid, status, lease_clock())

    def _on_above_gone(self) -> None:
        self._leave("the process above it has ended")

    def _on_readable(self) -> None:
        try:
            frames, faults = self._link.receive()
        except LinkLost as exc:
            self._warn(str(exc))
            return self._leave(str(exc))
        for fault in faults:
            self._warn(fault)
        for frame, raw in frames:
            handler = self._handlers.get(frame["t"])
            if handler is None:
                self._warn(f"no frame has the type {frame['t']!r}")
                continue
            try:
                handler(frame, raw)
            except ValueError as exc:
                self._warn(str(exc))

    def _on_hello(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        if self._lease is not None:
            raise ValueError("hello was said before")
        self._lease = Lease(fields.seconds(frame, "deadline"), self._began)
        self._guard.lease(self._lease.ends_at())

    def _on_pong(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        number = fields.number(frame, "n")
        self._roster.window.pong(number)
        if self._lease is not None and self._lease.pong(number):
            self._guard.lease(self._lease.ends_at())

    def _on_have(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        self._link.send({"t": "has", "missing": self._store.missing(fields.items(frame, "hashes"))})

    def _on_ship(self, frame: dict[str, Any], raw: bytes | None) -> None:
        digest, name = fields.text(frame, "hash"), fields.text(frame, "name")
        answer = {"t": "shipped", "hash": digest}
        try:
            if raw is None:
                raise ValueError(f"{name!r} was shipped without its content")
            size = self._store.take(digest, name, raw, bool(frame.get("more")))
        except (OSError, ValueError) as exc:
            self._link.send({**answer, "error": str(exc)[:MAX_TEXT]})
        else:
            self._link.send(answer if size is None else {"t": "part", "hash": digest, "size": size})

    def _on_reach(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        host, port = fields.address(frame)
        answer = {"t": "reached", "error": "", "own": ""}
        try:
            # The only wait of this loop: once, when the link is new, and short.
            with socket.create_connection((host, port), REACH_TIMEOUT) as sock:
                answer["own"] = sock.getsockname()[0]
        except OSError as exc:
            answer["error"] = str(exc)
        self._link.send(answer)

    def _on_spawn(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        ident = fields.ident(frame)
        try:
            if ident in self._roster:
                raise ValueError(
                    f"{ident!r} is the id of a child that runs, or whose end was not told"
                )
            if self._lease is None or self._left_at is not None:
                raise ValueError(
                    f"nothing is started {'any more' if self._lease else 'before a hello'}"
                )
            if self._lease.is_over(lease_clock()):
                raise ValueError("nothing is started any more: the lease is over")
            child = start_child(ident, fields.order(frame, self._store))
        except (OSError, ValueError) as exc:
            number = exc.errno if isinstance(exc, OSError) else None
            error = str(exc)[:MAX_TEXT]
            self._link.send({"t": "failed", "id": ident, "error": error, "errno": number})
            return
        self._guard.add(child.pid, child.start)
        self._roster.add(child)
        self._link.send({"t": "up", "id": ident, "pid": child.pid, "start": child.start})

    def _on_signal(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        ident, kind = fields.ident(frame), frame["t"]
        child = self._roster.get(ident)
        number = signal.SIGTERM if kind == "term" else signal.SIGKILL  # type: ignore[attr-defined, unused-ignore]
        sent = child is not None and child.signal(number)
        self._link.send({"t": "ack", "id": ident, "sig": kind, "sent": sent})

    def _on_release(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        child = self._roster.get(fields.ident(frame))
        if child is not None:
            child.release()

    def _on_look(self, frame: dict[str, Any], _raw: bytes | None) -> None:
        number, child = fields.number(frame, "n"), self._roster.get(fields.ident(frame))
        request, limit = frame.get("request"), fields.seconds(frame, "limit")
        try:
            if child is None or child.status is not None:
                raise ValueError("it has ended")
            if not isinstance(request, dict):
                raise ValueError(f"'request' is an object, not {str(request)[:80]!r}")
            if len(self._looks) >= MOST:
                raise ValueError(f"{MOST} looks are taken there already")
            dirs = [one for one in fields.items(frame, "dirs") if isinstance(one, str)]
            self._looks.append(open_look(number, child.pid, request, limit, dirs))
        except (OSError, ValueError) as exc:
            self._link.send({"t": "looked", "n": number, "error": str(exc)[:MAX_TEXT]})

    def _on_answer(self, look: Look) -> None:
        told = look.read()
        if told is not None:
            self._answer(look, told)

    def _answer(self, look: Look, told: dict[str, Any]) -> None:
        look.close()
        self._looks.remove(look)
        try:
            self._link.send({"t": "looked", "n": look.number, **told})
        except ValueError as exc:
            # What is no ASCII grows on the way.
            self._link.send({"t": "looked", "n": look.number, "error": str(exc)[:MAX_TEXT]})

    def _on_end(self, _frame: dict[str, Any], _raw: bytes | None) -> None:
        self._leave(_ASKED)

    # -- the end --------------------------------------------------------------------------------------

    def _leave(self, why: str) -> None:
        """Begin to end: from now on nothing is read and nothing is started."""
        if self._left_at is not None:
            return
        self._left_at, self._why = lease_clock(), why
        for child in self._roster.running():
            child.release()
        self._guard.leave(self._left_at + GONE_BY)

    def _kill_all(self) -> None:
        for child in self._roster.running():
            child.signal(signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        # What they have left behind has become ours, as the subreaper: also what is in a session of its own.
        kill_below(os.getpid(), self._guard.pid)

    def _is_over(self) -> bool:
        if self._left_at is None:
            return False
        if lease_clock() >= self._left_at + GONE_BY:
            return True
        return not self._roster.running() and not processes_below(os.getpid(), self._guard.pid)

    # -- around it ------------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        self._link.send({"t": "warn", "text": text[:MAX_TEXT]})

    def _take_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # type: ignore[attr-defined, unused-ignore]
        # A byte for each signal: the loop wakes up also for one that comes right before it sleeps.
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _only_wake)  # type: ignore[attr-defined, unused-ignore]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # type: ignore[attr-defined, unused-ignore]
            signal.signal(number, self._on_terminating_signal)

    def _on_terminating_signal(self, number: int, _frame: object) -> None:
        self._signalled = number

    def _watch_above(self) -> tuple[int, object]:
        """A descriptor that tells the end of the process above, which may be the engine's; -1: there is none."""
        found: tuple[int, object] = (-1, None)
        if self._above > 1:
            # One that is gone has left us to another one: the loop sees that, too.
            with contextlib.suppress(OSError):
                found = open_exit_fd(self._above)
        return found


_ASKED = "it was asked to"


def _only_wake(_number: int, _frame: object) -> None:
    """A signal without a handler would not be written to the wake-up pipe."""


def _adopt_orphans() -> None:
    """Be given what our children leave behind, in place of the machine's first process."""
    if sys.platform == "linux" and ctypes is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stdio_link() -> Link:
    """The link over stdin and stdout, which are others' no more: what is printed here goes to stderr.

    Raises:
        OSError: one of them is closed.
    """
    read_fd, write_fd = dup_above_stdio(0), dup_above_stdio(1)
    take_numbers()
    null_device(0)
    os.dup2(2, 1)
    return Link(read_fd, write_fd)


def null_device(*fds: int) -> None:
    """Have the null device at these numbers."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in fds:
        os.dup2(null, fd)
    os.close(null)


def main(link: Link | None = None) -> NoReturn:
    """Be an agent, over stdin and stdout or another link, and end the process."""
    status = 1
    try:
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
            comm.write("tractor-agent")
        status = Agent(link or stdio_link()).run()
    except BaseException as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        # Nothing of a program's is left to be done, and nothing may keep the process.
        os._exit(status)
