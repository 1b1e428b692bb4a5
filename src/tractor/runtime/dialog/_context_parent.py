"""The opener's side of a context: from its request to the end of its block."""

from __future__ import annotations

import itertools
import math
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import ContextCancelled, MsgTypeError, StreamOverrun, TransportClosed
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor._proto.dialog.context import (
    ContextState,
    DialogDo,
    DialogEvent,
    DialogPhase,
    StreamState,
)
from tractor._util._caller import Caller
from tractor._util._which_scope import which_scope
from tractor.ipc._chan import Channel
from tractor.msg.types import Error, Return, Started, Yield
from tractor.runtime.dialog._caller import (
    came_in_time,
    canceller_of,
    ended_by,
    explain_loss,
    lost,
    put_start,
    request_cancel,
)
from tractor.runtime.dialog._context_core import ContextCore
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._targets import Target
from tractor.runtime.dialog._telling import ToldDialog, told_call
from tractor.runtime.seen._told import TOLD
from tractor.transport._stream import HIGH_WATER
from tractor.trionics._groups import is_multi_cancelled, leaves

REASON_TIMEOUT = 3.0
"""Seconds to wait for the error of a peer that has cancelled others: it takes them down first."""

log = _log.get_logger()

PATIENCE = 5.0
"""Seconds after which a block that was left, and waits for the remote task, logs what it waits for."""

_ASKED = (DialogPhase.CXL, DialogPhase.FAIL, DialogPhase.STOP)


