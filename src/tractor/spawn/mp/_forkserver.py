"""This actor's own fork server of :mod:`multiprocessing`, and the processes that it forks for us."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from multiprocessing import forkserver, spawn, util
from typing import Any

import trio

from tractor._proto.deadlines import SENTINEL_GRACE
from tractor.process._at_fork import on_fork
from tractor.process._exit_watch import ExitWatch
from tractor.process._frozen import is_frozen
from tractor.process._stat import pid_alive, process_start_time
from tractor.process._state import ProcessVar
from tractor.process._stdio import to_hand_down
from tractor.runtime._state import current_actor
from tractor.spawn._command import with_path
from tractor.spawn._helper import forget_helper, note_helper
from tractor.spawn._signal_help import held_off
from tractor.spawn.fork._forked import UNKNOWN_STATUS
from tractor.spawn.mp._tracker import tracker_fd

PRELOADED = ["tractor._child", "tractor.spawn.mp._backends"]

NEEDED_FDS = 5
"""Descriptors that it takes to speak to the fork server: a socket and two pipes."""

STOP_TIMEOUT = 1.0
"""Seconds that a fork server may take to end by itself."""

STATUS_TIMEOUT = 1.0
"""Seconds in which a fork server must have told how a dead child has ended."""


class ForkServerClient:
    """One fork server: started with its first process, of the actor that runs now, and ended with it.

    Not the one that :mod:`multiprocessing` keeps for the whole program, which preloads ``__main__`` and ends with
    the program.
    """

    def __init__(self) -> None:
        # Stands in for multiprocessing's resource tracker where there is none.
        self._no_tracker = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
        try:
            self._server = _unshared_server(self._no_tracker)
        except BaseException:
            # To load the module takes descriptors, too.
            os.close(self._no_tracker)
            raise
        self._pid: int | None = None
        # It lives as long as this is open somewhere, and listens there.
        self._alive_fd: int | None = None
        self._address: Any = None
        # A start that was given up may still be about to start the server when that is to end.
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The fork server's pid; ``None`` before the first process was started."""
        return self._pid

    def start_process(self, fds: list[int], data: bytes) -> ForkServerProcess:
        """Have a process forked that reads ``data``.  Blocks; to be called in a worker thread.

        Args:
            fds: Descriptors that it gets duplicates of.
            data: What :mod:`multiprocessing` sends a new process.

        Raises:
            OSError, EOFError: The fork server can't be started, or has died.
        """
        with self._lock:
            server = self._server
            if server is None:
                raise EOFError("the fork server was ended meanwhile")
            # Blocked in it for good: one that is sent to all processes at once is the root's to handle.
            try:
                with held_off():
                    server.ensure_running()
            finally:
                # Also of one that has died, and was not replaced: its descriptor has been closed.
                self._alive_fd = server._forkserver_alive_fd
                self._address = server._forkserver_address
            self._pid = server._forkserver_pid
        # Where its second pipe can't be made, multiprocessing leaves the first one open.
        _require_descriptors(NEEDED_FDS)
        status_fd, data_fd = server.connect_to_new_process(fds)
        try:
            # It waits for its data: the process that is looked at by this number is the one meant.
            child = ForkServerProcess(forkserver.read_signed(status_fd), status_fd, data_fd)
        except BaseException:
            os.close(data_fd)
            os.close(status_fd)
            raise
        write_all(data_fd, data)
        return child

    def disown(self) -> None:
        """In a process that was forked off: it does not keep the fork server alive."""
        if self._alive_fd is not None:
            os.close(self._alive_fd)

    def stop(self) -> None:
        """End the fork server and reap it.  Idempotent."""
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            return
        os.close(self._no_tracker)
        if self._alive_fd is not None and self._pid is not None:
            # With the last holder of this descriptor, us, its time is over.
            os.close(self._alive_fd)
            self._alive_fd = None
            _reap(self._pid, STOP_TIMEOUT)
            if not util.is_abstract_socket_namespace(self._address):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._address)


