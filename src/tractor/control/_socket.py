"""The control socket of an actor: bound at its start, so that users can find and ask it.

**Who drives.**  A thread of its own waits for users, and serves them (:mod:`tractor.control._serving`), also while the
loop is blocked.  It ends before a fork, and another one begins at the loop's next turn.

**Cost.**  Every actor has one.  So the start loads nothing but this module: what answers is loaded by the thread, when
somebody connects for the first time.  Until then it sleeps in one `poll()` without a limit.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import trio

from tractor import log as _log
from tractor.address._types import HAS_UDS
from tractor.ipc._debug_sock import UserSocket, control_addr
from tractor.process._at_fork import close_in_child, on_fork
from tractor.process._state import ProcessVar
from tractor.runtime._actor import Actor

log = _log.get_logger()

_WAKE_INTERVAL = 0.05
"""Seconds after which a thread that is to end is woken once more."""

SETTING = "TRACTOR_CONTROL"
"""The variable: `on` (default), `read` (nothing that acts), `off` (neither socket nor thread)."""

Act: TypeAlias = Callable[[Mapping[str, Any], int | None], Any]
"""Answers a request in the loop, at once; gets the request and the pid of who asks."""


class Serves(Protocol):
    """What answers users."""

    def run(self) -> None:
        """Serve in the calling thread, until the socket :attr:`~ControlSocket.is_ending`; may be called again."""

    def close(self) -> None:
        """Hang up on everybody."""


class ControlSocket:
    """The socket and its thread, until :meth:`close`.

    Args:
        name: the actor's.
        pid: this process.
        load: makes what answers; called in the thread, once.
        may_act: whether users may ask for what is in :attr:`acts`.

    Attributes:
        path: of its file.
        listener: what accepts, not blocking.
        woken: readable when the thread is to look around; not blocking.
        token: of the loop.
        acts: what the loop answers, by op.
        may_act: whether users may ask for what acts.

    Raises:
        OSError, ValueError: there is no place for the socket.
        RuntimeError: no thread can be started.
    """

    def __init__(
        self, name: str, pid: int, load: Callable[[ControlSocket], Serves], may_act: bool = True
    ) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.acts: dict[str, Act] = {}
        self.may_act = may_act
        self._load = load
        self._serving: Serves | None = None
        self._sock = UserSocket(control_addr(name, pid))
        self.path = self._sock.path
        self.listener = self._sock.listener
        self.woken, self._wake = socket.socketpair()
        for sock in (self.woken, self._wake):
            sock.setblocking(False)
            close_in_child(sock)
        self.is_closed = False
        # From a fork on there is no thread, until the loop's next turn.
        self._paused = False
        # Whoever has it begins and ends threads. It is held through a fork, and may be had again by the same thread: a
        # signal handler may fork at any moment.
        self._lock = threading.RLock()
        self._pid = pid
        try:
            self._thread = self._started()
        except RuntimeError:
            self._free()
            raise

    @property
    def is_ending(self) -> bool:
        """Whether the thread is to end, for good or for a fork."""
        return self.is_closed or self._paused

    def close(self) -> None:
        """End the thread, and leave nothing behind.  Idempotent."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            self._end_thread()
            if self._serving is not None:
                self._serving.close()
            self._free()

    def wake_up(self) -> None:
        """Have the thread look around; from any thread."""
        # One that is full wakes as well.
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def answer(self, op: str, act: Act | None) -> None:
        """Have the loop answer a request from now on, where users may act; ``None``: no more."""
        if not self.may_act:
            return
        others = {known: other for known, other in self.acts.items() if known != op}
        # As a whole, since the thread looks at it.
        self.acts = others if act is None else {**others, op: act}

    def before_fork(self) -> None:
        """Whatever thread forks: end the socket's own, and begin no other before :meth:`after_fork`.

        Connections stay.
        """
        self._lock.acquire()
        if self.is_ending:
            return
        self._paused = True
        self._end_thread()
        _wait_gone(self._thread.native_id)

    def after_fork(self) -> None:
        """The same thread has forked: another one of the socket's may begin, at the loop's next turn."""
        self._lock.release()
        with contextlib.suppress(trio.RunFinishedError):
            self.token.run_sync_soon(self._resume, idempotent=True)

    def _resume(self) -> None:
        if os.getpid() != self._pid:
            # In what was forked off, whose loop may still turn.
            return
        with self._lock:
            if self.is_closed or not self._paused:
                return
            self._paused = False
            try:
                self._thread = self._started()
            except RuntimeError as exc:
                log.error("nobody can ask at %s any more: %s", self.path, exc)

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="tractor control", daemon=True)
        thread.start()
        return thread

    def _end_thread(self) -> None:
        while self._thread.is_alive():
            self.wake_up()
            self._thread.join(_WAKE_INTERVAL)

    def _free(self) -> None:
        self._sock.unlink()
        for sock in (self.listener, self._wake, self.woken):
            sock.close()

    # -- in the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Signals are the main thread's: one taken here would not interrupt its system calls.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # type: ignore[attr-defined, unused-ignore]
        try:
            if self._serving is None:
                self._wait_for_somebody()
                if self.is_ending:
                    return
                self._serving = self._load(self)
            self._serving.run()
        except Exception:
            log.exception("the control socket %s is given up", self.path)

    def _wait_for_somebody(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while not self.is_ending and all(fd == self.woken.fileno() for fd, _ in poll.poll()):
            with contextlib.suppress(BlockingIOError):
                self.woken.recv(4096)


def _wait_gone(native_id: int | None) -> None:
    """Wait, at most 10 ms, until a thread that has ended is none of the process's for the system, either.

    Up to Python 3.12 `join()` returns a moment earlier, and a fork warns of what the system counts.
    """
    for _ in range(100):
        if not os.path.exists(f"/proc/self/task/{native_id}"):
            return
        time.sleep(0.0001)


_socket: ProcessVar[ControlSocket | None] = ProcessVar(lambda: None)
"""That of this process's actor."""


class _Forking(threading.local):
    """The sockets that this thread has stopped, one for each fork that it is in: a signal handler may fork, too."""

    def __init__(self) -> None:
        self.stopped: list[ControlSocket | None] = []


_forking = _Forking()


def _before_fork() -> None:
    control = _socket.value
    _forking.stopped.append(control)
    if control is not None:
        control.before_fork()


def _after_fork() -> None:
    control = _forking.stopped.pop()
    if control is not None:
        control.after_fork()


# They are the parent's.
on_fork(lambda: _forking.stopped.clear(), always=True)

# `os.fork()` warns of further threads, whose locks the child may find held for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)


def setting() -> str:
    """What :data:`SETTING` says; what is none of its values counts as ``'off'``."""
    given = os.environ.get(SETTING) or "on"
    return given if given in ("on", "read") else "off"


def serve_control(actor: Actor, load: Callable[[ControlSocket], Serves]) -> ControlSocket | None:
    """Let users ask this actor until its runtime ends, as :data:`SETTING` says.

    Args:
        actor: it; it has a process of its own.
        load: makes what answers, when somebody asks first.

    Returns:
        The socket, which ends with the actor; ``None``: there is none.
    """
    given, how = os.environ.get(SETTING), setting()
    if given and given != how:
        log.warning("%s=%r is none of 'on', 'read', 'off'; it counts as 'off'", SETTING, given)
    if how == "off" or not HAS_UDS or actor.pid is None:
        return None
    try:
        control = ControlSocket(actor.aid.name, actor.pid, load, how == "on")
    except (OSError, ValueError, RuntimeError) as exc:
        # Whoever has asked for it wants to know; for others it is a convenience.
        tell = log.warning if os.environ.get(SETTING) else log.info
        tell("nobody can ask %s from outside: %s", actor.aid.reprol(), exc)
        return None
    _socket.value = control
    actor.lifetime_stack.callback(control.close)
    return control


def control_socket() -> ControlSocket | None:
    """That of this process's actor; ``None``: it has none."""
    control = _socket.value
    return None if control is None or control.is_closed else control
