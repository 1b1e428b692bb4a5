"""Telling instruments of calls and contexts.

One object a side of a dialog, made only while an instrument wants to know: it has told the beginning, and tells the
end.  An instrument that comes later hears the end of dialogs whose beginning another one was told, and nothing of the
rest.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, Protocol

import msgspec
import trio

from tractor._error_registry import type_path
from tractor._errors import ContextCancelled, TransportClosed, Uid
from tractor._proto.dialog.context import ContextState
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.msg.types import Error
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.seen._events import (
    CallEnded,
    CallStarted,
    ContextClosed,
    ContextOpened,
    ContextStarted,
    CreditWaited,
    MessageReceived,
    MessageSent,
    StreamClosed,
    StreamOpened,
)
from tractor.runtime.seen._lives import boxed_text, shortened
from tractor.runtime.seen._told import TOLD, read_headers


class ToldPort(Protocol):
    """A stream's port, as far as instruments are told of it."""

    chan: Channel
    cid: int
    what: str
    send: Any
    recv: Any
    received: int
    discarded: int


_CANCELLED = type_path(trio.Cancelled)

NOT_TOLD = frozenset({"self", "tractor.discovery._service"})
"""Namespaces of the runtime's own requests."""


class ToldDialog:
    """A side of a call, one-way stream or context, while instruments are told of it.

    Args:
        chan: the channel.
        cid: the dialog.
        side: ``'caller'`` or ``'callee'``.
        function: the endpoint, as ``module:name``.
        kind: of dialog.
        sent: of the callee: the headers that came, undecoded.

    Attributes:
        headers: of the caller: what is to be sent along.
    """

    __slots__ = (
        "_began",
        "_by_us",
        "_chan",
        "_dialog",
        "_error",
        "_function",
        "_kind",
        "_outcome",
        "_sent",
        "_side",
        "_traceback",
        "headers",
    )

    def __init__(
        self,
        chan: Channel,
        cid: int,
        side: str,
        function: str,
        kind: Kind,
        sent: msgspec.Raw | None = None,
    ) -> None:
        self._chan = chan
        self._dialog = chan.dialog_of(cid)
        self._side = side
        self._function = function
        self._kind = kind
        self._sent = sent
        self._began = 0
        self._outcome = "ok"
        self._error: str | None = None
        self._traceback: str | None = None
        self._by_us = False
        self.headers: dict[str, str] | None = None

    def begin(self) -> None:
        """Tell the beginning; in the task that calls or serves."""
        chan, aid = self._chan, self._chan.aid
        is_context = self._kind is Kind.CONTEXT
        is_caller = self._side == "caller"
        self._began = monotonic_ns()
        came = None if self._sent is None else _read(self._sent)
        record: CallStarted | ContextOpened
        task = id(trio.lowlevel.current_task())
        uuid, name = ("", "") if aid is None else (aid.uuid, aid.name)
        transport = chan.raddr.proto_key
        head = (self._began, TOLD.actor, self._dialog, self._side, uuid, name, self._function)
        if is_context:
            record = ContextOpened(*head, task, transport, came)
            tell = TOLD.context_opened
        else:
            kind = "call" if self._kind is Kind.CALL else "stream"
            record = CallStarted(*head, task, transport, kind, came)
            tell = TOLD.call_started
        if tell is not None:
            tell(record)
        if is_caller:
            self.headers = TOLD.headers(record)

    def failed(self, exc: BaseException, own: Uid) -> None:
        """Note with what it ends, as the side that tells it has it.

        Args:
            exc: the error.
            own: this actor.
        """
        if isinstance(exc, TransportClosed):
            self._outcome = "died"
            self._error = type_path(type(exc))
        elif isinstance(exc, trio.Cancelled | KeyboardInterrupt):
            self.cancelled(True)
        elif isinstance(exc, ContextCancelled):
            self.cancelled(exc.canceller == own)
        else:
            self._outcome = "error"
            self._error, self._traceback = boxed_text(exc)

    def cancelled(self, by_us: bool) -> None:
        """Note that it ends cancelled; ``by_us``: this side has asked for that."""
        self._outcome = "cancelled"
        self._by_us = by_us

    def replied(self, reply: object, own: Uid) -> None:
        """Note that a reply ends it: a message, or the reason why none comes."""
        if isinstance(reply, BaseException):
            self.failed(reply, own)
        elif isinstance(reply, Error):
            if reply.src_type_path == _CANCELLED:
                self.cancelled(reply.canceller == own)
            else:
                self._outcome = "error"
                self._error, self._traceback = reply.src_type_path, shortened(reply.tb_str)

    def end(self, port: ToldPort | None = None) -> None:
        """Tell the end.

        Args:
            port: of a context: its stream's.
        """
        now = monotonic_ns()
        head = (
            now,
            TOLD.actor,
            self._dialog,
            self._side,
            self._function,
            self._outcome,
            self._error,
            now - self._began,
            self._traceback,
            self._by_us,
        )
        if self._kind is not Kind.CONTEXT:
            if TOLD.call_ended is not None:
                TOLD.call_ended(CallEnded(*head))
        elif TOLD.context_closed is not None:
            counts = (0, 0, 0, 0, 0)
            if port is not None:
                counts = (*_counts(port), port.send.sent_bytes, port.recv.received_bytes)
            TOLD.context_closed(ContextClosed(*head, *counts))

    def end_opened(
        self, port: ToldPort, end: ContextState | None, error: BaseException | None
    ) -> None:
        """Tell the end of a context on the side that has opened it.

        Args:
            port: its stream's.
            end: how the dialog has ended; ``None``: it has not.
            error: the remote one, else what its block, or the way into it, has raised.
        """
        if end is ContextState.SELF_CANCELLED:
            self.cancelled(True)
        elif error is not None:
            self.failed(error, self._chan.local_uid)
        self.end(port)

    def started(self) -> None:
        """Tell that a context's first value is there."""
        if TOLD.context_started is not None:
            TOLD.context_started(
                ContextStarted(monotonic_ns(), TOLD.actor, self._dialog, self._side, self._function)
            )


