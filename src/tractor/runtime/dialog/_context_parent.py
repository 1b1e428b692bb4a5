"""The block of ``Portal.open_context()``: the opener's side of a context from its request to its end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic

import trio

from tractor import log as _log
from tractor._errors import (
    ContextCancelled,
    MsgTypeError,
    StreamOverrun,
    TransportClosed,
)
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor._proto.dialog import ContextState, Do, Event, Phase
from tractor._util._caller import find_caller
from tractor._util._which_scope import which_scope
from tractor.ipc._chan import Channel
from tractor.msg.types import Started
from tractor.runtime.dialog._caller import canceller_of, explain_loss, put_start
from tractor.runtime.dialog._context import Context, ipc_ctx
from tractor.runtime.dialog._generics import FirstT, RecvT, ResultT, SendT
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._targets import Target
from tractor.transport._stream import HIGH_WATER
from tractor.trionics._groups import is_multi_cancelled, leaves
from tractor.trionics._ki import ki_protected

REASON_TIMEOUT = 3.0
"""Seconds to wait for the error of a peer that has cancelled others: it takes them down first."""

log = _log.get_logger()

PATIENCE = 5.0
"""Seconds after which a block that was left, and waits for the remote task, logs what it waits for."""


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
        self._portal = portal
        self._where = (target.ns, target.name)
        self._endpoint = target.endpoint
        self._allow_overruns = allow_overruns
        self._kwargs = kwargs
        self._ctx: Context[FirstT, SendT, RecvT, ResultT] | None = None
        self._token: Any = None
        # Of `Portal.open_context()`.
        self._caller = find_caller(2)

    async def __aenter__(self) -> tuple[Context[FirstT, SendT, RecvT, ResultT], FirstT]:
        chan, actor = self._chan, self._actor
        if chan.aid is not None and chan.aid.uuid == actor.aid.uuid:
            raise RuntimeError("Invalid Operation: an actor can't open a context to itself")
        ns, name = self._where
        ctx = self._ctx = Context(
            actor, chan, chan.new_cid(), "parent", self._endpoint, self._portal
        )
        ctx._task = trio.lowlevel.current_task()
        ctx._caller = self._caller
        declared = self._endpoint.pld_dec
        shown = None if declared is None else declared.spec_str
        enc = ctx.pld_rx.encoder
        try:
            put_start(chan, ctx.cid, ns, name, self._kwargs, "context", shown, enc, self._endpoint)
        except TransportClosed as exc:
            await explain_loss(chan, exc, ctx.repr_rpc)
            raise
        chan.opened += 1
        if self._allow_overruns is not None:
            ctx._be_strict(self._allow_overruns)
        try:
            await self._wait_started(ctx)
            first: FirstT = ctx._decode_payload(Started, ctx._started_msg.pld)
        except BaseException as exc:
            try:
                # A decoding hook may raise what is no `Exception`: nobody will ever enter the block then, either.
                if isinstance(exc, MsgTypeError) or ctx._dialog.phase is Phase.RUN:
                    await _stop_endpoint(ctx)
            finally:
                chan.dialogs.pop(ctx.cid, None)
                chan.note_closed()
            raise
        self._token = ipc_ctx.set(ctx)
        ctx._scope.__enter__()
        return ctx, first

    async def _wait_started(self, ctx: Context) -> None:
        dialog = ctx._dialog
        try:
            if ctx._chan.transport.unsent > HIGH_WATER:
                await ctx._chan.transport.wait_below_mark()
            while dialog.phase is Phase.REQ:
                await ctx._waiting.park()
        except (trio.Cancelled, KeyboardInterrupt) as exc:
            _say_cancelled(ctx, "its opener, which waits for `started()`,", exc)
            await _stop_remote(ctx, Event.INTERRUPTED)
            _raise_real_error(ctx, exc)
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
            ctx._chan.dialogs.pop(ctx.cid, None)
            ctx._chan.note_closed()

    async def _finish(self, ctx: Context) -> None:
        """The block was left without an error of its own: wait for the end, raise what it brought."""
        dialog = ctx._dialog
        if not dialog.ended:
            dialog.handle(Event.LEFT)
            ctx._tell_abandoned()
            # Nobody will read these any more; a peer that waits for their credit must go on.
            ctx._port.drop_buffer()
            try:
                await ctx._wait_end(PATIENCE)
            except (trio.Cancelled, KeyboardInterrupt) as exc:
                _say_cancelled(ctx, "its opener, which waits for its end,", exc)
                await _stop_remote(ctx, Event.INTERRUPTED)
                _raise_real_error(ctx, exc)
                raise
        elif ctx._remote_error is not None:
            # It is what has happened, whatever cancels this block by now.
            await trio.lowlevel.cancel_shielded_checkpoint()
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
        if ctx.pld_rx.fixed_decode is not None or self._endpoint.conversions.result is not None:
            ctx._take_result()

    async def _abort(self, ctx: Context, exc: BaseException) -> None:
        """The block was cancelled from outside, or failed: stop the remote task, wait for it, bounded."""
        cancelled = is_multi_cancelled(exc)
        # The nursery of a peer that has died cancels the block, too; the loss was first, and is what happened.
        was_lost = ctx._dialog.end is ContextState.PEER_LOST
        if not cancelled:
            ctx._local_error = exc
        else:
            _say_cancelled(ctx, "its local block")
        # The peer may have cancelled others because it fails: what it fails with says more, and comes later.
        is_told = not cancelled and _is_told_by(ctx, exc)
        event = Event.INTERRUPTED if cancelled else Event.RAISED
        await _stop_remote(ctx, event, REASON_TIMEOUT if is_told else CANCEL_TIMEOUT)
        if cancelled:
            _raise_real_error(ctx, exc, was_lost)
        elif is_told and not isinstance(ctx._remote_error, ContextCancelled):
            ctx.maybe_raise()


def _say_cancelled(ctx: Context, what: str, exc: BaseException | None = None) -> None:
    """Log which scope around it has cancelled the calling task."""
    if log.isEnabledFor(_log.level_value("cancel")) and not isinstance(exc, KeyboardInterrupt):
        known = {id(ctx._actor.main_scope): "the end of this actor"}
        log.cancel("%s: %s was cancelled by %s", ctx.repr_rpc, what, which_scope(known))


def _raise_real_error(ctx: Context, exc: BaseException, was_lost: bool = False) -> None:
    """Raise the remote task's own error, which wins over a cancellation of the block; nothing wins over a ctrl-c.

    Args:
        was_lost: the peer was lost before the block was cancelled.
    """
    failed = ctx._dialog.end is ContextState.ERRORED or was_lost
    if failed and not isinstance(exc, KeyboardInterrupt):
        ctx.maybe_raise()


def _is_told_by(ctx: Context, exc: BaseException) -> bool:
    """Whether a block's error is nothing but cancellations that this context's own peer has asked for."""
    peer = ctx._chan.aid.uid if ctx._chan.aid is not None else None
    return all(
        isinstance(one, trio.Cancelled)
        or (isinstance(one, ContextCancelled) and canceller_of(one) == peer)
        for one in leaves(exc)
    )


async def _stop_remote(ctx: Context, event: Event, limit: float = CANCEL_TIMEOUT) -> None:
    """Ask for the remote task's cancellation because the local block ended; wait, bounded, for its end."""
    dialog = ctx._dialog
    was_over = dialog.ended
    todo = dialog.handle(event)
    if Do.SEND_CANCEL in todo:
        ctx._cancel_called = True
        if not was_over:
            ctx._canceller = ctx._chan.local_uid
        if ctx._chan.connected():
            ctx.request_cancel()
    if Do.WAIT_ACK in todo:
        await ctx._wait_ack(limit)
        if not dialog.ended:
            dialog.handle(Event.SETTLED)
    else:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _stop_endpoint(ctx: Context) -> None:
    """Cancel the remote task of a dialog that is over here already; wait, bounded, for the acknowledgment."""
    pending = ctx.request_cancel()
    if pending is not None:
        with trio.move_on_after(CANCEL_TIMEOUT, shield=True) as bound:
            await pending.wait()
        if bound.cancelled_caught:
            log.warning(
                "%s did not acknowledge its cancellation within %s s", ctx.repr_rpc, CANCEL_TIMEOUT
            )


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
