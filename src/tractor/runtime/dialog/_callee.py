"""The callee's side of calls and one-way streams: one task for each request."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any, ClassVar

import trio
from msgspec import Raw

from tractor import log as _log
from tractor._errors import ContextCancelled, MessagingError, TransportClosed
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._boxing import pack_error, shorten
from tractor.msg._codec import codec_in_force
from tractor.msg._payload import refuse_garbage, unencodable_error
from tractor.msg.types import CancelAck, Credit, Error, MsgType, Return, StartAck, Stop, Uid
from tractor.runtime.dialog._caller import told_once
from tractor.runtime.dialog._endpoints import Endpoint, Kind
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.dialog._telling import ToldDialog, tell_stream
from tractor.trionics._groups import is_multi_cancelled
from tractor.trionics._masking import unmasked

log = _log.get_logger()


def put_error(chan: Channel, error: Error) -> None:
    """Send an ``Error``; a peer that is gone gets none."""
    try:
        chan.tell(error)
    except (MessagingError, TypeError):
        _put_shortened(chan, error)


def _put_shortened(chan: Channel, error: Error) -> None:
    """Send an ``Error`` that is over the frame limit, or can't be encoded: that it came must still arrive."""
    for size in (2000, 500, 100, 0):
        shorten(error, size)
        try:
            chan.tell(error)
        except (MessagingError, TypeError):
            continue
        return
    log.error(
        "an error can't be relayed to %s, whatever its text: %s", chan.peer, error.src_type_str
    )


def relay_error(actor: Host, chan: Channel, cid: int, exc: BaseException) -> None:
    """Box an exception and send it as the end of dialog ``cid``."""
    put_error(chan, pack_error(exc, cid=cid, src_uid=actor.aid.uid))


def ctxc_error(actor: Host, chan: Channel, cid: int, canceller: Uid, what: str) -> Error:
    """The report that a task was cancelled on request."""
    own = actor.aid.uid
    peer = chan.aid.uid if chan.aid else None
    if canceller == own:
        by = "itself"
    elif canceller == peer:
        by = "its 'parent'-side peer"
    else:
        by = "a remote peer"
    return Error(
        src_uid=own,
        src_type_str="Cancelled",
        boxed_type_str="Cancelled",
        src_type_path="trio:Cancelled",
        boxed_type_path="trio:Cancelled",
        relay_path=[own],
        message=f"the task of {what} in actor {own} was cancelled by {by} {canceller}",
        canceller=canceller,
        sender=own,
        cid=cid,
    )


def failure_error(actor: Host, cid: int) -> Error:
    """What the whole actor has failed with, as the end of dialog ``cid``.

    The canceller, which no other error has that is not a cancellation, is that actor: by it a peer that hears of the
    failure by several dialogs knows that it is one.
    """
    exc = actor.failure
    assert exc is not None
    mark = None if isinstance(exc, ContextCancelled) else actor.aid.uid
    return pack_error(exc, cid=cid, src_uid=actor.aid.uid, canceller=mark)


def cancel_report(actor: Host, chan: Channel, cid: int, canceller: Uid, what: str) -> Error:
    """How a task that was cancelled ends: so, or by the failure of its whole actor."""
    if actor.failure is not None and canceller == actor.aid.uid:
        return failure_error(actor, cid)
    return ctxc_error(actor, chan, cid, canceller, what)


def is_only_cancelled(exc: BaseException) -> bool:
    """Whether the error of a task that is being cancelled tells of nothing but cancellations, here or further down.

    When a whole tree is cancelled at once (ctrl-c), an actor may hear from one below that was cancelled first.
    """
    try:
        return is_multi_cancelled(exc, (ContextCancelled,))
    except Exception:
        # A group of the application's own type may fail to be split, as one that is nested too deep does.
        return False


