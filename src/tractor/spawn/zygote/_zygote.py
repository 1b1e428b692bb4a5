"""The zygote of this tree as its actors see it: starting it, ordering a process, waiting for that one's end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor.process._at_fork import on_fork
from tractor.process._state import ProcessVar, of_process
from tractor.process._stdio import has_stream, move_above_stdio, to_hand_down
from tractor.runtime._state import current_actor
from tractor.spawn._boot import BootRecord, open_boot_pipe
from tractor.spawn._command import program_command
from tractor.spawn._contract import SpawnRequest
from tractor.spawn._helper import forget_helper, note_helper
from tractor.spawn._pipes import ChildPipes
from tractor.spawn._signal_help import held_off
from tractor.spawn.fork._forked import UNKNOWN_STATUS
from tractor.spawn.zygote._order import order_of
from tractor.spawn.zygote._tie import Tie, current_tie, preloaded, set_tie
from tractor.spawn.zygote._words import MAX_ANSWER, Answer, decode_answer, file_with

if sys.platform != "linux":
    raise ImportError("there is a zygote on Linux only")

log = _log.get_logger()

ANSWER_TIMEOUT = 1.0
"""Seconds in which the zygote must have forked a process; then it is exec'd."""

FIRST_TIMEOUT = 15.0
"""The same, of a zygote that has never answered: it still loads what it needs, perhaps on a busy machine."""

STATUS_TIMEOUT = 1.0
"""Seconds in which it must have told how a dead process has ended."""

STOP_TIMEOUT = 1.0
"""Seconds that it may take to end."""

RETRY = 0.005
"""Seconds between two attempts to hand over an order where its socket is full."""

MODULE = "tractor.spawn.zygote._main"


class Refused(Exception):
    """No process was forked, and none will be; it can be exec'd. The text says why."""


