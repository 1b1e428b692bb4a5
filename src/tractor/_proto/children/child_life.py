"""The life of one subactor as its parent sees it: how far it has come, and the cause of its end.

Two questions, each with a table of its own, since the answers are told apart: by the kernel, and by what the child
and this actor say.

**How far** (`PHASES`).  A child boots, runs, has died (its process is reaped), is gone (all that it sent is
delivered, and what it left behind is cleaned up).

**Why it ends** (`CAUSES`).  Nobody decides on that when the process is reaped: what is known by then is a state
already.

===============  ===========  =======  ====  ===========  ======  =========
cause \\ event   ASKED        GOODBYE  LOSS  CRASH        KILLED  HOST_LOST
===============  ===========  =======  ====  ===========  ======  =========
BY_ITSELF        asked        goodbye  lost  crashed              host lost
ASKED                                        crashed, a.  killed
KILLED                                       crashed, a.
GOODBYE          asked                       crashed              host lost
LOST             lost, asked  goodbye        crashed              host lost
LOST_ASKED                    asked          crashed, a.
HOST_LOST        lost, asked                 crashed
CRASHED          crashed, a.
CRASHED_ASKED
===============  ===========  =======  ====  ===========  ======  =========

Empty: nothing changes; a `KILLED` where nobody has asked can't happen.  Whether the end is a failure of the child's
follows from the cause alone, but for one that said goodbye: that one fails, too, if its status says so
(`is_failure`).

Why the races are safe.  Pipe, kernel and this actor's own tasks tell of one end in any order.

- *Asked, or lost before?*  Who asks looks first whether the channel or the process is gone already, and tells `LOSS`
  before `ASKED`, without a checkpoint in between.  A loss afterwards is what was asked for.
- *Goodbye after the death.*  What a process sent is delivered only after it is reaped.  So every word is taken until
  the child is gone; the cause is looked at when all is delivered, and stays as it is from then on.
- *Ready after the death.*  The same: it has run, if nobody saw it.
- *A loss while it boots* is not a cause: its start fails, and says more.
- *The host is lost*, whose agent alone sees the process: what the child says of its end, over a road that still leads
  here, does not tell how it ended.
"""

from __future__ import annotations

import enum
from typing import Final

from tractor._proto.machine import IllegalEvent


class Phase(enum.Enum):
    """How far a child has come."""

    BOOTING = "booting"
    RUNNING = "running"
    DIED_BOOTING = "died before it was ready"
    DIED = "died"
    GONE = "gone"


class Cause(enum.Enum):
    """Why a child ends, as far as that is known."""

    BY_ITSELF = "unasked"
    ASKED = "asked to go"
    KILLED = "asked to go, and killed"
    GOODBYE = "cancelled by itself or another actor, as it said"
    LOST = "lost without a word"
    LOST_ASKED = "lost without a word, before it was asked to go"
    HOST_LOST = "its host was lost, and with it all that is known of its end"
    CRASHED = "its runtime failed, as it said"
    CRASHED_ASKED = "its runtime failed, as it said, and it was asked to go"


class ChildEvent(enum.Enum):
    """What can happen to a child."""

    READY = "it serves"
    DIED = "its process is reaped"
    CLEANED = "what it left behind is cleaned up"
    ASKED = "this actor asks it to go"
    KILLED = "this actor kills it"
    GOODBYE = "it says that it ends because it was cancelled"
    LOSS = "somebody has seen that it is gone"
    CRASH = "it says that its configuration or its runtime failed"
    HOST_LOST = "its host is lost: it must have ended there"


ASKED: Final = frozenset({Cause.ASKED, Cause.KILLED, Cause.LOST_ASKED, Cause.CRASHED_ASKED})
"""Causes of the ends that this actor has asked for, whatever else was there before."""

FAILURES: Final = frozenset(Cause) - {Cause.ASKED, Cause.KILLED, Cause.GOODBYE}
"""Causes that are failures whatever the exit status."""

_TOLD: Final = (
    ChildEvent.ASKED,
    ChildEvent.GOODBYE,
    ChildEvent.LOSS,
    ChildEvent.CRASH,
    ChildEvent.HOST_LOST,
)

