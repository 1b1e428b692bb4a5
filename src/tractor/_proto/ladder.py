"""The teardown ladder of one child process: asked first, then made to go.

=======  =============================================================  ==============  =======
rung     on entering it                                                 limit           then
=======  =============================================================  ==============  =======
BOOT     nothing: a child that still boots can take no request          `BOOT_GRACE`    TERM
REQUEST  cancel request                                                 `ACK_TIMEOUT`   EXIT
EXIT     nothing: wait; a progress note restarts the limit, see below   `EXIT_TIMEOUT`  TERM
TERM     SIGTERM                                                        `TERM_TIMEOUT`  KILL
KILL     SIGKILL                                                        until reaped
=======  =============================================================  ==============  =======

A child sends progress notes while it works down its own subactors.  Each restarts the limit of EXIT, but at most
`PROGRESS_TIMEOUT` may pass between two notes that tell of an advance: a process fewer, or one further down.

A child that was cancelled through a portal begins on EXIT, or without an acknowledgment in time on TERM.

While an actor at or below the child holds or awaits the debugger's REPL no limit runs and no signal
is sent. What was asked for meanwhile, a hard kill, is done at the release.
"""

from __future__ import annotations

import enum
import math
from typing import Final, NamedTuple

from tractor._proto.deadlines import (
    ACK_TIMEOUT,
    BOOT_GRACE,
    EXIT_TIMEOUT,
    PROGRESS_TIMEOUT,
    TERM_TIMEOUT,
)


class Rung(enum.Enum):
    """Where a child stands. The first two are before anybody asked it to go."""

    STARTING = "booting"
    RUNNING = "running"
    BOOT = "booting, to be cancelled"
    REQUEST = "cancel requested"
    EXIT = "exit awaited"
    TERM = "terminated"
    KILL = "killed"
    GONE = "gone"

    @property
    def depth(self) -> int:
        """How far down this is; 0 before anybody has asked it to go."""
        return max(0, list(Rung).index(self) - 1)


class Event(enum.Enum):
    """What can happen to a child."""

    BOOTED = "booted"
    CANCEL = "cancel"
    HARD_KILL = "hard kill"
    ACK = "ack"
    PORTAL_ACKED = "cancelled by a portal"
    PORTAL_SILENT = "no ack for a portal"
    PROGRESS = "progress note"
    ADVANCE = "progress note that tells of an advance"
    DEADLINE = "deadline"
    REPL_HELD = "REPL held"
    REPL_RELEASED = "REPL released"
    EXITED = "exited"


class Do(enum.Enum):
    """What the driver has to do."""

    SEND_CANCEL = "send a cancel request"
    SIGTERM = "send SIGTERM"
    SIGKILL = "send SIGKILL"


class Escalation(NamedTuple):
    """A limit that passed: the rung that did not help, the next one, and when."""

    left: Rung
    entered: Rung
    at: float


LIMITS: Final[dict[Rung, float]] = {
    Rung.BOOT: BOOT_GRACE,
    Rung.REQUEST: ACK_TIMEOUT,
    Rung.EXIT: EXIT_TIMEOUT,
    Rung.TERM: TERM_TIMEOUT,
}

ACTIONS: Final[dict[Rung, Do]] = {
    Rung.REQUEST: Do.SEND_CANCEL,
    Rung.TERM: Do.SIGTERM,
    Rung.KILL: Do.SIGKILL,
}

_SIGNALS: Final = (Rung.TERM, Rung.KILL)
_ASKED: Final = (Rung.BOOT, Rung.REQUEST, Rung.EXIT, Rung.TERM, Rung.KILL, Rung.GONE)
_ALIVE: Final = tuple(rung for rung in Rung if rung is not Rung.GONE)

# A cell without an entry is an event that cannot happen there. Events of different tasks and
# sockets race: what the child said before it was signalled, or before it went, may be heard later.
TABLE: Final[dict[tuple[Rung, Event], Rung]] = {
    # Level triggered, so they may come at any time, also twice.
    **{(rung, Event.REPL_HELD): rung for rung in Rung},
    **{(rung, Event.REPL_RELEASED): rung for rung in Rung},
    # A child that another actor cancelled sends notes without having been asked by this side.
    **{(rung, Event.PROGRESS): rung for rung in Rung},
    **{(rung, Event.ADVANCE): rung for rung in Rung},
    # One cancel is enough.
    **{(rung, Event.CANCEL): rung for rung in _ASKED},
    (Rung.STARTING, Event.CANCEL): Rung.BOOT,
    (Rung.RUNNING, Event.CANCEL): Rung.REQUEST,
    **{(rung, Event.HARD_KILL): Rung.TERM for rung in _ALIVE},
    (Rung.KILL, Event.HARD_KILL): Rung.KILL,
    (Rung.GONE, Event.HARD_KILL): Rung.GONE,
    (Rung.STARTING, Event.BOOTED): Rung.RUNNING,
    (Rung.BOOT, Event.BOOTED): Rung.REQUEST,
    **{(rung, Event.BOOTED): rung for rung in (*_SIGNALS, Rung.GONE)},
    (Rung.REQUEST, Event.ACK): Rung.EXIT,
    **{(rung, Event.ACK): rung for rung in (Rung.EXIT, *_SIGNALS, Rung.GONE)},
    # Asked by hand, beside the ladder or instead of its first rung.
    **{(rung, Event.PORTAL_ACKED): rung for rung in _ASKED},
    (Rung.RUNNING, Event.PORTAL_ACKED): Rung.EXIT,
    (Rung.REQUEST, Event.PORTAL_ACKED): Rung.EXIT,
    **{(rung, Event.PORTAL_SILENT): rung for rung in _ASKED},
    (Rung.RUNNING, Event.PORTAL_SILENT): Rung.TERM,
    (Rung.BOOT, Event.DEADLINE): Rung.TERM,
    (Rung.REQUEST, Event.DEADLINE): Rung.EXIT,
    (Rung.EXIT, Event.DEADLINE): Rung.TERM,
    (Rung.TERM, Event.DEADLINE): Rung.KILL,
    **{(rung, Event.EXITED): Rung.GONE for rung in _ALIVE},
}


