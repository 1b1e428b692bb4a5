"""What a peer may ask for at a time: requests that are begun, kept, refused, or too many.

Theory of operation.  The end of a dialog is put without waiting, so that nothing can keep it from being told.  Its
memory is bounded elsewhere: a peer that does not take its replies gets no new request begun.  Requests that arrive
meanwhile are kept, undecoded, and everything else is still read: two actors that both stand at this limit therefore
never wait for each other.  When half has been sent the kept ones are begun, in order.  Those that were begun together,
before any of them had replied, wait in their own tasks (``FrameSender.wait_drained``): before the endpoint runs, and
with its value.  A cancellation, or the end of the channel, ends that wait as it ends the endpoint.

A peer knows from the handshake how many dialogs are served for it at a time, and holds back its own calls beyond
that.  So a refusal (:class:`~tractor.ActorBusy`) meets those that can't wait, and peers that don't keep to it.

All is called by the channel's reader or its flusher, between two awaits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from traceback import format_exception_only

from tractor import log as _log
from tractor._errors import ActorBusy, MessagingError, TransportClosed
from tractor._proto.limits import Limits, RateLimit
from tractor.ipc._chan import Channel
from tractor.msg._boxing import pack_error
from tractor.msg.types import Request, Uid
from tractor.runtime.dialog._callee import put_error

log = _log.get_logger()


class Intake:
    """The requests of one channel's peer.

    Args:
        chan: the channel.
        limits: the numbers.
        begin: begins to serve a request.
        note: counts a limit that was reached, by its name.

    Attributes:
        serving: dialogs that are served for this peer now.
        turn: counts the turns that the channel's reader has had.
    """

    __slots__ = (
        "_begin",
        "_chan",
        "_kept",
        "_limits",
        "_note",
        "_refused",
        "_said",
        "serving",
        "turn",
    )

    def __init__(
        self,
        chan: Channel,
        limits: Limits,
        begin: Callable[[Request], None],
        note: Callable[[str], None],
    ) -> None:
        self._chan = chan
        self._limits = limits
        self._begin = begin
        self._note = note
        self._refused = RateLimit(limits.max_refused)
        self._kept: deque[Request] = deque()
        self._said: set[str] = set()
        self.serving = 0
        self.turn = 0
        transport = chan.transport
        transport.drain_mark = limits.max_unsent // 2
        transport.hold_above = limits.max_unsent
        transport.on_drained = self._resume
        transport.abort_above = 4 * limits.max_unsent

    def take(self, msg: Request, total: int) -> None:
        """Begin a request, keep it, or refuse it; ``total`` dialogs are served in the whole actor.

        Raises:
            TransportClosed: the peer has had too many refused.
        """
        limits = self._limits
        if self._kept or self._chan.transport.unsent > limits.max_unsent:
            self.reached("max_unsent")
            if len(self._kept) < limits.max_served:
                self._kept.append(msg)
                self._chan.transport.drain_is_awaited = True
            else:
                self.busy(msg, "it keeps requests until this peer has taken its replies")
        elif self.serving >= limits.max_served:
            self.reached("max_served")
            self.busy(msg, f"it serves {self.serving} dialogs for this peer already")
        elif total >= limits.max_served_total:
            self.reached("max_served_total")
            self.busy(msg, f"it serves {total} dialogs already")
        else:
            self._begin(msg)

    def drop_kept(self, cid: int) -> bool:
        """Forget a request that is kept; whether it was."""
        for msg in self._kept:
            if msg.cid == cid:
                self._kept.remove(msg)
                return True
        return False

    def refuse(self, cid: int, exc: Exception, own: Uid) -> None:
        """Answer a request by an error of its own, without a traceback of the runtime.

        Raises:
            TransportClosed: these are too many.
        """
        self.count_refused(cid)
        text = "".join(format_exception_only(exc))
        put_error(self._chan, pack_error(exc, cid, own, tb_str=text))

    def count_refused(self, cid: int) -> None:
        """Count a request that was refused, or reset in the turn that began it; ``cid``: where to tell its peer.

        Raises:
            TransportClosed: these are too many.
        """
        if self._refused.count(monotonic()):
            return
        self.reached("max_refused")
        error = MessagingError(
            f"{self._chan.peer} had more than {self._limits.max_refused} requests refused or reset within a second;"
            " its channel is closed"
        )
        put_error(self._chan, pack_error(error, cid, self._chan.local_uid))
        self._chan.transport.write_now()
        raise TransportClosed(str(error), src_exc=error)

    def reached(self, limit: str) -> None:
        """Count that a limit was reached; the first time on this channel it is logged."""
        self._note(limit)
        if limit not in self._said:
            self._said.add(limit)
            value = getattr(self._limits, limit)
            log.warning("%s has reached the limit %s=%s", self._chan.peer, limit, value)

    def busy(self, msg: Request, why: str) -> None:
        """Answer a request that is not begun, and say why."""
        exc = ActorBusy(
            f"{msg.ns}:{msg.func} was not begun: {why}; nothing of it ran, try again later"
        )
        error = pack_error(exc, msg.cid, self._chan.local_uid, tb_str=str(exc))
        # No source: by that its receiver knows that no task of that actor has raised it.
        error.relay_path = []
        put_error(self._chan, error)

    def _resume(self) -> None:
        """Half of the replies has left: begin what was kept."""
        kept, transport, limits = self._kept, self._chan.transport, self._limits
        while kept and transport.unsent <= limits.max_unsent and self.serving < limits.max_served:
            self._begin(kept.popleft())
        if kept:
            transport.drain_is_awaited = True

    def ended(self) -> None:
        """A dialog that was served for this peer has ended."""
        self.serving -= 1
        if self._kept:
            self._resume()
