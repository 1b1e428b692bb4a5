"""Handles for calling into one other actor."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    ActorTooSlowError,
    MsgTypeError,
    NoResult,
    StreamOverrun,
    TransportClosed,
)
from tractor._proto.dialog import ContextState, Do, Event, Phase
from tractor._util._groups import is_multi_cancelled
from tractor.ipc._chan import Channel
from tractor.ipc._transport import HIGH_WATER
from tractor.msg.types import Started
from tractor.runtime._calls import (
    CANCEL_TIMEOUT,
    OneWayReceiver,
    PendingCall,
    call,
    put_start,
    request,
    result_of,
)
from tractor.runtime._context import Context
from tractor.runtime._endpoints import Kind, canonical, describe, kind_of
from tractor.runtime._state import ipc_ctx
from tractor.runtime._stream import MsgStream

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

__all__ = ["LocalPortal", "Portal", "PortalStatistics"]

log = _log.get_logger()

_plain_decode = msgspec.msgpack.Decoder().decode


class PortalStatistics(msgspec.Struct, frozen=True):
    """Counters of a portal's channel."""

    connected: bool
    dialogs: int
    sent: int
    received: int


class Portal:
    """A handle for calling into one other actor over one channel.

    Not built by users: ``ActorNursery.start_actor()``, ``find_actor()`` and others give them.
    """

    cancel_timeout: float = 0.5
    """Seconds that ``cancel_actor()`` waits for the acknowledgment unless told otherwise."""

    def __init__(self, chan: Channel, actor: Actor) -> None:
        self.chan = chan
        self._actor = actor
        self._main: PendingCall | None = None
        self._main_outcome: Any = None
        self._main_done = trio.Event()
        # The nursery that started the peer must know that its end was asked for.
        self.on_cancel_request: Callable[[], None] | None = None

    @property
    def channel(self) -> Channel:
        """The outdated name of :attr:`chan`."""
        warnings.warn("`Portal.channel` is outdated; use `chan`", DeprecationWarning, stacklevel=2)
        return self.chan

    @property
    def actor(self) -> Actor:
        """The actor of this process."""
        return self._actor

    # -- calls ----------------------------------------------------------------------------------------

    async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run an async function in the peer and return its value.

        Args:
            fn: an async function of a module that the peer has enabled.
            kwargs: its arguments; by keyword only.

        Raises:
            TypeError: ``fn`` is not an async function, or is a streaming one.
            RemoteActorError: it raised, or could not be found or called.
            ContextCancelled: somebody else cancelled the remote task.
            TransportClosed: the peer is gone; whether the function ran is unknown.
            MsgTypeError, MessagingError: the arguments can't be sent.
        """
        if isinstance(fn, str):
            return await self._run_by_name(fn, *args, **kwargs)
        if args:
            raise TypeError(
                f"pass the arguments of {fn!r} by keyword: {args!r} were given by position"
            )
        ns, name = endpoint_path(fn, Kind.CALL)
        return await call(self.chan, self._actor, ns, name, kwargs)

    async def _run_by_name(self, ns: str, name: str = "", /, **kwargs: Any) -> Any:
        warnings.warn(
            "`Portal.run('mod.path', 'fn_name')` is outdated; pass the function, or use `run_from_ns()`",
            DeprecationWarning,
            stacklevel=3,
        )
        return await call(self.chan, self._actor, ns, name, kwargs)

    async def run_from_ns(self, namespace_path: str, function_name: str, **kwargs: Any) -> Any:
        """Run the function that is found by module and name in the peer, and return its value.

        Args:
            namespace_path: module name; ``'self'`` for a runtime request.
            function_name: name in that module.
            kwargs: its arguments.

        Raises:
            RemoteActorError: it raised, or could not be found or called.
            TransportClosed: the peer is gone; whether the function ran is unknown.
        """
        return await call(self.chan, self._actor, namespace_path, function_name, kwargs)

    @asynccontextmanager
    async def open_stream_from(self, agen_fn: Any, /, **kwargs: Any) -> AsyncIterator[MsgStream]:
        """Open a one-way stream from an async generator function (or ``@stream`` function) of the peer.

        The peer's generator waits while this side is behind.  Leaving the block cancels it and waits, at most
        0.616 s, for its end.

        Args:
            agen_fn: the function.
            kwargs: its arguments.

        Raises:
            TypeError: ``agen_fn`` is of another kind.
            RemoteActorError: it could not be found or called, or it raised (from ``receive()``).
            TransportClosed: the peer is gone.
        """
        ns, name = endpoint_path(agen_fn, Kind.ASYNCGEN)
        receiver = OneWayReceiver(self.chan, self._actor, f"{ns}:{name}")
        put_start(self.chan, receiver.cid, ns, name, kwargs, kind="asyncgen")
        port = receiver.port

        def close() -> None:
            port.closed = True
            port.wake()

        stream = MsgStream(port, _plain_decode, close, receive_only=True)
        try:
            await receiver.acked.wait()
            if not port.buffer and port.error is not None:
                raise port.error
            # The end of the stream that nobody caught is the normal end of the block.
            with contextlib.suppress(trio.EndOfChannel):
                yield stream
        finally:
            close()
            await receiver.stop()

    def open_context(
        self, fn: Any, /, allow_overruns: bool = False, hide_tb: bool = True, **kwargs: Any
    ) -> OpenContext:
        """Open a context: run an endpoint in the peer as the other half of this block.

        As an ``async with`` block it yields ``(ctx, first)`` once the endpoint has called ``started(first)``, and it
        is not left before the endpoint's task has ended (or was given up, 0.616 s after the block itself was
        cancelled or failed).

        Args:
            fn: a function decorated with ``@tractor.context``, or a ``functools.partial`` of one, whose keywords
                are merged in.
            allow_overruns: hold up to 616 messages beyond the buffer.
            hide_tb: accepted for compatibility of callers that want to see runtime frames.
            kwargs: the endpoint's arguments, without its context parameter.

        Raises:
            TypeError: ``fn`` is not decorated.
            RuntimeError: the peer is this very actor ("Invalid Operation").
            RemoteActorError: the endpoint could not be found or called, or raised.
            ContextCancelled: the endpoint's task was cancelled by somebody else than this side.
            MsgTypeError: the first value, or the result, is not of the payload spec.
            TransportClosed: the peer is gone.
        """
        if isinstance(fn, functools.partial):
            kwargs = {**fn.keywords, **kwargs}
            fn = fn.func
        return OpenContext(self, fn, allow_overruns, kwargs)

    # -- the peer's end -------------------------------------------------------------------------------

    def expect_main(self, pending: PendingCall) -> None:
        """This portal's actor is a one-shot: ``pending`` is its one function."""
        self._main = pending

    async def settle_main(self) -> None:
        """Wait for the one-shot's reply and keep its outcome.  Called once, by the nursery."""
        assert self._main is not None
        self._main_outcome = await self._main.wait()
        self._main_done.set()

    async def wait_for_result(self, hide_tb: bool = True) -> Any:
        """The result of a one-shot actor, which is cached.

        Returns:
            Its function's value; on a daemon's portal, which has none, ``NoResult`` (and a warning is logged).

        Raises:
            RemoteActorError: the function raised.
            ContextCancelled: it was cancelled.
            TransportClosed: the actor is gone.
        """
        if self._main is None:
            log.warning("%s is a daemon: its portal has no main result", self.chan.peer)
            await trio.lowlevel.checkpoint()
            return NoResult
        await self._main_done.wait()
        return self.main_result()

    def main_result(self) -> Any:
        """The one-shot's value, or its error raised; only after it has settled."""
        outcome = self._main_outcome
        if not isinstance(outcome, (_Value, BaseException)):
            try:
                outcome = _Value(result_of(outcome, self.chan, self._actor))
            except BaseException as exc:
                outcome = exc
            self._main_outcome = outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome.value

    async def result(self) -> Any:
        """The outdated name of :meth:`wait_for_result`."""
        warnings.warn(
            "`Portal.result()` is outdated; use `wait_for_result()`",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self.wait_for_result()

    async def cancel_actor(
        self, timeout: float | None = None, raise_on_timeout: bool = False
    ) -> bool:
        """Cancel the peer's whole runtime, and its subtree.  Shielded.

        Args:
            timeout: seconds to wait for the acknowledgment; ``None``: :attr:`cancel_timeout`.
            raise_on_timeout: raise instead of returning ``False`` when none comes in time.

        Returns:
            ``True`` when the peer acknowledged; ``False`` when it was disconnected already, or did not in time.

        Raises:
            ActorTooSlowError: no acknowledgment in time, with ``raise_on_timeout``.
        """
        if self.on_cancel_request is not None:
            self.on_cancel_request()
        bound = self.cancel_timeout if timeout is None else timeout
        self.chan.cancel_called = True
        if not self.chan.connected():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return False
        try:
            pending = request(self.chan, "cancel")
        except TransportClosed:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return False
        with trio.CancelScope(shield=True, deadline=trio.current_time() + bound):
            reply = await pending.wait()
            return not isinstance(reply, BaseException)
        self.chan.dialogs.pop(pending.cid, None)
        text = f"{self.chan.peer} did not acknowledge its cancellation within {bound} s"
        log.warning("%s", text)
        if raise_on_timeout:
            raise ActorTooSlowError(text)
        return False

    async def aclose(self) -> None:
        """Nothing to free: a portal's channel lives as long as what gave the portal."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PortalStatistics:
        """A frozen record of plain values."""
        s = self.chan.statistics()
        return PortalStatistics(self.chan.connected(), s.dialogs, s.sent, s.received)

    def pformat(self) -> str:
        """One line for people."""
        return f"<Portal to {self.chan.peer}>"

    __repr__ = pformat


class _Value(msgspec.Struct):
    value: Any


class LocalPortal:
    """What a registrar uses to make registry requests to itself, as a :class:`Portal` would to another.

    Args:
        actor: the own actor.
        channel: where the peer would be; unused.
    """

    def __init__(self, actor: Any, channel: Channel | None = None) -> None:
        self.actor = actor
        self.chan = channel

    async def run_from_ns(self, namespace_path: str, function_name: str, **kwargs: Any) -> Any:
        """Run a method of the own actor.

        Raises:
            ValueError: ``namespace_path`` is not ``'self'``.
            AttributeError: no such request.
        """
        if namespace_path != "self":
            raise ValueError(
                f"a local portal reaches the namespace 'self' alone, not {namespace_path!r}"
            )
        return await getattr(self.actor, function_name)(**kwargs)

    def pformat(self) -> str:
        """One line for people."""
        return f"<LocalPortal to {self.actor.aid.reprol()}>"

    __repr__ = pformat


def endpoint_path(fn: Any, want: Kind) -> tuple[str, str]:
    """The module and name under which a peer finds ``fn``.

    Raises:
        TypeError: it is no function of the kind that is wanted.
    """
    kind = kind_of(fn)
    if kind is None or kind.wire != want.wire:
        wanted = {
            Kind.CALL: "must be an async function that does not stream",
            Kind.ASYNCGEN: "must be an async generator function, or decorated with `@tractor.stream`",
            Kind.CONTEXT: "must be decorated with `@tractor.context`",
        }[want]
        is_ = f"is {kind.value!r}" if kind else "is none"
        raise TypeError(f"{getattr(fn, '__qualname__', fn)!r} {wanted}; it {is_}")
    return canonical(fn.__module__), fn.__qualname__


class OpenContext:
    """The block of :meth:`Portal.open_context`."""

    def __init__(
        self, portal: Portal, fn: Any, allow_overruns: bool, kwargs: dict[str, Any]
    ) -> None:
        self._portal = portal
        self._where = endpoint_path(fn, Kind.CONTEXT)
        endpoint = describe(fn, ":".join(self._where))
        assert endpoint is not None
        self._endpoint = endpoint
        self._allow_overruns = allow_overruns
        self._kwargs = kwargs
        self._ctx: Context | None = None
        self._token: Any = None

    async def __aenter__(self) -> tuple[Context, Any]:
        portal = self._portal
        chan = portal.chan
        actor = portal.actor
        if chan.aid is not None and chan.aid.uuid == actor.aid.uuid:
            raise RuntimeError("Invalid Operation: an actor can't open a context to itself")
        ns, name = self._where
        spec = self._endpoint.spec
        ctx = self._ctx = Context(
            actor, chan, chan.new_cid(), "parent", f"{ns}:{name}", spec, portal
        )
        ctx._task = trio.lowlevel.current_task()
        ctx._port.recv.allow_overruns = self._allow_overruns
        shown = None if spec is None or ctx._spec_is_any else ctx._decoder.spec_str
        put_start(chan, ctx.cid, ns, name, self._kwargs, "context", shown, ctx._encoder)
        try:
            await self._wait_started(ctx)
            first = ctx._decode_payload("Started", Started, ctx._started_msg.pld)
        except MsgTypeError:
            await _stop_endpoint(ctx)
            chan.dialogs.pop(ctx.cid, None)
            raise
        except BaseException:
            chan.dialogs.pop(ctx.cid, None)
            raise
        self._token = ipc_ctx.set(ctx)
        ctx._scope.__enter__()
        return ctx, first

    async def _wait_started(self, ctx: Context) -> None:
        dialog = ctx._dialog
        try:
            if ctx.chan.transport.unsent > HIGH_WATER:
                await ctx.chan.transport.wait_below_mark()
            while dialog.phase is Phase.REQ:
                await ctx._waiting.park()
        except (trio.Cancelled, KeyboardInterrupt):
            await _stop_remote(ctx, Event.INTERRUPTED)
            if dialog.end is ContextState.ERRORED:
                ctx.maybe_raise()
            raise
        if dialog.ended and ctx._started_msg is None:
            # An end that came in the same chunk as the first value belongs to the block, which it unwinds.
            ctx.maybe_raise()

    async def __aexit__(
        self,
        etype: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        ctx = self._ctx
        assert ctx is not None
        ipc_ctx.reset(self._token)
        try:
            left = _close_scope(ctx, exc)
            if left is None:
                await self._finish(ctx)
                return True
            await self._abort(ctx, left)
            if left is exc:
                return False
            raise left
        finally:
            ctx._port.closed = True
            ctx._port.wake()
            ctx.chan.dialogs.pop(ctx.cid, None)

    async def _finish(self, ctx: Context) -> None:
        """The block was left without an error of its own: wait for the end, raise what it brought."""
        dialog = ctx._dialog
        if not dialog.ended:
            dialog.handle(Event.LEFT)
            # Nobody will read these any more; a peer that waits for their credit must go on.
            ctx._port.drop_buffer()
            try:
                await ctx._wait_end()
            except (trio.Cancelled, KeyboardInterrupt):
                await _stop_remote(ctx, Event.INTERRUPTED)
                if dialog.end is ContextState.ERRORED:
                    ctx.maybe_raise()
                raise
        else:
            await trio.lowlevel.checkpoint()
        error = ctx._remote_error
        if dialog.end is ContextState.SELF_CANCELLED:
            log.cancel("%s ended cancelled, as asked", ctx.repr_rpc)
            return
        if isinstance(error, (StreamOverrun, MsgTypeError)):
            # Such a report may come from an endpoint that goes on: it must not outlive the block.
            await _stop_endpoint(ctx)
        if error is None and ctx._overrun is not None:
            error = ctx._overrun
        if error is not None:
            raise error
        if not ctx._spec_is_any:
            ctx._take_result()

    async def _abort(self, ctx: Context, exc: BaseException) -> None:
        """The block was cancelled from outside, or failed: stop the remote task, wait for it, bounded."""
        cancelled = is_multi_cancelled(exc)
        if not cancelled:
            ctx._local_error = exc
        else:
            log.cancel("%s: its local block was cancelled by a surrounding scope", ctx.repr_rpc)
        await _stop_remote(ctx, Event.INTERRUPTED if cancelled else Event.RAISED)
        if cancelled and ctx._dialog.end is ContextState.ERRORED:
            ctx.maybe_raise()


async def _stop_remote(ctx: Context, event: Event) -> None:
    """Ask for the remote task's cancellation because the local block ended; wait, bounded, for its end."""
    dialog = ctx._dialog
    was_over = dialog.ended
    todo = dialog.handle(event)
    if Do.SEND_CANCEL in todo:
        ctx._cancel_called = True
        if not was_over:
            ctx._canceller = ctx.chan.local_uid
        if ctx.chan.connected():
            ctx.request_cancel()
    if Do.WAIT_ACK in todo:
        await ctx._wait_ack()
        if not dialog.ended:
            dialog.handle(Event.SETTLED)
    else:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _stop_endpoint(ctx: Context) -> None:
    """Cancel the remote task of a dialog that is over here already; wait, bounded, for the acknowledgment."""
    pending = ctx.request_cancel()
    if pending is not None:
        with trio.move_on_after(CANCEL_TIMEOUT, shield=True):
            await pending.wait()


def _close_scope(ctx: Context, exc: BaseException | None) -> BaseException | None:
    """Leave the context's scope; what remains of the block's exception, ``None`` when nothing does.

    An exception that only carries this context's own remote error counts as none: that error is raised (or
    absorbed) as the end of the dialog.
    """
    left = exc
    try:
        if ctx._scope.__exit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None):
            ctx._unwound = exc is not None
            left = None
    except BaseException as remaining:
        left = remaining
    if left is not None and _is_own_end(left, ctx):
        return None
    return left


def _is_own_end(exc: BaseException, ctx: Context) -> bool:
    """Whether ``exc`` is nothing but the context's remote error, maybe in groups."""
    own = (ctx._remote_error, ctx._overrun)
    if isinstance(exc, BaseExceptionGroup):
        return all(_is_own_end(e, ctx) for e in exc.exceptions)
    return any(exc is e for e in own if e is not None)
