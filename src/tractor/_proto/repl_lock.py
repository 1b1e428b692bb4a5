"""Who has the debugger's REPL: the terminal's lock, kept by the root, and each actor's own record.

The terminal has one lock for the whole tree.  First come, first served:

============  =============  =====================  ===========================================
event         free           held by the root       held by a child
============  =============  =====================  ===========================================
ROOT_ASKS     granted        waits                  waits
CHILD_ASKS    granted        waits                  waits
RELEASED                     next waiter, or free   next waiter, or free
LOST                                                next waiter, or free
WITHDRAWN                    leaves the queue       leaves the queue
SIGINT        as ever        ignored, redrawn       ignored; a holder that is gone is cancelled
============  =============  =====================  ===========================================

A root that is closing refuses every child that asks; what was granted or queued before stays.

In one actor, one task or thread at a time has the REPL; that is the record below.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from tractor._proto.machine import IllegalEvent

KeyT = TypeVar("KeyT", bound=Hashable)
"""What stands for one request; compared by equality."""


class Owner(enum.Enum):
    """Who has the terminal."""

    FREE = "free"
    ROOT = "held by root"
    CHILD = "held by child"


class LockEvent(enum.Enum):
    """What can happen to the terminal's lock."""

    ROOT_ASKS = "root task wants it"
    CHILD_ASKS = "child asks"
    RELEASED = "holder continues or quits"
    LOST = "holder is gone, was cancelled or failed"
    WITHDRAWN = "somebody who waits gives up"
    SIGINT = "ctrl-c"


class LockDo(enum.Enum):
    """What follows."""

    GRANT = "grant it"
    WAIT = "wait"
    REFUSE = "refuse"
    FREE = "nobody has it now"
    NOTHING = "nothing"
    NORMAL = "do as without a debugger"
    REDRAW = "ignore, and draw the prompt again"
    IGNORE = "ignore"
    CANCEL_STALE = "cancel the request of a holder that is gone"


TABLE: Final[dict[tuple[Owner, LockEvent], LockDo]] = {
    (Owner.FREE, LockEvent.ROOT_ASKS): LockDo.GRANT,
    (Owner.ROOT, LockEvent.ROOT_ASKS): LockDo.WAIT,
    (Owner.CHILD, LockEvent.ROOT_ASKS): LockDo.WAIT,
    (Owner.FREE, LockEvent.CHILD_ASKS): LockDo.GRANT,
    (Owner.ROOT, LockEvent.CHILD_ASKS): LockDo.WAIT,
    (Owner.CHILD, LockEvent.CHILD_ASKS): LockDo.WAIT,
    (Owner.ROOT, LockEvent.RELEASED): LockDo.FREE,
    (Owner.CHILD, LockEvent.RELEASED): LockDo.FREE,
    (Owner.CHILD, LockEvent.LOST): LockDo.FREE,
    (Owner.ROOT, LockEvent.WITHDRAWN): LockDo.NOTHING,
    (Owner.CHILD, LockEvent.WITHDRAWN): LockDo.NOTHING,
    (Owner.FREE, LockEvent.SIGINT): LockDo.NORMAL,
    (Owner.ROOT, LockEvent.SIGINT): LockDo.REDRAW,
    (Owner.CHILD, LockEvent.SIGINT): LockDo.IGNORE,
}
"""What an event leads to at first sight; `FREE` becomes `GRANT` while somebody waits."""


class Step(NamedTuple, Generic[KeyT]):
    """What follows from an event; with `LockDo.GRANT`, whom the terminal is granted to."""

    do: LockDo
    key: KeyT | None = None


class TerminalLock(Generic[KeyT]):
    """The lock on the one terminal of an actor tree.  Nothing has changed after an :class:`IllegalEvent`.

    Attributes:
        closing: the root shuts down, children that ask are refused.
    """

    __slots__ = ("_holder", "_kind", "_waiting", "closing")

    def __init__(self) -> None:
        self.closing = False
        self._holder: KeyT | None = None
        self._kind = Owner.FREE
        self._waiting: deque[tuple[KeyT, Owner]] = deque()

    @property
    def owner(self) -> Owner:
        """Who has the terminal, as a column of the table."""
        return self._kind

    @property
    def holder(self) -> KeyT | None:
        """Whose request is granted."""
        return self._holder

    @property
    def waiting(self) -> list[KeyT]:
        """Whose requests wait, the next one first."""
        return [key for key, _ in self._waiting]

    def handle(
        self, event: LockEvent, key: KeyT | None = None, connected: bool = True
    ) -> Step[KeyT]:
        """Take an event.

        Args:
            event: what happened.
            key: the request that it happened to; for `SIGINT` none.
            connected: for `SIGINT`: whether the holder's channel is open.

        Returns:
            What follows.  A terminal that was left is granted to the next one in line in the same step.

        Raises:
            IllegalEvent: the event can't happen now, or not to that request.
        """
        do = TABLE.get((self._kind, event))
        if do is None:
            raise self._illegal(event, key)
        if event in (LockEvent.ROOT_ASKS, LockEvent.CHILD_ASKS):
            return self._ask(event, do, key)
        if event in (LockEvent.RELEASED, LockEvent.LOST):
            if key is None or key != self._holder:
                raise self._illegal(event, key)
            return self._next()
        if event is LockEvent.WITHDRAWN:
            return self._withdraw(event, key)
        if do is LockDo.IGNORE and not connected:
            return Step(LockDo.CANCEL_STALE, self._holder)
        return Step(do)

    def _ask(self, event: LockEvent, do: LockDo, key: KeyT | None) -> Step[KeyT]:
        if key is None or key == self._holder or key in self.waiting:
            raise self._illegal(event, key)
        kind = Owner.ROOT if event is LockEvent.ROOT_ASKS else Owner.CHILD
        if kind is Owner.CHILD and self.closing:
            return Step(LockDo.REFUSE, key)
        if do is LockDo.WAIT:
            self._waiting.append((key, kind))
        else:
            self._holder, self._kind = key, kind
        return Step(do, key)

    def _next(self) -> Step[KeyT]:
        if not self._waiting:
            self._holder, self._kind = None, Owner.FREE
            return Step(LockDo.FREE)
        self._holder, self._kind = self._waiting.popleft()
        return Step(LockDo.GRANT, self._holder)

    def _withdraw(self, event: LockEvent, key: KeyT | None) -> Step[KeyT]:
        for entry in self._waiting:
            if entry[0] == key:
                self._waiting.remove(entry)
                return Step(LockDo.NOTHING, key)
        raise self._illegal(event, key)

    def _illegal(self, event: LockEvent, key: KeyT | None) -> IllegalEvent:
        return IllegalEvent(
            event.value,
            f"{key!r} while the terminal is {self._kind.value!r} (holder {self._holder!r}, waiting {self.waiting!r})",
        )


