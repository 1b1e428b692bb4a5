"""One publisher, any number of subscribers: who gets what, who is waited for, and what a slow one loses.

Events are methods, instructions what they return; there is no clock and no await.  A value that is published is put
into every line that wants its topic at once, or, while :meth:`Fanout.holds_up` says so, into none.

======================  ================================  ========================================================
a line that is          has no room when                  and then
======================  ================================  ========================================================
``'lossless'``          ``size`` values wait in it        the publisher waits
``'drop_oldest'``       ``size`` values wait in it        the oldest goes, and is counted
``'latest'``            a value of that topic waits       that one is replaced where it stands, and is counted
======================  ================================  ========================================================
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

SLOW = ("lossless", "latest", "drop_oldest")
"""What may become of a value that a subscriber is too slow for."""

MAX_SIZE = 65_536
"""Values that a subscriber may have wait for it: peers choose that, and it is the publisher's memory."""


class Delivery(NamedTuple):
    """What a subscriber gets.

    Attributes:
        topic: of the value.
        value: it.
        dropped: how many values it has lost so far, all told.
    """

    topic: Hashable
    value: Any
    dropped: int


class Line:
    """What waits for one subscriber.

    Args:
        topics: those that it wants; ``None``: all.
        slow: one of :data:`SLOW`.
        size: how many values may wait.
        credit: how many it takes before it grants more; ``None``: it takes all.

    Raises:
        ValueError: ``slow`` or ``size`` makes no sense.
    """

    def __init__(
        self,
        topics: Iterable[Hashable] | None = None,
        slow: str = "lossless",
        size: int = 1,
        credit: int | None = None,
    ) -> None:
        if slow not in SLOW:
            raise ValueError(f"slow={slow!r}: it is one of {', '.join(map(repr, SLOW))}")
        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"size={size!r}: it is a number of values, from 1 to {MAX_SIZE}")
        self.topics = None if topics is None else frozenset(topics)
        self.slow = slow
        self.size = size
        self.credit = credit
        self.dropped = 0
        # By a number, of `latest` by topic: a dict keeps the order, and can lose any one.
        self._waiting: dict[Hashable, tuple[Hashable, Any]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def wants(self, topic: Hashable) -> bool:
        """Whether it gets values of that topic."""
        return self.topics is None or topic in self.topics

    @property
    def holds_up(self) -> bool:
        """Whether the publisher waits for it."""
        return self.slow == "lossless" and len(self._waiting) >= self.size

    def put(self, topic: Hashable, value: Any) -> None:
        """A value has come; never refused."""
        if self.slow == "latest":
            self.dropped += topic in self._waiting
            self._waiting[topic] = (topic, value)
            return
        if self.slow == "drop_oldest" and len(self._waiting) >= self.size:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._waiting[self._next] = (topic, value)
        self._next += 1

    def grant(self, count: int) -> None:
        """It takes so many more.  Raises ValueError: that is no number of values."""
        if self.credit is None or type(count) is not int or not 0 < count <= MAX_SIZE:
            raise ValueError(f"a subscriber has granted {count!r}, which is no number of values")
        self.credit = min(self.credit + count, MAX_SIZE)

    def take(self) -> Delivery | None:
        """The next value for it; ``None``: none waits, or it takes no more for now."""
        if not self._waiting or self.credit == 0:
            return None
        if self.credit is not None:
            self.credit -= 1
        topic, value = self._waiting.pop(next(iter(self._waiting)))
        return Delivery(topic, value, self.dropped)


class Fanout:
    """The lines of one publisher.

    Args:
        keep_last: the last value of each topic is kept for those who join later.
    """

    def __init__(self, keep_last: bool = False) -> None:
        self.lines: list[Line] = []
        self.over = False
        self._keep_last = keep_last
        self._last: dict[Hashable, Any] = {}

    @property
    def topics(self) -> set[Hashable] | None:
        """What anybody wants; ``None``: somebody wants all."""
        wanted: set[Hashable] = set()
        for line in self.lines:
            if line.topics is None:
                return None
            wanted |= line.topics
        return wanted

    def join(self, line: Line) -> None:
        """It gets what is published from now on, after the values that were kept of what it wants, in their order."""
        for topic, value in self._last.items():
            if line.wants(topic):
                line.put(topic, value)
        self.lines.append(line)

    def leave(self, line: Line) -> bool:
        """It gets nothing any more; whether it was there and the last one."""
        if line not in self.lines:
            return False
        self.lines.remove(line)
        return not self.lines

    def holds_up(self, topic: Hashable) -> bool:
        """Whether a value of that topic has to wait for somebody who is behind."""
        return any(line.holds_up and line.wants(topic) for line in self.lines)

    def publish(self, topic: Hashable, value: Any) -> list[Line]:
        """Put a value into each line that wants it; these."""
        if self._keep_last:
            # The dict's order is the order in which they were published: who joins late gets them so, too.
            self._last.pop(topic, None)
            self._last[topic] = value
        lines = [line for line in self.lines if line.wants(topic)]
        for line in lines:
            line.put(topic, value)
        return lines

    def end(self) -> None:
        """Nothing is published any more; what waits is still taken."""
        self.over = True

    def is_over_for(self, line: Line) -> bool:
        """Whether nothing will ever come for it."""
        return self.over and not line
