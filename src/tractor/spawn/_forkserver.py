"""Backend ``'main_thread_forkserver'``: a child forked off this process, from a thread that never ran trio."""

from __future__ import annotations

import _thread
import importlib
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import trio

from tractor._util._stdio import replace_missing

from ._contract import SpawnRequest
from ._fork import fork_in_fresh_thread
from ._fork_reset import close_descriptors, forget_program, reset_process
from ._forked import ForkedProc
from ._pipes import BootedChild, ChildPipes
from ._signal_help import ENDING

__all__ = ["BACKEND", "ForkBackend", "ForkProcess"]

CHILD_MODULE = "tractor._child"

PRELOADED = (CHILD_MODULE,)
"""What a child needs: loaded once, in the parent, at its first fork."""


class ForkProcess(BootedChild):
    """A forked child; see :class:`~tractor.spawn._contract.ChildProcess`."""


class ForkBackend:
    """Forks in a fresh thread of the main interpreter."""

    key = "main_thread_forkserver"

    def is_available(self) -> None:
        """Return when children can be started here.

        Raises:
            RuntimeError: No ``fork()``, or this is not the main interpreter.
        """
        if not hasattr(os, "fork"):
            raise RuntimeError(
                f"spawn backend {self.key!r} needs fork(), which {sys.platform} lacks"
            )
        # Known from Python 3.13 on; before it nothing of ours runs in a sub-interpreter.
        if not getattr(_thread, "_is_main_interpreter", lambda: True)():
            raise RuntimeError(
                f"spawn backend {self.key!r} forks the main interpreter, and this is a sub-interpreter"
            )

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> ForkProcess:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`.

        Raises:
            ValueError: ``proc_kwargs`` holds anything but ``child_sigint='ipc'``.
            NotImplementedError: ``child_sigint='trio'``.
            RuntimeError: The fork has not happened within 10 s.
        """
        _check_options(request.proc_kwargs)
        # The only checkpoint: from here on there is no point at which a process could get lost.
        await trio.lowlevel.checkpoint()
        return self._launch(request, nursery)

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest, nursery: trio.Nursery) -> ForkProcess:
        for name in PRELOADED:
            importlib.import_module(name)
        with ChildPipes(request) as pipes:
            # This thread waits meanwhile, at a place where it holds no lock that the child could need.
            pid = fork_in_fresh_thread(lambda mask: _run_child(request, pipes, mask))
            process = ForkedProc(pid)
            try:
                # What it would be called had it been started by itself.
                argv = shlex.join([CHILD_MODULE, *request.argv(pipes.boot_fd)])
                cmdline = f"(fork of {os.getpid()}) {argv}"
                return ForkProcess(process, pipes, cmdline, nursery)
            except BaseException:
                process.kill()
                os.waitpid(pid, 0)
                raise


def _check_options(options: Any) -> None:
    for name, value in options.items():
        if name != "child_sigint":
            raise ValueError(
                f"proc_kwargs {name!r} is unknown to spawn backend {BACKEND.key!r}, "
                "whose only option is child_sigint='ipc'"
            )
        if value == "trio":
            raise NotImplementedError(
                "child_sigint='trio' is not supported: a forked child is cancelled by message, "
                "child_sigint='ipc'"
            )
        if value != "ipc":
            raise ValueError(f"child_sigint must be 'ipc', not {value!r}")


def _run_child(request: SpawnRequest, pipes: ChildPipes, mask: set[int]) -> NoReturn:
    """In the forked child, in its only thread, every signal blocked."""
    if pipes.capture is not None:
        os.dup2(pipes.capture.write_fd, 2)
    replace_missing()
    close_descriptors(pipes.inherited_fds())
    # Unblocked by the child once it can handle them.
    reset_process({*mask, *ENDING})
    child: Any = sys.modules[CHILD_MODULE]
    forget_program(child.__spec__)
    args = child.ChildArgs(
        request.name,
        request.uuid,
        tuple(request.parent_addr),
        pipes.boot_fd,
        request.loglevel,
        request.infect_asyncio,
    )
    run: Callable[[Any], NoReturn] = child.run_and_leave
    run(args)


BACKEND = ForkBackend()