class IllegalEvent(RuntimeError):
    """The driver fed an event that the rung does not allow: a bug of the runtime."""

    def __init__(self, ladder: Ladder, event: Event) -> None:
        past = " > ".join(e.value for e in ladder.history) or "(nothing yet)"
        super().__init__(
            f"{event.value!r} can't happen to a child that is {ladder.rung.value!r}"
            f"{' (REPL held)' if ladder.held else ''}; its history: {past}"
        )
        self.rung = ladder.rung
        self.event = event


class Ladder:
    """The way down of one child. Nothing has changed after an `IllegalEvent`.

    Args:
        hard_kill: begin with the signals.
        booting: the child is not connected yet.

    Attributes:
        rung: where the child stands.
        held: a REPL at or below the child holds the ladder up.
        deadline: when `tick()` is due, in the driver's clock; ``inf`` for never.
        acked: the child has acknowledged its cancellation.
        escalations: the limits that passed so far.
        history: the events so far that changed something.
    """

    __slots__ = (
        "_hard",
        "_hard_due",
        "_patience_ends",
        "acked",
        "deadline",
        "escalations",
        "held",
        "history",
        "rung",
    )

    def __init__(self, hard_kill: bool = False, booting: bool = False) -> None:
        self.rung = Rung.STARTING if booting else Rung.RUNNING
        self.held = False
        self.acked = False
        self.deadline = math.inf
        self.escalations: list[Escalation] = []
        self.history: list[Event] = []
        self._hard = hard_kill
        # A hard kill that a REPL holds up.
        self._hard_due = False
        # When EXIT ends at the latest, unless a note tells of an advance.
        self._patience_ends = math.inf

    def start(self, now: float, first: Event = Event.CANCEL) -> list[Do]:
        """Have the child go: by `Event.HARD_KILL` if the constructor was told so, else by the event that is given."""
        return self.handle(Event.HARD_KILL if self._hard else first, now)

    def tick(self, now: float) -> list[Do]:
        """The driver's timer went off; nothing to do if the deadline has moved on meanwhile."""
        return self.handle(Event.DEADLINE, now) if now >= self.deadline else []

    def handle(self, event: Event, now: float) -> list[Do]:
        """Take an event at time ``now``.

        Returns:
            What to do, in this order; the deadline may have changed, too.

        Raises:
            IllegalEvent: the event is none that can happen on this rung, or the deadline has not
                passed.
        """
        following = TABLE.get((self.rung, event))
        if following is None or (event is Event.DEADLINE and now < self.deadline):
            raise IllegalEvent(self, event)
        self.acked = self.acked or event in (Event.ACK, Event.PORTAL_ACKED)
        if following is not self.rung:
            if following in _SIGNALS and self.held:
                if not self._hard_due:
                    self._hard_due = True
                    self.history.append(event)
                return []
            return self._enter(following, event, now)
        if event in (Event.REPL_HELD, Event.REPL_RELEASED):
            return self._set_held(event, now)
        if event is Event.PROGRESS and self.rung is Rung.EXIT:
            self._restart_limit(now, self._patience_ends)
        if event is Event.ADVANCE and self.rung is Rung.EXIT:
            self._restart_limit(now)
        return []

    def _enter(self, rung: Rung, event: Event, now: float) -> list[Do]:
        if event is Event.DEADLINE:
            self.escalations.append(Escalation(self.rung, rung, now))
        self.rung = rung
        self.history.append(event)
        self._restart_limit(now)
        return [ACTIONS[rung]] if rung in ACTIONS else []

    def _set_held(self, event: Event, now: float) -> list[Do]:
        held = event is Event.REPL_HELD
        if held is self.held or self.rung is Rung.GONE:
            return []
        self.held = held
        if not held and self._hard_due:
            self._hard_due = False
            return self._enter(Rung.TERM, event, now)
        self.history.append(event)
        self._restart_limit(now)
        return []

    def _restart_limit(self, now: float, latest: float | None = None) -> None:
        """A whole limit from ``now`` on, but not beyond ``latest``; none while a REPL is held."""
        self._patience_ends = now + PROGRESS_TIMEOUT if latest is None else latest
        limit = min(now + LIMITS.get(self.rung, math.inf), self._patience_ends)
        self.deadline = limit if self.rung in LIMITS and not self.held else math.inf


class Progress:
    """What a child has told of its way down: whether a note tells of an advance.

    So many notes can: each names fewer processes than any before, or as many that are further down.
    """

    __slots__ = ("_best",)

    def __init__(self) -> None:
        self._best: tuple[int, int] | None = None

    def note(self, left: int, rung: int) -> bool:
        """Take a note.

        Args:
            left: how many processes below the child still run.
            rung: the sum of their :attr:`Rung.depth`, as far as they are the child's own.
        """
        left = max(0, left)
        told = (left, -max(0, min(rung, left * Rung.GONE.depth)))
        if self._best is not None and told >= self._best:
            return False
        self._best = told
        return True