def told_call(
    chan: Channel, cid: int, ns: str, function: str, kind: Kind = Kind.CALL
) -> ToldDialog | None:
    """Tell that this actor opens a dialog; ``None``: it is a request of the runtime's own."""
    if ns in NOT_TOLD:
        return None
    told = ToldDialog(chan, cid, "caller", function, kind)
    told.begin()
    return told


def _read(sent: msgspec.Raw) -> dict[str, str] | None:
    # Far above what is allowed: not even looked at.
    if not 1 < len(sent) < 64 * 1024:
        return None
    try:
        return read_headers(any_value(sent))
    except Exception:
        # They are no part of the request, which is served without them.
        return None


def _counts(port: ToldPort) -> tuple[int, int, int]:
    return port.send.sent, port.received, port.discarded


# -- streams ----------------------------------------------------------------------------------------


def tell_stream(port: ToldPort, is_open: bool) -> None:
    """Tell that a stream was opened, or closed, on this side."""
    tell = TOLD.stream_opened if is_open else TOLD.stream_closed
    if tell is None:
        return
    chan = port.chan
    dialog = chan.dialog_of(port.cid)
    peer = chan.aid.uuid if chan.aid is not None else ""
    side = "caller" if dialog[0] == chan.local_uid[1] else "callee"
    head = (monotonic_ns(), TOLD.actor, dialog, side, peer, function_of(port))
    tell(StreamOpened(*head) if is_open else StreamClosed(*head, *_counts(port)))


def tell_message(port: ToldPort, size: int, is_sent: bool) -> None:
    """Tell of a message; called where somebody wants to know."""
    tell: Any = TOLD.message_sent if is_sent else TOLD.message_received
    cls = MessageSent if is_sent else MessageReceived
    tell(cls(monotonic_ns(), TOLD.actor, port.chan.dialog_of(port.cid), size))


def tell_credit(port: ToldPort, began: int) -> None:
    """Tell that a sender has waited since ``began``, in nanoseconds, until the receiver had room."""
    if TOLD.credit_waited is not None:
        now = monotonic_ns()
        dialog = port.chan.dialog_of(port.cid)
        TOLD.credit_waited(CreditWaited(now, TOLD.actor, dialog, now - began, function_of(port)))


def function_of(port: ToldPort) -> str:
    """The endpoint of a stream, as ``module:name``."""
    return port.what.removesuffix("()")
