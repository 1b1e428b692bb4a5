"""Backends ``'mp_spawn'`` and ``'mp_forkserver'``: the start methods of :mod:`multiprocessing`.

What starts there is multiprocessing's own program with a process object of its own; nothing of the parent's
``__main__`` is run by it, because ours is replayed by message, as on every backend.  Of multiprocessing's helper
processes there is none but the fork server, one for each actor that needs it, which ends with the actor.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import context, forkserver, process, reduction, spawn
from typing import Any, NoReturn

import trio

from tractor.process._frozen import is_frozen, require_support
from tractor.spawn._command import with_path
from tractor.spawn._contract import CHILD_MODULE, SpawnRequest
from tractor.spawn._exec import ExecBackend, ExecProcess, require_executable, start_program
from tractor.spawn._import_path import import_path
from tractor.spawn._pipes import BootedChild, ChildPipes, forked_cmdline
from tractor.spawn.mp._forkserver import (
    ForkServerClient,
    ForkServerProcess,
    fork_server,
    note_started,
    write_all,
)
from tractor.spawn.mp._tracker import take_over_tracker


class MpSpawnBackend(ExecBackend):
    """A fresh interpreter that runs multiprocessing's ``spawn_main()``."""

    key = "mp_spawn"

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest, nursery: trio.Nursery) -> ExecProcess:
        capture = "stderr" not in request.proc_kwargs
        with ChildPipes(request, capture=capture) as pipes, contextlib.ExitStack() as undo:
            data = _pickled(context.SpawnProcess, request, pipes.boot_fd)
            read_fd, write_fd = os.pipe()
            undo.callback(os.close, write_fd)
            with open(read_fd, "rb"):
                command = [os.fsdecode(a) for a in spawn.get_command_line(pipe_handle=read_fd)]
                if not is_frozen():
                    program = command.index("-c") + 1
                    command[program] = with_path(command[program])
                    # Read by nothing but users, and tools that look for actors.
                    command += [CHILD_MODULE, *request.argv(pipes.boot_fd)]
                child = start_program(command, request, pipes, nursery, (read_fd,))
            undo.pop_all()
        # As long as this is open, `multiprocessing.parent_process()` lives in the child.
        child.own_fd(write_fd)
        # A pipe takes it at once; and the child, if it has not died, is about to read it.
        write_all(write_fd, data)
        return child


