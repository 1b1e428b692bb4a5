"""Flow control of a stream: how much may be sent, how much is held.

Pure bookkeeping of both ends.  Without back pressure a sender is never held up and the receiver counts what
nobody has read: beyond its buffer a message is an overrun.  With back pressure a sender starts with
:data:`INITIAL_CREDIT` credits, spends one for each message, and the receiver grants one for each message read.
"""

from __future__ import annotations

import enum

__all__ = [
    "BUFFER_SIZE",
    "INITIAL_CREDIT",
    "OVERFLOW_SIZE",
    "Admission",
    "ReceiveWindow",
    "SendWindow",
]

BUFFER_SIZE = 64
"""Messages; the default bound of what a receiver holds unread."""

OVERFLOW_SIZE = 616
"""Messages; held beyond the buffer where overruns are allowed."""

INITIAL_CREDIT = 64
"""Messages that a sender may send before it has read any grant."""


class Admission(enum.Enum):
    """What to do with a message that arrives."""

    HOLD = "hold"
    OVERRUN = "overrun"


class SendWindow:
    """The sender's end: unlimited until back pressure is switched on by either side."""

    __slots__ = ("credit", "limited", "sent")

    def __init__(self, limited: bool = False) -> None:
        self.limited = limited
        self.credit = INITIAL_CREDIT
        self.sent = 0

    def may_send(self) -> bool:
        """Whether a message can go out now."""
        return not self.limited or self.credit > 0

    def spend(self) -> None:
        """Count one message as sent."""
        self.sent += 1
        self.credit -= 1

    def limit(self) -> None:
        """Switch back pressure on.

        The credit may become negative: what was sent before counts against the window, because the receiver
        grants for every message that it reads, also for those.
        """
        self.limited = True

    def grant(self, n: int) -> None:
        """Take a ``Credit(n)`` of the peer; ``0`` only switches back pressure on.

        Raises:
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"a credit of {n} was granted; it must not be negative")
        self.limited = True
        self.credit += n


class ReceiveWindow:
    """The receiver's end.

    Args:
        size: messages that may be held unread.
        limited: back pressure is on from the start.
    """

    __slots__ = ("_announced", "_ungranted", "allow_overruns", "limited", "size")

    def __init__(self, size: int = BUFFER_SIZE, limited: bool = False) -> None:
        self.size = size
        self.limited = limited
        self.allow_overruns = False
        self._announced = INITIAL_CREDIT
        self._ungranted = 0

    def admit(self, held: int) -> Admission:
        """Decide on a message that arrives while ``held`` messages are unread.

        With back pressure every message is held: it was sent on granted credit, or before the sender learnt
        that back pressure is on.
        """
        if self.limited or held < self.size + (OVERFLOW_SIZE if self.allow_overruns else 0):
            return Admission.HOLD
        return Admission.OVERRUN

    def limit(self) -> None:
        """Switch back pressure on; from now on reads are granted."""
        self.limited = True

    def resize(self, size: int) -> None:
        """Set the number of messages that may be held unread."""
        self.size = size

    def opening_grant(self) -> int:
        """The credit to grant at once, when back pressure begins or the buffer grows.

        That is what the buffer is larger than the sender's first window, and what was read before back pressure
        began: the sender's count is down by as much, and with nothing left to read no later batch would come.
        """
        if not self.limited:
            return 0
        extra = max(0, self.size - self._announced)
        self._announced += extra
        grant = extra + self._ungranted
        self._ungranted = 0
        return grant

    def read(self) -> int:
        """Count one message as read; return the credit to grant now (0: gather on).

        Grants go out in batches of half a window: a sender at zero credit has a whole window unread or
        ungranted, so reading on always reaches the batch and nobody waits for ever.
        """
        self._ungranted += 1
        if not self.limited:
            return 0
        if self._ungranted * 2 >= self._announced:
            grant = self._ungranted
            self._ungranted = 0
            return grant
        return 0
