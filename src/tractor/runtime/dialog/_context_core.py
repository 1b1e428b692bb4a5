"""One side of a context as its channel sees it: messages in, the dialog's instructions carried out."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    ContextCancelled,
    MessagingError,
    MsgTypeError,
    StreamOverrun,
    TransportClosed,
)
from tractor._proto.dialog import ContextState, Dialog, Do, Event, Phase
from tractor._proto.flow import Admission
from tractor._util._caller import Caller
from tractor._util._waiters import Waiters
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._boxing import pack_error
from tractor.msg._codec import ANY_DEC, codec_in_force
from tractor.msg._conversion import decode_result
from tractor.msg._payload import (
    encode_checked,
    encode_payload,
    payload_type_error,
    refuse_garbage,
)
from tractor.msg._pld_rx import PldRx
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
from tractor.runtime.dialog._callee import put_error
from tractor.runtime.dialog._caller import boxed, lost, request_cancel
from tractor.runtime.dialog._endpoints import Endpoint
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.dialog._stream import DialogStream

log = _log.get_logger()

_BUFFER = (Do.BUFFER,)


class _Unresolved:
    """The outcome of a context that has none yet."""

    def __repr__(self) -> str:
        return "<Unresolved>"

    def __bool__(self) -> bool:
        return False


Unresolved = _Unresolved()


class ContextDialog(DialogEnd):
    """Drives the state machine of one side of a context; :class:`tractor.Context` is its public face.

    The channel's reader calls the ``on_...()`` methods, synchronously; they never block.
    """

    # How each of them begins.  In the class: most dialogs end with most of it unchanged.
    # Of `Portal.open_context()`, on the parent side.
    _caller: Caller | None = None
    _stream: DialogStream[Any, Any] | None = None
    _task: trio.lowlevel.Task | None = None
    _started_msg: Any = None
    _was_started = False
    _return: Any = Unresolved
    _result: Any = Unresolved
    _final_msg: Return[Any] | Error | None = None
    # Where discarded messages are kept while somebody drains the dialog, and how many.
    _drained: list[Yield[Any]] | None = None
    _drained_limit = 0
    _remote_error: BaseException | None = None
    _local_error: BaseException | None = None
    _canceller: Uid | None = None
    _cancel_called = False
    _cancel_acked = False
    _unwound = False
    _cancelled_elsewhere = False
    _overrun: StreamOverrun | None = None
    _owner_waits = False
    # Of the channel's reader, in which the request came.
    turn = 0

    def __init__(self, actor: Host, chan: Channel, cid: int, side: str, endpoint: Endpoint) -> None:
        self._actor = actor
        self._chan = chan
        self._cid = cid
        self._name = endpoint.name
        self._endpoint = endpoint
        self._dialog = Dialog(side)
        self._scope = trio.CancelScope()
        self._pld_rx = PldRx(endpoint.pld_dec, endpoint.encoder)
        self._port = StreamPort(
            chan, cid, actor.msg_buffer_size, rx=self._pld_rx, what=f"{endpoint.name}()"
        )
        # Who waits for the end of the dialog, or for its first answer.
        self._waiting = Waiters()
        self._acks: list[int] = []
        chan.dialogs[cid] = self

    @property
    def chan(self) -> Channel:
        """The channel to the peer."""
        return self._chan

    @property
    def state(self) -> ContextState:
        """Where this side stands."""
        return self._dialog.state

    @property
    def repr_rpc(self) -> str:
        """The endpoint, for people."""
        return f"{self._name}()"

    # -- the channel's side: called by its reader, never blocking --------------------------------------

    def on_yield(self, msg: Yield[Any]) -> bool:
        """Take a message of the stream; whether this side's reader needs a turn before the next one."""
        if self._dialog.buffers and self._drained is None and self._overrun is None:
            port = self._port
            admission = port.push(msg.pld)
            if admission is Admission.HOLD:
                return port.recv.strict and port.is_full()
            if admission is Admission.OVERRUN:
                self._on_overrun()
            elif self._dialog.phase is Phase.CXL:
                # What a cancel discards here is not worth an error.
                port.drop(len(msg.pld))
            else:
                self._beyond_credit()
            return False
        self._refuse_yield(msg)
        return False

    def on_yields(self, msgs: list[Yield[Any]]) -> bool:
        """Take messages of the stream at once; ``False``: they must come one by one, and nothing has changed."""
        return (
            self._dialog.buffers
            and self._drained is None
            and self._overrun is None
            and self._port.push_many([msg.pld for msg in msgs])
        )

    def _refuse_yield(self, msg: Yield[Any]) -> None:
        """A message for which there is no reader: discarded, late, or out of grammar."""
        dialog = self._dialog
        todo = dialog.handle(Event.YIELD)
        if todo == _BUFFER and dialog.phase is not Phase.CXL:
            todo = dialog.handle_stream(Event.YIELD)
        if todo == (Do.VIOLATION,):
            self._violated(msg, self.state)
        elif todo == (Do.IGNORE,):
            self._chan.late_messages += 1
        else:
            self._discard(msg)

    def _discard(self, msg: Yield[Any]) -> None:
        size = len(msg.pld)
        self._port.recv.admit(0, size)
        self._port.drop(size)
        if self._drained is not None and len(self._drained) < self._drained_limit:
            self._drained.append(msg)

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
            self._port.take_credit(msg.n, msg.size)
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
            self._return, self._final_msg = msg.pld, msg
        self._wire(Event.RETURN, msg)

    def on_error(self, msg: Error) -> None:
        if self._dialog.ended:
            self._chan.late_messages += 1
            return
        exc = boxed(msg, self._chan, self._actor, self._caller)
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
        self._final_msg = msg
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
        dialog = self._dialog
        before = dialog.phase
        for do in dialog.handle(event):
            if do is Do.SET_ERROR:
                assert error is not None
                self._remote_error = error
            elif do is Do.VIOLATION:
                self._violated(msg, dialog.state_in(before))
            elif do is Do.CANCEL_BLOCK:
                self._unwind_block()
            elif do is Do.IGNORE:
                self._chan.late_messages += 1
            elif do is Do.ABSORB and self._cancelled_elsewhere and not self._owner_waits:
                # Another local task asked: the block is unwound.  An owner that waits for the final message is
                # left to receive it.
                self._scope.cancel()
        if dialog.ended:
            self._port.ended = True
            error = self._remote_error or self._overrun
            if error is not None:
                self._set_port_error(error)
            else:
                self._port.wake()
        if self._waiting:
            self._waiting.wake_all()

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
            # Only `ServedDialog`s are on that side.
            self._actor.note_reset(self, self._cid)  # type: ignore[arg-type]

    def _violated(self, msg: MsgType | None, state: ContextState) -> None:
        """A message out of grammar: this dialog is over, no other is harmed."""
        self._break_off(
            f"a {type(msg).__name__!r} message is not allowed in {self.repr_rpc} with {self._chan.peer} "
            f"while it is {state}"
        )

    def _beyond_credit(self) -> None:
        """A message came for which the peer had no credit: it does not keep to the protocol."""
        self._break_off(
            f"{self._chan.peer} sent beyond its credit in {self.repr_rpc}: {len(self._port.buffer)} messages are"
            " unread here, and no more were granted"
        )

    def _break_off(self, text: str) -> None:
        """End this dialog with a ``MessagingError``, because of what the peer sent."""
        error = MessagingError(text)
        log.error("%s", error)
        if self._dialog.side == "child":
            self._on_peer_error(error, pack_error(error, self._cid, self._peer_uid()))
            return
        self._remote_error = error
        self._dialog.break_off()
        request_cancel(self._chan, self._cid)
        self._set_port_error(error)
        self._scope.cancel()
        self._waiting.wake_all()

    def _on_overrun(self) -> None:
        """A message came that can't be held: tell the sender, which ends the dialog."""
        self._port.discarded += 1
        if Do.SEND_ERROR not in self._dialog.handle(Event.OVERRUN):
            return
        opened = "" if self._stream is not None else "; no stream was open here to read them"
        sender = self._peer_uid()
        self._overrun = StreamOverrun(
            f"{sender} sent more than {self._port.recv.size} messages that actor {self._chan.local_uid} has not "
            f"read, in {self.repr_rpc}{opened}; read faster, or open the stream on both sides without"
            " `backpressure=False` and `allow_overruns`, so that the sender waits",
            sender=sender,
        )
        if self._dialog.side == "child":
            # Nothing comes back to an endpoint: after what is buffered its reader gets this.
            self._port.error = self._overrun
        put_error(self._chan, pack_error(self._overrun, self._cid, self._chan.local_uid))

    def _peer_uid(self) -> Uid:
        return self._chan.aid.uid if self._chan.aid else ("", "")

    # -- payloads -------------------------------------------------------------------------------------

    def _decode_payload(self, kind: type, raw: Any) -> Any:
        """Decode a payload that came; one that is not of the spec ends the dialog.

        Raises:
            MsgTypeError: the payload is not of the spec.
        """
        try:
            return self._pld_rx.decode(raw)
        except Exception as exc:
            raise self._bad_payload(kind, raw, exc) from exc

    def _bad_payload(self, kind: type, raw: Any, exc: Exception) -> MsgTypeError:
        """End the dialog because of a payload that is not of the spec; the error to raise."""
        error = payload_type_error(
            kind,
            raw,
            self._pld_rx.pld_dec.spec_str,
            cid=self._cid,
            bad_msg=kind(self._cid, raw),
            cause=exc,
        )
        self._end_by_payload(error)
        return error

    def _end_by_payload(self, error: MsgTypeError) -> None:
        """End the dialog because of a payload."""
        if self._dialog.side == "child" and self._dialog.ended:
            # A task that outlives the endpoint reads what was buffered.
            return
        for do in self._dialog.handle(Event.BAD_PAYLOAD):
            if do is Do.SET_ERROR:
                self._remote_error = error
                self._port.error = error
            elif do is Do.SEND_ERROR:
                if self._dialog.side == "child":
                    # The opener ends the dialog; an endpoint that goes on meanwhile must see it as over, too.
                    self._local_error = self._port.error = error
                put_error(self._chan, pack_error(error, self._cid, self._chan.local_uid))
        self._waiting.wake_all()

    def _bad_yield(self, raw: Any, exc: Exception) -> MsgTypeError:
        return self._bad_payload(Yield, raw, exc)

    def _checked(self, msg: Started[Any] | Return[Any], validate: bool, parity: bool) -> Any:
        """What to send for the payload of ``msg``, which the spec must allow.  Raises MsgTypeError."""
        rx = self._pld_rx
        if type(msg.pld) is msgspec.Raw:
            refuse_garbage(msg.pld, type(msg).__name__, cid=msg.cid)
        decoder = rx.pld_dec if validate else ANY_DEC
        if parity or decoder is not ANY_DEC:
            return msgspec.Raw(encode_checked(msg, msg.pld, decoder, rx.encoder, parity))
        if rx.fixed_encoder is None:
            if type(msg) is Return:
                return self._endpoint.conversions.pack_result(msg.pld, codec_in_force())
            return msg.pld
        name = type(msg).__name__
        return msgspec.Raw(
            encode_payload(rx.fixed_encoder, msg.pld, name, cid=msg.cid, bad_msg=msg)
        )

    def _take_result(self) -> Any:
        """The endpoint's value, decoded once.  Raises MsgTypeError."""
        if self._result is Unresolved and self._return is not Unresolved:
            declared = self._endpoint.conversions.result
            if declared is None or self._pld_rx.pld_dec is not ANY_DEC:
                self._result = self._decode_payload(Return, self._return)
            else:
                # No payload spec says more: what the endpoint is annotated to return.
                try:
                    self._result = decode_result(self._return, declared, self._name, self._cid)
                except MsgTypeError as error:
                    self._end_by_payload(error)
                    raise
        return None if self._result is Unresolved else self._result
