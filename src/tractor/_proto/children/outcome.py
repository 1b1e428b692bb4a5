"""What a nursery raises at its exit: which collected errors are told, and of which others tell already.

=========  ========  =========================  ==============================
part       `NEW`     `TOLD`                     `OURS`
=========  ========  =========================  ==============================
ERROR      raised    raised                     raised
LOSS       raised    cause of the failure       dropped
CTXC       raised    dropped                    dropped
CANCELLED  goes on   goes on                    goes on
=========  ========  =========================  ==============================

One event is told once. A child that dies is the failure of that child; the `TransportClosed` that its dialogs end
with is the cause of that failure. A cancellation of remote tasks is told by the error that it was asked because of.
What a nursery that is being cancelled brings about is part of that cancellation.
"""

from __future__ import annotations

import enum
from typing import Final


class Part(enum.Enum):
    """What one error tells."""

    ERROR = "something failed"
    LOSS = "a peer is gone"
    CTXC = "a remote task was cancelled on request"
    CANCELLED = "a surrounding scope was cancelled"


class Fact(enum.Enum):
    """What is known of its reason."""

    NEW = "nothing else tells of it"
    TOLD = "another collected error is the reason"
    OURS = "this nursery was taking that actor down"


class Verdict(enum.Enum):
    """What becomes of it."""

    RAISE = "raised"
    CAUSE = "the cause of the failure that tells of it"
    DROP = "dropped"
    GO_ON = "goes on, if nothing is raised"


ORDER: Final = (Part.ERROR, Part.LOSS, Part.CTXC)
"""What comes first in a group: errors, then what they may have brought about."""

TABLE: Final[dict[tuple[Part, Fact], Verdict]] = {
    **{(Part.ERROR, fact): Verdict.RAISE for fact in Fact},
    (Part.LOSS, Fact.NEW): Verdict.RAISE,
    (Part.LOSS, Fact.TOLD): Verdict.CAUSE,
    (Part.LOSS, Fact.OURS): Verdict.DROP,
    (Part.CTXC, Fact.NEW): Verdict.RAISE,
    (Part.CTXC, Fact.TOLD): Verdict.DROP,
    (Part.CTXC, Fact.OURS): Verdict.DROP,
    **{(Part.CANCELLED, fact): Verdict.GO_ON for fact in Fact},
}
