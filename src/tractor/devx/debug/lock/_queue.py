"""The way to the terminal: in the root its lock, elsewhere the way to the parent."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tractor import log as _log
from tractor._errors import DebugRequestError, TransportClosed
from tractor._proto.repl_lock import LockDo, LockEvent, TerminalLock
from tractor.devx.debug.lock._request import Ask, UpRequest
from tractor.devx.debug.lock._status import BLOCKED
from tractor.devx.debug.lock._terminal import TerminalState, has_terminal
from tractor.msg.types import Uid
from tractor.runtime._vars import debug_mode

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

log = _log.get_logger()

HOLDS_KEPT = 32
"""How many past times of use the root remembers, for actors that ask late whether a ctrl-c was meant for them."""

SIGINT_LATENESS = 10.0
"""Seconds by which a ctrl-c that reaches all processes of a terminal may be seen later by one than by the root."""


class TerminalQueue:
    """The requests for the terminal that this actor knows of: its own, and those from below.

    Called in the actor's trio thread only; nothing here waits.

    Args:
        actor: this actor.
        on_change: called when a request has come or gone.

    Attributes:
        asks: the requests that are granted or wait, in the order of asking.
        granted: the one of these that has the terminal.
        lock: the tree's lock, in the root.
    """

    def __init__(self, actor: Actor, on_change: Callable[[], None]) -> None:
        self._actor = actor
        self._on_change = on_change
        self.asks: list[Ask] = []
        self.granted: Ask | None = None
        self.lock: TerminalLock[Ask] | None = None
        if actor.parent_chan is None:
            self.lock = TerminalLock()
        self._modes: TerminalState | None = None
        self._since: float | None = None
        self._holds: deque[tuple[float, float]] = deque(maxlen=HOLDS_KEPT)
        self._ignored = -math.inf

    def holding(self) -> list[Ask]:
        """The requests for which an end is put off: all in debug mode, else what somebody at a terminal looks at.

        A subactor that was not armed could keep its supervisor for ever by a request that nobody knows of.
        """
        everybody = debug_mode()
        return [ask for ask in self.asks if everybody or ask.chan is None or self._counts(ask)]

    def _counts(self, ask: Ask) -> bool:
        assert ask.chan is not None
        child = self._actor.child_at(ask.chan)
        if child is not None and child.armed:
            return True
        return ask is self.granted and has_terminal()

    def holding_none_of(self, asks: Iterable[Ask]) -> bool:
        """Whether none of these requests is one of :meth:`holding` any more."""
        return set(asks).isdisjoint(self.holding())

    def holding_below(self, uid: Uid | None = None) -> list[Ask]:
        """Those of :meth:`holding` that have come from the child ``uid`` (default: any)."""
        return [
            ask
            for ask in self.holding()
            if ask.chan is not None
            and (uid is None or (ask.chan.aid is not None and ask.chan.aid.uid == uid))
        ]

    def ask(self, ask: Ask) -> None:
        """Take a request: sooner or later, maybe before this returns, it is granted or refused."""
        self.asks.append(ask)
        self._on_change()
        if self.lock is None:
            self._ask_parent(ask)
            return
        self.lock.closing = self._actor.cancel_called
        event = LockEvent.ROOT_ASKS if ask.chan is None else LockEvent.CHILD_ASKS
        do = self.lock.handle(event, ask).do
        if do is LockDo.GRANT:
            self._modes = TerminalState.save()
            self._since = time.monotonic()
            self._grant(ask)
        elif do is LockDo.REFUSE:
            text = f"{BLOCKED} {ask.uid}: the root is shutting down"
            log.pdb("%s", text)
            self.refuse(ask, DebugRequestError(text))

    def _ask_parent(self, ask: Ask) -> None:
        parent = self._actor.parent_chan
        assert parent is not None
        try:
            ask.up = UpRequest(parent, ask, self.refuse, self._grant)
        except TransportClosed as exc:
            self.refuse(ask, DebugRequestError(f"the terminal can't be asked for: {exc}"))

    def _grant(self, ask: Ask) -> None:
        self.granted = ask
        ask.on_granted()

    def refuse(self, ask: Ask, exc: DebugRequestError) -> None:
        """A request has failed, maybe after it was granted."""
        self._drop(ask)
        ask.on_refused(exc)

    def leave(self, ask: Ask, lost: bool) -> None:
        """A requester is done, or gone; the terminal goes to the next one.  Idempotent.

        Args:
            ask: its request.
            lost: its channel is gone, or it failed.
        """
        if ask not in self.asks:
            return
        if self.lock is None:
            self._drop(ask)
            if ask.up is not None:
                ask.up.release()
            return
        if self.lock.holder is not ask:
            self.lock.handle(LockEvent.WITHDRAWN, ask)
            self._drop(ask)
            ask.on_returned()
            return
        if ask.chan is not None and self._modes is not None:
            # It may have died in the middle of a line; from far below its loss is told as a release.
            self._modes.restore()
        event = LockEvent.LOST if lost and ask.chan is not None else LockEvent.RELEASED
        step = self.lock.handle(event, ask)
        self._drop(ask)
        ask.on_returned()
        if step.do is LockDo.GRANT:
            assert step.key is not None
            self._grant(step.key)
        elif self._since is not None:
            self._holds.append((self._since, time.monotonic()))
            self._since = None

    def _drop(self, ask: Ask) -> None:
        if ask in self.asks:
            self.asks.remove(ask)
        if self.granted is ask:
            self.granted = None
        self._on_change()

    # -- for ctrl-c and for users --------------------------------------------------------------------

    def note_ignored_ctrl_c(self) -> None:
        """In the root: a ctrl-c came now that was not meant for the tree."""
        self._ignored = time.monotonic()

    def was_held(self, since: float, at: float) -> bool:
        """In the root: whether a ctrl-c that another actor saw between two times of the monotonic clock is not for it.

        The REPL is, or was then, in use; or the root itself had that ctrl-c and ignored it: on a machine that is busy
        the other one may have seen it when the user had left the prompt.
        """
        if self._since is not None or self._ignored >= since - SIGINT_LATENESS:
            return True
        return any(start <= at and since <= end for start, end in self._holds)

    def holder_connected(self) -> bool:
        """Whether the channel of who has the terminal is open; so it is if this actor itself has it."""
        ask = self.granted
        return ask is None or ask.chan is None or ask.chan.connected()

    def waiting(self) -> list[Ask]:
        """Who waits for the terminal, as far as known here, the next one first."""
        asks = self.lock.waiting if self.lock is not None else self.asks
        return [ask for ask in asks if ask is not self.granted]
