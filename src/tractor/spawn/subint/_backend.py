"""Backend ``'subint'``: sub-interpreters of this very process, each on an OS thread of its own."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import sys

import trio

from tractor import log as _log
from tractor.process._stdio import NAMES, dup_above_stdio, has_stream
from tractor.spawn._boot import LifelineEnd
from tractor.spawn._contract import SpawnRequest
from tractor.spawn._import_path import import_path
from tractor.spawn._pipes import ChildPipes
from tractor.spawn._stderr import TAIL_SIZE
from tractor.spawn.subint._thread import SubintEnd, SubintThread, require_subints

log = _log.get_logger()

BOOT_TIMEOUT = 3.0
"""Seconds that an interpreter which is still importing has from the first request to end."""

KILL_TIMEOUT = 0.4
"""Seconds from :meth:`SubintProcess.kill` on; with the limits of the ladder before it, 3 s in all."""


class SubintProcess:
    """A subactor in a sub-interpreter; see :class:`~tractor.spawn._contract.ChildProcess`.

    It shares the process, so there is nothing to signal and no exit status of an operating system.  All methods are
    for the ``trio`` run that started it.
    """

    def __init__(self, name: str, steps: list[str], boot_fd: int, lifeline: LifelineEnd) -> None:
        self._name = name
        self._boot_fd = boot_fd
        self._lifeline = lifeline
        self._token = trio.lowlevel.current_trio_token()
        self._thread = SubintThread(steps, f"subint-trio[{name}]", self._on_thread_end)
        self._returncode: int | None = None
        self._tail = ""
        self._asked_at = math.inf
        self._deadline = math.inf
        self._changed = trio.lowlevel.ParkingLot()
        self._abandoned = False
        self._thread.start()

    @property
    def pid(self) -> int:
        """This process's id."""
        return os.getpid()

    @property
    def returncode(self) -> int | None:
        """0, 1 after a failure or when it was abandoned, ``None`` while it runs."""
        return self._returncode

    @property
    def abandoned(self) -> bool:
        """Whether it did not end when it had to, so that its thread may still run."""
        return self._abandoned

    @property
    def cmdline(self) -> str:
        """What stands for a command line: thread, interpreter and process."""
        program = shlex.join([sys.executable, *sys.orig_argv[1:]])
        return (
            f"thread {self._thread.name!r}, sub-interpreter {self._thread.interpreter} of {program}"
        )

    def __repr__(self) -> str:
        return f"<SubintProcess {self._thread.name!r} returncode={self._returncode}>"

    async def wait(self) -> int:
        """Wait until thread and interpreter have ended, or are abandoned.  Any number of tasks may."""
        await trio.lowlevel.checkpoint()
        while self._returncode is None:
            with trio.move_on_at(self._deadline) as limit:
                await self._changed.park()
            if limit.cancelled_caught and trio.current_time() >= self._deadline:
                self._abandon()
        return self._returncode

    def terminate(self) -> None:
        """Ask it to cancel its runtime, by way of its lifeline: there is nothing to signal."""
        if self._returncode is not None:
            return
        self._asked_at = min(self._asked_at, trio.current_time())
        self._thread.stop_early()
        self._lifeline.release()

    def kill(self) -> None:
        """As :meth:`terminate`; then wait no longer than the limits allow, and abandon it."""
        if self._returncode is not None:
            return
        self.terminate()
        if self._thread.steps_begun <= 1:
            deadline = self._asked_at + BOOT_TIMEOUT
        else:
            deadline = trio.current_time() + KILL_TIMEOUT
        self._deadline = min(self._deadline, deadline)
        self._changed.unpark_all()

    def stderr_tail(self) -> str:
        """The traceback with which the interpreter's code failed, its last 16 KiB; else nothing."""
        return self._tail

    async def drain_stderr(self) -> None:
        """Returns at once: its stderr is this process's own from the beginning."""
        await trio.lowlevel.checkpoint()

    def release_lifeline(self) -> None:
        """Close the lifeline's write end.  Idempotent."""
        self._lifeline.release()

    async def aclose(self) -> None:
        """Free descriptors.  Idempotent; the boot pipe's other end is closed when the interpreter is gone."""
        self._lifeline.release()
        await trio.lowlevel.checkpoint()

    def _on_thread_end(self, end: SubintEnd) -> None:
        # In another thread. The subactor, which alone uses the descriptor, has ended.
        os.close(self._boot_fd)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._note_end, end)

    def _note_end(self, end: SubintEnd) -> None:
        if self._abandoned:
            log.info("actor %r, which was abandoned, has ended after all", self._name)
            return
        if end.left is not None:
            log.error(
                "actor %r has ended, but threads still run in its sub-interpreter %s, which is abandoned: %s",
                self._name,
                self._thread.interpreter,
                end.left,
            )
        if end.failure is not None:
            self._tail = end.failure[-TAIL_SIZE:]
            log.error("actor %r failed in its sub-interpreter:\n%s", self._name, end.failure)
        self._returncode = 1 if end.status else 0
        self._changed.unpark_all()

    def _abandon(self) -> None:
        if self._returncode is None:
            self._abandoned = True
            self._returncode = 1
            # An error, as a killed process is: a user who has not asked for a log must learn of it, too.
            log.error(
                "actor %r does not end; abandoned: %s; the process will end by os._exit()",
                self._name,
                self._thread.abandon(),
            )
            self._changed.unpark_all()


