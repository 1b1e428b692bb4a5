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

One that has services states in them how long these need; that counts instead of `PROGRESS_TIMEOUT` where it is
longer, up to `NEEDS_LIMIT`.

A child that was cancelled through a portal begins on EXIT, or without an acknowledgment in time on TERM.

A service may have its own way: so many seconds, the *grace*, for BOOT, REQUEST and EXIT in all, which nothing extends,
then TERM; or KILL at once.

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
    NEEDS_LIMIT,
    PROGRESS_TIMEOUT,
    TERM_TIMEOUT,
)
from tractor._proto.machine import IllegalEvent


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


class LadderEvent(enum.Enum):
    """What can happen to a child."""

    BOOTED = "booted"
    CANCEL = "cancel"
    HARD_KILL = "hard kill"
    KILL_AT_ONCE = "kill at once"
    ACK = "ack"
    PORTAL_ACKED = "cancelled by a portal"
    PORTAL_SILENT = "no ack for a portal"
    PROGRESS = "progress note"
    ADVANCE = "progress note that tells of an advance"
    DEADLINE = "deadline"
    REPL_HELD = "REPL held"
    REPL_RELEASED = "REPL released"
    EXITED = "exited"


class LadderDo(enum.Enum):
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

ACTIONS: Final[dict[Rung, LadderDo]] = {
    Rung.REQUEST: LadderDo.SEND_CANCEL,
    Rung.TERM: LadderDo.SIGTERM,
    Rung.KILL: LadderDo.SIGKILL,
}

_SIGNALS: Final = (Rung.TERM, Rung.KILL)
_GRACED: Final = (Rung.BOOT, Rung.REQUEST, Rung.EXIT)
_ASKED: Final = (Rung.BOOT, Rung.REQUEST, Rung.EXIT, Rung.TERM, Rung.KILL, Rung.GONE)
_ALIVE: Final = tuple(rung for rung in Rung if rung is not Rung.GONE)

# A cell without an entry is an event that cannot happen there. Events of different tasks and
# sockets race: what the child said before it was signalled, or before it went, may be heard later.
TABLE: Final[dict[tuple[Rung, LadderEvent], Rung]] = {
    # Level triggered, so they may come at any time, also twice.
    **{(rung, LadderEvent.REPL_HELD): rung for rung in Rung},
    **{(rung, LadderEvent.REPL_RELEASED): rung for rung in Rung},
    # A child that another actor cancelled sends notes without having been asked by this side.
    **{(rung, LadderEvent.PROGRESS): rung for rung in Rung},
    **{(rung, LadderEvent.ADVANCE): rung for rung in Rung},
    # One cancel is enough.
    **{(rung, LadderEvent.CANCEL): rung for rung in _ASKED},
    (Rung.STARTING, LadderEvent.CANCEL): Rung.BOOT,
    (Rung.RUNNING, LadderEvent.CANCEL): Rung.REQUEST,
    **{(rung, LadderEvent.HARD_KILL): Rung.TERM for rung in _ALIVE},
    (Rung.KILL, LadderEvent.HARD_KILL): Rung.KILL,
    (Rung.GONE, LadderEvent.HARD_KILL): Rung.GONE,
    **{(rung, LadderEvent.KILL_AT_ONCE): Rung.KILL for rung in _ALIVE},
    (Rung.GONE, LadderEvent.KILL_AT_ONCE): Rung.GONE,
    (Rung.STARTING, LadderEvent.BOOTED): Rung.RUNNING,
    (Rung.BOOT, LadderEvent.BOOTED): Rung.REQUEST,
    **{(rung, LadderEvent.BOOTED): rung for rung in (*_SIGNALS, Rung.GONE)},
    (Rung.REQUEST, LadderEvent.ACK): Rung.EXIT,
    **{(rung, LadderEvent.ACK): rung for rung in (Rung.EXIT, *_SIGNALS, Rung.GONE)},
    # Asked by hand, beside the ladder or instead of its first rung.
    **{(rung, LadderEvent.PORTAL_ACKED): rung for rung in _ASKED},
    (Rung.RUNNING, LadderEvent.PORTAL_ACKED): Rung.EXIT,
    (Rung.REQUEST, LadderEvent.PORTAL_ACKED): Rung.EXIT,
    **{(rung, LadderEvent.PORTAL_SILENT): rung for rung in _ASKED},
    (Rung.RUNNING, LadderEvent.PORTAL_SILENT): Rung.TERM,
    (Rung.BOOT, LadderEvent.DEADLINE): Rung.TERM,
    (Rung.REQUEST, LadderEvent.DEADLINE): Rung.EXIT,
    (Rung.EXIT, LadderEvent.DEADLINE): Rung.TERM,
    (Rung.TERM, LadderEvent.DEADLINE): Rung.KILL,
    **{(rung, LadderEvent.EXITED): Rung.GONE for rung in _ALIVE},
}


