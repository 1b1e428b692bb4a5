"""Requests for the terminal, and the two ends of the dialog by which one goes up from an actor to its parent.

``Start(task) -> Started(LockStatus) -> Yield(LockRelease) -> Return(LockStatus)``.  A release that comes before
``Started`` gives the request up.  Everything here is called by a channel's reader and never waits, so requests pass
through actors of which every task is busy, or cancelled.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import DebugRequestError, MessagingError, TransportClosed
from tractor.devx.debug.lock._status import LockRelease, LockStatus, decode_status
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._boxing import pack_error
from tractor.msg.types import Error, MsgType, Return, Started, Uid, Yield
from tractor.runtime.dialog._callee import put_error, put_return, relay_error
from tractor.runtime.dialog._caller import PendingCall, put_start

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

log = _log.get_logger()

LOCK_REQUEST = "_debug_lock"
HELD_REQUEST = "_debug_held"
TERMINAL_REQUEST = "_debug_terminal"
TEXT_LIMIT = 500
"""Characters of a task's ``repr`` that travel."""


class Ask:
    """One request for the terminal that this actor knows of; compared by identity.

    Attributes:
        uid: the actor that asks.
        task_id, text: its task or thread.
        chan: the child's channel by which it came; ``None``: this actor asks itself.
        up: the request to the parent that carries it further; ``None`` in the root.
        key: a secret of the requester and its parent: who shows it speaks for the requester, by whatever channel.
    """

    def __init__(
        self, uid: Uid, task_id: int, text: str, chan: Channel | None = None, key: bytes = b""
    ) -> None:
        self.uid = uid
        self.task_id = task_id
        self.text = text
        self.chan = chan
        self.key = key
        self.up: UpRequest | None = None

    def is_of(self, chan: Channel, key: object) -> bool:
        """Whether what came by a channel, with that key, is the requester's: by its way up, or by the key."""
        if chan is self.chan:
            return True
        return bool(self.key) and isinstance(key, bytes) and hmac.compare_digest(self.key, key)

    def on_granted(self) -> None:
        """The terminal is the requester's."""

    def on_refused(self, exc: DebugRequestError) -> None:
        """The request has failed; it is known no more."""

    def on_returned(self) -> None:
        """The root knows that the requester is done."""

    def __repr__(self) -> str:
        return f"<request for the REPL by {self.uid} {self.text}>"


class LocalAsk(Ask):
    """A request of this actor's own."""

    def __init__(self, uid: Uid, task_id: int, text: str, key: bytes = b"") -> None:
        super().__init__(uid, task_id, text, key=key)
        self._answered = trio.Event()
        self._error: DebugRequestError | None = None

    def on_granted(self) -> None:
        self._answered.set()

    def on_refused(self, exc: DebugRequestError) -> None:
        self._error = exc
        self._answered.set()

    async def wait(self) -> None:
        """Wait until the terminal is ours.  Raises DebugRequestError."""
        await self._answered.wait()
        if self._error is not None:
            raise self._error


class ServedAsk(Ask, DialogEnd):
    """A child's request, its own or one from further below: the end of the dialog in the parent."""

    def __init__(
        self,
        actor: Actor,
        chan: Channel,
        cid: int,
        kwargs: dict[str, Any],
        leave: Callable[[Ask, bool], None],
    ) -> None:
        name, uuid = kwargs["uid"]
        text = str(kwargs["text"])[:TEXT_LIMIT]
        key = msgspec.convert(kwargs.get("key", b""), bytes)
        super().__init__((str(name), str(uuid)), int(kwargs["task"]), text, chan, key)
        self._actor = actor
        self._chan = chan
        self._cid = cid
        self._leave = leave
        chan.open(self, cid)

    def on_granted(self) -> None:
        status: Any = LockStatus(self.uid, self._cid, True)
        self._chan.tell(Started(self._cid, status))

    def on_refused(self, exc: DebugRequestError) -> None:
        self._chan.forget(self._cid)
        relay_error(self._actor, self._chan, self._cid, exc)

    def on_returned(self) -> None:
        self._chan.forget(self._cid)
        put_return(self._chan, self._cid, LockStatus(self.uid, self._cid, False))

    def on_yield(self, msg: Yield[Any]) -> None:
        try:
            release = decode_status(msg.pld)
        except msgspec.DecodeError:
            release = None
        if not isinstance(release, LockRelease):
            self._out_of_grammar(msg)
            return
        self._leave(self, False)

    def on_error(self, msg: Error) -> None:
        self._chan.forget(self._cid)
        self._leave(self, True)

    def on_lost(self, exc: TransportClosed) -> None:
        self._leave(self, True)

    def _out_of_grammar(self, msg: MsgType) -> None:
        self._chan.forget(self._cid)
        self._leave(self, True)
        exc = MessagingError(
            f"a {type(msg).__name__!r} message does not belong in a request for the debugger's REPL"
        )
        relay_error(self._actor, self._chan, self._cid, exc)