PHASES: Final[dict[tuple[Phase, ChildEvent], Phase]] = {
    (Phase.BOOTING, ChildEvent.READY): Phase.RUNNING,
    (Phase.DIED_BOOTING, ChildEvent.READY): Phase.DIED,
    # A child may say so twice.
    **{(phase, ChildEvent.READY): phase for phase in (Phase.RUNNING, Phase.DIED, Phase.GONE)},
    (Phase.BOOTING, ChildEvent.DIED): Phase.DIED_BOOTING,
    (Phase.RUNNING, ChildEvent.DIED): Phase.DIED,
    # Also without the death, where waiting for that has failed.
    **{(phase, ChildEvent.CLEANED): Phase.GONE for phase in Phase if phase is not Phase.GONE},
}

CAUSES: Final[dict[tuple[Cause, ChildEvent], Cause]] = {
    **{(cause, event): cause for cause in Cause for event in _TOLD},
    **{(cause, ChildEvent.KILLED): cause for cause in ASKED},
    **{
        (cause, ChildEvent.CRASH): Cause.CRASHED_ASKED if cause in ASKED else Cause.CRASHED
        for cause in Cause
    },
    (Cause.BY_ITSELF, ChildEvent.ASKED): Cause.ASKED,
    (Cause.BY_ITSELF, ChildEvent.GOODBYE): Cause.GOODBYE,
    (Cause.BY_ITSELF, ChildEvent.LOSS): Cause.LOST,
    (Cause.ASKED, ChildEvent.KILLED): Cause.KILLED,
    (Cause.GOODBYE, ChildEvent.ASKED): Cause.ASKED,
    (Cause.LOST, ChildEvent.ASKED): Cause.LOST_ASKED,
    (Cause.LOST, ChildEvent.GOODBYE): Cause.GOODBYE,
    (Cause.LOST_ASKED, ChildEvent.GOODBYE): Cause.ASKED,
    (Cause.CRASHED, ChildEvent.ASKED): Cause.CRASHED_ASKED,
    # Whoever has lost its agent leaves, and may say goodbye on a road of its own.
    **{
        (cause, ChildEvent.HOST_LOST): Cause.HOST_LOST
        for cause in (Cause.BY_ITSELF, Cause.GOODBYE, Cause.LOST)
    },
    (Cause.HOST_LOST, ChildEvent.ASKED): Cause.LOST_ASKED,
}


class ChildLife:
    """One subactor's life.  Nothing has changed after an :class:`IllegalEvent`.

    Attributes:
        phase: how far it has come.
        cause: why it ends; final once it is gone.
        status: its process's exit status, as of :attr:`subprocess.Popen.returncode`; ``None`` before its death.
        history: the events so far that changed something.
    """

    __slots__ = ("cause", "history", "phase", "status")

    def __init__(self) -> None:
        self.phase = Phase.BOOTING
        self.cause = Cause.BY_ITSELF
        self.status: int | None = None
        self.history: list[ChildEvent] = []

    def handle(self, event: ChildEvent, status: int | None = None) -> None:
        """Take an event.

        Args:
            event: what happened.
            status: for `ChildEvent.DIED`: the exit status.

        Raises:
            IllegalEvent: it can't happen now.
        """
        before = (self.phase, self.cause)
        if event in (ChildEvent.READY, ChildEvent.DIED, ChildEvent.CLEANED):
            phase = PHASES.get((self.phase, event))
            if phase is None:
                raise self._illegal(event)
            self.phase = phase
            self.status = status if event is ChildEvent.DIED else self.status
        else:
            cause = CAUSES.get((self.cause, event))
            if cause is None:
                raise self._illegal(event)
            if self.phase is not Phase.GONE and (event is not ChildEvent.LOSS or self.is_ready):
                self.cause = cause
        if (self.phase, self.cause) != before:
            self.history.append(event)

    def _illegal(self, event: ChildEvent) -> IllegalEvent:
        state = f"a child that is {self.phase.value!r} ({self.cause.value})"
        return IllegalEvent(event.value, state, (past.value for past in self.history))

    @property
    def is_ready(self) -> bool:
        """Whether it has come to serve, and is not gone."""
        return self.phase in (Phase.RUNNING, Phase.DIED)

    @property
    def is_asked(self) -> bool:
        """Whether this actor has asked it to go."""
        return self.cause in ASKED

    @property
    def is_failure(self) -> bool:
        """Whether its end, which has come, is a failure of its own."""
        if self.cause is Cause.GOODBYE:
            # Cancelled on request, unless its runtime crashed on the way.
            return self.status is not None and self.status > 0
        return self.cause in FAILURES
