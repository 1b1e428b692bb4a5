"""The sentinel's program: a net below processes that can't act for themselves.

An actor with subactors starts it as ``python -I -S _sentinel_main.py PID``, with a pipe as its stdin of which the
actor alone holds the other end.  Lines come in:

- ``self PID START``: the actor itself;
- ``above PID START``: a process above the actor;
- ``below PID START``: a subactor;
- ``file DEVICE INODE CTIME_NS PATH``: a socket file of the actor or of a subactor.

START is in seconds after the machine's boot, or ``-``.  When the actor is gone, or one above it is, the subactors have
a grace, in which those that can end by themselves do.  Then every one that is still there is killed, and so is the
actor itself; a stopped process ends of SIGKILL, too, and so does one whose threads all wait for the GIL.  The files of
the dead are removed.

It imports nothing of the package and little of the standard library: it starts in 10 ms and adds 4 MB.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` takes 5 ms more
import _socket  # and so does `socket`
import os
import select
import sys
import time

GRACE = 1.3
"""Seconds between the loss and SIGKILL: more than an actor's own forced exit takes, and well below the promised 2 s."""

LINGER = 3.0
"""Seconds after the first SIGKILL until a process that does not even die of that is given up."""

TICK = 0.05
"""Seconds between looks at processes for which there is nothing to wait on."""

SIGKILL = 9

_LAST_FD = max(256, os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else 0) - 16
"""Descriptors above are left for what must be opened at any time, as to look at a process."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

LETTING_GO = 0.3
"""Seconds in which the dead have let go of their listeners: one of several threads counts as dead a moment before."""


def open_exit_fd(pid: int) -> tuple[int, object]:
    """A descriptor that becomes readable when a process ends, and what it belongs to.

    A pidfd on Linux, a kqueue's on macOS and the BSDs; -1 where there is no such thing.

    Raises:
        ProcessLookupError: there is no such process.
        OSError: no such system call in this kernel, or no descriptor left.
    """
    if sys.platform == "linux":
        if hasattr(os, "pidfd_open"):
            return os.pidfd_open(pid), None
    elif hasattr(select, "kqueue"):
        queue = select.kqueue()
        event = select.kevent(  # type: ignore[attr-defined, unused-ignore]
            pid,
            filter=select.KQ_FILTER_PROC,  # type: ignore[attr-defined, unused-ignore]
            flags=select.KQ_EV_ADD,  # type: ignore[attr-defined, unused-ignore]
            fflags=select.KQ_NOTE_EXIT,  # type: ignore[attr-defined, unused-ignore]
        )
        try:
            queue.control([event], 0)
        except OSError:
            queue.close()
            raise
        return queue.fileno(), queue
    return -1, None


def close_exit_fd(fd: int, queue: object) -> None:
    """Close what :func:`open_exit_fd` gave."""
    if queue is None:
        os.close(fd)
    else:
        queue.close()  # type: ignore[attr-defined]


class ProcessWatch:
    """A process that is not mistaken for a later one with the same number.

    Attributes:
        fd: becomes readable when the process ends; -1 where there is no such thing, and once it is gone.
        ended: whether its end was seen.

    Args:
        pid: a process id of 2 or more.
        start: when it started, in seconds after the machine's boot; ``None``: unknown.
    """

    __slots__ = ("_queue", "ended", "fd", "pid", "start")

    def __init__(self, pid: int, start: float | None) -> None:
        self.pid = pid
        self.start = start
        self.fd = -1
        self._queue: object = None
        self.ended = False
        try:
            self.fd, self._queue = open_exit_fd(pid)
        except ProcessLookupError:
            self.ended = True
        except OSError:
            # No such system call, or no descriptor left: looking at it needs neither.
            self.fd = -1
        if self.fd > _LAST_FD:
            self.close()
        # With the descriptor open: if the number means the process now, so does the descriptor for good.
        if not self.ended and not _runs(pid, start):
            self.note_end()

    def gone(self) -> bool:
        """Look whether it has ended; a zombie has."""
        if not self.ended:
            if self.fd < 0:
                self.ended = not _runs(self.pid, self.start)
            else:
                poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
                poll.register(self.fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
                if poll.poll(0):
                    self.note_end()
        return self.ended

    def note_end(self) -> None:
        """It has ended: free the descriptor.  Idempotent."""
        self.ended = True
        self.close()

    def close(self) -> None:
        """Free the descriptor.  Idempotent."""
        fd, self.fd = self.fd, -1
        queue, self._queue = self._queue, None
        if fd >= 0:
            close_exit_fd(fd, queue)

    def kill(self) -> None:
        """Send SIGKILL, to this process and no other; does nothing when it is gone."""
        if self.gone():
            return
        try:
            if self.fd >= 0 and hasattr(_signal, "pidfd_send_signal"):
                _signal.pidfd_send_signal(self.fd, SIGKILL)
            else:
                os.kill(self.pid, SIGKILL)
        except OSError:
            # It ended in this instant, or has become another user's.
            return


def _proc_is_own() -> bool:
    """Whether ``/proc`` is that of this pid namespace; another one's numbers are other processes here."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _runs(pid: int, start: float | None) -> bool:
    try:
        if not _proc_is_own():
            raise FileNotFoundError
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError as exc:
        gone = isinstance(exc, FileNotFoundError | ProcessLookupError)
        if gone and _proc_is_own():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True
    same = start is None or int(fields[19]) / _TICKS == start
    # The state is the main thread's; a process with other threads still runs.
    return same and (fields[0] not in (b"Z", b"X") or int(fields[17]) > 1)


