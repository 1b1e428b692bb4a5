"""The pipes that services print into, read at all times, and written to this process's stdout as that takes it.

**Who drives.**  A task for each pipe reads it, whatever the terminal does, so that no service ever waits for that.  One
task writes, in a thread, for what stdout is may block; it goes round the services, so that one that prints a lot leaves
the others their turn.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque

import trio

from tractor import log as _log
from tractor.manager._lines import LineBuffer
from tractor.process._stdio import has_stream, move_above_stdio, write_and_close
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

CHUNK = 64 * 1024
"""Bytes of one read, and about those of one write."""

LAST_WORDS = 2.0
"""Seconds in which stdout must take what is left at the end."""


class _Pipe:
    """One service's, for all of its incarnations: the manager holds both ends, so it never ends by itself."""

    def __init__(self, name: str, as_json: bool) -> None:
        self.lines = LineBuffer(name, as_json)
        self.read_fd, self.write_fd = map(move_above_stdio, os.pipe())
        os.set_blocking(self.read_fd, False)  # type: ignore[attr-defined, unused-ignore]
        # Around the wait for more.
        self.waiting = trio.CancelScope()

    def look_at_time(self) -> None:
        """Have the wait for more end when what is unfinished is to be printed."""
        limit = self.lines.deadline
        self.waiting.deadline = math.inf if limit is None else limit

    def close_write_end(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        self.close_write_end()
        if self.read_fd >= 0:
            trio.lowlevel.notify_closing(self.read_fd)
            os.close(self.read_fd)
            self.read_fd = -1


@ki_protected
class Outputs:
    """What all services print.

    Args:
        nursery: hosts the tasks; they are cancelled by :meth:`aclose`.
        fd: where it goes; a duplicate is used.
        as_json: each line becomes a JSON object.
    """

    def __init__(self, nursery: trio.Nursery, fd: int = 1, as_json: bool = False) -> None:
        self._nursery = nursery
        self._as_json = as_json
        # Without a stdout of our own there is nobody to write to; it is read all the same.
        self._out = os.dup(fd) if fd > 2 or has_stream(fd) else -1
        self._pipes: dict[str, _Pipe] = {}
        # Those that have lines for stdout, in the order of their turns.
        self._waiting: deque[LineBuffer] = deque()
        self._more = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._scope = trio.CancelScope()
        nursery.start_soon(self._write_all, name="output of services")

    def for_child(self, name: str) -> int:
        """The write end of that actor's pipe, made when it is asked for first.  Raises OSError."""
        pipe = self._pipes.get(name)
        if pipe is None:
            pipe = self._pipes[name] = _Pipe(name, self._as_json)
            self._nursery.start_soon(self._read, pipe, name=f"output of {name}")
        return pipe.write_fd

    def take(self, name: str, data: bytes) -> None:
        """That actor, on another host, has printed something.  Raises OSError."""
        self.for_child(name)
        pipe = self._pipes[name]
        pipe.lines.feed(data, trio.current_time())
        self._offer(pipe.lines)
        pipe.look_at_time()

    def forget(self, name: str) -> None:
        """That actor comes no more: its pipe ends with the last process that has it."""
        pipe = self._pipes.pop(name, None)
        if pipe is not None:
            pipe.close_write_end()

    @property
    def held(self) -> int:
        """Bytes that wait for stdout."""
        return sum(pipe.lines.held for pipe in self._pipes.values())

    async def aclose(self) -> None:
        """All services are gone: print what is left, for at most 2 s, and free all.  Shielded."""
        with trio.CancelScope(shield=True):
            for pipe in self._pipes.values():
                self._read_ready(pipe)
                pipe.lines.finish()
                self._offer(pipe.lines)
            with trio.move_on_after(LAST_WORDS):
                await self._idle.wait()
            self._scope.cancel()
            for pipe in self._pipes.values():
                pipe.close()
            self._pipes.clear()
            if self._out >= 0:
                os.close(self._out)
                self._out = -1

    def _offer(self, lines: LineBuffer) -> None:
        if lines.has_lines and not any(one is lines for one in self._waiting):
            self._waiting.append(lines)
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._more.set()

    async def _read(self, pipe: _Pipe) -> None:
        lines = pipe.lines
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                pipe.waiting = trio.CancelScope()
                pipe.look_at_time()
                with pipe.waiting:
                    await trio.lowlevel.wait_readable(pipe.read_fd)
                if not self._read_ready(pipe):
                    break
                lines.expire(trio.current_time())
                self._offer(lines)
        lines.finish()
        self._offer(lines)
        pipe.close()

    def _read_ready(self, pipe: _Pipe) -> bool:
        """Take what is there; whether there may be more one day."""
        if pipe.read_fd < 0:
            return False
        with contextlib.suppress(BlockingIOError):
            data = os.read(pipe.read_fd, CHUNK)
            pipe.lines.feed(data, trio.current_time())
            return bool(data)
        return True

    async def _write_all(self) -> None:
        with self._scope:
            while True:
                if not self._waiting:
                    self._idle.set()
                    self._more = trio.Event()
                    await self._more.wait()
                lines = self._waiting.popleft()
                data = lines.take(CHUNK)
                if data and self._out >= 0:
                    await self._write(data)
                self._offer(lines)

    async def _write(self, data: bytes) -> None:
        # With a descriptor of its own, because the thread may outlive this manager's end.
        fd = os.dup(self._out)
        gone = await trio.to_thread.run_sync(write_and_close, fd, data, abandon_on_cancel=True)
        if gone is not None and self._out >= 0:
            log.error("nobody reads what the services print any more: %s", gone)
            os.close(self._out)
            self._out = -1
