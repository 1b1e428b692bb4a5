"""The endpoint's side of a context: its task, and what the opener may do to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import MessagingError, TransportClosed
from tractor._proto.dialog.context import DialogDo, DialogEvent, DialogPhase
from tractor.ipc._chan import Channel
from tractor.msg._boxing import pack_error
from tractor.msg._payload import unencodable_error
from tractor.msg._pld_rx import current_dialog
from tractor.msg.types import Error, Return, Started, Uid
from tractor.runtime.dialog._callee import ServedTask, cancel_report, put_error, put_return
from tractor.runtime.dialog._caller import boxed, lost
from tractor.runtime.dialog._context_core import ContextCore
from tractor.runtime.dialog._endpoints import Endpoint
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort

log = _log.get_logger()

_CANCELLED = (DialogPhase.UNWIND_PEER, DialogPhase.UNWIND_SELF, DialogPhase.UNWIND_ACTOR)


class ServedContext(ContextCore, ServedTask):
    """The core of a context in the actor that serves it; :meth:`run` is its task.

    Args:
        actor: this process's.
        chan: the channel to the opener.
        cid: the dialog.
        given: the endpoint's arguments, undecoded.
        endpoint: the endpoint.
        face: makes the :class:`tractor.Context` that the endpoint gets.
    """

    def __init__(
        self,
        actor: Host,
        chan: Channel,
        cid: int,
        given: msgspec.Raw,
        endpoint: Endpoint,
        face: Callable[[ContextCore], Any],
    ) -> None:
        ContextCore.__init__(self, actor, chan, cid, "child", endpoint)
        self.given = given
        self.turn = 0
        self._acks = []
        self.told = None
        self._face = face
        chan.open(self, cid)
        actor.note_serving(self)

    # -- its task -------------------------------------------------------------------------------------

    def begin(self) -> Awaitable[Any]:
        self.task = trio.lowlevel.current_task()
        ctx = self._face(self)
        current_dialog.set(ctx)
        endpoint = self.endpoint
        return endpoint.fn(**{str(endpoint.param): ctx}, **self.arguments())  # type: ignore[no-any-return]

    def conclude(self, value: Any) -> None:
        dialog = self.dialog
        if not dialog.started and dialog.phase not in (
            DialogPhase.UNWIND_PEER,
            DialogPhase.UNWIND_ERROR,
            DialogPhase.UNWIND_LOST,
        ):
            raise MessagingError(f"{self.repr_rpc} returned without `started()` being called")
        raw = self.checked(Return(self.cid, value), True, False)
        # Only then: what can't be encoded is the endpoint's failure.
        if dialog.phase is not DialogPhase.UNWIND_LOST:
            put_return(self.chan, self.cid, raw, self.rx.encoder)
        dialog.handle(DialogEvent.RETURNED)
        self.result, self.returned = value, msgspec.Raw()

    async def started(self, value: Any, validate: bool, parity: bool, hide_tb: bool) -> None:
        """See :meth:`tractor.Context.started`."""
        __tracebackhide__ = hide_tb
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.dialog.phase is not DialogPhase.SCHED:
            raise RuntimeError(
                f"`started()` can be called once, before the end; {self.repr_rpc} is {self.state}"
            )
        raw = self.checked(Started(self.cid, value), validate, parity)
        transport = self.chan.transport
        try:
            transport.put_now(Started(self.cid, raw), self.rx.encoder)
        except TypeError as exc:
            raise unencodable_error(value, "Started", exc, cid=self.cid) from exc
        self.dialog.handle(DialogEvent.START)
        if self.told is not None:
            self.told.started()
        if transport.unsent:
            await transport.wait_written()

    @property
    def stream_port(self) -> StreamPort:
        return self.port

    def was_cancelled(self) -> bool:
        """Whether somebody has asked for the cancellation, and nothing else had begun to unwind it before."""
        return self.dialog.phase in _CANCELLED

    async def report_error(self, exc: BaseException) -> None:
        if self.dialog.ended:
            return
        self.local_error = exc
        if exc is not self.remote_error and not isinstance(exc, TransportClosed):
            await self.actor.hooks.on_crash(exc)
        if DialogDo.SEND_ERROR in self.dialog.handle(DialogEvent.FAILED):
            self.actor.errors_total += 1
            log.runtime("%s raised %r", self.repr_rpc, exc)
            put_error(self.chan, pack_error(exc, self.cid, self.chan.local_uid))
        else:
            log.cancel("%s failed after its peer was lost: %r", self.repr_rpc, exc)

    def _report_cancel(self) -> None:
        """Tell the opener that the task was cancelled, or why."""
        if self.dialog.ended:
            return
        chan = self.chan
        for do in self.dialog.handle(DialogEvent.CANCELLED):
            if do is DialogDo.SEND_CTXC:
                canceller = self.canceller or chan.local_uid
                log.cancel("%s was cancelled by %s", self.repr_rpc, canceller)
                put_error(
                    chan, cancel_report(self.actor, chan, self.cid, canceller, self.endpoint.name)
                )
            elif do is DialogDo.SEND_ERROR:
                assert self.remote_error is not None
                put_error(chan, pack_error(self.remote_error, self.cid, chan.local_uid))

    # -- what may end it ------------------------------------------------------------------------------

    def take_cancel(
        self, canceller: Uid, ack_cid: int | None = None, by_actor: bool = False
    ) -> None:
        """As :meth:`ServedTask.take_cancel`."""
        if ack_cid is not None:
            self._acks.append(ack_cid)
        self._unwind(
            DialogEvent.ACTOR_CANCEL if by_actor else DialogEvent.CANCEL_REQUEST, canceller
        )

    async def cancel(self, timeout: float) -> None:
        """The task cancels itself."""
        self._unwind(DialogEvent.CANCEL, self.chan.local_uid)
        await trio.lowlevel.checkpoint()

    def on_error(self, msg: Error) -> None:
        """The opener reports an overrun or a bad payload."""
        if self.dialog.ended:
            self.chan.late_messages += 1
            return
        error = boxed(msg, self.chan, self.actor, self.caller)
        self._unwind(DialogEvent.ERROR, msg.src_uid, error)

    def on_lost(self, exc: TransportClosed) -> None:
        error = lost(self.chan, self.repr_rpc, exc)
        self._unwind(DialogEvent.LOST, self.peer_uid, error)

    def break_off(self, error: BaseException) -> None:
        """Fail the task, which tells the opener."""
        self._unwind(DialogEvent.ERROR, self.peer_uid, error)

    def _unwind(
        self, event: DialogEvent, canceller: Uid, error: BaseException | None = None
    ) -> None:
        """Cancel the task, unless it is unwound already; the first canceller, and the first error, stay."""
        todo = self.dialog.handle(event)
        if DialogDo.SET_ERROR in todo:
            assert error is not None
            self.remote_error = error
            self.port.fail(error)
        if DialogDo.CANCEL_BLOCK in todo:
            self.canceller = self.canceller or canceller
            self.scope.cancel()
            if event is DialogEvent.ERROR:
                self.actor.note_reset(self, self.cid)

    def check_may_stream(self) -> None:
        """Raise RuntimeError before ``started()``; after the cancellation that, or the error that has caused it."""
        if DialogDo.REFUSE not in self.dialog.handle(DialogEvent.OPEN):
            return
        if self.remote_error is not None:
            raise self.remote_error
        raise RuntimeError(
            f"the stream of {self.repr_rpc} can't be opened while it is {self.state}; "
            "call `await ctx.started()` first"
            if self.dialog.phase is DialogPhase.SCHED
            else f"the stream of {self.repr_rpc} can't be opened: it was cancelled by {self.canceller}"
        )