class ServedTask(DialogEnd):
    """What a peer runs here, a call, stream or context: a task in its own scope, acknowledged at its end.

    Everything that it sends at its end is put without waiting, so that neither cancellation nor a slow peer can
    keep the end from being told.  Before that, while it can still be cancelled, a result waits for a peer that has
    ``max_unsent`` bytes of replies to take.
    """

    __slots__ = (
        "_acks",
        "actor",
        "canceller",
        "chan",
        "cid",
        "endpoint",
        "given",
        "lost",
        "scope",
        "told",
        "turn",
    )

    holds: ClassVar[bool] = True
    """It waits while its peer has ``max_unsent`` bytes of replies to take; a stream's messages wait by themselves."""

    def __init__(
        self, actor: Host, chan: Channel, cid: int, given: Raw | dict[str, Any], endpoint: Endpoint
    ) -> None:
        self.actor = actor
        self.chan = chan
        self.cid = cid
        # As they came: a class that the user has annotated may run code of its own, which is a matter of the task's.
        self.given = given
        self.endpoint = endpoint
        self.scope = trio.CancelScope()
        self.canceller: Uid | None = None
        self.lost = False
        self._acks: list[int] = []
        self.told: ToldDialog | None = None
        # Of the channel's reader, in which the request came.
        self.turn = 0
        chan.dialogs[cid] = self
        actor.note_serving(self)

    def arguments(self) -> dict[str, Any]:
        """What the endpoint is called with.

        Raises:
            MsgTypeError: one is not what its parameter is annotated with, or they can't be decoded.
        """
        given = self.given
        if isinstance(given, dict):
            return given
        # Done with: it would keep alive all that came with it.
        self.given = {}
        return self.endpoint.arguments(given, self.cid)

    def take_cancel(
        self, canceller: Uid, ack_cid: int | None = None, by_actor: bool = False
    ) -> None:
        """Cancel the task; the first canceller stays.

        Args:
            canceller: who asked.
            ack_cid: the request to acknowledge, on the task's own channel, when the task has ended.
            by_actor: the whole actor is being cancelled, not this task alone.
        """
        if ack_cid is not None:
            self._acks.append(ack_cid)
        if self.canceller is None:
            self.canceller = canceller
        self.scope.cancel()

    async def run(self, told: ToldDialog | None = None) -> None:
        """The task: run the endpoint, tell the caller how it ended, acknowledge cancel requests.

        Args:
            told: tells instruments of it.
        """
        if told is not None:
            self.told = told
            told.begin()
        try:
            with self.scope:
                try:
                    transport = self.chan.transport
                    if self.holds and transport.unsent > transport.hold_above:
                        await transport.wait_drained()
                    # Not by way of a method: each time that the task goes on it passes each frame down to the endpoint.
                    value = await self.begin()
                    self.actor.end_if_copy()
                    if self.holds and transport.unsent > transport.hold_above:
                        await transport.wait_drained()
                    self.conclude(value)
                except BaseException as exc:
                    self.actor.end_if_copy(exc)
                    hidden = unmasked(exc) if isinstance(exc, trio.Cancelled) else None
                    if hidden is not None:
                        raise hidden from None
                    raise
            if self.scope.cancelled_caught:
                self._end_cancelled()
        except trio.Cancelled:
            self._end_cancelled()
            raise
        except BaseException as exc:
            if self.was_cancelled() and is_only_cancelled(exc):
                self._end_cancelled()
                return
            if told is not None:
                told.failed(exc, self.actor.aid.uid)
            await self.report_error(told_once(exc) or exc)
            if isinstance(exc, KeyboardInterrupt):
                raise
        finally:
            self.chan.dialogs.pop(self.cid, None)
            for cid in self._acks:
                put_ack(self.chan, cid)
            if told is not None:
                told.end(self.stream_port)
            self.actor.note_served(self)

    @property
    def stream_port(self) -> StreamPort | None:
        """Where its messages go, if it has a stream."""
        return None

    def _end_cancelled(self) -> None:
        if self.told is not None:
            self.told.cancelled(self.canceller == self.actor.aid.uid)
        self._report_cancel()

    def begin(self) -> Awaitable[Any]:
        """Call the endpoint."""
        raise NotImplementedError

    def conclude(self, value: Any) -> None:
        """The endpoint has returned: send its value."""
        raise NotImplementedError

    def was_cancelled(self) -> bool:
        """Whether the task ends because somebody has asked for that."""
        return self.canceller is not None

    async def report_error(self, exc: BaseException) -> None:
        if self.lost:
            log.cancel("%s failed after its caller was lost: %r", self.endpoint.name, exc)
            return
        await self.actor.hooks.on_crash(exc)
        if not isinstance(exc, trio.Cancelled):
            self.actor.errors_total += 1
        level = log.cancel if isinstance(exc, trio.Cancelled) else log.runtime
        level("%s raised %r", self.endpoint.name, exc)
        relay_error(self.actor, self.chan, self.cid, exc)

    def _report_cancel(self) -> None:
        if self.lost:
            return
        canceller = self.canceller or self.actor.aid.uid
        log.cancel("%s was cancelled by %s", self.endpoint.name, canceller)
        put_error(
            self.chan,
            cancel_report(self.actor, self.chan, self.cid, canceller, self.endpoint.name),
        )

    # -- the channel's side ---------------------------------------------------------------------------

    def on_lost(self, exc: TransportClosed) -> None:
        self.lost = True
        log.cancel(
            "%s is cancelled because its caller %s is gone", self.endpoint.name, self.chan.peer
        )
        self.take_cancel(self.chan.aid.uid if self.chan.aid else self.actor.aid.uid)

    def on_error(self, msg: Error) -> None:
        self.take_cancel(msg.sender or msg.src_uid)
        self.actor.note_reset(self, self.cid)

    def _out_of_grammar(self, msg: MsgType) -> None:
        kind = self.endpoint.kind.value
        relay_error(
            self.actor,
            self.chan,
            self.cid,
            MessagingError(
                f"a {type(msg).__name__!r} message does not belong in a {kind!r} dialog"
            ),
        )
        self.lost = True
        self.take_cancel(self.chan.aid.uid if self.chan.aid else self.actor.aid.uid)
        self.actor.note_reset(self, self.cid)


