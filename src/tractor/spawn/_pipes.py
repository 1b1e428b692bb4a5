"""What every backend's child is born with: the boot pipe, and a stderr that its parent reads at first."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping

import trio

from tractor.process._stdio import dup_above_stdio
from tractor.spawn._boot import BootRecord, LifelineEnd, open_boot_pipe
from tractor.spawn._contract import CHILD_MODULE, SpawnRequest, selected_start_method
from tractor.spawn._own_child import ExitSource
from tractor.spawn._stderr import StderrCapture
from tractor.spawn.mp._tracker import tracker_fd
from tractor.spawn.zygote._tie import current_tie


class ChildPipes:
    """Both ends of what connects a parent with a child that is being started.

    A context manager for the time of the start: at its end the child's ends are closed here, and after an error
    the parent's, too.

    Attributes:
        boot_fd: The boot pipe's read end, for the child alone.
        lifeline: Its write end.
        capture: The child's stderr; ``None`` where the user's own arguments say what that is.

    Args:
        request: What is to be started.
        capture: Whether to read the child's stderr until it is configured.
        keeps_numbers: Whether descriptors have the same number in the child; else it has to be told otherwise.
        own_process: ``False``: the child shares this process, and uses its descriptors.
        limits: Of the kernel, for the child.
        sockets: Descriptors that the child's program asks for by name.

    Raises:
        OSError: Out of descriptors.
        ValueError: The boot record is too large.
    """

    def __init__(
        self,
        request: SpawnRequest,
        *,
        capture: bool = True,
        keeps_numbers: bool = True,
        own_process: bool = True,
        limits: Mapping[str, int] | None = None,
        sockets: Mapping[str, int] | None = None,
    ) -> None:
        self.capture = StderrCapture() if capture else None
        stderr_fd = self.capture.real_fd if self.capture is not None and keeps_numbers else None
        tracker = tracker_fd() if keeps_numbers else None
        tie = current_tie() if keeps_numbers and own_process else None
        self._zygote = None if tie is None else tie.fds()
        self._tracker_fd: int | None = None
        try:
            if tracker is not None and own_process:
                # multiprocessing may close the original in a process that is forked off.
                tracker = self._tracker_fd = dup_above_stdio(tracker)
            self.boot_fd, self.lifeline = open_boot_pipe(
                BootRecord(
                    claim=request.claim,
                    authkey=request.authkey,
                    key_is_explicit=request.key_is_explicit,
                    tls=request.tls,
                    stderr_fd=stderr_fd,
                    tracker_fd=tracker,
                    zygote=self._zygote,
                    parent_pid=os.getpid(),
                    limits=dict(limits or {}),
                    sockets=dict(sockets or {}),
                    start_method=selected_start_method(),
                )
            )
        except BaseException:
            self._close_tracker()
            if self.capture is not None:
                self.capture.close()
            raise

    def inherited_fds(self) -> tuple[int, ...]:
        """The descriptors that the child keeps under their numbers, besides 0, 1 and 2."""
        real_fd = None if self.capture is None else self.capture.real_fd
        own = (self.boot_fd, real_fd, self._tracker_fd)
        return (*(fd for fd in own if fd is not None), *(self._zygote or ()))

    def __enter__(self) -> ChildPipes:
        return self

    def __exit__(self, _kind: object, exc: BaseException | None, _tb: object) -> None:
        if exc is not None:
            self.lifeline.release()
            if self.capture is not None:
                self.capture.close()
        elif self.capture is not None:
            self.capture.close_child_ends()
        self._close_tracker()
        os.close(self.boot_fd)

    def _close_tracker(self) -> None:
        fd, self._tracker_fd = self._tracker_fd, None
        if fd is not None:
            os.close(fd)


def forked_cmdline(who: str, request: SpawnRequest, boot_fd: int) -> str:
    """What a child that was forked would be called had it been started by itself, behind whose fork it is."""
    return f"({who}) {shlex.join([CHILD_MODULE, *request.argv(boot_fd)])}"


class BootedChild:
    """A started subactor; see :class:`~tractor.spawn._contract.ChildProcess`.

    Args:
        process: The process.
        pipes: What it was started with.
        cmdline: The command line, quoted for a shell, or what stands for it.
        nursery: Hosts the task that passes its early stderr on.

    Raises:
        RuntimeError: The nursery takes no more tasks; nothing was changed.
    """

    def __init__(
        self, process: ExitSource, pipes: ChildPipes, cmdline: str, nursery: trio.Nursery
    ) -> None:
        self._process = process
        self._lifeline: LifelineEnd = pipes.lifeline
        self._capture = pipes.capture
        self._cmdline = cmdline
        self._fds: list[int] = []
        if self._capture is not None:
            self._capture.start(nursery)

    def own_fd(self, fd: int) -> None:
        """Have a further descriptor closed with the others."""
        self._fds.append(fd)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``), or ``None`` while the child runs."""
        return self._process.poll()

    @property
    def cmdline(self) -> str:
        """The command line, quoted for a shell, or what stands for it."""
        return self._cmdline

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} returncode={self.returncode}>"

    async def wait(self) -> int:
        """Wait for the child's end and reap it; any number of tasks may."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM; does nothing when the child is gone."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; does nothing when the child is gone."""
        self._process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]

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
        self._process.close()
        while self._fds:
            os.close(self._fds.pop())
        if self._capture is not None:
            await self._capture.aclose()