class ForkServerProcess:
    """A process whose parent is the fork server, which tells us how it ends.

    Args:
        pid: The process; must be alive.
        status_fd: Where the fork server writes the exit status.  An end of file: it is gone itself.
        data_fd: Held open, so that :func:`multiprocessing.parent_process` can be waited for in the child.
    """

    def __init__(self, pid: int, status_fd: int, data_fd: int) -> None:
        self._pid = pid
        self._start_time = process_start_time(pid)
        self._fds = [status_fd, data_fd]
        self._status_fd = status_fd
        self._status: int | None = None
        self._server_lost = False
        self._on_server_lost: Callable[[], None] = lambda: None
        self._watch: ExitWatch | None = None
        self._wait_lock = trio.Lock()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    def on_server_lost(self, callback: Callable[[], None]) -> None:
        """Call this when the fork server dies: nobody could tell any more how the process ends."""
        self._on_server_lost = callback

    def poll(self) -> int | None:
        """The exit status, 255 when the fork server died first; ``None`` while the process runs."""
        if self._status is None and self._fds:
            self._read_status()
        if self._status is None and self._server_lost and not self._alive():
            self._status = UNKNOWN_STATUS
        return self._status

    async def wait(self) -> int:
        """Wait for the process's end; any number of tasks may."""
        async with self._wait_lock:
            if (status := self.poll()) is not None:
                return status
            if self._watch is None:
                self._watch = ExitWatch(self._pid)
            # Looked at again with the watch open: what it watches is the process meant.
            if self._alive():
                async with trio.open_nursery() as tn:
                    tn.start_soon(self._notice_loss_of_server)
                    await self._watch.wait()
                    tn.cancel_scope.cancel()
            if not self._server_lost:
                with trio.move_on_after(STATUS_TIMEOUT):
                    await trio.lowlevel.wait_readable(self._status_fd)
            status = self.poll()
            if status is None:
                # The fork server is stopped, or hangs.
                status = self._status = UNKNOWN_STATUS
        return status

    async def _notice_loss_of_server(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        await trio.lowlevel.wait_readable(self._status_fd)
        self.poll()
        if self._server_lost:
            self._on_server_lost()
            # One that is stopped, or whose threads all wait for the GIL, can't act on that.
            await trio.sleep(SENTINEL_GRACE)
            self.send_signal(signal.SIGKILL)

    def _read_status(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        ready = select.poll()
        ready.register(self._status_fd, select.POLLIN)
        if self._server_lost or not ready.poll(0):
            return
        try:
            self._status = forkserver.read_signed(self._status_fd)
        except (OSError, EOFError):
            self._server_lost = True

    def _alive(self) -> bool:
        return pid_alive(self._pid, self._start_time)

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""
        if self.poll() is None and self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def abandon(self) -> None:
        """Kill the process; nobody will wait for it."""
        if sys.platform == "win32":
            raise NotImplementedError
        self.send_signal(signal.SIGKILL)
        self._close_fds()

    def close(self) -> None:
        """Free descriptors.  Idempotent."""
        if self._watch is not None:
            self._watch.close()
        for fd in self._fds[:1]:
            trio.lowlevel.notify_closing(fd)
        self._close_fds()

    def _close_fds(self) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


_current: ProcessVar[tuple[int, ForkServerClient] | None] = ProcessVar(lambda: None)


def fork_server() -> ForkServerClient:
    """The fork server of this process's actor; not started yet, perhaps.  It ends with the actor."""
    if _current.value is None or _current.value[0] != os.getpid():
        _current.value = os.getpid(), ForkServerClient()
        actor = current_actor(err_on_no_runtime=False)
        if actor is not None:
            actor.lifetime_stack.callback(stop_fork_server)
    return _current.value[1]


def note_started(server: ForkServerClient) -> None:
    """Tell those who look after this actor's processes of its fork server; at each start of a process."""
    pid = server.pid
    assert pid is not None
    note_helper(pid)


def stop_fork_server() -> None:
    """End this process's fork server, if it has one, and reap it.  Its processes must have ended."""
    current, _current.value = _current.value, None
    if current is None or current[0] != os.getpid():
        return
    pid = current[1].pid
    current[1].stop()
    if pid is not None:
        forget_helper(pid)


def _unshared_server(no_tracker: int) -> Any:
    """A fork server of multiprocessing's that knows neither its resource tracker nor our ``__main__``.

    Its methods look for both among their module's names.  These are replaced in a second copy of the module: in the
    first one everybody would see that.
    """
    spec = forkserver.__spec__
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.resource_tracker = types.SimpleNamespace(
        ensure_running=lambda: None, getfd=lambda: tracker_fd() or no_tracker
    )
    module.spawn = types.SimpleNamespace(
        get_executable=spawn.get_executable, get_preparation_data=lambda name: {}
    )
    module.util = types.SimpleNamespace(**{**vars(util), "spawnv_passfds": _spawn_with_path})
    server = module.ForkServer()
    server.set_forkserver_preload(PRELOADED)
    return server


def _spawn_with_path(path: Any, args: list[str], passfds: list[int]) -> int:
    """Start a fork server that has our import path before it loads anything: not each version's takes it over."""
    # Where this process has no standard stream, the server gets the null device.
    command: Any = [path if i == 0 else arg for i, arg in enumerate(_with_own_path(args))]
    server = subprocess.Popen(command, pass_fds=passfds, **to_hand_down())  # type: ignore[call-overload]
    # Reaped by its number.
    server.returncode = 0
    return int(server.pid)


def _with_own_path(args: list[str]) -> list[str]:
    if is_frozen():
        return args
    at = args.index("-c") + 1
    return [*args[:at], with_path(args[at]), *args[at + 1 :]]


def _after_fork() -> None:
    """In what user code has forked off: the server is its parent's, and ends with that one."""
    current, _current.value = _current.value, None
    if current is not None:
        current[1].disown()


on_fork(_after_fork)


def write_all(fd: int, data: bytes) -> None:
    """Write to a pipe; does nothing when its reader is gone."""
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[os.write(fd, view) :]


def _reap(pid: int, timeout: float) -> None:
    """Wait for a child to end, kill it when it does not, and reap it.  Blocks."""
    deadline = time.monotonic() + timeout
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0:  # type: ignore[attr-defined, unused-ignore]
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
                os.waitpid(pid, 0)
                return
            time.sleep(0.001)


def _require_descriptors(number: int) -> None:
    """Return where that many more descriptors can be opened.  Raises OSError."""
    opened: list[int] = []
    try:
        for _ in range(number):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for fd in opened:
            os.close(fd)
