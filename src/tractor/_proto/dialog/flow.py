"""Flow control of a stream: how much may be sent, how much is held.

Theory of operation.  Each side of a stream has a :class:`SendWindow` and a :class:`ReceiveWindow`; they are the two
ends of one count.  Both begin with :data:`WINDOW` messages and :data:`WINDOW_BYTES` bytes.  A message may go while
both are above zero, and takes one and its payload's bytes; so the bytes may go below zero, by that one message.
What is read, or discarded, is granted again in batches of half a window.  Nobody can wait for ever: a sender without
credit has a whole window of messages on their way or unread, and reading them reaches the batch.

A larger buffer is granted what it is larger when it opens.  A smaller one still has to hold the first window, and is
from then on granted only what it holds.

The strict mode has no credit.  The receiver counts what nobody has read, and beyond its buffer a message is an
overrun.  Whoever asks for it says so (``Credit(-1, 0)``), and its peer says it back: so each side knows which
messages were sent before the peer knew.  These keep the default window.

Pure bookkeeping: no clock, no I/O.
"""

from __future__ import annotations

import enum

WINDOW = 1024
"""Messages that a sender may have on their way or unread, before it has seen any grant."""

WINDOW_BYTES = 16 * 2**20
"""Bytes of encoded payloads, the same."""

STRICT_BUFFER_SIZE = 64
"""Messages; the default bound of what a receiver holds unread in the strict mode."""

OVERFLOW_SIZE = 616
"""Messages; held beyond the buffer where overruns are allowed."""


class Admission(enum.Enum):
    """What to do with a message that arrives."""

    HOLD = "hold"
    OVERRUN = "overrun"
    BEYOND_CREDIT = "beyond its credit"


class SendWindow:
    """The sender's end.

    Attributes:
        credit: messages that may go.
        credit_bytes: bytes of payloads that may go; below zero by the last message at most.
        sent: messages that went.
        strict: credit does not count.
    """

    __slots__ = ("_granted", "credit", "credit_bytes", "sent", "strict")

    def __init__(self) -> None:
        self.credit = WINDOW
        self.credit_bytes = WINDOW_BYTES
        self.sent = 0
        self.strict = False
        # Bytes that there ever were credits for: by these what went needs no count of its own.
        self._granted = WINDOW_BYTES

    @property
    def sent_bytes(self) -> int:
        """Bytes of payloads that went."""
        return self._granted - self.credit_bytes

    def may_send(self) -> bool:
        """Whether a message can go out now."""
        return (self.credit > 0 and self.credit_bytes > 0) or self.strict

    def spend(self, size: int) -> None:
        """Count one message of ``size`` bytes as sent."""
        self.sent += 1
        self.credit -= 1
        self.credit_bytes -= size

    def grant(self, n: int, size: int) -> None:
        """Take a grant of the peer.

        Raises:
            ValueError: a number is negative.
        """
        if n < 0 or size < 0:
            raise ValueError(f"a credit of {n} messages and {size} bytes was granted")
        self.credit += n
        self.credit_bytes += size
        self._granted += size


class ReceiveWindow:
    """The receiver's end.

    Args:
        strict_size: messages that may be held unread in the strict mode, where nothing else is said.

    Attributes:
        strict: nothing is granted, and what the buffer can't hold is an overrun.
        marked: the peer has said that it knows of the strict mode; what comes now was sent in it.
        allow_overruns: hold :data:`OVERFLOW_SIZE` more in the strict mode.
    """

    __slots__ = (
        "_given",
        "_granted",
        "_limit",
        "_limit_bytes",
        "_out",
        "_out_bytes",
        "_room",
        "_room_bytes",
        "_strict_size",
        "allow_overruns",
        "marked",
        "strict",
    )

    def __init__(self, strict_size: int = STRICT_BUFFER_SIZE) -> None:
        self.strict = False
        self.marked = False
        self.allow_overruns = False
        self._strict_size = strict_size
        self._given: int | None = None
        # What may be on its way or unread at a time.
        self._limit = WINDOW
        self._limit_bytes = WINDOW_BYTES
        # What was granted and is not read: on its way, unread, or not used.
        self._out = WINDOW
        self._out_bytes = WINDOW_BYTES
        # What was granted and has not come: the peer's credit, as far as this side knows.
        self._room = WINDOW
        self._room_bytes = WINDOW_BYTES
        # Bytes that were ever granted: by these what has come needs no count of its own.
        self._granted = WINDOW_BYTES

    @property
    def received_bytes(self) -> int:
        """Bytes of payloads that have come, those included that were refused or discarded."""
        return self._granted - self._room_bytes

    @property
    def size(self) -> int:
        """Messages that may be held unread, once all that was granted at first has been read."""
        if self._given is not None:
            return self._given
        return self._strict_size if self.strict else WINDOW

    def capacity(self) -> int:
        """Messages that may be held unread in the strict mode."""
        size = self.size
        if not self.marked:
            size = max(size, WINDOW)
        return size + OVERFLOW_SIZE if self.allow_overruns else size

    def admit(self, held: int, size: int) -> Admission:
        """Decide on a message of ``size`` bytes that arrives while ``held`` messages are unread."""
        self._room -= 1
        self._room_bytes -= size
        if self.strict:
            return Admission.HOLD if held < self.capacity() else Admission.OVERRUN
        if self._room < 0 or self._room_bytes + size <= 0:
            return Admission.BEYOND_CREDIT
        return Admission.HOLD

    def admit_many(self, n: int, size: int) -> bool:
        """Take ``n`` messages of ``size`` bytes in all by credit; ``False``: not all fit, and nothing has changed."""
        if n > self._room or size > self._room_bytes:
            return False
        self._room -= n
        self._room_bytes -= size
        return True

    def resize(self, size: int) -> None:
        """Set the number of messages that may be held unread."""
        self._given = self._limit = size

    def widen(self, on: bool) -> None:
        """Allow another window beside what is held, for messages that will be discarded; or no more."""
        self._limit = self.size + (WINDOW if on else 0)
        self._limit_bytes = WINDOW_BYTES * (2 if on else 1)

    def read(self, n: int, size: int) -> tuple[int, int] | None:
        """Count ``n`` messages of ``size`` bytes in all as read; what to grant now, in messages and bytes."""
        self._out -= n
        self._out_bytes -= size
        if self.strict or (self._out * 2 > self._limit and self._out_bytes * 2 > self._limit_bytes):
            return None
        return self.due()

    def due(self) -> tuple[int, int] | None:
        """What can be granted, in messages and bytes; it counts as granted then.  ``None``: nothing."""
        if self.strict:
            return None
        n = max(0, self._limit - self._out)
        size = max(0, self._limit_bytes - self._out_bytes)
        if not (n or size):
            return None
        self._out += n
        self._out_bytes += size
        self._room += n
        self._room_bytes += size
        self._granted += size
        return n, size