class Sentinel:
    """What the program does; see the module.

    Args:
        fd: the pipe's read end.
        grace: seconds between the loss and SIGKILL.
    """

    def __init__(self, fd: int, grace: float = GRACE) -> None:
        self.actor: ProcessWatch | None = None
        self.above: list[ProcessWatch] = []
        self.below: dict[int, ProcessWatch] = {}
        self.files: dict[bytes, tuple[int, ...]] = {}
        self._fd = fd
        self._grace = grace
        self._rest = b""
        self._eof_at: float | None = None
        self._above_lost = False
        self.lost_at: float | None = None
        self._prune_at = 256

    # -- what comes in --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes from the pipe; a line that makes no sense is passed over."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            kind, _, rest = line.partition(b" ")
            try:
                self.take(kind, rest)
            except (ValueError, OverflowError):
                continue
        if len(self.files) + len(self.below) > self._prune_at:
            self._prune()

    def take(self, kind: bytes, rest: bytes) -> None:
        """Take one line.  Raises ValueError, OverflowError: it makes no sense."""
        if kind == b"file":
            device, inode, ctime, path = rest.split(b" ", 3)
            self.files[path] = (int(device), int(inode), int(ctime))
        elif kind in (b"self", b"above", b"below"):
            pid, start = rest.split()
            self._add(kind, int(pid), None if start == b"-" else float(start))

    def _add(self, kind: bytes, pid: int, start: float | None) -> None:
        # To a signal, 0 and what is below mean whole groups, and 1 is nobody's subactor.
        if pid <= 1 or pid == os.getpid():
            return
        watch = ProcessWatch(pid, start)
        if kind == b"above":
            self.above.append(watch)
        elif kind == b"self":
            self.actor = watch
        else:
            # One that had this number has been reaped.
            before = self.below.get(pid, watch)
            if before is not watch:
                before.close()
            self.below[pid] = watch

    def _prune(self) -> None:
        for watch in [one for one in self.below.values() if one.gone()]:
            del self.below[watch.pid]
        for path in [path for path, mark in self.files.items() if _file_mark(path) != mark]:
            del self.files[path]
        self._prune_at = max(256, 2 * (len(self.files) + len(self.below)))

    # -- the watch ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Watch until the actor is gone and everything below it too."""
        while not self._is_over():
            timeout = None
            if self.lost_at is not None:
                left = self.lost_at + self._grace - time.monotonic()
                if left < -LINGER:
                    break
                if left <= 0:
                    self._kill_all()
                timeout = left if left > TICK and self._all_can_be_waited_for() else TICK
            self.wait(timeout)
        if self.actor is not None and self.actor.gone():
            self._remove_files()

    def wait(self, timeout: float | None) -> None:
        """Sleep until something happens, at most ``timeout`` seconds, and take note of it."""
        poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
        if self._eof_at is None:
            poll.register(self._fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        by_fd = {watch.fd: watch for watch in self._all() if watch.fd >= 0}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
        ready = [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000 + 1)]
        for fd in ready:
            if fd in by_fd:
                by_fd[fd].note_end()
        if self._fd in ready:
            self._read()
        self._above_lost = self._above_lost or any(watch.gone() for watch in self.above)
        actor_gone = self.actor is not None and self.actor.gone()
        if self.lost_at is None and (self._eof_at or self._above_lost or actor_gone):
            self.lost_at = time.monotonic()
        self.below = {pid: watch for pid, watch in self.below.items() if not self._ended(watch)}

    def _ended(self, watch: ProcessWatch) -> bool:
        # What has a descriptor reports its end by it; the others are looked at when it matters.
        return watch.gone() if watch.fd < 0 and self.lost_at is not None else watch.ended

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        if data:
            self.feed(data)
        else:
            self._eof_at = time.monotonic()

    def _all(self) -> list[ProcessWatch]:
        actor = [] if self.actor is None else [self.actor]
        return [*actor, *self.above, *self.below.values()]

    def _all_can_be_waited_for(self) -> bool:
        # An end that was noted, not one that could be seen now: the loop has yet to deal with that.
        return all(watch.fd >= 0 or watch.ended for watch in self._all())

    def _is_over(self) -> bool:
        if self.lost_at is None or self.below:
            return False
        if self.actor is None or self.actor.gone():
            return True
        # A process closes its pipes an instant before it counts as ended.  Later than that the pipe was closed by
        # hand, in an actor that lives on.
        return self._eof_at is not None and time.monotonic() > self._eof_at + self._grace

    def _kill_all(self) -> None:
        for watch in self.below.values():
            watch.kill()
        if self._above_lost and self.actor is not None:
            self.actor.kill()

    def _remove_files(self) -> None:
        files = self.files
        until = time.monotonic() + LETTING_GO
        while files := {path: mark for path, mark in files.items() if not _removed(path, mark)}:
            if time.monotonic() > until:
                return
            time.sleep(0.01)


def _removed(path: bytes, mark: tuple[int, ...]) -> bool:
    """Remove a socket file at which nobody listens; ``False``: somebody does, as one of another pid namespace may."""
    if _file_mark(path) != mark:
        return True
    try:
        if _answers(path):
            return False
        os.unlink(path)
    except OSError:
        pass
    return True


def _answers(path: bytes) -> bool:
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)  # type: ignore[attr-defined, unused-ignore]
    try:
        probe.setblocking(False)
        probe.connect(path)
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    finally:
        probe.close()
    return True


def _file_mark(path: bytes) -> tuple[int, ...] | None:
    """What tells a file from a later one at its path: inodes are used again, but not with the same time."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return (info.st_dev, info.st_ino, info.st_ctime_ns)


def main() -> None:
    """Be the sentinel of the process at the other end of stdin; never returns."""
    try:
        Sentinel(0).run()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
