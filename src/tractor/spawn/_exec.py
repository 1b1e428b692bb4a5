"""Backend ``'trio'``: a fresh interpreter that runs :mod:`tractor._child`."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import trio

from ._boot import BootRecord, LifelineEnd, open_boot_pipe
from ._contract import SpawnRequest
from ._exit_watch import ExitWatch
from ._stderr import StderrCapture

__all__ = ["BACKEND", "ExecBackend", "ExecProcess"]


class ExecProcess:
    """A child of :class:`ExecBackend`; see :class:`~tractor.spawn._contract.ChildProcess`."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        lifeline: LifelineEnd,
        capture: StderrCapture | None,
    ) -> None:
        self._popen = popen
        self._lifeline = lifeline
        self._capture = capture
        self._watch = ExitWatch(popen.pid)
        # Only one task at a time may wait on the watch's descriptor.
        self._wait_lock = trio.Lock()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``), or ``None`` while the child runs."""
        return self._popen.poll()

    @property
    def cmdline(self) -> str:
        """The command line, quoted for a shell."""
        args = self._popen.args
        assert isinstance(args, list)
        return shlex.join(args)

    def __repr__(self) -> str:
        return f"<ExecProcess pid={self.pid} returncode={self._popen.returncode}>"

    async def wait(self) -> int:
        """Wait for the child's end and reap it; any number of tasks may."""
        async with self._wait_lock:
            if self._popen.poll() is None:
                await self._watch.wait()
            # The kernel may report the end an instant before the status can be had.
            returncode = self._popen.wait()
            self._watch.close()
        return returncode

    def terminate(self) -> None:
        """Send SIGTERM; does nothing when the child is gone."""
        self._popen.terminate()

    def kill(self) -> None:
        """Send SIGKILL; does nothing when the child is gone."""
        self._popen.kill()

    def stderr_tail(self) -> str:
        """Up to the last 16 KiB of stderr from before the child was configured."""
        return self._capture.tail() if self._capture is not None else ""

    async def drain_stderr(self) -> None:
        """After the child's death: wait, at most 0.2 s, until all of its stderr was captured."""
        if self._capture is not None:
            await self._capture.drain()

    def release_lifeline(self) -> None:
        """Close the lifeline's write end.  Idempotent."""
        self._lifeline.release()

    async def aclose(self) -> None:
        """Free pipes and descriptors.  Idempotent; neither kills nor waits for the child."""
        self._lifeline.release()
        self._watch.close()
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        if self._capture is not None:
            await self._capture.aclose()


class ExecBackend:
    """Starts ``python -m <module>``.

    Args:
        module: The program; another one than the default only in tests.
    """

    key = "trio"

    def __init__(self, module: str = "tractor._child") -> None:
        self._module = module

    def is_available(self) -> None:
        """Return when children can be started here.

        Raises:
            RuntimeError: No interpreter to start, or no descriptors to hand down.
        """
        if not sys.executable:
            raise RuntimeError(
                "spawn backend 'trio' needs sys.executable, which is empty in this program"
            )
        if sys.platform == "win32":
            raise RuntimeError("spawn backend 'trio' hands descriptors down, which needs POSIX")

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> ExecProcess:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`."""
        # The only checkpoint: from here on there is no point at which a process could get lost.
        await trio.lowlevel.checkpoint()
        return self._launch(request, nursery)

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest, nursery: trio.Nursery) -> ExecProcess:
        # Popen runs right here: with vfork it takes 0.2 ms, less than the way to a thread and back,
        # and the child's parent *thread* is then one that lives as long as the runtime.
        capture = None if "stderr" in request.proc_kwargs else StderrCapture()
        lifeline: LifelineEnd | None = None
        boot_fd = -1
        popen: subprocess.Popen[bytes] | None = None
        try:
            boot_fd, lifeline = open_boot_pipe(
                BootRecord(
                    authkey=request.authkey,
                    stderr_fd=capture.real_fd if capture is not None else None,
                    parent_pid=os.getpid(),
                )
            )
            with _sigint_blocked():
                popen = subprocess.Popen(
                    self._command(request, boot_fd), **_popen_kwargs(request, boot_fd, capture)
                )
            if capture is not None:
                capture.start(nursery)
            process = ExecProcess(popen, lifeline, capture)
        except BaseException:
            if popen is not None:
                popen.kill()
                popen.wait()
            if lifeline is not None:
                lifeline.release()
            if capture is not None:
                capture.close()
            raise
        finally:
            if boot_fd >= 0:
                os.close(boot_fd)
            if capture is not None:
                capture.close_child_ends()
        return process

    def _command(self, request: SpawnRequest, boot_fd: int) -> list[str]:
        command = [sys.executable, *_interpreter_flags(), "-m", self._module]
        command += ["--uid", repr((request.name, request.uuid))]
        command += ["--parent_addr", repr(tuple(request.parent_addr))]
        if request.loglevel is not None:
            command += ["--loglevel", request.loglevel]
        if request.infect_asyncio:
            command.append("--asyncio")
        command += ["--boot_fd", str(boot_fd)]
        return command


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Have a child begin with SIGINT blocked; it unblocks it once it can handle it.

    Otherwise a ctrl-c in a terminal, which reaches the whole process group, would hit a starting interpreter and
    make it print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interpreter_flags() -> list[str]:
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if "-P" not in flags and "-I" not in flags and not _cwd_is_importable():
        # ``-m`` would put the working directory first on the child's path, where the parent has not
        # got it: a stray ``trio.py`` in there would be run.
        flags.append("-P")
    return flags


def _cwd_is_importable() -> bool:
    try:
        return "" in sys.path or os.getcwd() in sys.path
    except OSError:
        # A working directory that was removed holds no module.
        return False


def _popen_kwargs(
    request: SpawnRequest, boot_fd: int, capture: StderrCapture | None
) -> dict[str, Any]:
    """The user's arguments and ours; unless told, the child keeps our process group and stdin."""
    kwargs = dict(request.proc_kwargs)
    fds = [*kwargs.pop("pass_fds", ()), boot_fd]
    if capture is not None:
        fds.append(capture.real_fd)
        kwargs["stderr"] = capture.write_fd
    return {**kwargs, "pass_fds": tuple(fds)}


BACKEND = ExecBackend()
