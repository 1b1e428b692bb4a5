"""What both sides of a context have in common: messages in, the instructions of its machine carried out.

Theory of operation.  A context is one :class:`~tractor._proto.dialog.context.Dialog` a side, and a *core* that drives
it: ``ParentContext`` for the opener, ``ServedContext`` for the endpoint's task.  :class:`tractor.Context` is the
face that users get; it decides nothing.

Two kinds of callers meet here.  The channel's reader calls the ``on_...()`` methods, in the order in which the peer
has sent; the tasks of this actor call the rest.  All of them run in one trio thread, and each takes its event to the
machine and carries the instructions out without awaiting in between.  So each sees the dialog either before an event or
after all that follows from it, and which of two events came first is in ``Dialog.history``:

- A task that waits looks at the machine again when it is woken (``while not dialog.ended``): what woke it may not be
  what it waits for, and what it waits for may have come before it began to wait.
- The final message may come while a local task cancels the context.  Whichever reaches the machine first decides on
  the next phase, and the table has a cell for the other one in that phase.
- Cancelling a scope that is left already does nothing; ``CANCEL_BLOCK`` needs no check whether the block still runs.
- An end is in the channel's table of dialogs until its task has let go of it; what comes later finds no dialog and is
  counted (``Channel.late_messages``).
"""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import MessagingError, MsgTypeError, StreamOverrun
from tractor._proto.dialog.context import (
    ContextState,
    Dialog,
    DialogDo,
    DialogEvent,
    DialogPhase,
    StreamState,
)
from tractor._proto.dialog.flow import Admission
from tractor._util._caller import Caller
from tractor._util._waiters import Waiters
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._boxing import pack_error
from tractor.msg._codec import ANY_DEC, codec_in_force
from tractor.msg._conversion import decode_result
from tractor.msg._payload import encode_checked, encode_payload, payload_type_error, refuse_garbage
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
from tractor.runtime.dialog._endpoints import Endpoint
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort

log = _log.get_logger()

_BUFFER = (DialogDo.BUFFER,)
_VIOLATION = (DialogDo.VIOLATION,)


class _Unresolved:
    """The outcome of a context that has none yet."""

    def __repr__(self) -> str:
        return "<Unresolved>"

    def __bool__(self) -> bool:
        return False


Unresolved = _Unresolved()