class _Own:
    """The zygote that this process has started."""

    def __init__(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Before the first order: the kernel notes who sends a message at that moment.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with far, contextlib.ExitStack() as undo:
            near_fd = move_above_stdio(near.detach())
            orders = undo.enter_context(socket.socket(fileno=near_fd))
            table = move_above_stdio(os.memfd_create("tractor-zygote"))
            undo.callback(os.close, table)
            boot_fd, self._lifeline = open_boot_pipe(
                BootRecord(parent_pid=os.getpid(), preload=preloaded.value)
            )
            undo.callback(self._lifeline.release)
            try:
                self.popen = _launch(far.fileno(), table, boot_fd)
            finally:
                os.close(boot_fd)
            undo.pop_all()
        self.tie = Tie(orders, table)

    def stop(self) -> None:
        """End and reap it. Blocks for as long as that takes, 1 s at most."""
        self._lifeline.release()
        try:
            self.popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def _launch(orders: int, table: int, lifeline: int) -> subprocess.Popen[bytes]:
    argv = [str(orders), str(table), str(lifeline)]
    # Those that end a process stay blocked in it: one that is sent to a whole group is the root's to handle.
    with program_command(MODULE, argv) as (command, fds), held_off():
        missing = to_hand_down(("stdin", "stdout"))
        null = subprocess.DEVNULL
        streams: dict[str, Any] = {"stdin": null, "stdout": null, **missing}
        return subprocess.Popen(command, pass_fds=(orders, table, lifeline, *fds), **streams)


_own: ProcessVar[_Own | None] = ProcessVar(lambda: None)
_has_answered = ProcessVar(lambda: False)
_warned_of: set[str] = of_process(set())


def warn_once(name: str, why: str) -> None:
    """Say once of each reason that subactors are exec'd."""
    level = log.runtime if why in _warned_of else log.warning
    _warned_of.add(why)
    level("subactor %r is exec'd, not forked: %s", name, why)


def zygote() -> Tie:
    """What leads to the tree's zygote; one is started where this process knows of none.

    Raises:
        OSError: it can't be started.
    """
    tie = current_tie()
    if tie is None:
        started = _own.value = _Own()
        tie = started.tie
        set_tie(tie)
        actor = current_actor(err_on_no_runtime=False)
        if actor is not None:
            actor.lifetime_stack.callback(stop_zygote)
    return tie


def stop_zygote() -> None:
    """End the zygote that this process has started, if it has; what was forked by it goes on."""
    own, _own.value = _own.value, None
    if own is None:
        return
    tie = current_tie()
    set_tie(None)
    _has_answered.value = False
    if tie is not None:
        tie.close()
    own.stop()
    forget_helper(own.popen.pid)


def _after_fork() -> None:
    own, _own.value = _own.value, None
    if own is not None:
        # Its parent's child.
        own.popen.returncode = 0


on_fork(_after_fork, always=True)


# An interrupt must not come between a descriptor and what closes it.
@trio.lowlevel.enable_ki_protection
async def order(tie: Tie, request: SpawnRequest, pipes: ChildPipes) -> Ordered:
    """Have a process forked.

    Args:
        tie: leads to the zygote.
        request: what to start.
        pipes: what it is connected by.

    Raises:
        Refused: it can't be, or the zygote is gone or does not answer.
        OSError: no process could be forked, or there are no descriptors left here.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    waiting = _Waiting(near)
    try:
        with far, contextlib.ExitStack() as closing:
            fds = _to_inherit(pipes, closing)
            numbers = [0, 1, 2, *pipes.inherited_fds()]
            told = order_of(request, pipes.boot_fd, numbers)
            file = file_with(msgspec.msgpack.encode(told))
            closing.callback(os.close, file)
            limit = ANSWER_TIMEOUT if _own.value is None or _has_answered.value else FIRST_TIMEOUT
            with trio.move_on_after(limit) as patience:
                await _send(tie.orders, [far.fileno(), file, *fds])
                far.close()
                await trio.lowlevel.wait_readable(near)
            if patience.cancelled_caught:
                raise Refused(f"the zygote has not answered within {limit} s")
        started = waiting.take()
    except BaseException:
        waiting.abandon()
        raise
    _has_answered.value = True
    if _own.value is not None:
        note_helper(_own.value.popen.pid)
    return started


async def _send(sock: socket.socket, fds: list[int]) -> None:
    while True:
        try:
            socket.send_fds(sock, [b"\1"], fds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            # Many wait for it; several tasks, and processes, can't wait for one descriptor.
            await trio.sleep(RETRY)
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise Refused("the zygote is gone") from exc
            raise
        else:
            return


def _to_inherit(pipes: ChildPipes, closing: contextlib.ExitStack) -> list[int]:
    """Descriptors for a child: its directory, its standard streams, and those that it was made for."""
    try:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError) as exc:
        raise Refused("this process's working directory is not there any more") from exc
    closing.callback(os.close, here)
    streams = []
    for fd in range(3):
        if fd == 2 and pipes.capture is not None:
            streams.append(pipes.capture.write_fd)
        elif has_stream(fd):
            streams.append(fd)
        else:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            closing.callback(os.close, null)
            streams.append(null)
    return [here, *streams, *pipes.inherited_fds()]


class _Waiting:
    """For the pid of a process that was ordered."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers

    @trio.lowlevel.enable_ki_protection
    def take(self) -> Ordered:
        """The process.  Raises Refused, OSError."""
        answer, fds = _receive(self._answers)
        if answer is None:
            raise Refused("the zygote is gone")
        if answer.errno is not None:
            raise OSError(answer.errno, f"the zygote can't fork: {os.strerror(answer.errno)}")
        if answer.pid is None or not fds:
            raise Refused(f"the zygote refuses: {answer.refused}")
        return Ordered(answer.pid, fds[0], self._answers)

    def abandon(self) -> None:
        """Nobody waits for it any more: it is killed, here or by the zygote, if it has been forked."""
        # From now on the zygote can't tell a pid, and forks nothing, or kills it; what it has told can still be read.
        with contextlib.suppress(OSError):
            self._answers.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            _, fds = _receive(self._answers)
            for fd in fds:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                os.close(fd)
        self._answers.close()


def _receive(sock: socket.socket) -> tuple[Answer | None, list[int]]:
    """An answer, and what came with it; none: the zygote has ended.  Raises BlockingIOError: nothing has come."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, MAX_ANSWER, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None, []
    return (decode_answer(data) if data else None), fds


class Ordered:
    """A process that the zygote has forked; an :class:`~tractor.spawn._own_child.ExitSource`.

    Args:
        pid: its process id.
        pidfd: stands for it.
        answers: where the zygote tells how it has ended.
    """

    def __init__(self, pid: int, pidfd: int, answers: socket.socket) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._answers = answers
        self._status: int | None = None
        # The zygote can't tell any more.
        self._lost = False
        self._lock = trio.Lock()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    def poll(self) -> int | None:
        """The exit status, 255 where the zygote is gone; ``None`` while the process runs."""
        if self._status is None and self._pidfd >= 0:
            if not self._lost:
                with contextlib.suppress(BlockingIOError):
                    answer, _ = _receive(self._answers)
                    self._lost = answer is None
                    self._status = None if answer is None else answer.status
            if self._lost and self._status is None and self._has_ended():
                self._status = UNKNOWN_STATUS
        return self._status

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    async def wait(self) -> int:
        """Wait for the process's end; any number of tasks may."""
        async with self._lock:
            if (status := self.poll()) is not None:
                return status
            await trio.lowlevel.wait_readable(self._pidfd)
            with trio.move_on_after(STATUS_TIMEOUT):
                while (status := self.poll()) is None:
                    await trio.lowlevel.wait_readable(self._answers)
            if status is None:
                # The zygote is stopped.
                status = self._status = UNKNOWN_STATUS
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""
        if self.poll() is None and self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Free descriptors.  Idempotent."""
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            trio.lowlevel.notify_closing(fd)
            trio.lowlevel.notify_closing(self._answers)
            os.close(fd)
            self._answers.close()
