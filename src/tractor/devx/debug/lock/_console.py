"""The root's terminal, lent line by line to an actor that can't reach it: the root is on another host.

**Who drives.**  Each request of that actor is a task of the root's; its answer is the end of it.

**Why the races are safe.**

- *The actor is lost while it has the prompt.*  Its request for the terminal has left the queue then, and the debugger
  closes the console: what waits for the keyboard is cancelled, and reads nothing of what the next one is typed.
- *ctrl-c while a line is on its way.*  The root either still awaits that line, then it draws the prompt again, or it
  does not, then the actor is told, who knows whether a prompt of its own is open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from tractor import log as _log
from tractor._errors import DebugRequestError
from tractor.devx.debug.lock._request import Ask
from tractor.devx.debug.lock._status import (
    TERMINAL_TEXT,
    TerminalOp,
    TerminalReply,
    _ctlc_ignore_header,
)
from tractor.devx.debug.lock._terminal import wants_colors
from tractor.ipc._chan import Channel
from tractor.runtime.dialog._callee import put_return, relay_error

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

log = _log.get_logger()


class Console:
    """The terminal, for one request that is granted.

    Args:
        actor: the root.
        ask: whose terminal it is.

    Attributes:
        ask: that request.
    """

    def __init__(self, actor: Actor, ask: Ask) -> None:
        self.ask = ask
        self._actor = actor
        self._scopes: dict[TerminalOp, trio.CancelScope] = {}
        # What stands before the line that is awaited; `None`: none is.
        self._prompt: str | None = None
        self._ctrl_c = trio.Event()
        self._read: Callable[[], Awaitable[str]] = read_line

    def serve(self, chan: Channel, cid: int, op: TerminalOp, text: str) -> None:
        """Carry out a request, and answer it sooner or later.

        Raises:
            DebugRequestError: there is one of that kind already, which comes of no REPL.
        """
        if op in self._scopes:
            raise DebugRequestError(f"the terminal has not answered the request {op!r} before yet")
        self._scopes[op] = trio.CancelScope()
        self._actor.io_nursery.start_soon(
            self._answer, chan, cid, op, text, name=f"terminal for {self.ask.text}"
        )

    async def _answer(self, chan: Channel, cid: int, op: TerminalOp, text: str) -> None:
        scope = self._scopes[op]
        line = ""
        try:
            with scope:
                if op is TerminalOp.ASK:
                    line = await self._ask(text)
                elif op is TerminalOp.WRITE:
                    await self._write(text)
                else:
                    await self._ctrl_c.wait()
                    self._ctrl_c = trio.Event()
        except (OSError, ValueError) as exc:
            gone = DebugRequestError(f"the root has no terminal any more: {exc}")
            relay_error(self._actor, chan, cid, gone)
            return
        finally:
            del self._scopes[op]
        if scope.cancelled_caught:
            late = DebugRequestError(f"{self.ask} does not have the terminal any more")
            relay_error(self._actor, chan, cid, late)
            return
        put_return(chan, cid, TerminalReply(line, _is_terminal(), wants_colors(sys.stdout)))

    async def _write(self, text: str) -> None:
        if text:
            # A terminal may be stopped (ctrl-s); the root goes on.
            await trio.to_thread.run_sync(show, text, abandon_on_cancel=True)

    async def _ask(self, text: str) -> str:
        # Before the prompt is seen, which somebody may answer by a ctrl-c.
        self._prompt = text.rpartition("\n")[2]
        try:
            await self._write(text)
            return await self._read()
        finally:
            self._prompt = None

    def on_ctrl_c(self) -> None:
        """A ctrl-c that is ignored here; in the root's loop."""
        if self._prompt is None:
            self._ctrl_c.set()
            return
        log.pdb("%s by %s of actor %s", _ctlc_ignore_header, self.ask.text, self.ask.uid)
        show(self._prompt)

    def close(self) -> None:
        """The actor is done with the terminal, or gone: what is not answered yet fails."""
        for scope in self._scopes.values():
            scope.cancel()


def show(text: str) -> None:
    """Write to stdout, where there is one."""
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _is_terminal() -> bool:
    return _terminal() is not None


def _terminal() -> int | None:
    """The descriptor of stdin, if that is a terminal."""
    try:
        fd = sys.stdin.fileno()
        return fd if os.isatty(fd) else None
    except (AttributeError, OSError, ValueError):
        return None


async def read_line() -> str:
    """A line of stdin, with its end; empty at the end of the input.  Cancelled, it has read none.

    The terminal itself lets the user edit the line.

    Raises:
        OSError, ValueError: there is no stdin, or not any more.
    """
    stdin: Any = sys.stdin
    if stdin is None:
        return ""
    fd = _terminal()
    if fd is None or sys.platform == "win32":
        line: str = await trio.to_thread.run_sync(
            stdin.readline, TERMINAL_TEXT, abandon_on_cancel=True
        )
        return line
    data = b""
    while not data.endswith(b"\n") and len(data) < TERMINAL_TEXT:
        await trio.lowlevel.wait_readable(fd)
        # In the mode of lines a terminal gives no more than one.
        more = os.read(fd, TERMINAL_TEXT - len(data))
        if not more:
            break
        data += more
    return data.decode(errors="replace")
