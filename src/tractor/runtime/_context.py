"""A pair of tasks in two actors that live and die as one scope."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    ContextCancelled,
    MessagingError,
    MsgTypeError,
    RemoteActorError,
    StreamOverrun,
    TransportClosed,
)
from tractor._proto.dialog import ContextState, Dialog, Do, Event, Phase, StreamState
from tractor._util._masking import unmasked
from tractor.ipc._chan import Channel
from tractor.msg._boxing import pack_error
from tractor.msg._codec import MsgDec, mk_dec
from tractor.msg._payload import payload_type_error, unencodable_error
from tractor.msg.types import (
    CancelAck,
    Credit,
    Error,
    MsgType,
    Return,
    StartAck,
    Started,
    Stop,
    Uid,
    Yield,
)
from tractor.runtime._calls import CANCEL_TIMEOUT, UNDECODABLE, boxed, lost, request_cancel
from tractor.runtime._endpoints import ContextSpec, Endpoint
from tractor.runtime._port import StreamPort
from tractor.runtime._serve import ctxc_error, put_ack, put_error, put_return
from tractor.runtime._state import ipc_ctx
from tractor.runtime._stream import MsgStream, OpenStream, StreamStatistics, port_statistics

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor
    from tractor.runtime._calls import PendingCall
    from tractor.runtime._portal import Portal

__all__ = ["Context", "ContextStatistics", "PldRx", "Unresolved"]

log = _log.get_logger()

_plain_decode = msgspec.msgpack.Decoder().decode

_BUFFER = (Do.BUFFER,)


class _Unresolved:
    """The outcome of a context that has none yet."""

    def __repr__(self) -> str:
        return "<Unresolved>"

    def __bool__(self) -> bool:
        return False


Unresolved = _Unresolved()


class PldRx(msgspec.Struct):
    """The payload decoder of one dialog."""

    pld_dec: MsgDec

    @property
    def spec(self) -> Any:
        """The payload spec."""
        return self.pld_dec.spec


class ContextStatistics(msgspec.Struct, frozen=True):
    """Counters of one side of a context; see :class:`StreamStatistics`."""

    state: str
    buffered: int
    buffer_size: int
    overflowed: int
    sent: int
    received: int
    discarded: int
    credit: int | None


_ANY_DECODER = mk_dec(Any)


class Context:
    """One side of a context's dialog.

    Not built by users: the parent side comes from :meth:`Portal.open_context`, the child side is the argument of
    an endpoint marked with ``@tractor.context``.

    What has happened to it is one state machine (``tractor._proto.dialog``); every status below is read from it.
    """

    __tractor_context_class__: ClassVar[bool] = True

    def __init__(
        self,
        actor: Actor,
        chan: Channel,
        cid: int,
        side: str,
        name: str,
        spec: ContextSpec | None,
        portal: Portal | None = None,
    ) -> None:
        self._actor = actor
        self._chan = chan
        self._cid = cid
        self._name = name
        self._portal = portal
        self._dialog = Dialog(side)
        self._scope = trio.CancelScope()
        self._port = StreamPort(chan, cid, actor.msg_buffer_size)
        self._stream: MsgStream | None = None
        self._task: trio.lowlevel.Task | None = None
        self._started_msg: Any = None
        self._was_started = False
        self._return: Any = Unresolved
        self._result: Any = Unresolved
        self._remote_error: BaseException | None = None
        self._local_error: BaseException | None = None
        self._canceller: Uid | None = None
        self._cancel_called = False
        self._cancel_acked = False
        self._unwound = False
        self._cancelled_elsewhere = False
        self._overrun: StreamOverrun | None = None
        # Who waits for the end of the dialog, or for its first answer.
        self._waiting = trio.lowlevel.ParkingLot()
        self._owner_waits = False
        self._acks: list[int] = []
        plain = spec is None or (spec.pld_spec is Any and spec.ext_types is None)
        self._spec_is_any = plain
        if plain or spec is None:
            self._decoder = _ANY_DECODER
            self._decode_raw: Callable[[Any], Any] = _plain_decode
            self._encoder = None
        else:
            self._decoder = mk_dec(
                spec.pld_spec,
                spec.dec_hook,
                list(spec.ext_types) if spec.ext_types and spec.dec_hook else None,
            )
            self._decode_raw = self._decoder.decode
            self._encoder = (
                msgspec.msgpack.Encoder(enc_hook=spec.enc_hook) if spec.enc_hook else None
            )
        self._port.encoder = self._encoder
        chan.dialogs[cid] = self

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cid(self) -> int:
        """The dialog's id; opaque, unique on its channel."""
        return self._cid

    @property
    def chan(self) -> Channel:
        """The channel to the peer."""
        return self._chan

    @property
    def portal(self) -> Portal | None:
        """The portal through which the parent side was opened; ``None`` on the child side."""
        return self._portal

    @property
    def parent_task(self) -> trio.lowlevel.Task | None:
        """The task that owns this side."""
        return self._task

    @property
    def side(self) -> str:
        """``'parent'`` (the opener) or ``'child'`` (the endpoint's task)."""
        return self._dialog.side

    @property
    def peer_side(self) -> str:
        """The other side's name."""
        return "child" if self._dialog.side == "parent" else "parent"

    @property
    def state(self) -> ContextState:
        """Where this side stands."""
        return self._dialog.state

    @property
    def cancel_called(self) -> bool:
        """Whether this side asked for the cancellation, by ``cancel()`` or because its block was left early."""
        return self._cancel_called

    @property
    def cancel_acked(self) -> bool:
        """Whether the peer's task ended cancelled because of this side's request."""
        return self._cancel_acked

    @property
    def cancelled_caught(self) -> bool:
        """Whether the local block was unwound by this context's scope."""
        return self._unwound

    @property
    def canceller(self) -> Uid | None:
        """The actor through which the cancellation reached this side, if it was cancelled."""
        return self._canceller

    @property
    def pld_rx(self) -> PldRx:
        """The payload decoder of this dialog."""
        return PldRx(self._decoder)

    @property
    def maybe_error(self) -> BaseException | None:
        """The error of this context so far, without waiting; a remote one precedes a local one."""
        return self._remote_error or self._overrun or self._local_error

    @property
    def has_outcome(self) -> bool:
        """Whether there is an error or a result."""
        return self.outcome is not Unresolved

    @property
    def outcome(self) -> Any:
        """The error, else the result, else ``Unresolved``; without waiting."""
        error = self.maybe_error
        if error is not None:
            return error
        if self._return is not Unresolved:
            try:
                return self._take_result()
            except MsgTypeError as exc:
                return exc
        return Unresolved

    def maybe_raise(self) -> None:
        """Raise the remote error if there is one that is not absorbed."""
        error = self._remote_error
        if error is not None and self._dialog.end is not ContextState.SELF_CANCELLED:
            raise error

    @property
    def repr_state(self) -> str:
        """The state, for people."""
        return str(self.state)

    @property
    def repr_rpc(self) -> str:
        """The endpoint, for people."""
        return f"{self._name}()"

    @property
    def repr_caller(self) -> str:
        """The task that owns this side, for people."""
        return self._task.name if self._task is not None else "<unknown>"

    @property
    def dst_maddr(self) -> str:
        """The peer's address as a multiaddr string."""
        return self._chan.maddr

    def repr_outcome(self) -> str:
        """The outcome on one line, for people."""
        outcome = self.outcome
        return outcome.reprol() if isinstance(outcome, RemoteActorError) else repr(outcome)

    def pformat(self) -> str:
        """One line for people."""
        return (
            f"<Context {self.side} side of {self.repr_rpc} with {self._chan.peer}: "
            f"{self.state}, outcome {self.repr_outcome()}>"
        )

    __repr__ = pformat

    def statistics(self) -> ContextStatistics:
        """A frozen record of plain values."""
        s: StreamStatistics = port_statistics(self._port)
        return ContextStatistics(
            state=str(self.state),
            buffered=s.buffered,
            buffer_size=s.buffer_size,
            overflowed=s.overflowed,
            sent=s.sent,
            received=s.received,
            discarded=s.discarded,
            credit=s.credit,
        )

    # -- the channel's side: called by its reader, never blocking --------------------------------------

    def on_yield(self, msg: Yield[Any]) -> None:
        dialog = self._dialog
        todo = dialog.handle(Event.YIELD)
        if todo == _BUFFER and self._overrun is None:
            if dialog.phase is Phase.CXL and dialog.stream is not StreamState.OPEN:
                self._port.drop()
                return
            todo = dialog.handle_stream(Event.YIELD)
            if todo == _BUFFER:
                if not self._port.push(msg.pld):
                    self._on_overrun()
                return
        if todo == (Do.VIOLATION,):
            self._violated(msg, self.state)
        elif todo == (Do.IGNORE,):
            self._chan.late_messages += 1
        else:
            self._port.drop()

    def on_stop(self, msg: Stop) -> None:
        todo = self._dialog.handle(Event.STOP)
        if todo == (Do.IGNORE,):
            self._chan.late_messages += 1
        if todo == _BUFFER:
            todo = self._dialog.handle_stream(Event.STOP)
            if todo == (Do.VIOLATION,):
                self._violated(msg, self.state)
                return
            self._port.ended = True
            self._port.wake()

    def on_credit(self, msg: Credit) -> None:
        if self._dialog.ended:
            self._chan.late_messages += 1
            return
        try:
            self._port.grant(msg.n)
        except ValueError:
            self._violated(msg, self.state)

    def on_start_ack(self, msg: StartAck) -> None:
        self._wire(Event.ACK if msg.functype == "context" else Event.ACK_OTHER, msg)

    def on_started(self, msg: Started[Any]) -> None:
        if self._dialog.phase is Phase.REQ:
            self._started_msg = msg
        self._wire(Event.STARTED, msg)

    def on_return(self, msg: Return[Any]) -> None:
        if self._dialog.side == "parent" and not self._dialog.ended:
            self._return = msg.pld
        self._wire(Event.RETURN, msg)

    def on_error(self, msg: Error) -> None:
        if self._dialog.ended:
            self._chan.late_messages += 1
            return
        exc = boxed(msg, self._chan, self._actor)
        if self._dialog.side == "child":
            self._on_peer_error(exc, msg)
            return
        event = Event.ERROR
        if isinstance(exc, ContextCancelled):
            own = self._chan.local_uid
            asked = self._dialog.phase in (Phase.CXL, Phase.FAIL, Phase.STOP)
            event = Event.CTXC_OWN if asked and msg.canceller == own else Event.CTXC_OTHER
            self._canceller = own if msg.canceller == own else msg.sender or msg.src_uid
            self._cancel_acked = event is Event.CTXC_OWN and self._cancel_called
        elif self._dialog.phase not in (Phase.FAIL, Phase.STOP):
            self._canceller = msg.src_uid
        self._wire(event, msg, exc)

    def on_lost(self, exc: TransportClosed) -> None:
        error = lost(self._chan, self.repr_rpc, exc)
        if self._dialog.side == "child":
            if Do.CANCEL_BLOCK in self._dialog.handle(Event.LOST):
                self._remote_error = error
                self._canceller = self._canceller or self._peer_uid()
                self._set_port_error(error)
                self._scope.cancel()
            return
        self._wire(Event.LOST, None, error)

    def on_cancel_ack(self, msg: CancelAck) -> None:
        if self._dialog.ended:
            self._chan.late_messages += 1
            return
        self._violated(msg, self.state)

    def _wire(self, event: Event, msg: MsgType | None, error: BaseException | None = None) -> None:
        """Carry out what an event from the wire asks for."""
        before = self.state
        for do in self._dialog.handle(event):
            if do is Do.SET_ERROR:
                assert error is not None
                self._remote_error = error
            elif do is Do.VIOLATION:
                self._violated(msg, before)
            elif do is Do.CANCEL_BLOCK:
                self._unwind_block()
            elif do is Do.IGNORE:
                self._chan.late_messages += 1
            elif do is Do.ABSORB and self._cancelled_elsewhere and not self._owner_waits:
                # Another local task asked: the block is unwound.  An owner that waits for the final message is
                # left to receive it.
                self._scope.cancel()
        if self._dialog.ended:
            self._port.ended = True
            error = self._remote_error or self._overrun
            if error is not None:
                self._set_port_error(error)
            else:
                self._port.wake()
        self._waiting.unpark_all()

    def _unwind_block(self) -> None:
        """Cancel the block because of a remote error; readers get the error itself.

        After an overrun here what was buffered may still be read: the block goes on until that is done.
        """
        assert self._remote_error is not None
        if self._overrun is not None and self._port.buffer:
            self._port.error = self._remote_error
            return
        self._set_port_error(self._remote_error)
        if not self._owner_waits:
            self._scope.cancel()

    def _set_port_error(self, error: BaseException) -> None:
        self._port.error = error
        self._port.wake()

    def _on_peer_error(self, exc: BaseException, msg: Error) -> None:
        """The opener reported an overrun or a bad payload: the child side unwinds with it."""
        if Do.CANCEL_BLOCK in self._dialog.handle(Event.ERROR):
            self._remote_error = exc
            self._canceller = self._canceller or msg.src_uid
            self._set_port_error(exc)
            self._scope.cancel()

    def _violated(self, msg: MsgType | None, state: ContextState) -> None:
        """A message out of grammar: this dialog is over, no other is harmed."""
        error = MessagingError(
            f"a {type(msg).__name__!r} message is not allowed in {self.repr_rpc} with {self._chan.peer} "
            f"while it is {state}"
        )
        log.error("%s", error)
        if self._dialog.side == "child":
            self._on_peer_error(error, pack_error(error, self._cid, self._peer_uid()))
            return
        self._remote_error = error
        self._dialog.phase, self._dialog.end = Phase.END, ContextState.ERRORED
        request_cancel(self._chan, self._cid)
        self._set_port_error(error)
        self._scope.cancel()
        self._waiting.unpark_all()

    def _on_overrun(self) -> None:
        """A message came that can't be held: tell the sender, which ends the dialog."""
        self._port.discarded += 1
        if Do.SEND_ERROR not in self._dialog.handle(Event.OVERRUN):
            return
        opened = "" if self._stream is not None else "; no stream was open here to read them"
        sender = self._peer_uid()
        self._overrun = StreamOverrun(
            f"{sender} sent more than {self._port.recv.size} messages that actor {self._chan.local_uid} has not "
            f"read, in {self.repr_rpc}{opened}; read faster, or open the stream with `backpressure=True`",
            sender=sender,
        )
        if self._dialog.side == "child":
            # Nothing comes back to an endpoint: after what is buffered its reader gets this.
            self._port.error = self._overrun
        put_error(self._chan, pack_error(self._overrun, self._cid, self._chan.local_uid))

    def _peer_uid(self) -> Uid:
        return self._chan.aid.uid if self._chan.aid else ("", "")

    # -- the endpoint's task --------------------------------------------------------------------------

    def take_cancel(
        self, canceller: Uid, ack_cid: int | None = None, by_actor: bool = False
    ) -> None:
        """Cancel this endpoint's task on request; the first canceller stays.

        Args:
            canceller: who asked.
            ack_cid: the request to acknowledge when the task has ended.
            by_actor: the whole actor is being cancelled, not this task alone.
        """
        if ack_cid is not None:
            self._acks.append(ack_cid)
        event = Event.ACTOR_CANCEL if by_actor else Event.CANCEL_REQUEST
        if Do.CANCEL_BLOCK in self._dialog.handle(event):
            self._canceller = canceller
            self._scope.cancel()

    async def serve(self, endpoint: Endpoint, kwargs: dict[str, Any]) -> None:
        """Run the endpoint as this task, tell the opener how it ended, acknowledge cancel requests."""
        self._task = trio.lowlevel.current_task()
        ipc_ctx.set(self)
        try:
            with self._scope:
                try:
                    value = await endpoint.fn(**{str(endpoint.param): self}, **kwargs)
                    self._report_return(value)
                except trio.Cancelled as exc:
                    hidden = unmasked(exc)
                    if hidden is not None:
                        raise hidden from None
                    raise
            if self._scope.cancelled_caught:
                self._unwound = True
                self._report_end(Event.CANCELLED)
        except trio.Cancelled:
            self._report_end(Event.CANCELLED)
            raise
        except BaseException as exc:
            await self._report_failure(exc)
            if isinstance(exc, KeyboardInterrupt):
                raise
        finally:
            self._finish_serving()

    def _report_return(self, value: Any) -> None:
        if not self._was_started and self._dialog.phase not in (
            Phase.UNWIND_PEER,
            Phase.UNWIND_ERROR,
            Phase.UNWIND_LOST,
        ):
            raise MessagingError(f"{self.repr_rpc} returned without `started()` being called")
        raw = self._checked("Return", Return, value, True, False)
        put = None if self._dialog.phase is Phase.UNWIND_LOST else put_return
        if put is not None:
            put(self._chan, self._cid, raw, self._encoder)
        self._dialog.handle(Event.RETURNED)
        self._result = value
        self._return = msgspec.Raw()

    async def _report_failure(self, exc: BaseException) -> None:
        if self._dialog.ended:
            return
        self._local_error = exc
        if exc is not self._remote_error and not isinstance(exc, TransportClosed):
            await self._actor.hooks.on_crash(exc)
        if Do.SEND_ERROR in self._dialog.handle(Event.FAILED):
            log.runtime("%s raised %r", self.repr_rpc, exc)
            put_error(self._chan, pack_error(exc, self._cid, self._chan.local_uid))
        else:
            log.cancel("%s failed after its peer was lost: %r", self.repr_rpc, exc)

    def _report_end(self, event: Event) -> None:
        """Tell the opener that the task was cancelled, or why."""
        if self._dialog.ended:
            return
        canceller = self._canceller or self._chan.local_uid
        for do in self._dialog.handle(event):
            if do is Do.SEND_CTXC:
                log.cancel("%s was cancelled by %s", self.repr_rpc, canceller)
                put_error(
                    self._chan,
                    ctxc_error(self._actor, self._chan, self._cid, canceller, self._name),
                )
            elif do is Do.SEND_ERROR:
                assert self._remote_error is not None
                put_error(
                    self._chan, pack_error(self._remote_error, self._cid, self._chan.local_uid)
                )

    def _finish_serving(self) -> None:
        self._chan.dialogs.pop(self._cid, None)
        for cid in self._acks:
            put_ack(self._chan, cid)
        self._actor.note_served(self)

    # -- cancellation ---------------------------------------------------------------------------------

    async def cancel(self, timeout: float = CANCEL_TIMEOUT) -> None:
        """Cancel the context's remote task (parent side), or this task itself (child side).

        On the parent side nothing local is cancelled.  The report that comes back is absorbed by the block;
        afterwards ``wait_for_result()`` returns it.  Asking again joins the first request.

        Args:
            timeout: seconds to wait, shielded, for the acknowledgment, which comes when the remote task has ended.
        """
        self._cancel_called = True
        todo = self._dialog.handle(Event.CANCEL)
        if self._dialog.side == "child":
            if Do.CANCEL_BLOCK in todo:
                self._canceller = self._chan.local_uid
                self._scope.cancel()
            await trio.lowlevel.checkpoint()
            return
        if trio.lowlevel.current_task() is not self._task:
            self._cancelled_elsewhere = True
        if Do.SEND_CANCEL in todo:
            self.request_cancel()
        await self._wait_ack(timeout)

    def request_cancel(self) -> PendingCall | None:
        """Ask for the remote task's cancellation without waiting; ``None`` when the peer is gone."""
        return request_cancel(self._chan, self._cid)

    async def _wait_ack(self, timeout: float = CANCEL_TIMEOUT) -> None:
        """Wait, bounded and shielded, for the end of the remote task."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout) as bound:
            while not self._dialog.ended:
                await self._waiting.park()
        if bound.cancelled_caught:
            log.warning(
                "the task of %s in %s did not end within %s s of the cancel request",
                self.repr_rpc,
                self._chan.peer,
                timeout,
            )

    # -- results --------------------------------------------------------------------------------------

    async def wait_for_result(self) -> Any:
        """Wait for the end of the remote task and return its value.  Idempotent.

        Returns:
            The endpoint's value; or, if this side asked for the cancellation and it was, the
            ``ContextCancelled`` as a value.

        Raises:
            RuntimeError: on the child side.
            RemoteActorError: the remote task failed, or somebody else cancelled it (``ContextCancelled``).
            MsgTypeError: the value is not of the payload spec.
            TransportClosed: the peer is gone.
        """
        self._parent_only("wait_for_result")
        await self._wait_end()
        if self._dialog.end is ContextState.SELF_CANCELLED:
            return self._remote_error
        self.maybe_raise()
        if self._overrun is not None:
            raise self._overrun
        return self._take_result()

    async def _wait_end(self) -> None:
        """Wait, without limit, for the end of the dialog."""
        owner = trio.lowlevel.current_task() is self._task
        try:
            self._owner_waits = self._owner_waits or owner
            if self._dialog.ended:
                await trio.lowlevel.checkpoint()
            while not self._dialog.ended:
                await self._waiting.park()
        finally:
            if owner:
                self._owner_waits = False

    async def result(self) -> Any:
        """The outdated name of :meth:`wait_for_result`."""
        warnings.warn(
            "`Context.result()` is outdated; use `wait_for_result()`",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self.wait_for_result()

    def _take_result(self) -> Any:
        """The endpoint's value, decoded once.  Raises MsgTypeError."""
        if self._result is Unresolved and self._return is not Unresolved:
            self._result = self._decode_payload("Return", Return, self._return)
        return None if self._result is Unresolved else self._result

    def _parent_only(self, what: str) -> None:
        if self._dialog.side == "child":
            raise RuntimeError(
                f"`{what}()` is for the side that opened the context; "
                f"this is the endpoint's side of {self.repr_rpc}: return a value instead"
            )

    # -- payloads -------------------------------------------------------------------------------------

    def _decode_payload(self, name: str, kind: type, raw: Any) -> Any:
        """Decode a payload that came; one that is not of the spec ends the dialog.

        Raises:
            MsgTypeError: the payload is not of the spec.
        """
        try:
            return self._decode_raw(raw)
        except UNDECODABLE as exc:
            error = payload_type_error(
                name,
                raw,
                self._decoder.spec_str,
                cid=self._cid,
                bad_msg=kind(self._cid, raw),
                cause=exc,
            )
            self._on_bad_payload(error)
            raise error from exc

    def _decode_yield(self, raw: Any) -> Any:
        try:
            return self._decode_raw(raw)
        except UNDECODABLE:
            return self._decode_payload("Yield", Yield, raw)

    def _on_bad_payload(self, error: MsgTypeError) -> None:
        for do in self._dialog.handle(Event.BAD_PAYLOAD):
            if do is Do.SET_ERROR:
                self._remote_error = error
                self._port.error = error
            elif do is Do.SEND_ERROR:
                put_error(self._chan, pack_error(error, self._cid, self._chan.local_uid))
        self._waiting.unpark_all()

    async def started(
        self,
        value: Any = None,
        validate_pld_spec: bool = True,
        strict_pld_parity: bool = False,
    ) -> None:
        """Hand a value to the opener, whose block is entered with it.  Child side, once.

        Args:
            value: what the opener gets as ``first``.
            validate_pld_spec: check it against the payload spec before sending.
            strict_pld_parity: demand also that the value that arrives equals this one.

        Raises:
            RuntimeError: on the parent side, or the second time, or after the context was cancelled.
            MsgTypeError: the value is not of the payload spec, or can't be encoded; nothing was sent, and
                ``started()`` may be called again.
            TransportClosed: the peer is gone.
        """
        if self._dialog.side == "parent":
            raise RuntimeError(
                "`started()` is for the endpoint's side of a context, not for the opener's"
            )
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._dialog.phase is not Phase.SCHED:
            raise RuntimeError(
                f"`started()` can be called once, before the end; {self.repr_rpc} is {self.state}"
            )
        raw = self._checked("Started", Started, value, validate_pld_spec, strict_pld_parity)
        transport = self._chan.transport
        try:
            transport.put(Started(self._cid, raw), self._encoder)
        except TypeError as exc:
            raise unencodable_error(value, "Started", exc, cid=self._cid) from exc
        self._dialog.handle(Event.START)
        self._was_started = True
        await transport.wait_below_mark()

    def _checked(self, name: str, kind: type, value: Any, validate: bool, parity: bool) -> Any:
        """What to send for a value that the spec allows.  Raises MsgTypeError."""
        if (self._spec_is_any or not validate) and not parity and self._encoder is None:
            return value
        try:
            raw = (self._encoder or _plain_encoder).encode(value)
        except Exception as exc:
            raise unencodable_error(value, name, exc, cid=self._cid) from exc
        if not validate and not parity:
            return msgspec.Raw(raw)
        try:
            decoded = self._decode_raw(raw)
        except UNDECODABLE as exc:
            raise payload_type_error(
                name,
                value,
                self._decoder.spec_str,
                cid=self._cid,
                bad_msg=kind(self._cid, value),
                cause=exc,
            ) from exc
        if parity and decoded != value:
            raise payload_type_error(
                name,
                value,
                self._decoder.spec_str,
                cid=self._cid,
                bad_msg=kind(self._cid, value),
                cause=ValueError(f"it arrives as {decoded!r}, which is not equal to it"),
            )
        return msgspec.Raw(raw)

    # -- the stream -----------------------------------------------------------------------------------

    def open_stream(
        self,
        allow_overruns: bool = False,
        msg_buffer_size: int | None = None,
        backpressure: bool = False,
    ) -> OpenStream:
        """The context's two-way stream, for the length of an ``async with`` block.  Once for each side.

        Args:
            allow_overruns: hold up to 616 messages beyond the buffer.
            msg_buffer_size: messages that may be held unread; default 64.
            backpressure: have senders of both sides wait while their peer is behind.

        Raises (on entering the block):
            RuntimeError: on the child side before ``started()``; after ``cancel()`` while no report has come.
            ContextCancelled: after ``cancel()``, once the report has come.
            RemoteActorError, TransportClosed: the context has ended so.
            trio.ClosedResourceError: the second time.
            ValueError: a ``msg_buffer_size`` below 1.
        """
        if msg_buffer_size is not None and msg_buffer_size < 1:
            raise ValueError(f"`msg_buffer_size` must be at least 1, not {msg_buffer_size}")
        return OpenStream(self, msg_buffer_size, allow_overruns, backpressure)

    def begin_stream(self, size: int | None, overruns: bool, back_pressure: bool) -> MsgStream:
        """Open the stream; see :meth:`open_stream`."""
        self._check_may_stream()
        if Do.REFUSE in self._dialog.handle_stream(Event.OPEN):
            raise trio.ClosedResourceError(
                f"the stream of {self.repr_rpc} was opened before; a context has one, once"
            )
        port = self._port
        if size is not None:
            port.recv.resize(size)
        if overruns:
            port.recv.allow_overruns = True
        if not self._dialog.ended:
            if back_pressure:
                port.switch_on_back_pressure()
            elif port.recv.limited:
                port.announce()
        port.ended = port.ended or self._dialog.stop_came
        self._stream = MsgStream(
            port,
            _plain_decode if self._spec_is_any else self._decode_yield,
            self._close_stream,
            self,
        )
        return self._stream

    def _check_may_stream(self) -> None:
        dialog = self._dialog
        if dialog.side == "child":
            if Do.REFUSE in dialog.handle(Event.OPEN):
                if self._remote_error is not None:
                    raise self._remote_error
                raise RuntimeError(
                    f"the stream of {self.repr_rpc} can't be opened while it is {self.state}; "
                    "call `await ctx.started()` first"
                    if dialog.phase is Phase.SCHED
                    else f"the stream of {self.repr_rpc} can't be opened: it was cancelled by {self._canceller}"
                )
            return
        if dialog.phase is Phase.CXL:
            raise RuntimeError(
                f"{self.repr_rpc} was cancelled by this side; its stream can't be opened now"
            )
        if self._remote_error is not None:
            raise self._remote_error

    def _close_stream(self) -> None:
        """Close this side of the stream; the peer is told unless the dialog is over."""
        port = self._port
        if Do.SEND_STOP in self._dialog.handle_stream(Event.CLOSE) and not self._dialog.ended:
            try:
                self._chan.transport.put(Stop(self._cid))
            except TransportClosed as exc:
                log.transport(
                    "the end of a stream could not be told to %s: %s", self._chan.peer, exc
                )
        port.drop_buffer()
        port.closed = True
        port.wake()
        if self._overrun is not None and self._remote_error is not None and not self._owner_waits:
            # What was buffered at the overrun is given up with the stream.
            self._scope.cancel()

    def abandon_stream(self) -> None:
        """Close this side without telling the peer, which learns of the reason from the dialog."""
        self._dialog.handle_stream(Event.CLOSE)
        self._port.drop_buffer()
        self._port.closed = True
        self._port.wake()

    async def send_yield(self, value: Any) -> None:
        """The outdated way to send on a one-way stream."""
        warnings.warn(
            "`Context.send_yield()` is outdated; use a stream", DeprecationWarning, stacklevel=2
        )
        await self._port.put(value)


_plain_encoder = msgspec.msgpack.Encoder()
