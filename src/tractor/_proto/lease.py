"""The lease of what runs on another host: when it ends there, and when the other side may say that it must have ended.

Theory of operation.  The agent, over there, sends numbered pings; the link process, here, answers each.  Both sides
count from what they know for sure:

- The agent's lease ends one `deadline` after the *sending* of the last ping that was answered.
- The link counts from its *receipt* of the last ping that it answered.  A ping is received after it was sent, so its
  count ends later than the lease, whatever the network did to the answer.

No time of one side is ever compared with one of the other, so that their clocks may be apart by any amount; they have
to run at the same rate.  A side that is stopped for a while is late in what it does, never wrong: a late receipt
makes the link wait longer, and a late answer does not make a ping younger.  Numbers that are old, unknown, or come
twice change nothing.
"""

from __future__ import annotations

from typing import Final

from tractor._proto.deadlines import TEARDOWN_TIME

LONGEST_INTERVAL: Final = 1.0
"""Seconds between two pings, at most."""

PINGS_A_DEADLINE: Final = 8
"""At least so many, so that a cut of half the deadline is survived.

The last ping before the cut may be one interval old, the first one after it one interval late, and each has its way
there and back: half the deadline is left for two intervals and two round trips.
"""

KEPT: Final = 256
"""Pings without an answer whose time of sending is known; an older one counts for little, and is forgotten."""


class Lease:
    """The agent's side.

    Args:
        deadline: seconds from the sending of an answered ping to the end.
        start: when the agent began, by its own clock; the lease runs from then until a ping is answered.

    Raises:
        ValueError: a deadline that is not above 0.

    Attributes:
        interval: seconds between two pings.

    True after every call: :meth:`ends_at` never goes back, and a lease that was found to be over stays so.
    """

    __slots__ = (
        "_answered",
        "_count",
        "_deadline",
        "_last_sent",
        "_over",
        "_unanswered",
        "interval",
    )

    def __init__(self, deadline: float, start: float) -> None:
        if not deadline > 0:
            raise ValueError(f"the deadline of a lease must be above 0 s, not {deadline!r}")
        self.interval = min(LONGEST_INTERVAL, deadline / PINGS_A_DEADLINE)
        self._deadline = deadline
        self._answered = start
        self._last_sent: float | None = None
        self._unanswered: dict[int, float] = {}
        self._count = 0
        self._over = False

    def ping(self, now: float) -> int:
        """A ping is sent now; returns its number.  An earlier time than the ping's own is safe, a later one is not."""
        self._count += 1
        self._last_sent = now
        self._unanswered[self._count] = now
        if len(self._unanswered) > KEPT:
            del self._unanswered[next(iter(self._unanswered))]
        return self._count

    def pong(self, number: int) -> bool:
        """A ping was answered; returns whether the lease now ends later."""
        sent = self._unanswered.get(number)
        if sent is None or self._over:
            return False
        # Older ones can add nothing any more.
        for older in [one for one in self._unanswered if one <= number]:
            del self._unanswered[older]
        renewed = sent > self._answered
        self._answered = max(self._answered, sent)
        return renewed

    def next_ping_at(self) -> float:
        """When the next ping is due: at once, at first."""
        return self._answered if self._last_sent is None else self._last_sent + self.interval

    def ends_at(self) -> float:
        """When the lease ends, as far as is known now."""
        return self._answered + self._deadline

    def oldest_unanswered(self) -> float | None:
        """When the first of the pings that await their answer was sent; ``None``: all were answered."""
        return next(iter(self._unanswered.values()), None)

    def is_over(self, now: float) -> bool:
        """Whether it has ended; no answer revives it then."""
        self._over = self._over or now >= self.ends_at()
        return self._over


class Answered:
    """The link's side.

    Args:
        deadline: that of the agent's lease, in seconds.
        start: when the agent was first heard, by the link's own clock.

    Raises:
        ValueError: a deadline that is not above 0.
    """

    __slots__ = ("_deadline", "_last")

    def __init__(self, deadline: float, start: float) -> None:
        if not deadline > 0:
            raise ValueError(f"the deadline of a lease must be above 0 s, not {deadline!r}")
        self._deadline = deadline
        self._last = start

    def ping(self, now: float) -> None:
        """A ping was received now, and is about to be answered: to be called *before* its answer can leave.

        That it is an old one, or one that came before, only makes the link wait longer.
        """
        self._last = max(self._last, now)

    @property
    def last_sign(self) -> float:
        """When the agent was last heard."""
        return self._last

    def silent_from(self) -> float:
        """From when on, if nothing is heard of it, its host counts as lost for those who look at the tree.

        A cut of about that length is survived: then it is heard again.
        """
        return self._last + self._deadline / 2

    def must_have_ended_at(self) -> float:
        """When the agent, and all that ran below it, must have ended, if nothing is heard of it again.

        The ping was sent before it was received, and the lease ends one deadline after the sending of the last ping
        whose answer came: of this one, or of an earlier one.  What it held takes
        :data:`~tractor._proto.deadlines.TEARDOWN_TIME` to end.  That an answer was lost, so that it has ended before,
        can't be known here.
        """
        return self._last + self._deadline + TEARDOWN_TIME