class ContextCore(DialogEnd):
    """One side of a context.

    Attributes:
        caller: the code that has opened it; on the parent side.
        task: the task that owns this side.
        returned: the endpoint's value as it came, undecoded; on the child side empty, once there is one.
        result: the endpoint's value, decoded when it was first asked for.
        final_msg: what ended the dialog; on the parent side.
        drained: where the first discarded messages are kept while somebody drains the dialog ...
        drained_limit: ... and how many of them.
        remote_error: what came from the peer, or tells of its loss, or of what it has sent against the rules.
        local_error: what this side's own task has raised.
        overrun: the peer sent more than can be held here.  It was told; its report ends the dialog.
        canceller: the actor through which a cancellation reached this side.
        chose_strict: this side has asked for the strict mode of its stream.
        stop_is_due: the stream was given up, and the peer has not heard of it: it will, if the dialog goes on.
    """

    # How each of them begins.  In the class: most dialogs end with most of it unchanged.
    caller: Caller | None = None
    task: trio.lowlevel.Task | None = None
    returned: Any = Unresolved
    result: Any = Unresolved
    final_msg: Return[Any] | Error | None = None
    drained: list[Yield[Any]] | None = None
    drained_limit = 0
    remote_error: BaseException | None = None
    local_error: BaseException | None = None
    overrun: StreamOverrun | None = None
    canceller: Uid | None = None
    chose_strict = False
    stop_is_due = False

    def __init__(self, actor: Host, chan: Channel, cid: int, side: str, endpoint: Endpoint) -> None:
        self.actor = actor
        self.chan = chan
        self.cid = cid
        self.endpoint = endpoint
        # Decides what happens; this object only carries it out.
        self.dialog = Dialog(side)
        # Around the opener's block, or the endpoint's task.
        self.scope = trio.CancelScope()
        # How payloads are encoded and decoded.
        self.rx = PldRx(endpoint.pld_dec, endpoint.encoder)
        # The stream's buffer and windows.  It takes messages before the stream is opened here.
        self.port = StreamPort(
            chan, cid, actor.msg_buffer_size, rx=self.rx, what=f"{endpoint.name}()"
        )
        # Who waits for the end of the dialog, or for its first answer.
        self.waiting = Waiters()

    @property
    def state(self) -> ContextState:
        """Where this side stands."""
        return self.dialog.state

    @property
    def repr_rpc(self) -> str:
        """The endpoint, for people."""
        return self.port.what

    @property
    def peer_uid(self) -> Uid:
        """The identity of the actor on the other side."""
        return self.chan.aid.uid if self.chan.aid else ("", "")

    # -- what the two sides do in their own ways -------------------------------------------------------

    def break_off(self, error: BaseException) -> None:
        """End this dialog because of what the peer sent."""
        raise NotImplementedError

    def check_may_stream(self) -> None:
        """Raise why the stream can't be opened now, if there is a reason."""
        raise NotImplementedError

    async def cancel(self, timeout: float) -> None:
        """See :meth:`tractor.Context.cancel`."""
        raise NotImplementedError

    # -- the channel's side: called by its reader, never blocking --------------------------------------

    def on_yield(self, msg: Yield[Any]) -> bool:
        """Take a message of the stream; whether this side's reader needs a turn before the next one."""
        if self.dialog.buffers and self.drained is None and self.overrun is None:
            port = self.port
            admission = port.push(msg.pld)
            if admission is Admission.HOLD:
                return port.recv.strict and port.is_full()
            if admission is Admission.OVERRUN:
                self._on_overrun()
            elif self.dialog.phase is DialogPhase.CXL:
                # What a cancel discards here is not worth an error.
                port.drop(len(msg.pld))
            else:
                self._break_off(
                    f"{self.chan.peer} sent beyond its credit in {self.repr_rpc}: {len(port.buffer)} messages are"
                    " unread here, and no more were granted"
                )
            return False
        self._refuse_yield(msg)
        return False

    def on_yields(self, msgs: list[Yield[Any]]) -> bool:
        """Take messages of the stream at once; ``False``: they must come one by one, and nothing has changed."""
        return (
            self.dialog.buffers
            and self.drained is None
            and self.overrun is None
            and self.port.push_many([msg.pld for msg in msgs])
        )

    def _refuse_yield(self, msg: Yield[Any]) -> None:
        """A message for which there is no reader: discarded, late, or out of grammar."""
        dialog = self.dialog
        todo = dialog.handle(DialogEvent.YIELD)
        if todo == _BUFFER and dialog.phase is not DialogPhase.CXL:
            todo = dialog.handle_stream(DialogEvent.YIELD)
        for do in todo:
            if do is DialogDo.VIOLATION:
                self._violated(msg, self.state)
            elif do is DialogDo.IGNORE:
                self.chan.late_messages += 1
            elif do is DialogDo.DISCARD or do is DialogDo.BUFFER:
                # The latter while it is drained, or over after an overrun.
                self._discard(msg)

    def _discard(self, msg: Yield[Any]) -> None:
        size = len(msg.pld)
        self.port.recv.admit(0, size)
        self.port.drop(size)
        if self.drained is not None and len(self.drained) < self.drained_limit:
            self.drained.append(msg)

    def on_stop(self, msg: Stop) -> None:
        todo = self.dialog.handle(DialogEvent.STOP)
        if todo == (DialogDo.IGNORE,):
            self.chan.late_messages += 1
        elif todo == _BUFFER:
            if self.dialog.handle_stream(DialogEvent.STOP) == _VIOLATION:
                self._violated(msg, self.state)
            else:
                self.port.end()

    def on_credit(self, msg: Credit) -> None:
        if self.dialog.ended:
            self.chan.late_messages += 1
            return
        try:
            self.port.take_credit(msg.n, msg.size)
        except ValueError:
            self._violated(msg, self.state)

    def on_start_ack(self, msg: StartAck) -> None:
        ours = msg.functype == "context"
        self._on_wire(DialogEvent.ACK if ours else DialogEvent.ACK_OTHER, msg)

    def on_started(self, msg: Started[Any]) -> None:
        self._on_wire(DialogEvent.STARTED, msg)

    def on_return(self, msg: Return[Any]) -> None:
        self._on_wire(DialogEvent.RETURN, msg)

    def on_cancel_ack(self, msg: CancelAck) -> None:
        if self.dialog.ended:
            self.chan.late_messages += 1
        else:
            self._violated(msg, self.state)

    def _on_wire(
        self, event: DialogEvent, msg: Any = None, error: BaseException | None = None
    ) -> None:
        """Carry out what an event from the wire asks for."""
        dialog = self.dialog
        before = dialog.phase
        for do in dialog.handle(event):
            if do is DialogDo.SET_ERROR:
                self.remote_error, self.final_msg = error, msg
            elif do is DialogDo.SET_RESULT:
                self.returned, self.final_msg = msg.pld, msg
            elif do is DialogDo.CANCEL_BLOCK:
                # After an overrun here what was buffered may still be read: the block goes on until that is done.
                if self.overrun is None or not self.port.buffer:
                    self.scope.cancel()
            elif do is DialogDo.VIOLATION:
                self._violated(msg, dialog.state_in(before))
            elif do is DialogDo.IGNORE:
                self.chan.late_messages += 1
        if dialog.ended:
            self.port.end(self.remote_error or self.overrun)
        if self.waiting:
            self.waiting.wake_all()

    def _violated(self, msg: MsgType, state: ContextState) -> None:
        """A message out of grammar: this dialog is over, no other is harmed."""
        self._break_off(
            f"a {type(msg).__name__!r} message is not allowed in {self.repr_rpc} with {self.chan.peer} "
            f"while it is {state}"
        )

    def _break_off(self, text: str) -> None:
        log.error("%s", text)
        self.break_off(MessagingError(text))

    def _on_overrun(self) -> None:
        """A message came that can't be held: tell the sender, which ends the dialog."""
        self.port.discarded += 1
        if DialogDo.SEND_ERROR not in self.dialog.handle(DialogEvent.OVERRUN):
            return
        never_opened = self.dialog.stream is StreamState.IDLE
        opened = "; no stream was open here to read them" if never_opened else ""
        sender = self.peer_uid
        self.overrun = StreamOverrun(
            f"{sender} sent more than {self.port.recv.size} messages that actor {self.chan.local_uid} has not "
            f"read, in {self.repr_rpc}{opened}; read faster, or open the stream on both sides without"
            " `backpressure=False` and `allow_overruns`, so that the sender waits",
            sender=sender,
        )
        if self.dialog.side == "child":
            # Nothing comes back to an endpoint: after what is buffered its reader gets this.
            self.port.fail(self.overrun)
        put_error(self.chan, pack_error(self.overrun, self.cid, self.chan.local_uid))

    # -- payloads -------------------------------------------------------------------------------------

    def decode_payload(self, kind: type, raw: Any) -> Any:
        """Decode a payload that came; one that is not of the spec ends the dialog.

        Raises:
            MsgTypeError: the payload is not of the spec.
        """
        try:
            return self.rx.decode(raw)
        except Exception as exc:
            raise self._bad_payload(kind, raw, exc) from exc

    def _bad_payload(self, kind: type, raw: Any, exc: Exception) -> MsgTypeError:
        """End the dialog because of a payload that is not of the spec; the error to raise."""
        error = payload_type_error(
            kind,
            raw,
            self.rx.pld_dec.spec_str,
            cid=self.cid,
            bad_msg=kind(self.cid, raw),
            cause=exc,
        )
        self._end_by_payload(error)
        return error

    def bad_yield(self, raw: Any, exc: Exception) -> MsgTypeError:
        """End the dialog because of a message of the stream that is not of the spec; the error to raise."""
        return self._bad_payload(Yield, raw, exc)

    def _end_by_payload(self, error: MsgTypeError) -> None:
        """End the dialog because of a payload."""
        if self.dialog.side == "child" and self.dialog.ended:
            # A task that outlives the endpoint reads what was buffered.
            return
        for do in self.dialog.handle(DialogEvent.BAD_PAYLOAD):
            if do is DialogDo.SET_ERROR:
                self.remote_error = error
                self.port.fail(error)
            elif do is DialogDo.SEND_ERROR:
                if self.dialog.side == "child":
                    # The opener ends the dialog; an endpoint that goes on meanwhile must see it as over, too.
                    self.local_error = error
                    self.port.fail(error)
                put_error(self.chan, pack_error(error, self.cid, self.chan.local_uid))
        self.waiting.wake_all()

    def checked(self, msg: Started[Any] | Return[Any], validate: bool, parity: bool) -> Any:
        """What to send for the payload of ``msg``, which the spec must allow.  Raises MsgTypeError."""
        rx = self.rx
        if type(msg.pld) is msgspec.Raw:
            refuse_garbage(msg.pld, type(msg).__name__, cid=msg.cid)
        decoder = rx.pld_dec if validate else ANY_DEC
        if parity or decoder is not ANY_DEC:
            return msgspec.Raw(encode_checked(msg, msg.pld, decoder, rx.encoder, parity))
        if rx.fixed_encoder is None:
            if type(msg) is Return:
                return self.endpoint.conversions.pack_result(msg.pld, codec_in_force())
            return msg.pld
        name = type(msg).__name__
        return msgspec.Raw(
            encode_payload(rx.fixed_encoder, msg.pld, name, cid=msg.cid, bad_msg=msg)
        )

    def take_result(self) -> Any:
        """The endpoint's value, decoded once.  Raises MsgTypeError."""
        if self.result is Unresolved and self.returned is not Unresolved:
            declared = self.endpoint.conversions.result
            if declared is None or self.rx.pld_dec is not ANY_DEC:
                self.result = self.decode_payload(Return, self.returned)
            else:
                # No payload spec says more: what the endpoint is annotated to return.
                try:
                    self.result = decode_result(
                        self.returned, declared, self.endpoint.name, self.cid
                    )
                except MsgTypeError as error:
                    self._end_by_payload(error)
                    raise
        return None if self.result is Unresolved else self.result

    def maybe_raise(self, hide_tb: bool = True, src_exc: BaseException | None = None) -> None:
        """Raise the remote error, if it is not absorbed; ``src_exc``: its cause, unless it has one."""
        __tracebackhide__ = hide_tb
        error = self.remote_error
        if error is not None and self.dialog.end is not ContextState.SELF_CANCELLED:
            if src_exc is not None and src_exc is not error:
                raise error from (error.__cause__ or src_exc)
            raise error

    # -- the stream -----------------------------------------------------------------------------------

    def begin_stream(
        self, size: int | None, overruns: bool | None, back_pressure: bool | None
    ) -> None:
        """Open the stream, the port; the arguments are those of :meth:`tractor.Context.open_stream`."""
        self.check_may_stream()
        if DialogDo.REFUSE in self.dialog.handle_stream(DialogEvent.OPEN):
            raise trio.ClosedResourceError(
                f"the stream of {self.repr_rpc} was opened before; a context has one, once"
            )
        port = self.port
        if size is not None:
            port.recv.resize(size)
        if port.lossy:
            # Another task waits for the result; from here on there is a reader, for whom everything is held.
            port.begin_loss(False)
        if not self.dialog.ended:
            if overruns is not None or back_pressure is False:
                self.be_strict(overruns)
            port.open()
        if port.lost and port.error is None:
            port.fail(
                MessagingError(
                    f"messages of {self.repr_rpc} were discarded while `wait_for_result()` waited and no stream was"
                    " open on this side: open it before"
                )
            )
        if self.dialog.stop_came:
            port.end()

    def be_strict(self, overruns: bool | None) -> None:
        """Choose the strict mode for this dialog; ``overruns``: as given to :meth:`tractor.Context.open_stream`."""
        self.chose_strict = True
        if overruns is not None:
            self.port.recv.allow_overruns = overruns
        self.port.be_strict()

    def close_stream(self) -> None:
        """Close this side of the stream; the peer is told unless the dialog is over."""
        todo = self.dialog.handle_stream(DialogEvent.CLOSE)
        if DialogDo.SEND_STOP in todo and not self.dialog.ended:
            self.chan.tell(Stop(self.cid), now=True)
        self.port.close(discard=True)
        over = self.overrun is not None and self.remote_error is not None
        if over and not self.dialog.owner_waits:
            # What was buffered at the overrun is given up with the stream.
            self.scope.cancel()

    def abandon_stream(self) -> None:
        """Close this side without telling the peer, which learns of the reason from the dialog."""
        todo = self.dialog.handle_stream(DialogEvent.CLOSE)
        self.stop_is_due = DialogDo.SEND_STOP in todo
        self.port.close(discard=True)

    def tell_abandoned(self) -> None:
        """Tell the peer that nobody reads here any more, if the dialog goes on after the stream was given up.

        A deadline around the stream's block, or an error that was handled behind it: the peer would send for ever.
        """
        if self.stop_is_due and not self.dialog.ended:
            self.stop_is_due = False
            self.chan.tell(Stop(self.cid), now=True)
