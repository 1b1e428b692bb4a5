"""A foreign process under a nursery: its streams are ours, its failure says what it had printed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio

from tractor.log import get_logger, level_value
from tractor.trionics._groups import collapse_eg

log = get_logger("trionics")

STDERR_TAIL = 16 * 1024
"""Bytes of stderr that are kept for an error's note."""

MAX_LINE = 64 * 1024
"""Bytes after which a line without an end is relayed as it is."""

DRAIN_TIMEOUT = 1.0
"""Seconds that a pipe is read on after the process has ended; a grandchild may hold it open."""


class _Relay:
    """Reads one stream to its end: keeps the tail, and hands whole lines on."""

    def __init__(self, keep: int, put_line: Callable[[str], None] | None) -> None:
        self.tail = bytearray()
        self._keep = keep
        self._put_line = put_line
        self._line = bytearray()

    async def run(self, stream: trio.abc.ReceiveStream) -> None:
        try:
            async with stream:
                async for chunk in stream:
                    self._feed(chunk)
        finally:
            if self._line and self._put_line is not None:
                self._put_line(self._line.decode(errors="replace"))
                self._line.clear()

    def _feed(self, chunk: bytes | bytearray) -> None:
        if self._keep:
            self.tail += chunk
            del self.tail[: -self._keep]
        if self._put_line is None:
            return
        self._line += chunk
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._put_line(line.removesuffix(b"\r").decode(errors="replace"))
        if len(rest) > MAX_LINE:
            self._put_line(rest.decode(errors="replace"))
            rest = bytearray()
        self._line = rest


def _check_options(stdout: Any, relay_stdout: bool, relay_stderr: bool, options: Any) -> None:
    for name in ("capture_stdout", "capture_stderr"):
        if options.get(name):
            raise ValueError(
                f"{name}=True would hold all output until the end: "
                "use relay_stdout/relay_stderr, or pass an open file"
            )
    for name, value in (("stdout", stdout), ("stderr", options.get("stderr"))):
        if value == subprocess.PIPE:
            raise ValueError(
                f"{name}=PIPE makes a pipe that nobody reads, and the process would stop when it "
                f"is full: use relay_{name}=True, or pass an open file"
            )
    if relay_stdout and stdout != subprocess.DEVNULL:
        raise ValueError(f"relay_stdout=True and stdout={stdout!r} exclude each other")
    if relay_stderr and options.get("stderr") is not None:
        raise ValueError(f"relay_stderr=True and stderr={options['stderr']!r} exclude each other")


def _label_of(cmd: str | bytes | os.PathLike[str] | Sequence[Any]) -> str:
    if isinstance(cmd, str):
        words: Sequence[Any] = cmd.split()
    else:
        words = [cmd] if isinstance(cmd, bytes | os.PathLike) else cmd
    return os.path.basename(os.fsdecode(words[0])) if words else "process"


async def supervise_run_process(
    cmd: str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]],
    *,
    check: bool = True,
    label: str | None = None,
    relay_stdout: bool = False,
    relay_stderr: bool = False,
    relay_level: str = "io",
    stdout: Any = subprocess.DEVNULL,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
    **run_process_kwargs: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a process for as long as this task lives; for ``nursery.start()``.

    None of its streams is ours, so it can't touch the terminal: stdin and stdout are ``/dev/null``
    by default (also when ``None`` is passed), stderr is always read.

    Args:
        cmd: the command, as for :func:`trio.run_process`.
        check: raise when it ends with another exit code than 0.
        label: what its lines and errors are headed with; default: the program's file name.
        relay_stdout: log its lines as ``[label:out] ...``.
        relay_stderr: log its lines as ``[label:err] ...``.
        relay_level: name of the level at which they are logged.
        stdout: an open file or descriptor.
        task_status: set to the running :class:`trio.Process`.
        run_process_kwargs: further keywords of :func:`trio.run_process`.

    Returns:
        The ended process, without its output.

    Raises:
        ValueError: ``PIPE`` or ``capture_*`` was passed, a stream is to be relayed and to go to a
            file, or the level is unknown; nothing was started.
        OSError: it could not be started.
        subprocess.CalledProcessError: it failed; ``.stderr`` and a note hold the last 16 KiB of its
            stderr.  Cancelled, it is terminated as :func:`trio.run_process` does.
    """
    _check_options(stdout, relay_stdout, relay_stderr, run_process_kwargs)
    level = level_value(relay_level)
    label = _label_of(cmd) if label is None else label
    options = {"stdin": subprocess.DEVNULL, **run_process_kwargs}
    for name in ("capture_stdout", "capture_stderr"):
        options.pop(name, None)
    if options["stdin"] is None:
        options["stdin"] = subprocess.DEVNULL
    options["stdout"] = subprocess.DEVNULL if stdout is None else stdout
    relays: dict[str, _Relay] = {}
    if relay_stdout:
        options["stdout"] = subprocess.PIPE
        relays["stdout"] = _Relay(0, partial(log.log, level, "[%s:out] %s", label))
    if options.get("stderr") is None:
        options["stderr"] = subprocess.PIPE
        put_line = partial(log.log, level, "[%s:err] %s", label) if relay_stderr else None
        relays["stderr"] = _Relay(STDERR_TAIL, put_line)

    proc = await _run(cmd, options, relays, label, task_status)
    assert proc.returncode is not None
    if check and proc.returncode:
        tail = bytes(relays["stderr"].tail) if "stderr" in relays else None
        error = subprocess.CalledProcessError(proc.returncode, proc.args, stderr=tail)
        if tail:
            text = tail.decode(errors="replace")
            error.add_note(f"the last {len(tail)} bytes that {label!r} wrote to stderr:\n{text}")
        raise error
    return subprocess.CompletedProcess(proc.args, proc.returncode)


async def _run(
    cmd: Any,
    options: dict[str, Any],
    relays: dict[str, _Relay],
    label: str,
    task_status: trio.TaskStatus[trio.Process],
) -> trio.Process:
    """Run it to its end and read its pipes to theirs."""
    async with collapse_eg(add_notes=False), trio.open_nursery() as readers:
        async with collapse_eg(add_notes=False), trio.open_nursery() as nursery:
            proc: trio.Process = await nursery.start(
                partial(trio.run_process, cmd, check=False, **options)
            )
            for name, relay in relays.items():
                readers.start_soon(relay.run, getattr(proc, name))
            task_status.started(proc)
        readers.cancel_scope.deadline = trio.current_time() + DRAIN_TIMEOUT
    if readers.cancel_scope.cancelled_caught:
        log.warning(
            "%r has ended, but after %s s another process still holds its %s open",
            label,
            DRAIN_TIMEOUT,
            " and ".join(relays),
        )
    return proc