class ReplState(enum.Enum):
    """Where an actor stands with its REPL."""

    NONE = "none"
    REQUESTING = "requesting"
    HELD = "held"
    RELEASED = "released"


class RecordEvent(enum.Enum):
    """What can happen to an actor's REPL."""

    ASK = "a task asks"
    GRANTED = "the root has granted the terminal"
    FAILED = "the request failed or was cancelled"
    RELEASE = "the user leaves the REPL"


RECORD_TABLE: Final[dict[tuple[ReplState, RecordEvent], ReplState]] = {
    (ReplState.NONE, RecordEvent.ASK): ReplState.REQUESTING,
    (ReplState.RELEASED, RecordEvent.ASK): ReplState.REQUESTING,
    # Another local task queues; the owner's own repeated request is a no-op.
    (ReplState.REQUESTING, RecordEvent.ASK): ReplState.REQUESTING,
    (ReplState.HELD, RecordEvent.ASK): ReplState.HELD,
    (ReplState.REQUESTING, RecordEvent.GRANTED): ReplState.HELD,
    (ReplState.REQUESTING, RecordEvent.FAILED): ReplState.RELEASED,
    (ReplState.HELD, RecordEvent.FAILED): ReplState.RELEASED,
    (ReplState.HELD, RecordEvent.RELEASE): ReplState.RELEASED,
}


class ReplRecord(Generic[KeyT]):
    """The REPL of one actor: none, then requesting, held, released, and so on.

    Attributes:
        state: where it stands.
        owner: who requests or holds it; ``None`` in the states `NONE` and `RELEASED`.
    """

    __slots__ = ("_queue", "owner", "state")

    def __init__(self) -> None:
        self.state = ReplState.NONE
        self.owner: KeyT | None = None
        self._queue: deque[KeyT] = deque()

    @property
    def queue(self) -> list[KeyT]:
        """Who waits in this actor until the owner has released, the next one first."""
        return list(self._queue)

    @property
    def active(self) -> bool:
        """Whether somebody in this actor holds or awaits the REPL."""
        return self.owner is not None

    def ask(self, key: KeyT) -> LockDo:
        """A task wants the REPL: `GRANT` (it may send its request), `WAIT` (for its turn here), `NOTHING` (it is the
        owner already).

        Raises:
            IllegalEvent: it waits already.
        """
        if key == self.owner:
            return LockDo.NOTHING
        if key in self._queue:
            raise self._illegal(RecordEvent.ASK, key)
        if self.owner is not None:
            self._queue.append(key)
            return LockDo.WAIT
        self._move(RecordEvent.ASK, key)
        self.owner = key
        return LockDo.GRANT

    def granted(self, key: KeyT) -> None:
        """The owner's request was granted.  Raises IllegalEvent."""
        self._of_owner(RecordEvent.GRANTED, key)
        self._move(RecordEvent.GRANTED, key)

    def left(self, key: KeyT, event: RecordEvent) -> KeyT | None:
        """The owner is done, by `RELEASE` or `FAILED`.

        Returns:
            Who is next, and now requests; ``None``: nobody.

        Raises:
            IllegalEvent: it is not the owner, or the state does not allow it.
        """
        self._of_owner(event, key)
        self._move(event, key)
        self.owner = None
        if not self._queue:
            return None
        self._move(RecordEvent.ASK, key)
        self.owner = self._queue.popleft()
        return self.owner

    def withdraw(self, key: KeyT) -> None:
        """Somebody who waits for a turn here gives up.  Raises IllegalEvent."""
        if key not in self._queue:
            raise self._illegal(RecordEvent.FAILED, key)
        self._queue.remove(key)

    def _move(self, event: RecordEvent, key: KeyT) -> None:
        following = RECORD_TABLE.get((self.state, event))
        if following is None:
            raise self._illegal(event, key)
        self.state = following

    def _of_owner(self, event: RecordEvent, key: KeyT) -> None:
        if key != self.owner:
            raise self._illegal(event, key)

    def _illegal(self, event: RecordEvent, key: KeyT) -> IllegalEvent:
        return IllegalEvent(
            event.value,
            f"{key!r} while the REPL is {self.state.value!r} (owner {self.owner!r}, queue {self.queue!r})",
        )