class UpRequest(DialogEnd):
    """The end of the dialog in the actor that asks, or passes a request on.

    Raises:
        TransportClosed: the parent is gone; nothing was sent.
    """

    def __init__(
        self,
        chan: Channel,
        ask: Ask,
        on_refused: Callable[[Ask, DebugRequestError], None],
        on_granted: Callable[[Ask], None],
    ) -> None:
        self.chan = chan
        self._ask = ask
        self._on_refused = on_refused
        self._on_granted = on_granted
        self._released = False
        self.cid = chan.open(self)
        kwargs: dict[str, Any]
        kwargs = {"task": ask.task_id, "uid": list(ask.uid), "text": ask.text[:TEXT_LIMIT]}
        if ask.chan is None and ask.key:
            # For the parent alone: further up what is asked for comes by the ways of the actors in between.
            kwargs["key"] = ask.key
        put_start(chan, self.cid, "self", LOCK_REQUEST, kwargs)

    def release(self) -> None:
        """Give the terminal, or the place in the queue, back.  Idempotent."""
        if self._released:
            return
        self._released = True
        done: Any = LockRelease(self._ask.uid, self.cid)
        self.chan.tell(Yield(self.cid, done))

    def on_started(self, msg: Started[Any]) -> None:
        # After a release this is late news.
        if not self._released:
            self._on_granted(self._ask)

    def on_return(self, msg: Return[Any]) -> None:
        self.chan.forget(self.cid)
        if self._released:
            self._ask.on_returned()
        else:
            self._refuse("the parent took the terminal back")

    def on_error(self, msg: Error) -> None:
        self.chan.forget(self.cid)
        self._refuse(msg.message)

    def on_lost(self, exc: TransportClosed) -> None:
        self._refuse(f"the parent is gone, by which the terminal was asked for: {exc}")

    def _out_of_grammar(self, msg: MsgType) -> None:
        self.chan.forget(self.cid)
        self._refuse(
            f"a {type(msg).__name__!r} message is not an answer to a request for the debugger's REPL"
        )

    def _refuse(self, why: str) -> None:
        if self._released:
            self._ask.on_returned()
        else:
            self._released = True
            self._on_refused(self._ask, DebugRequestError(why))


class RequestRelay(PendingCall):
    """A request that only the root can answer, passed on to the parent; the answer goes back to who has asked.

    Args:
        chan: leads to the parent.
        asker, cid: who has asked, and by which dialog.
        func, kwargs: the request.
    """

    __slots__ = ("_from", "_from_cid")

    def __init__(
        self, chan: Channel, asker: Channel, cid: int, func: str, kwargs: dict[str, Any]
    ) -> None:
        super().__init__(chan, f"self:{func}")
        self._from = asker
        self._from_cid = cid
        put_start(chan, self.cid, "self", func, kwargs)

    def end(self, msg: MsgType | BaseException) -> None:
        super().end(msg)
        if isinstance(msg, Return):
            put_return(self._from, self._from_cid, msg.pld)
        elif isinstance(msg, Error):
            msg.cid = self._from_cid
            put_error(self._from, msg)
        elif isinstance(msg, BaseException):
            # It may stand still at a prompt, and not see by itself that there is none any more.
            lost = DebugRequestError(f"the root can't be asked: {msg}")
            put_error(self._from, pack_error(lost, cid=self._from_cid, src_uid=self.chan.local_uid))

    # Those of the class above call its own.
    on_return = on_cancel_ack = on_error = end
