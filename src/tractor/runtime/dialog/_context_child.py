"""The endpoint's task of a context: run it, tell the opener how it ended, acknowledge cancel requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import MessagingError, TransportClosed
from tractor._proto.dialog import Do, Event, Phase
from tractor.msg._boxing import pack_error
from tractor.msg._pld_rx import current_dialog
from tractor.msg.types import Return, Uid
from tractor.runtime.dialog._callee import (
    ctxc_error,
    is_only_cancelled,
    put_ack,
    put_error,
    put_return,
)
from tractor.runtime.dialog._caller import told_once
from tractor.runtime.dialog._context_core import ContextDialog
from tractor.trionics._masking import unmasked

if TYPE_CHECKING:
    from tractor.runtime.dialog._endpoints import Endpoint

log = _log.get_logger()

_CANCELLED = (Phase.UNWIND_PEER, Phase.UNWIND_SELF, Phase.UNWIND_ACTOR)


class ServedDialog(ContextDialog):
    """The child side's part of :class:`tractor.Context`."""

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

    async def serve(self, endpoint: Endpoint, given: msgspec.Raw) -> None:
        """Run the endpoint as this task, tell the opener how it ended, acknowledge cancel requests."""
        self._task = trio.lowlevel.current_task()
        current_dialog.set(self)
        transport = self._chan.transport
        try:
            with self._scope:
                try:
                    if transport.unsent > transport.hold_above:
                        await transport.wait_drained()
                    kwargs = endpoint.arguments(given, self._cid)
                    del given
                    value = await endpoint.fn(**{str(endpoint.param): self}, **kwargs)
                    self._actor.end_if_copy()
                    if transport.unsent > transport.hold_above:
                        await transport.wait_drained()
                    self._report_return(value)
                except BaseException as exc:
                    self._actor.end_if_copy(exc)
                    hidden = unmasked(exc) if isinstance(exc, trio.Cancelled) else None
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
            if self._dialog.phase in _CANCELLED and is_only_cancelled(exc):
                self._report_end(Event.CANCELLED)
                return
            await self._report_failure(told_once(exc) or exc)
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
        raw = self._checked(Return(self._cid, value), True, False)
        if self._dialog.phase is not Phase.UNWIND_LOST:
            put_return(self._chan, self._cid, raw, self._pld_rx.encoder)
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