def put_ack(chan: Channel, cid: int, ok: bool = True) -> None:
    """Acknowledge a cancel request; a peer that is gone gets none."""
    chan.tell(CancelAck(cid, ok))


class ServedCall(ServedTask):
    """An async function that was called."""

    __slots__ = ()

    def begin(self) -> Awaitable[Any]:
        self.actor.calls_total += 1
        return self.endpoint.fn(**self.arguments())  # type: ignore[no-any-return]

    def conclude(self, value: Any) -> None:
        conversions = self.endpoint.conversions
        if type(value) is Raw:
            refuse_garbage(value, "Return", cid=self.cid)
        elif conversions.result is not None:
            value = conversions.pack_result(value, codec_in_force())
        if not self.lost:
            put_return(self.chan, self.cid, value)


def put_return(chan: Channel, cid: int, value: Any, encoder: Any = None) -> None:
    """Send a result; a peer that is gone gets none.

    Raises:
        MsgTypeError: the value can't be encoded; nothing was sent.
        MessagingError: it is over the frame limit; nothing was sent.
    """
    try:
        chan.transport.put(Return(cid, value), encoder)
    except TypeError as exc:
        raise unencodable_error(value, "Return", exc, cid=cid) from exc
    except TransportClosed as exc:
        log.transport("a result could not be returned to %s: %s", chan.peer, exc)


class ServedStream(ServedTask):
    """An async generator, or a legacy ``@stream`` function, that was opened as a one-way stream."""

    __slots__ = ("port",)

    holds = False

    def __init__(self, *request: Any) -> None:
        super().__init__(*request)
        self.port = StreamPort(self.chan, self.cid, what=self.endpoint.name)

    async def begin(self) -> None:
        """Send all that the generator yields."""
        put = self.port.put
        if self.endpoint.kind is Kind.ASYNCGEN:
            agen = self.endpoint.fn(**self.arguments())
            self.chan.transport.put_now(StartAck(self.cid, "asyncgen"))
            tell_stream(self.port, True)
            async with aclosing(agen):
                async for value in agen:
                    await put(value)
        else:
            kwargs = self.arguments()
            coro = self.endpoint.fn(**{str(self.endpoint.param): self._handle()}, **kwargs)
            self.chan.transport.put_now(StartAck(self.cid, "asyncgen"))
            tell_stream(self.port, True)
            await coro

    def conclude(self, value: Any) -> None:
        if not self.lost:
            self.chan.transport.put(Stop(self.cid))

    @property
    def stream_port(self) -> StreamPort:
        return self.port

    def _handle(self) -> LegacySender:
        if self.endpoint.param == "ctx":
            warnings.warn(
                f"the `ctx` parameter of the stream function {self.endpoint.name} is outdated; "
                "name it `stream: tractor.MsgStream`",
                DeprecationWarning,
                stacklevel=2,
            )
        return LegacySender(self)

    def on_credit(self, msg: Credit) -> None:
        try:
            if msg.n < 0:
                raise ValueError("a one-way stream has no strict mode")
            self.port.take_credit(msg.n, msg.size)
        except ValueError:
            self._out_of_grammar(msg)

    def on_stop(self, msg: Stop) -> None:
        """The receiver has closed: nobody reads any more."""
        self.take_cancel(self.chan.aid.uid if self.chan.aid else self.actor.aid.uid)
        self.actor.note_reset(self, self.cid)


class LegacySender:
    """What a ``@stream`` function sends with."""

    def __init__(self, task: ServedStream) -> None:
        self._task = task
        self.chan = task.chan
        self.cid = task.cid

    async def send(self, data: Any) -> None:
        """Send one value; waits while the receiver is behind.  Raises as ``MsgStream.send``."""
        await self._task.port.put(data)

    async def send_yield(self, value: Any) -> None:
        """The outdated name of :meth:`send`."""
        warnings.warn("`send_yield()` is outdated; use `send()`", DeprecationWarning, stacklevel=2)
        await self.send(value)