class MpForkserverBackend:
    """A fork of multiprocessing's fork server, of which each actor has its own."""

    key = "mp_forkserver"

    def is_available(self) -> None:
        """Return when children can be started here, else RuntimeError."""
        require_executable(self.key)
        if not reduction.HAVE_SEND_HANDLE:
            raise RuntimeError(
                f"spawn backend {self.key!r} passes descriptors through sockets, which this platform can't"
            )

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> BootedChild:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`.

        Raises:
            ValueError: ``proc_kwargs`` is not empty: environment and descriptors are the fork server's.
            RuntimeFailure: A frozen program has not called :func:`tractor.freeze_support`.
        """
        require_support(self.key)
        if request.proc_kwargs:
            raise ValueError(
                f"spawn backend {self.key!r} has no options, but proc_kwargs={dict(request.proc_kwargs)!r}"
            )
        await trio.lowlevel.checkpoint()
        with ChildPipes(request, keeps_numbers=False) as pipes:
            launch = _Launch(fork_server(), request, pipes)
            try:
                # A fork server that was just started, or is stopped, lets us wait.
                await trio.to_thread.run_sync(launch.run, abandon_on_cancel=True)
            except BaseException:
                launch.abandon()
                raise
            return launch.adopt(request, pipes, nursery)


class _Launch:
    """One start by the fork server, in a thread that may be left alone with it."""

    def __init__(self, server: ForkServerClient, request: SpawnRequest, pipes: ChildPipes) -> None:
        assert pipes.capture is not None
        self._server = server
        self._data = _pickled(context.ForkServerProcess, request, None)  # type: ignore[attr-defined, unused-ignore]
        self._process: ForkServerProcess | None = None
        # Decides between a process that is taken over and one that nobody waits for any more.
        self._lock = threading.Lock()
        self._abandoned = False
        self._begun = False
        # Duplicates, because the originals are closed when the caller gives up.
        self._fds: list[int] = []
        try:
            for fd in (pipes.boot_fd, pipes.capture.real_fd, pipes.capture.write_fd):
                self._fds.append(os.dup(fd))
        except BaseException:
            self._close_fds()
            raise

    def run(self) -> None:
        """In the thread.  Raises OSError, EOFError: the fork server can't be started, or has died."""
        with self._lock:
            if self._abandoned:
                return
            self._begun = True
        try:
            started = self._server.start_process(self._fds, self._data)
        finally:
            self._close_fds()
        with self._lock:
            self._process = started
            if self._abandoned:
                started.abandon()

    def abandon(self) -> None:
        """Nobody waits for the process any more: it is killed as soon as there is one."""
        with self._lock:
            self._abandoned = True
            if not self._begun:
                # No thread has, perhaps because none can be started.
                self._close_fds()
            if self._process is not None:
                self._process.abandon()

    @trio.lowlevel.enable_ki_protection
    def adopt(self, request: SpawnRequest, pipes: ChildPipes, nursery: trio.Nursery) -> BootedChild:
        """The process, started.  Raises RuntimeError: the nursery takes no more tasks; it was killed."""
        started = self._process
        assert started is not None
        try:
            note_started(self._server)
            who = f"fork of {self._server.pid}, the fork server of {os.getpid()}"
            child = BootedChild(
                started, pipes, forked_cmdline(who, request, pipes.boot_fd), nursery
            )
        except BaseException:
            started.abandon()
            raise
        started.on_server_lost(child.release_lifeline)
        return child

    def _close_fds(self) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


def _pickled(kind: Callable[..., Any], request: SpawnRequest, boot_fd: int | None) -> bytes:
    """What multiprocessing sends a new process: how to prepare, and the process object to run."""
    args = (
        request.name,
        request.uuid,
        tuple(request.parent_addr),
        boot_fd,
        request.loglevel,
        request.infect_asyncio,
    )
    started = kind(target=_run_child, args=args, name=request.name)
    # `get_preparation_data()` would name our `__main__`, and settle the program's default start method.
    preparation: dict[str, Any] = {
        "name": request.name,
        "authkey": process.current_process().authkey,
        "sys_path": import_path(),
    }
    if boot_fd is None:
        with contextlib.suppress(FileNotFoundError):
            preparation["dir"] = os.getcwd()
    buffer = io.BytesIO()
    # Without this multiprocessing refuses to pickle its key.
    context.set_spawning_popen(started)
    try:
        reduction.dump(preparation, buffer)
        reduction.dump(started, buffer)
    finally:
        context.set_spawning_popen(None)
    return buffer.getvalue()


def _run_child(
    name: str,
    uuid: str,
    parent_addr: tuple[str, int | str],
    boot_fd: int | None,
    loglevel: str | None,
    infect_asyncio: bool,
) -> NoReturn:
    """In the child: the process object's target."""
    real_fd: int | None = None
    server: int | None = None
    if boot_fd is None:
        server = os.getppid()
        inherited: Any = forkserver.get_inherited_fds()
        boot_fd, real_fd, stderr_fd = inherited
        os.dup2(stderr_fd, 2)
        os.close(stderr_fd)
        own: Any = forkserver._forkserver
        # The server is the parent's alone; what user code forks off here would keep it alive.
        os.close(own._forkserver_alive_fd)
        own._forkserver_alive_fd = own._forkserver_address = None
        take_over_tracker()
    # Made by importing multiprocessing; here it would say that the parent's main was replayed.
    sys.modules.pop("__mp_main__", None)
    child: Any = importlib.import_module(CHILD_MODULE)
    args = child.ChildArgs(
        name,
        uuid,
        parent_addr,
        boot_fd,
        loglevel,
        infect_asyncio,
        stderr_fd=real_fd,
        server_pid=server,
    )
    run: Callable[[Any], NoReturn] = child.run_and_leave
    run(args)


SPAWN = MpSpawnBackend()
FORKSERVER = MpForkserverBackend()
