"""A pair of tasks in two actors that live and die as one scope."""

from __future__ import annotations

import itertools
import math
import types
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, overload

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    InternalError,
    MessagingError,
    MsgTypeError,
    TransportClosed,
    one_line,
)
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor._proto.dialog import ContextState, Do, Event, Phase, StreamState
from tractor.ipc._chan import Channel
from tractor.msg._codec import MsgCodec
from tractor.msg._payload import unencodable_error
from tractor.msg._pld_rx import PldRx, current_dialog
from tractor.msg.types import Error, Return, Started, Stop, Uid, Yield
from tractor.runtime.dialog._caller import request_cancel
from tractor.runtime.dialog._context_child import ServedDialog
from tractor.runtime.dialog._context_core import Unresolved
from tractor.runtime.dialog._endpoints import Endpoint
from tractor.runtime.dialog._generics import (
    FirstT,
    RecvT,
    ResultT,
    SendT,
    StreamRecvT,
    StreamSendT,
)
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.dialog._stream import DialogStream, StreamStatistics, port_statistics
from tractor.trionics._ki import ki_protected

if TYPE_CHECKING:
    from tractor.runtime.dialog._caller import PendingCall

log = _log.get_logger()


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


@ki_protected
class Context(ServedDialog, Generic[FirstT, SendT, RecvT, ResultT]):
    """One side of a context's dialog.

    Not built by users: the parent side comes from :meth:`Portal.open_context`, the child side is the argument of
    an endpoint marked with ``@tractor.context``.

    What has happened to it is one state machine (``tractor._proto.dialog``); every status below is read from it.

    For type checkers it is generic: ``Context[First, Send, Receive, Result]`` names what ``started()`` hands over,
    what *this* side sends and receives on the stream, and the endpoint's value.  One that is left out is the one
    before it (``Result``: ``First``); without any all are ``Any``.  An endpoint annotates its parameter, the first
    one, ``ctx: tractor.Context[First, Send, Receive]``; its opener gets ``Context[First, Receive, Send, Result]``,
    with ``Result`` from the endpoint's ``return`` annotation.
    """

    __tractor_context_class__: ClassVar[bool] = True

    # This side has asked for the strict mode.
    _chose_strict = False
    _result_waiters = 0
    # The stream was given up, and the peer has not heard of it.
    _stop_is_due = False

    def __init__(
        self,
        actor: Host,
        chan: Channel,
        cid: int,
        side: str,
        endpoint: Endpoint,
        portal: Any = None,
    ) -> None:
        super().__init__(actor, chan, cid, side, endpoint)
        self._portal = portal

    if not TYPE_CHECKING:
        # Parameters may be left out, which `Generic` itself allows from Python 3.13 on only.
        __class_getitem__ = classmethod(types.GenericAlias)

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cid(self) -> int:
        """The dialog's id; opaque, unique on its channel."""
        return self._cid

    @property
    def portal(self) -> Any:
        """The :class:`Portal` through which the parent side was opened; ``None`` on the child side."""
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
        return self._pld_rx

    @property
    def _codec(self) -> MsgCodec | None:
        # What `apply_codec(codec, ctx)` sets.
        return self._pld_rx.codec

    @_codec.setter
    def _codec(self, codec: MsgCodec | None) -> None:
        self._pld_rx.codec = codec

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

    def maybe_raise(self, hide_tb: bool = True, from_src_exc: BaseException | None = None) -> None:
        """Raise the remote error if there is one that is not absorbed.

        Args:
            hide_tb: hide the runtime's frames in a traceback.
            from_src_exc: the local error that it comes from: its cause, unless it has one.
        """
        __tracebackhide__ = hide_tb
        error = self._remote_error
        if error is not None and self._dialog.end is not ContextState.SELF_CANCELLED:
            if from_src_exc is not None and from_src_exc is not error:
                raise error from (error.__cause__ or from_src_exc)
            raise error

    @property
    def repr_state(self) -> str:
        """The state, for people."""
        return str(self.state)

    @property
    def repr_caller(self) -> str:
        """For people: the code that has opened this context; on the child side the task that serves it.

        Functions with a local variable ``__runtimeframe__`` are passed over: their callers count.
        """
        if self._caller is not None:
            return str(self._caller)
        return self._task.name if self._task is not None else "<unknown>"

    @property
    def dst_maddr(self) -> str:
        """The peer's address as a multiaddr string."""
        return self._chan.maddr

    def repr_outcome(self) -> str:
        """The outcome on one line, for people.  It reads no payload, so it can't end the dialog."""
        error = self.maybe_error
        outcome = self._result if error is None else error
        if outcome is Unresolved and self._return is not Unresolved:
            return f"<result of {len(memoryview(self._return))} bytes, not read>"
        return one_line(outcome)

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

    async def wait_for_result(self, hide_tb: bool = True) -> ResultT:
        """Wait for the end of the remote task and return its value.  Idempotent.

        Args:
            hide_tb: hide the runtime's frames in a traceback.

        Returns:
            The endpoint's value; or, if this side asked for the cancellation and it was, the
            ``ContextCancelled`` as a value.

        Raises:
            RuntimeError: on the child side.
            RemoteActorError: the remote task failed, or somebody else cancelled it (``ContextCancelled``).
            MsgTypeError: the value is not of the payload spec.
            TransportClosed: the peer is gone.
        """
        __tracebackhide__ = hide_tb
        self._parent_only("wait_for_result")
        await self._wait_result()
        if self._dialog.end is ContextState.SELF_CANCELLED:
            report: Any = self._remote_error
            return report  # type: ignore[no-any-return]
        self.maybe_raise(hide_tb)
        if self._overrun is not None:
            raise self._overrun
        value: ResultT = self._take_result()
        return value

    async def _wait_result(self) -> None:
        """Wait for the end; a peer that streams to a side without a stream must come to its end, too."""
        self._tell_abandoned()
        port = self._port
        if self._dialog.stream is not StreamState.IDLE or port.recv.strict or self._dialog.ended:
            await self._wait_end()
            return
        self._result_waiters += 1
        if self._result_waiters == 1:
            port.begin_loss(True)
        try:
            await self._wait_end()
        finally:
            self._result_waiters -= 1
            if not self._result_waiters:
                port.begin_loss(False)

    async def _wait_end(self, patience: float = math.inf) -> None:
        """Wait, without limit, for the end of the dialog; log it once if that takes more than ``patience`` seconds."""
        owner = trio.lowlevel.current_task() is self._task
        try:
            self._owner_waits = self._owner_waits or owner
            if self._dialog.ended:
                await trio.lowlevel.checkpoint()
                return
            if patience < math.inf:
                with trio.move_on_after(patience) as scope:
                    while not self._dialog.ended:
                        await self._waiting.park()
                if scope.cancelled_caught:
                    log.warning(
                        "a block of `open_context()` was left %s s ago and waits for the end of %s in %s; "
                        "`await ctx.cancel()` would end it",
                        patience,
                        self.repr_rpc,
                        self._chan.peer,
                    )
            while not self._dialog.ended:
                await self._waiting.park()
        finally:
            if owner:
                self._owner_waits = False

    async def result(self, hide_tb: bool = True) -> ResultT:
        """The outdated name of :meth:`wait_for_result`."""
        warnings.warn(
            "`Context.result()` is outdated; use `wait_for_result()`",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self.wait_for_result(hide_tb)

    async def drain(self, keep: int) -> tuple[Return[Any] | Error | None, list[Yield[Any]]]:
        """Discard what is streamed until the dialog's end; see ``tractor.msg.drain_to_final_msg()``."""
        self._parent_only("drain_to_final_msg")
        self._tell_abandoned()
        port = self._port
        drained: list[Yield[Any]] = [
            Yield(self._cid, raw) for raw in itertools.islice(port.buffer, keep)
        ]
        port.drop_buffer()
        self._drained, self._drained_limit = drained, keep
        try:
            await self._wait_end()
        finally:
            self._drained = None
        return self._final_msg, drained

    def _parent_only(self, what: str) -> None:
        if self._dialog.side == "child":
            raise RuntimeError(
                f"`{what}()` is for the side that opened the context; "
                f"this is the endpoint's side of {self.repr_rpc}: return a value instead"
            )

    async def started(
        self,
        value: FirstT = None,  # type: ignore[assignment]
        validate_pld_spec: bool = True,
        strict_pld_parity: bool = False,
        hide_tb: bool = True,
    ) -> None:
        """Hand a value to the opener, whose block is entered with it.  Child side, once.

        When it returns, the kernel has the value.  Cancelled while it waits for that, it counts as called.

        Args:
            value: what the opener gets as ``first``.
            validate_pld_spec: check it against the payload spec before sending.
            strict_pld_parity: demand also that the value that arrives equals this one.
            hide_tb: hide the runtime's frames in a traceback.

        Raises:
            RuntimeError: on the parent side, or the second time, or after the context was cancelled.
            MsgTypeError: the value is not of the payload spec, or can't be encoded; nothing was sent, and
                ``started()`` may be called again.
            TransportClosed: the peer is gone.
        """
        __tracebackhide__ = hide_tb
        if self._dialog.side == "parent":
            raise RuntimeError(
                "`started()` is for the endpoint's side of a context, not for the opener's"
            )
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._dialog.phase is not Phase.SCHED:
            raise RuntimeError(
                f"`started()` can be called once, before the end; {self.repr_rpc} is {self.state}"
            )
        raw = self._checked(Started(self._cid, value), validate_pld_spec, strict_pld_parity)
        transport = self._chan.transport
        try:
            transport.put_now(Started(self._cid, raw), self._pld_rx.encoder)
        except TypeError as exc:
            raise unencodable_error(value, "Started", exc, cid=self._cid) from exc
        self._dialog.handle(Event.START)
        self._was_started = True
        if transport.unsent:
            await transport.wait_written()

    # -- the stream -----------------------------------------------------------------------------------

    def open_stream(
        self,
        allow_overruns: bool | None = None,
        msg_buffer_size: int | None = None,
        backpressure: bool | None = None,
    ) -> OpenStream[SendT, RecvT]:
        """The context's two-way stream, for the length of an ``async with`` block.  Once for each side.

        A sender waits while its peer is a whole window behind in reading, and nothing is lost.  For feeds that must
        not lag there is the strict mode, for both directions as soon as one side asks for it: nobody waits, and a
        reader that falls behind by more than its buffer is an error, ``StreamOverrun``, at the sender.

        Args:
            allow_overruns: given, the strict mode; ``True`` holds up to 616 messages beyond the buffer.
            msg_buffer_size: messages that may be held unread; default 1,024 (and never more than 16 MiB), in the
                strict mode ``Actor.msg_buffer_size``, 64.
            backpressure: ``False``: the strict mode; ``True`` says the default.

        Raises (on entering the block):
            RuntimeError: on the child side before ``started()``; after ``cancel()`` while no report has come.
            ContextCancelled: after ``cancel()``, once the report has come.
            RemoteActorError, TransportClosed: the context has ended so.
            trio.ClosedResourceError: the second time.
            ValueError (at once): a ``msg_buffer_size`` below 1; ``allow_overruns`` together with ``backpressure=True``.
        """
        if msg_buffer_size is not None and msg_buffer_size < 1:
            raise ValueError(f"`msg_buffer_size` must be at least 1, not {msg_buffer_size}")
        if backpressure and (allow_overruns is not None or self._chose_strict):
            raise ValueError(
                f"`backpressure=True` and `allow_overruns={allow_overruns}` are two modes: senders wait, or a slow"
                " reader is an error; give one of them"
            )
        return OpenStream(self, msg_buffer_size, allow_overruns, backpressure)

    def begin_stream(
        self, size: int | None, overruns: bool | None, back_pressure: bool | None
    ) -> MsgStream[SendT, RecvT]:
        """Open the stream; see :meth:`open_stream`."""
        self._check_may_stream()
        if Do.REFUSE in self._dialog.handle_stream(Event.OPEN):
            raise trio.ClosedResourceError(
                f"the stream of {self.repr_rpc} was opened before; a context has one, once"
            )
        port = self._port
        if size is not None:
            port.recv.resize(size)
        if port.lossy:
            # Another task waits for the result; from here on there is a reader, for whom everything is held.
            port.begin_loss(False)
        if not self._dialog.ended:
            if overruns is not None or back_pressure is False:
                self._be_strict(overruns)
            port.open()
        if port.lost and port.error is None:
            port.error = MessagingError(
                f"messages of {self.repr_rpc} were discarded while `wait_for_result()` waited and no stream was open"
                " on this side: open it before"
            )
        port.ended = port.ended or self._dialog.stop_came
        self._stream = MsgStream(
            port,
            self._bad_yield,
            self._close_stream,
            self,
        )
        return self._stream

    def _be_strict(self, overruns: bool | None) -> None:
        """Choose the strict mode for this dialog; ``overruns``: as given to :meth:`open_stream`."""
        self._chose_strict = True
        if overruns is not None:
            self._port.recv.allow_overruns = overruns
        self._port.be_strict()

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
            self._put_stop()
        port.drop_buffer()
        port.closed = True
        port.wake()
        if self._overrun is not None and self._remote_error is not None and not self._owner_waits:
            # What was buffered at the overrun is given up with the stream.
            self._scope.cancel()

    def abandon_stream(self) -> None:
        """Close this side without telling the peer, which learns of the reason from the dialog."""
        self._stop_is_due = Do.SEND_STOP in self._dialog.handle_stream(Event.CLOSE)
        self._port.drop_buffer()
        self._port.closed = True
        self._port.wake()

    def _tell_abandoned(self) -> None:
        """Tell the peer that nobody reads here any more, if the dialog goes on after the stream was given up.

        A deadline around the stream's block, or an error that was handled behind it: the peer would send for ever.
        """
        if self._stop_is_due and not self._dialog.ended:
            self._stop_is_due = False
            self._put_stop()

    def _put_stop(self) -> None:
        try:
            self._chan.transport.put_now(Stop(self._cid))
        except TransportClosed as exc:
            log.transport("the end of a stream could not be told to %s: %s", self._chan.peer, exc)

    async def send_yield(self, value: Any) -> None:
        """The outdated way to send on a one-way stream."""
        warnings.warn(
            "`Context.send_yield()` is outdated; use a stream", DeprecationWarning, stacklevel=2
        )
        await self._port.put(value)

    async def send_stop(self) -> None:
        """Close this side of the stream: the peer's ``receive()`` ends.  Idempotent, as ``MsgStream.aclose()`` is.

        Raises:
            RuntimeError: no stream was opened on this side.
        """
        if self._stream is None:
            raise RuntimeError(
                f"{self.repr_rpc} has no stream here to close: enter `ctx.open_stream()` first"
            )
        await self._stream.aclose()


@ki_protected
class MsgStream(DialogStream[StreamSendT, StreamRecvT]):
    """One side of a stream.  One-shot: once closed it stays closed.

    Not built by users: see :meth:`Context.open_stream` and :meth:`Portal.open_stream_from`.  For type checkers it is
    generic: ``MsgStream[Send, Receive]`` names what this side sends and receives.
    """

    def __init__(
        self,
        port: StreamPort,
        bad_payload: Callable[[Any, Exception], BaseException],
        close: Callable[[], None],
        ctx: Context[Any, StreamSendT, StreamRecvT, Any] | None = None,
    ) -> None:
        super().__init__(port, bad_payload, close, receive_only=ctx is None)
        self._ctx = ctx

    @property
    def ctx(self) -> Context[Any, StreamSendT, StreamRecvT, Any]:
        """The context that the stream belongs to.  Raises InternalError for a one-way stream."""
        if self._ctx is None:
            raise InternalError("a one-way stream has no context")
        return self._ctx


@ki_protected
class OpenStream(Generic[StreamSendT, StreamRecvT]):
    """The block of :meth:`Context.open_stream`."""

    def __init__(
        self,
        ctx: Context[Any, StreamSendT, StreamRecvT, Any],
        size: int | None,
        overruns: bool | None,
        back_pressure: bool | None,
    ) -> None:
        self._ctx = ctx
        self._size = size
        self._overruns = overruns
        self._back_pressure = back_pressure
        self._stream: MsgStream[StreamSendT, StreamRecvT] | None = None

    async def __aenter__(self) -> MsgStream[StreamSendT, StreamRecvT]:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._stream = self._ctx.begin_stream(self._size, self._overruns, self._back_pressure)
        return self._stream

    async def __aexit__(
        self,
        etype: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        stream = self._stream
        assert stream is not None
        if exc is None or _is_end(exc):
            await stream.aclose()
            return True
        # The peer learns of an error or a cancellation from the dialog, not from an end of the stream.
        self._ctx.abandon_stream()
        return False


def _is_end(exc: BaseException) -> bool:
    """Whether it only says that a channel has ended, maybe out of nurseries inside of the block."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_end, exc.exceptions))
    return isinstance(exc, trio.EndOfChannel)


ipc_ctx: ContextVar[Context | None] = current_dialog
"""The innermost open context of a task; inherited by the tasks that it starts."""


@overload
def current_ipc_ctx(error_on_not_set: Literal[True]) -> Context: ...
@overload
def current_ipc_ctx(error_on_not_set: bool = False) -> Context | None: ...
def current_ipc_ctx(error_on_not_set: bool = False) -> Context | None:
    """The innermost context that is open in the calling task.

    Args:
        error_on_not_set: raise when there is none; else return ``None``.

    Raises:
        InternalError: no context is open in this task.
    """
    ctx = ipc_ctx.get()
    if ctx is None and error_on_not_set:
        raise InternalError("no IPC context is open in this task")
    return ctx
