"""The REPL on the terminal of a root that is on another host: line by line."""

from __future__ import annotations

from typing import Any

from tractor._errors import DebugRequestError
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.relay._link import TerminalLink
from tractor.devx.debug.repl._repl import PdbREPL
from tractor.runtime._state import current_actor


class _Out:
    """Its standard output, which waits for the prompt."""

    encoding = "utf-8"
    KEEPS = 64 * 1024
    """Characters; more is shown at once."""

    def __init__(self) -> None:
        self.link: TerminalLink | None = None
        self._text = ""

    def write(self, text: str) -> int:
        self._text += text
        if len(self._text) > self.KEEPS and self.link is not None:
            self.link.write(self.take())
        return len(text)

    def flush(self) -> None:
        """What is written is shown with the prompt."""

    def isatty(self) -> bool:
        return self.link is not None and self.link.colors

    def take(self) -> str:
        text, self._text = self._text, ""
        return text


class _In:
    """Its standard input: asks the terminal for a line."""

    encoding = "utf-8"

    def __init__(self, out: _Out) -> None:
        self._out = out

    def readline(self) -> str:
        """The line with its end; empty at the end of the input.  Raises OSError: the terminal is gone."""
        link = self._out.link
        return "" if link is None else link.read_line(self._out.take())

    def isatty(self) -> bool:
        return self._out.link is not None and self._out.link.on_terminal


class RelayREPL(PdbREPL):
    """A :class:`PdbREPL` on the root's terminal, where the root is on another host.

    The line is edited by that terminal itself: without completion and history.

    Raises:
        DebugRequestError: the terminal can't be reached.
    """

    def __init__(self, lease: Lease, **kwargs: Any) -> None:
        self._out = _Out()
        self._in = _In(self._out)
        self.take(lease)
        super().__init__(stdin=self._in, stdout=self._out, on_release=lease.release, **kwargs)

    def take(self, lease: Lease) -> None:
        """As in :class:`PdbREPL`; connects."""
        actor = current_actor()
        parent = actor.parent_chan
        if parent is None:
            raise DebugRequestError("the parent is gone, by which the terminal is reached")
        link = TerminalLink(parent.raddr.unwrap(), actor.aid.name, lease.key)
        lease.at_end.callback(self._end, link)
        lease.say = self._say
        self._out.link = link
        super().take(lease)

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")

    def _end(self, link: TerminalLink) -> None:
        # What was written since the last prompt is of no interest to the next one.
        self._out.link = None
        self._out.take()
        link.close()

    def redraw_prompt(self) -> bool:
        """A ctrl-c: the root draws the prompt again, if it is there."""
        return self._interacting

    def do_EOF(self, arg: str) -> bool:
        """EOF (ctrl-d): as `quit`; where the root has no terminal the end of the input is as `continue`."""
        if not self._in.isatty():
            self._go_on_alone("stdin of the root is not a terminal, and has ended")
            return True
        return bool(super().do_EOF(arg))