class ParentContext(ContextCore):
    """The core of a context in the actor that has opened it."""

    started_msg: Started[Any] | None = None
    """What has begun the block."""
    result_waiters = 0
    """Tasks that wait for the result while no stream is open here: what comes beyond the window is discarded."""

    def __init__(self, actor: Host, chan: Channel, target: Target, caller: Caller | None) -> None:
        super().__init__(actor, chan, chan.open(self), "parent", target.endpoint)
        self.target = target
        self.caller = caller
        self.told: ToldDialog | None = None
        self.task = trio.lowlevel.current_task()

    # -- the channel's side ---------------------------------------------------------------------------

    def on_started(self, msg: Started[Any]) -> None:
        if self.dialog.phase is DialogPhase.REQ:
            self.started_msg = msg
        self._on_wire(DialogEvent.STARTED, msg)

    def on_error(self, msg: Error) -> None:
        dialog = self.dialog
        if dialog.ended:
            self.chan.late_messages += 1
            return
        exc = ended_by(msg, self.chan, self.actor, self.caller)
        event = DialogEvent.ERROR
        if isinstance(exc, ContextCancelled):
            own = self.chan.local_uid
            asked = dialog.phase in _ASKED and msg.canceller == own
            event = DialogEvent.CTXC_OWN if asked else DialogEvent.CTXC_OTHER
            self.canceller = own if msg.canceller == own else msg.sender or msg.src_uid
        elif dialog.phase not in (DialogPhase.FAIL, DialogPhase.STOP):
            self.canceller = msg.src_uid
        self._on_wire(event, msg, exc)

    def on_lost(self, exc: TransportClosed) -> None:
        self._on_wire(DialogEvent.LOST, None, lost(self.chan, self.repr_rpc, exc))

    def break_off(self, error: BaseException) -> None:
        """End the dialog here, and have the remote task cancelled."""
        self.remote_error = error
        self.dialog.break_off()
        request_cancel(self.chan, self.cid)
        self.port.fail(error)
        self.scope.cancel()
        self.waiting.wake_all()

    def check_may_stream(self) -> None:
        """Raise RuntimeError after ``cancel()`` while no report has come, or the error that has ended the context."""
        if self.dialog.phase is DialogPhase.CXL:
            raise RuntimeError(
                f"{self.repr_rpc} was cancelled by this side; its stream can't be opened now"
            )
        if self.remote_error is not None:
            raise self.remote_error

    # -- the block ------------------------------------------------------------------------------------

    async def enter(self, kwargs: dict[str, Any], allow_overruns: bool | None) -> Any:
        """Have the endpoint begin, wait for its first value, and enter the scope of the block; the value."""
        chan, endpoint = self.chan, self.endpoint
        declared = endpoint.pld_dec
        shown = None if declared is None else declared.spec_str
        ns, name, enc = self.target.ns, self.target.name, self.rx.encoder
        if TOLD.dialogs:
            self.told = told_call(chan, self.cid, ns, endpoint.name, Kind.CONTEXT)
        headers = None if self.told is None else self.told.headers
        try:
            put_start(chan, self.cid, ns, name, kwargs, "context", shown, enc, endpoint, headers)
        except BaseException as exc:
            if isinstance(exc, TransportClosed):
                await explain_loss(chan, exc, self.repr_rpc)
            self._tell_end(exc)
            raise
        chan.opened += 1
        if allow_overruns is not None:
            self.be_strict(allow_overruns)
        try:
            await self._wait_started()
            assert self.started_msg is not None
            first = self.decode_payload(Started, self.started_msg.pld)
        except BaseException as exc:
            try:
                # A decoding hook may raise what is not an `Exception`: nobody will ever enter the block then, either.
                if isinstance(exc, MsgTypeError) or self.dialog.phase is DialogPhase.RUN:
                    await self._stop_endpoint()
            finally:
                chan.forget(self.cid)
                chan.note_closed()
                self._tell_end(exc)
            raise
        self.scope.__enter__()
        if self.told is not None:
            self.told.started()
        return first

    def _tell_end(self, exc: BaseException | None) -> None:
        """Tell instruments how it has ended; ``exc``: what the block, or the way into it, has raised."""
        if self.told is not None:
            end = self.dialog.end
            error = self.remote_error or self.local_error
            if error is None and end is not ContextState.RESULT_RETURNED:
                error = exc
            self.told.end_opened(self.port, end, error)

    async def _wait_started(self) -> None:
        dialog, transport = self.dialog, self.chan.transport
        try:
            if transport.unsent > HIGH_WATER:
                await transport.wait_below_mark()
            while dialog.phase is DialogPhase.REQ:
                await self.waiting.park()
        except (trio.Cancelled, KeyboardInterrupt) as exc:
            await self._interrupted("its opener, which waits for `started()`,", exc)
            raise
        if dialog.ended and self.started_msg is None:
            # An end that came in the same chunk as the first value belongs to the block, which it unwinds.
            self.maybe_raise()

    async def leave(self, exc: BaseException | None) -> bool:
        """The block has ended: wait for the end of the dialog; whether ``exc`` is settled by that."""
        try:
            left = self._close_scope(exc)
            if left is None:
                await self._finish()
                return True
            await self._abort(left)
            if left is exc:
                return False
            raise left
        finally:
            self.port.close()
            self.chan.forget(self.cid)
            self.chan.note_closed()
            self._tell_end(exc)

    def _close_scope(self, exc: BaseException | None) -> BaseException | None:
        """Leave the context's scope; what remains of the block's exception, ``None`` when nothing does.

        An exception that only carries this context's own remote error counts as none: that error is raised (or
        absorbed) as the end of the dialog.
        """
        left = exc
        try:
            if self.scope.__exit__(
                type(exc) if exc else None, exc, exc.__traceback__ if exc else None
            ):
                left = None
        except BaseException as remaining:
            left = remaining
        return None if left is not None and self._is_own_end(left) else left

    def _is_own_end(self, exc: BaseException) -> bool:
        """Whether ``exc`` is nothing but the context's remote error, maybe in groups."""
        if isinstance(exc, BaseExceptionGroup):
            return all(map(self._is_own_end, exc.exceptions))
        return exc is self.remote_error or exc is self.overrun

    async def _finish(self) -> None:
        """The block was left without an error of its own: wait for the end, raise what it brought."""
        dialog = self.dialog
        if not dialog.ended:
            dialog.handle(DialogEvent.LEFT)
            self.tell_abandoned()
            # Nobody will read these any more; a peer that waits for their credit must go on.
            self.port.drop_buffer()
            try:
                await self.wait_end(PATIENCE)
            except (trio.Cancelled, KeyboardInterrupt) as exc:
                await self._interrupted("its opener, which waits for its end,", exc)
                raise
        elif self.remote_error is not None:
            # It is what has happened, whatever cancels this block by now.
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await trio.lowlevel.checkpoint()
        error = self.remote_error
        if dialog.end is ContextState.SELF_CANCELLED:
            log.cancel("%s ended cancelled, as asked", self.repr_rpc)
            return
        if isinstance(error, (StreamOverrun, MsgTypeError)):
            # Such a report may come from an endpoint that goes on: it must not outlive the block.
            await self._stop_endpoint()
        error = error or self.overrun
        if error is not None:
            # Without the cancellation of the block, which it has caused: that says nothing more.
            raise error from error.__cause__
        if self.rx.fixed_decode is not None or self.endpoint.conversions.result is not None:
            self.take_result()

    async def _abort(self, exc: BaseException) -> None:
        """The block was cancelled from outside, or failed: stop the remote task, wait for it, bounded."""
        if is_multi_cancelled(exc):
            await self._interrupted("its local block", exc)
            return
        self.local_error = exc
        # The peer may have cancelled others because it fails: what it fails with says more, and comes later.
        is_told = self._is_told_by(exc)
        await self._stop_remote(DialogEvent.RAISED, REASON_TIMEOUT if is_told else CANCEL_TIMEOUT)
        if is_told and not isinstance(self.remote_error, ContextCancelled):
            self.maybe_raise()

    async def _interrupted(self, what: str, exc: BaseException) -> None:
        """The owner was cancelled, or got a ctrl-c: stop the remote task, raise its own error if it has one.

        That wins over a cancellation; nothing wins over a ctrl-c.
        """
        by_user = isinstance(exc, KeyboardInterrupt)
        if log.isEnabledFor(_log.level_value("cancel")) and not by_user:
            known = {id(self.actor.main_scope): "the end of this actor"}
            log.cancel("%s: %s was cancelled by %s", self.repr_rpc, what, which_scope(known))
        # The nursery of a peer that has died cancels the block, too; the loss was first, and is what happened.
        was_lost = self.dialog.end is ContextState.PEER_LOST
        await self._stop_remote(DialogEvent.INTERRUPTED, CANCEL_TIMEOUT)
        if (was_lost or self.dialog.end is ContextState.ERRORED) and not by_user:
            self.maybe_raise()

    def _is_told_by(self, exc: BaseException) -> bool:
        """Whether a block's error is nothing but cancellations that this context's own peer has asked for."""
        peer = self.chan.aid.uid if self.chan.aid is not None else None
        return all(
            isinstance(one, trio.Cancelled)
            or (isinstance(one, ContextCancelled) and canceller_of(one) == peer)
            for one in leaves(exc)
        )

    # -- cancellation ---------------------------------------------------------------------------------

    async def cancel(self, timeout: float) -> None:
        """Have the remote task cancelled, and wait for its end."""
        beside = trio.lowlevel.current_task() is not self.task
        todo = self.dialog.handle(DialogEvent.CANCEL_BESIDE if beside else DialogEvent.CANCEL)
        if DialogDo.SEND_CANCEL in todo:
            request_cancel(self.chan, self.cid)
        await self._wait_ack(timeout)

    async def _wait_ack(self, timeout: float) -> None:
        """Wait, bounded and shielded, for the end of the remote task."""
        await came_in_time(self._end, f"the end of {self.repr_rpc} in {self.chan.peer}", timeout)

    async def _end(self) -> None:
        while not self.dialog.ended:
            await self.waiting.park()

    async def _stop_remote(self, event: DialogEvent, limit: float) -> None:
        """Ask for the remote task's cancellation because the local block ended; wait, bounded, for its end."""
        dialog = self.dialog
        was_over = dialog.ended
        todo = dialog.handle(event)
        if DialogDo.SEND_CANCEL in todo:
            if not was_over:
                self.canceller = self.chan.local_uid
            if self.chan.connected():
                request_cancel(self.chan, self.cid)
        if DialogDo.WAIT_ACK in todo:
            await self._wait_ack(limit)
            if not dialog.ended:
                dialog.handle(DialogEvent.SETTLED)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _stop_endpoint(self) -> None:
        """Cancel the remote task of a dialog that is over here already; wait, bounded, for the acknowledgment."""
        pending = request_cancel(self.chan, self.cid)
        if pending is not None:
            await came_in_time(pending.wait, f"the acknowledgment of {self.repr_rpc}")

    # -- the end --------------------------------------------------------------------------------------

    async def wait_for_result(self, hide_tb: bool) -> Any:
        """See :meth:`tractor.Context.wait_for_result`."""
        __tracebackhide__ = hide_tb
        await self._wait_result()
        if self.dialog.end is ContextState.SELF_CANCELLED:
            return self.remote_error
        self.maybe_raise(hide_tb)
        if self.overrun is not None:
            raise self.overrun
        return self.take_result()

    async def _wait_result(self) -> None:
        """Wait for the end; a peer that streams to a side without a stream must come to its end, too."""
        self.tell_abandoned()
        port = self.port
        if self.dialog.stream is not StreamState.IDLE or port.recv.strict or self.dialog.ended:
            await self.wait_end()
            return
        self.result_waiters += 1
        if self.result_waiters == 1:
            port.begin_loss(True)
        try:
            await self.wait_end()
        finally:
            self.result_waiters -= 1
            if not self.result_waiters:
                port.begin_loss(False)

    async def wait_end(self, patience: float = math.inf) -> None:
        """Wait, without limit, for the end of the dialog; log it once if that takes more than ``patience`` seconds."""
        dialog = self.dialog
        owner = trio.lowlevel.current_task() is self.task
        try:
            dialog.owner_waits = dialog.owner_waits or owner
            if dialog.ended:
                await trio.lowlevel.checkpoint()
                return
            if patience < math.inf:
                with trio.move_on_after(patience) as scope:
                    await self._end()
                if scope.cancelled_caught:
                    log.warning(
                        "a block of `open_context()` was left %s s ago and waits for the end of %s in %s; "
                        "`await ctx.cancel()` would end it",
                        patience,
                        self.repr_rpc,
                        self.chan.peer,
                    )
            await self._end()
        finally:
            if owner:
                dialog.owner_waits = False

    async def drain(self, keep: int) -> tuple[Return[Any] | Error | None, list[Yield[Any]]]:
        """Discard what is streamed until the dialog's end; see ``tractor.msg.drain_to_final_msg()``."""
        self.tell_abandoned()
        port = self.port
        drained: list[Yield[Any]] = [
            Yield(self.cid, raw) for raw in itertools.islice(port.buffer, keep)
        ]
        port.drop_buffer()
        self.drained, self.drained_limit = drained, keep
        try:
            await self.wait_end()
        finally:
            self.drained = None
        return self.final_msg, drained
