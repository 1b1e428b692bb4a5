"""What the protocol machines have in common.

A machine is a table and the few facts that its cells need: events go in, instructions come out, nothing else.  It has
no socket, no clock and never waits; a *driver* outside feeds it and carries its instructions out.  So each cell can be
tested, and what was done in which order is a fact of the machine, not of the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable


class IllegalEvent(RuntimeError):
    """The driver has fed an event that can't happen in this state: a bug of the runtime.  Nothing has changed.

    Args:
        event: the event, in words.
        state: where the machine stands, in words: "a ... that is ...".
        history: the events before it, in words.

    Attributes:
        event: as given.
    """

    def __init__(self, event: str, state: str, history: Iterable[str] = ()) -> None:
        past = " > ".join(history) or "(nothing yet)"
        super().__init__(f"{event!r} can't happen to {state}; its history: {past}")
        self.event = event
