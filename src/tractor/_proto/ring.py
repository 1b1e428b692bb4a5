"""The arithmetic of a single-producer single-consumer byte ring: no memory, no descriptor, no waiting.

Each side keeps its own position; neither is shared.  What travels is *how much*: the writer announces bytes that it has
written, the reader credits bytes that it has taken.  A writer starts with the whole ring free and writes into nothing
that was not credited, so unread bytes are never overwritten, whatever the order in which announcements and credits
arrive, and however they are added up on the way.
"""

from __future__ import annotations

NEWS = 1 << 48
"""Added to a count: beside bytes there is news of the peer (it came, it left).  Below it, counts add up freely."""

MAX_CAPACITY = 1 << 40
"""Bytes; far below :data:`NEWS`, so that counts never reach it."""

CREDIT_SHARE = 4
"""A reader gives credit in parts of at least the capacity divided by this: each may wake the writer."""

Span = tuple[int, int]


class RingError(ValueError):
    """The peer has announced or credited more bytes than there can be; the ring is unusable from here on."""


def split_count(value: int) -> tuple[int, bool]:
    """Bytes, and whether there is news, of a count that was added up from several."""
    return value & (NEWS - 1), value >= NEWS


def _check(capacity: int, start: int) -> None:
    if not 1 <= capacity <= MAX_CAPACITY:
        raise ValueError(f"a ring has 1 to {MAX_CAPACITY} bytes, not {capacity}")
    if not 0 <= start < capacity:
        raise ValueError(f"position {start} is not in a ring of {capacity} bytes")


def _spans(position: int, size: int, capacity: int) -> tuple[Span, ...]:
    """The slices of the ring that ``size`` bytes from ``position`` on take: none, one, or two where they wrap."""
    end = position + size
    if end <= capacity:
        return ((position, end),) if size else ()
    return (position, capacity), (0, end - capacity)


class WriteCursor:
    """Where the writer is, and how much it may write.

    Args:
        capacity: bytes of the ring.
        start: the position of the first byte.

    Raises:
        ValueError: one of the two is out of range.
    """

    __slots__ = ("capacity", "free", "position")

    def __init__(self, capacity: int, start: int = 0) -> None:
        _check(capacity, start)
        self.capacity = capacity
        self.position = start
        self.free = capacity

    def spans(self, size: int) -> tuple[Span, ...]:
        """The slices into which the next bytes go: of ``size``, those that there is room for."""
        return _spans(self.position, min(size, self.free), self.capacity)

    def wrote(self, size: int) -> None:
        """``size`` bytes, at most :attr:`free`, were written and will be announced."""
        assert 0 <= size <= self.free
        self.free -= size
        self.position = (self.position + size) % self.capacity

    def place(self, size: int) -> int:
        """Where ``size`` bytes, at least 1, go in one piece: these count as written; -1: they don't fit so."""
        start = self.position
        end = start + size
        if size > self.free or end > self.capacity:
            return -1
        self.free -= size
        self.position = end if end < self.capacity else 0
        return start

    def credit(self, size: int) -> None:
        """The reader has taken ``size`` bytes more.

        Raises:
            RingError: it can't have; nothing was changed.
        """
        if not 0 <= size <= self.capacity - self.free:
            raise RingError(
                f"the reader credits {size} bytes of {self.capacity - self.free} that were written"
            )
        self.free += size


class ReadCursor:
    """Where the reader is, how much it may read, and how much credit it owes.

    Arguments and errors as :class:`WriteCursor`.
    """

    __slots__ = ("capacity", "owed", "position", "unread")

    def __init__(self, capacity: int, start: int = 0) -> None:
        _check(capacity, start)
        self.capacity = capacity
        self.position = start
        self.unread = 0
        self.owed = 0

    def announce(self, size: int) -> None:
        """The writer has written ``size`` bytes more.

        Raises:
            RingError: there was no room for them; nothing was changed.
        """
        if not 0 <= size <= self.capacity - self.unread - self.owed:
            raise RingError(
                f"the writer announces {size} bytes in a ring of {self.capacity}, "
                f"where {self.unread + self.owed} are not credited yet"
            )
        self.unread += size

    def spans(self, size: int) -> tuple[Span, ...]:
        """The slices from which the next bytes come: of ``size``, those that are there."""
        return _spans(self.position, min(size, self.unread), self.capacity)

    def took(self, size: int) -> int:
        """``size`` bytes, at most :attr:`unread`, were taken.

        Returns:
            The bytes to credit now, 0 while they are too few: a writer that waits has written the whole ring, and so
            gets credit before the reader can run out of bytes.
        """
        assert 0 <= size <= self.unread
        self.unread -= size
        self.position = (self.position + size) % self.capacity
        self.owed += size
        if self.owed * CREDIT_SHARE < self.capacity:
            return 0
        due, self.owed = self.owed, 0
        return due