class Ladder:
    """The way down of one child. Nothing has changed after an `IllegalEvent`.

    Args:
        hard_kill: begin with the signals.
        booting: the child is not connected yet.
        grace: seconds until SIGTERM at the latest, and not before; ``None``: the limits of the table.

    Attributes:
        rung: where the child stands.
        held: a REPL at or below the child holds the ladder up.
        deadline: when `tick()` is due, in the driver's clock; ``inf`` for never.
        acked: the child has acknowledged its cancellation.
        escalations: the limits that passed so far.
        history: the events so far that changed something.
    """

    __slots__ = (
        "_due",
        "_grace",
        "_grace_ends",
        "_hard",
        "_needs",
        "_patience_ends",
        "acked",
        "deadline",
        "escalations",
        "held",
        "history",
        "rung",
    )

    def __init__(
        self, hard_kill: bool = False, booting: bool = False, grace: float | None = None
    ) -> None:
        self.rung = Rung.STARTING if booting else Rung.RUNNING
        self.held = False
        self.acked = False
        self.deadline = math.inf
        self.escalations: list[Escalation] = []
        self.history: list[LadderEvent] = []
        self._hard = hard_kill
        self._grace = grace
        # When the grace is over; `inf` before anybody has asked.
        self._grace_ends = math.inf
        # The rung of a signal that a REPL holds up.
        self._due: Rung | None = None
        # When EXIT ends at the latest, unless a note tells of an advance.
        self._patience_ends = math.inf
        # Seconds that it needs, as it says.
        self._needs = 0.0

    def allow(self, seconds: float) -> None:
        """The child states how long it needs.  Only what is more than ever before counts, so that it can't go on so."""
        before = max(PROGRESS_TIMEOUT, self._needs)
        if seconds > self._needs:
            self._needs = min(seconds, NEEDS_LIMIT)
        self._patience_ends += max(PROGRESS_TIMEOUT, self._needs) - before

    def start(self, now: float, first: LadderEvent = LadderEvent.CANCEL) -> list[LadderDo]:
        """Have the child go: by a hard kill if the constructor was told so, else by the event that is given."""
        return self.handle(LadderEvent.HARD_KILL if self._hard else first, now)

    def tick(self, now: float) -> list[LadderDo]:
        """The driver's timer went off; nothing to do if the deadline has moved on meanwhile."""
        return self.handle(LadderEvent.DEADLINE, now) if now >= self.deadline else []

    def handle(self, event: LadderEvent, now: float) -> list[LadderDo]:
        """Take an event at time ``now``.

        Returns:
            What to do, in this order; the deadline may have changed, too.

        Raises:
            IllegalEvent: the event is none that can happen on this rung, or the deadline has not
                passed.
        """
        following = TABLE.get((self.rung, event))
        if following is None or (event is LadderEvent.DEADLINE and now < self.deadline):
            raise self._illegal(event)
        if event is LadderEvent.DEADLINE and self._grace is not None and self.rung in _GRACED:
            following = Rung.TERM
        self.acked = self.acked or event in (LadderEvent.ACK, LadderEvent.PORTAL_ACKED)
        if following is not self.rung:
            if following in _SIGNALS and self.held:
                if self._due is None or self._due.depth < following.depth:
                    self._due = following
                    self.history.append(event)
                return []
            return self._enter(following, event, now)
        if event in (LadderEvent.REPL_HELD, LadderEvent.REPL_RELEASED):
            return self._set_held(event, now)
        if event is LadderEvent.PROGRESS and self.rung is Rung.EXIT:
            self._restart_limit(now, self._patience_ends)
        if event is LadderEvent.ADVANCE and self.rung is Rung.EXIT:
            self._restart_limit(now)
        return []

    def _illegal(self, event: LadderEvent) -> IllegalEvent:
        state = f"a child that is {self.rung.value!r}{' (REPL held)' if self.held else ''}"
        return IllegalEvent(event.value, state, (past.value for past in self.history))

    def _enter(self, rung: Rung, event: LadderEvent, now: float) -> list[LadderDo]:
        if event is LadderEvent.DEADLINE:
            self.escalations.append(Escalation(self.rung, rung, now))
        self.rung = rung
        self.history.append(event)
        self._restart_limit(now)
        return [ACTIONS[rung]] if rung in ACTIONS else []

    def _set_held(self, event: LadderEvent, now: float) -> list[LadderDo]:
        held = event is LadderEvent.REPL_HELD
        if held is self.held or self.rung is Rung.GONE:
            return []
        self.held = held
        if not held and self._due is not None:
            due, self._due = self._due, None
            return self._enter(due, event, now)
        self.history.append(event)
        self._restart_limit(now)
        return []

    def _restart_limit(self, now: float, latest: float | None = None) -> None:
        """A whole limit from ``now`` on, but not beyond ``latest``; none while a REPL is held."""
        if self._grace is not None and self.rung in _GRACED:
            self._restart_grace(now)
            return
        self._patience_ends = now + max(PROGRESS_TIMEOUT, self._needs) if latest is None else latest
        limit = min(now + LIMITS.get(self.rung, math.inf), self._patience_ends)
        self.deadline = limit if self.rung in LIMITS and not self.held else math.inf

    def _restart_grace(self, now: float) -> None:
        """The grace runs from the first request on, and as a whole again from the release of a REPL on."""
        assert self._grace is not None
        if self.held:
            self._grace_ends = math.inf
        elif self._grace_ends == math.inf:
            self._grace_ends = now + self._grace
        self.deadline = self._grace_ends


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
