"""Backend ``'main_thread_forkserver'``: a child forked off this process, from a thread that never ran trio."""

from __future__ import annotations

import _thread
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import trio

from tractor import log as _log
from tractor.process._state import ProcessVar, of_process
from tractor.process._stdio import replace_missing
from tractor.spawn._contract import CHILD_MODULE, SpawnRequest
from tractor.spawn._pipes import BootedChild, ChildPipes, forked_cmdline
from tractor.spawn._signal_help import ENDING
from tractor.spawn.fork._descriptors import close_descriptors
from tractor.spawn.fork._fork import fork_in_fresh_thread
from tractor.spawn.fork._forked import ForkedProc
from tractor.spawn.fork._reset import forget_program, reset_process

log = _log.get_logger()

PRELOADED = (CHILD_MODULE,)
"""What a child needs: loaded once, in the parent, at its first fork."""


MANY = 8
"""Children of this process from which on :data:`PRELOADED_FOR_MANY` is loaded, too."""

PRELOADED_FOR_MANY = ("tractor.control._wiring",)
"""What a child loads when a user asks it first: of many that are asked at once each would do that for itself."""

_forks = ProcessVar(lambda: 0)


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
            ValueError: ``proc_kwargs`` holds anything but ``child_sigint='ipc'`` and ``after_fork``, a function
                without arguments that the child calls before it connects: for what a fork leaves as it was, such as
                a module's own random generators.  What it raises ends the child, and so its start.
            NotImplementedError: ``child_sigint='trio'``.
            RuntimeError: The fork has not happened within 10 s.
        """
        _check_options(request.proc_kwargs)
        _warn_of_threads()
        # The only checkpoint: from here on there is no point at which a process could get lost.
        await trio.lowlevel.checkpoint()
        return self._launch(request, nursery)

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest, nursery: trio.Nursery) -> ForkProcess:
        for name in PRELOADED:
            importlib.import_module(name)
        _forks.value += 1
        if _forks.value == MANY:
            for name in PRELOADED_FOR_MANY:
                importlib.import_module(name)
        with ChildPipes(request) as pipes:
            # This thread waits meanwhile, at a place where it holds no lock that the child could need.
            pid = fork_in_fresh_thread(lambda mask: _run_child(request, pipes, mask))
            process = ForkedProc(pid)
            try:
                cmdline = forked_cmdline(f"fork of {os.getpid()}", request, pipes.boot_fd)
                return ForkProcess(process, pipes, cmdline, nursery)
            except BaseException:
                process.kill()
                os.waitpid(pid, 0)
                raise


def _check_options(options: Any) -> None:
    for name, value in options.items():
        if name == "after_fork":
            if not callable(value) or inspect.iscoroutinefunction(value):
                raise ValueError(
                    f"after_fork must be a function without arguments, not async, not {value!r}"
                )
        elif name != "child_sigint":
            raise ValueError(
                f"proc_kwargs {name!r} is unknown to spawn backend {BACKEND.key!r}, "
                "whose only options are child_sigint='ipc' and after_fork=<function>"
            )
        elif value == "trio":
            raise NotImplementedError(
                "child_sigint='trio' is not supported: a forked child is cancelled by message, "
                "child_sigint='ipc'"
            )
        elif value != "ipc":
            raise ValueError(f"child_sigint must be 'ipc', not {value!r}")


_OWN_THREADS = ("tractor-", "Trio thread ")
"""How the names of threads begin that hold no lock which a child could need: the runtime's, and idle ones of trio's."""

_warned_of: set[str] = of_process(set())


def _warn_of_threads() -> None:
    """Say once of each thread, by its name, that the fork does without it."""
    here = threading.current_thread()
    names = {thread.name for thread in threading.enumerate() if thread is not here}
    new = sorted(n for n in names - _warned_of if not n.startswith(_OWN_THREADS))
    if new:
        _warned_of.update(new)
        log.warning(
            "forking while other threads run (%s): a lock that one of them holds is never released in the child, and "
            "a library may wait for one at the fork itself. Start actors before threads, or use "
            "start_method='trio'; see the guide on spawn backends",
            ", ".join(map(repr, new)),
        )


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
    after_fork = request.proc_kwargs.get("after_fork")
    if after_fork is not None:
        after_fork()
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
