"""A pair of tasks in two actors that live and die as one scope."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, overload

import msgspec
import trio

from tractor._errors import InternalError, MsgTypeError, one_line
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor._proto.dialog.context import ContextState
from tractor._util._caller import find_caller
from tractor.ipc._chan import Channel
from tractor.msg._codec import MsgCodec
from tractor.msg._pld_rx import PldRx, current_dialog
from tractor.msg.types import Error, Return, Uid, Yield
from tractor.runtime.dialog._context_child import ServedContext
from tractor.runtime.dialog._context_core import ContextCore, Unresolved
from tractor.runtime.dialog._context_parent import ParentContext
from tractor.runtime.dialog._generics import FirstT, RecvT, ResultT, SendT, StreamRecvT, StreamSendT
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.dialog._stream import DialogStream, port_statistics
from tractor.runtime.dialog._targets import Target
from tractor.runtime.dialog._telling import tell_stream
from tractor.trionics._ki import ki_protected


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
class Context(Generic[FirstT, SendT, RecvT, ResultT]):
    """One side of a context's dialog.

    Not built by users: the parent side comes from :meth:`Portal.open_context`, the child side is the argument of
    an endpoint marked with ``@tractor.context``.

    What has happened to it is one state machine (``tractor._proto.dialog.context``); every status below is read from
    it.

    For type checkers it is generic: ``Context[First, Send, Receive, Result]`` names what ``started()`` hands over,
    what *this* side sends and receives on the stream, and the endpoint's value.  One that is left out is the one
    before it (``Result``: ``First``); without any all are ``Any``.  An endpoint annotates its parameter, the first
    one, ``ctx: tractor.Context[First, Send, Receive]``; its opener gets ``Context[First, Receive, Send, Result]``,
    with ``Result`` from the endpoint's ``return`` annotation.
    """

    __tractor_context_class__: ClassVar[bool] = True

    def __init__(self, core: ContextCore, portal: Any = None) -> None:
        # Of which side it is; knows and does everything.
        self._core = core
        # Through which it was opened; `None` on the child side.
        self._portal = portal
        # From `open_stream()` on.
        self._stream: MsgStream[SendT, RecvT] | None = None

    if not TYPE_CHECKING:
        # Parameters may be left out, which `Generic` itself allows from Python 3.13 on only.
        __class_getitem__ = classmethod(types.GenericAlias)

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cid(self) -> int:
        """The dialog's id; opaque, unique on its channel."""
        return self._core.cid

    @property
    def chan(self) -> Channel:
        """The channel to the peer."""
        return self._core.chan

    @property
    def state(self) -> ContextState:
        """Where this side stands."""
        return self._core.state

    @property
    def repr_rpc(self) -> str:
        """The endpoint, for people."""
        return self._core.repr_rpc

    @property
    def portal(self) -> Any:
        """The :class:`Portal` through which the parent side was opened; ``None`` on the child side."""
        return self._portal

    @property
    def parent_task(self) -> trio.lowlevel.Task | None:
        """The task that owns this side."""
        return self._core.task

    @property
    def side(self) -> str:
        """``'parent'`` (the opener) or ``'child'`` (the endpoint's task)."""
        return self._core.dialog.side

    @property
    def peer_side(self) -> str:
        """The other side's name."""
        return "child" if self._core.dialog.side == "parent" else "parent"

    @property
    def cancel_called(self) -> bool:
        """Whether this side asked for the cancellation, by ``cancel()`` or because its block was left early."""
        return self._core.dialog.cancel_called

    @property
    def cancel_acked(self) -> bool:
        """Whether the peer's task ended cancelled because of this side's request."""
        return self._core.dialog.cancel_acked

    @property
    def cancelled_caught(self) -> bool:
        """Whether the local block was unwound by this context's scope."""
        return self._core.scope.cancelled_caught

    @property
    def canceller(self) -> Uid | None:
        """The actor through which the cancellation reached this side, if it was cancelled."""
        return self._core.canceller

    @property
    def pld_rx(self) -> PldRx:
        """The payload decoder of this dialog."""
        return self._core.rx

    @property
    def _codec(self) -> MsgCodec | None:
        # What `apply_codec(codec, ctx)` sets.
        return self._core.rx.codec

    @_codec.setter
    def _codec(self, codec: MsgCodec | None) -> None:
        self._core.rx.codec = codec

    @property
    def maybe_error(self) -> BaseException | None:
        """The error of this context so far, without waiting; a remote one precedes a local one."""
        return self._core.remote_error or self._core.overrun or self._core.local_error

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
        if self._core.returned is not Unresolved:
            try:
                return self._core.take_result()
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
        self._core.maybe_raise(hide_tb, from_src_exc)

    @property
    def repr_state(self) -> str:
        """The state, for people."""
        return str(self.state)

    @property
    def repr_caller(self) -> str:
        """For people: the code that has opened this context; on the child side the task that serves it.

        Functions with a local variable ``__runtimeframe__`` are passed over: their callers count.
        """
        if self._core.caller is not None:
            return str(self._core.caller)
        return self._core.task.name if self._core.task is not None else "<unknown>"

    @property
    def dst_maddr(self) -> str:
        """The peer's address as a multiaddr string."""
        return self._core.chan.maddr

    def repr_outcome(self) -> str:
        """The outcome on one line, for people.  It reads no payload, so it can't end the dialog."""
        error = self.maybe_error
        outcome = self._core.result if error is None else error
        if outcome is Unresolved and self._core.returned is not Unresolved:
            return f"<result of {len(memoryview(self._core.returned))} bytes, not read>"
        return one_line(outcome)

    def pformat(self) -> str:
        """One line for people."""
        return (
            f"<Context {self.side} side of {self.repr_rpc} with {self._core.chan.peer}: "
            f"{self.state}, outcome {self.repr_outcome()}>"
        )

    __repr__ = pformat

    def statistics(self) -> ContextStatistics:
        """A frozen record of plain values."""
        counters = msgspec.structs.asdict(port_statistics(self._core.port))
        del counters["closed"]
        return ContextStatistics(str(self.state), **counters)

    # -- cancellation ---------------------------------------------------------------------------------

    async def cancel(self, timeout: float = CANCEL_TIMEOUT) -> None:
        """Cancel the context's remote task (parent side), or this task itself (child side).

        On the parent side nothing local is cancelled.  The report that comes back is absorbed by the block;
        afterwards ``wait_for_result()`` returns it.  Asking again joins the first request.

        Args:
            timeout: seconds to wait, shielded, for the acknowledgment, which comes when the remote task has ended.
        """
        await self._core.cancel(timeout)

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
        value: ResultT = await self._opener("wait_for_result").wait_for_result(hide_tb)
        return value

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
        return await self._opener("drain_to_final_msg").drain(keep)

    def _opener(self, what: str) -> ParentContext:
        if isinstance(self._core, ParentContext):
            return self._core
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
        if not isinstance(self._core, ServedContext):
            raise RuntimeError(
                "`started()` is for the endpoint's side of a context, not for the opener's"
            )
        await self._core.started(value, validate_pld_spec, strict_pld_parity, hide_tb)

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
        if backpressure and (allow_overruns is not None or self._core.chose_strict):
            raise ValueError(
                f"`backpressure=True` and `allow_overruns={allow_overruns}` are two modes: senders wait, or a slow"
                " reader is an error; give one of them"
            )
        return OpenStream(self, self._core, msg_buffer_size, allow_overruns, backpressure)

    async def send_yield(self, value: Any) -> None:
        """The outdated way to send on a one-way stream."""
        warnings.warn(
            "`Context.send_yield()` is outdated; use a stream", DeprecationWarning, stacklevel=2
        )
        await self._core.port.put(value)

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
class OpenContext(Generic[FirstT, SendT, RecvT, ResultT]):
    """The block of :meth:`Portal.open_context`."""

    def __init__(
        self,
        actor: Host,
        chan: Channel,
        target: Target,
        kwargs: dict[str, Any],
        allow_overruns: bool | None,
        portal: Any,
    ) -> None:
        self._actor = actor
        self._chan = chan
        self._target = target
        self._kwargs = kwargs
        self._allow_overruns = allow_overruns
        self._portal = portal
        self._core: ParentContext | None = None
        self._token: Any = None
        # Of `Portal.open_context()`.
        self._caller = find_caller(2)

    async def __aenter__(self) -> tuple[Context[FirstT, SendT, RecvT, ResultT], FirstT]:
        chan, actor = self._chan, self._actor
        if chan.aid is not None and chan.aid.uuid == actor.aid.uuid:
            raise RuntimeError("Invalid Operation: an actor can't open a context to itself")
        core = self._core = ParentContext(actor, chan, self._target, self._caller)
        first: FirstT = await core.enter(self._kwargs, self._allow_overruns)
        ctx: Context[FirstT, SendT, RecvT, ResultT] = Context(core, self._portal)
        self._token = ipc_ctx.set(ctx)
        return ctx, first

    async def __aexit__(
        self, etype: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        assert self._core is not None
        ipc_ctx.reset(self._token)
        return await self._core.leave(exc)


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
        core: ContextCore,
        size: int | None,
        overruns: bool | None,
        back_pressure: bool | None,
    ) -> None:
        self._ctx = ctx
        self._core = core
        self._size = size
        self._overruns = overruns
        self._back_pressure = back_pressure
        self._stream: MsgStream[StreamSendT, StreamRecvT] | None = None

    async def __aenter__(self) -> MsgStream[StreamSendT, StreamRecvT]:
        await trio.lowlevel.checkpoint_if_cancelled()
        ctx, core = self._ctx, self._core
        core.begin_stream(self._size, self._overruns, self._back_pressure)
        self._stream = ctx._stream = MsgStream(core.port, core.bad_yield, core.close_stream, ctx)
        tell_stream(core.port, True)
        return self._stream

    async def __aexit__(
        self, etype: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        stream = self._stream
        assert stream is not None
        try:
            if exc is None or _is_end(exc):
                await stream.aclose()
                return True
            # The peer learns of an error or a cancellation from the dialog, not from an end of the stream.
            self._core.abandon_stream()
            return False
        finally:
            tell_stream(self._core.port, False)


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
