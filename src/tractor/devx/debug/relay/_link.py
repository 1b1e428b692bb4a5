"""A way to the root's terminal beside the actor's own channel, for one that stands still at its prompt.

While the REPL is open in a task, the actor's loop does not run.  So a thread with a loop of its own connects to the
parent once more, and shows the key that the parent was given with the request for the terminal.  From there on what is
written and asked goes up the tree by the channels of the actors in between, one request at a time.

**Why the races are safe.**

- *The connection ends while the REPL waits.*  The thread's last act is an answer, which is an error.
- *The connection ends before an order is taken.*  Orders that trio takes no more are refused at once; one that it has
  taken is carried out before its loop ends, and then meets that last answer.
- *The REPL is left by a signal handler* in the middle of anything: :meth:`TerminalLink.close` only leaves a note.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn

import msgspec
import trio

from tractor._errors import DebugRequestError
from tractor.address._types import UnwrappedAddress, mk_uuid
from tractor.devx.debug.lock._request import TERMINAL_REQUEST
from tractor.devx.debug.lock._status import TERMINAL_TEXT, TerminalOp, TerminalReply
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg._conversion import any_value
from tractor.msg.types import Aid, Error, MsgType, Return, Start
from tractor.process.host._host_id import host_id
from tractor.trionics._groups import collapse_eg

CONNECT_LIMIT = 10.0
"""Seconds in which the parent must have answered."""

_THREAD = "terminal of the root"


class TerminalLink:
    """The root's terminal, until it is closed; for one thread at a time.

    Args:
        addr: where the parent listens.
        name: this actor's.
        key: shows that it has the REPL.

    Raises:
        DebugRequestError: the parent can't be reached, or the root does not lend its terminal.

    Attributes:
        on_terminal: whether somebody may be there.
        colors: whether to colour what is shown.
    """

    def __init__(self, addr: UnwrappedAddress, name: str, key: bytes) -> None:
        self._addr = addr
        self._aid = Aid(name, mk_uuid(), os.getpid(), host=host_id())
        self._key = key
        self._answers: SimpleQueue[TerminalReply | Exception] = SimpleQueue()
        self._waiting: dict[int, Callable[[MsgType], None]] = {}
        self._orders = trio.open_memory_channel[Start](math.inf)
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._chan: Channel | None = None
        threading.Thread(target=self._run, name=_THREAD, daemon=True).start()
        try:
            facts = self._answer()
        except OSError as exc:
            raise DebugRequestError(f"the terminal of the root can't be reached: {exc}") from exc
        self.on_terminal = facts.on_terminal
        self.colors = facts.colors

    # -- in the REPL's thread -------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Show a text; returns when it is shown.  Raises OSError: the terminal is gone."""
        for at in range(0, len(text), TERMINAL_TEXT):
            self._ask(TerminalOp.WRITE, text[at : at + TERMINAL_TEXT])

    def read_line(self, text: str) -> str:
        """Show a text that ends with a prompt, and wait for a line; empty: the end of the input.

        Raises:
            OSError: the terminal is gone.
        """
        first = (len(text) - 1) // TERMINAL_TEXT * TERMINAL_TEXT if text else 0
        self.write(text[:first])
        reply = self._ask(TerminalOp.ASK, text[first:])
        self.on_terminal = reply.on_terminal
        return reply.line

    def close(self) -> None:
        """Hang up.  Idempotent; from any thread and from signal handlers, never waits."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)

    def _ask(self, op: TerminalOp, text: str) -> TerminalReply:
        assert self._token is not None
        try:
            self._token.run_sync_soon(self._put, op, text, self._take)
        except trio.RunFinishedError:
            raise ConnectionError("the connection to the parent has ended") from None
        return self._answer()

    def _answer(self) -> TerminalReply:
        found = self._answers.get()
        if isinstance(found, Exception):
            raise ConnectionError(str(found) or repr(found)) from found
        return found

    # -- in its own thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        end: Exception = ConnectionError("it was closed")
        try:
            trio.run(self._main, strict_exception_groups=True)
        except Exception as exc:
            end = exc
        finally:
            self._answers.put(end)

    async def _main(self) -> None:
        with self._scope:
            with trio.fail_after(CONNECT_LIMIT):
                chan = Channel(await transport_from_addr(self._addr), "connect")
                try:
                    await chan.handshake(self._aid)
                except BaseException:
                    chan.abort()
                    raise
            self._chan, self._token = chan, trio.lowlevel.current_trio_token()
            try:
                self._put(TerminalOp.WRITE, "", self._take)
                self._put(TerminalOp.CTRL_C, "", self._interrupt)
                async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                    tn.start_soon(self._send_orders)
                    await self._receive(chan)
            finally:
                chan.abort()

    async def _send_orders(self) -> None:
        async for order in self._orders[1]:
            assert self._chan is not None
            await self._chan.send(order)

    async def _receive(self, chan: Channel) -> NoReturn:
        """Hand out the answers.  Raises TransportClosed at the end of the connection."""
        while True:
            msg = await chan.recv()
            take = self._waiting.pop(getattr(msg, "cid", 0), None)
            if take is not None:
                take(msg)

    def _put(self, op: TerminalOp, text: str, take: Callable[[MsgType], None]) -> None:
        chan = self._chan
        assert chan is not None
        cid = chan.new_cid()
        self._waiting[cid] = take
        words = {"op": str(op), "text": text, "key": self._key}
        order = Start(cid, "self", TERMINAL_REQUEST, words, chan.local_uid, None, "call")
        self._orders[0].send_nowait(order)

    def _take(self, msg: MsgType) -> None:
        self._answers.put(_reply(msg))

    def _interrupt(self, msg: MsgType) -> None:
        """ctrl-c was pressed, which is this process's as it is that of every one at its terminal."""
        if isinstance(_reply(msg), TerminalReply):
            main: Any = threading.main_thread().ident
            signal.pthread_kill(main, signal.SIGINT)  # type: ignore[attr-defined, unused-ignore]
            self._put(TerminalOp.CTRL_C, "", self._interrupt)


def _reply(msg: MsgType) -> TerminalReply | Exception:
    if isinstance(msg, Return):
        try:
            return msgspec.convert(any_value(msg.pld), TerminalReply)
        except msgspec.ValidationError as exc:
            return exc
    return DebugRequestError(msg.message if isinstance(msg, Error) else f"a {type(msg).__name__!r}")