class SubintBackend:
    """Starts sub-interpreters that share the GIL.

    Args:
        bootstrap: The first code that runs in each, after its import path is set; another one than the default only
            in tests.
    """

    key = "subint"

    def __init__(self, bootstrap: str = "from tractor._child import ChildArgs, run_child") -> None:
        self._bootstrap = bootstrap

    def is_available(self) -> None:
        """Return when sub-interpreters can be started here.

        Raises:
            RuntimeError: This Python or platform can't.
        """
        require_subints()
        if sys.platform == "win32":
            raise RuntimeError("spawn backend 'subint' waits on a pipe, which needs POSIX")

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> SubintProcess:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`."""
        if request.proc_kwargs:
            raise TypeError(
                f"spawn backend 'subint' takes no `proc_kwargs`, got {sorted(request.proc_kwargs)}"
            )
        await trio.lowlevel.checkpoint()
        return self._launch(request)

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest) -> SubintProcess:
        with ChildPipes(request, capture=False, own_process=False) as pipes:
            boot_fd = dup_above_stdio(pipes.boot_fd)
            try:
                return SubintProcess(
                    request.name, self._steps(request, boot_fd), boot_fd, pipes.lifeline
                )
            except BaseException:
                os.close(boot_fd)
                raise

    def _steps(self, request: SpawnRequest, boot_fd: int) -> list[str]:
        """The code to run: what takes time and needs nobody's answer, then the subactor itself."""
        values = (request.name, request.uuid, tuple(request.parent_addr), boot_fd)
        args = (*values, request.loglevel, request.infect_asyncio, False)
        missing = [name for fd, name in enumerate(NAMES) if not has_stream(fd)]
        prepare = [
            "import sys",
            f"sys.path[:] = {import_path()!a}",
            f"for _name in {missing!a}: setattr(sys, _name, None); setattr(sys, f'__{{_name}}__', None)",
            _SHORT_LIVED_WORKERS,
            self._bootstrap,
        ]
        return [
            "\n".join(prepare),
            f"raise SystemExit(run_child(ChildArgs(*{args!a})))",
        ]


# No thread may be left in an interpreter that is destroyed, and idle worker threads of trio stay for 10 s.
_SHORT_LIVED_WORKERS = """
try:
    import trio._core._thread_cache
    trio._core._thread_cache.IDLE_TIMEOUT = 0.05
except ImportError:
    pass
"""


BACKEND = SubintBackend()
