"""What an actor keeps for those who look at it later: what its channels have carried, and the last rare events."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

MAX_EVENTS = 256
MAX_BYTES = 256 * 1024
"""Of all events that are kept."""

MAX_TRACEBACK = 16 * 1024
MAX_TEXT = 1000
"""Of one text of an event."""

_BESIDE = 100
"""Bytes that an event takes beside its texts, about."""


class Counts(Protocol):
    """A transport, as far as it counts."""

    sent: int
    received: int
    bytes_out: int
    bytes_in: int


class Carried(NamedTuple):
    """Messages and bytes of a number of channels.

    Attributes:
        messages_in, messages_out: whole messages.
        bytes_in, bytes_out: counted for each read and write.
    """

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def plus(self, transports: Iterable[Counts]) -> Carried:
        """With what these have carried so far."""
        came, went, read, written = self
        for one in transports:
            came += one.received
            went += one.sent
            read += one.bytes_in
            written += one.bytes_out
        return Carried(came, went, read, written)


class RareEvent(NamedTuple):
    """Something that happens seldom.

    Attributes:
        number: of the event, from 1 on; one that is missing was dropped.
        time: when, in seconds since 1970.
        kind: what.
        more: texts and numbers that belong to it.
    """

    number: int
    time: float
    kind: str
    more: dict[str, Any]


class Recorder:
    """The flight recorder: the last rare events of an actor, bounded in number and size.

    Starts and ends of subactors, with status and traceback, restarts, cancels, rungs, refused peers; no calls and no
    messages.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[RareEvent, int]] = deque()
        self._size = 0
        # How many there ever were.
        self.count = 0
        # When strangers have last caused an event of a kind, and how often since.
        self._of_strangers: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, error: BaseException | None = None, **more: Any) -> None:
        """Keep an event.

        Args:
            kind: what has happened.
            error: with which; kept as text, with its traceback.
            more: texts and numbers; those that are ``None`` are left out.
        """
        told = {name: _shortened(value) for name, value in more.items() if value is not None}
        if error is not None:
            told["error"] = type(error).__name__
            told["traceback"] = _traceback(error)
        self.count += 1
        size = _BESIDE + sum(len(str(value)) for value in told.values())
        self._events.append((RareEvent(self.count, time.time(), kind, told), size))
        self._size += size
        while len(self._events) > MAX_EVENTS or self._size > MAX_BYTES:
            _, size = self._events.popleft()
            self._size -= size

    def note_stranger(self, kind: str, **more: Any) -> None:
        """As :meth:`note`, of what strangers cause: one in a second, which tells how many came since the one before.

        So they can't have what matters dropped.
        """
        last, unseen = self._of_strangers.get(kind, (-1.0, 0))
        now = time.monotonic()
        if last >= 0 and now - last < 1.0:
            self._of_strangers[kind] = (last, unseen + 1)
            return
        self._of_strangers[kind] = (now, 0)
        self.note(kind, unseen=unseen or None, **more)

    def kept(self, since: int = 0) -> list[RareEvent]:
        """The events that are kept, oldest first, of those with a number above ``since``.

        Raises:
            RuntimeError: in another thread: one came meanwhile.
        """
        return [event for event, _ in list(self._events) if event.number > since]


def _shortened(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as exc:
        # An error of the program's own may fail in any way when it is shown.
        text = f"{type(error).__name__}, which can't be shown: {type(exc).__name__}"
    # The end says what has happened.
    return text if len(text) <= MAX_TRACEBACK else f"...\n{text[-MAX_TRACEBACK:]}"
