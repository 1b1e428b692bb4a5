"""The children of an agent, and the way of what they print, and of their ends, to the other side."""

from __future__ import annotations

from collections.abc import Iterator

from tractor.hosts._frames import to_text
from tractor.hosts.agent._children import DRAIN_TIME, LAST_WORDS, RING_SIZE, Child
from tractor.hosts.agent._fields import Ident
from tractor.hosts.agent._link import BUSY, Link, Window

CHUNK = 32 * 1024
"""Bytes of a child's output in one frame."""

LATEST = 1.0
"""Seconds after a child's end in which all that it printed may go before the news of it; then its last words do."""


class Roster:
    """All children whose end was not told yet.

    Args:
        link: where their output and their ends go.
    """

    def __init__(self, link: Link) -> None:
        self.window = Window()
        self._link = link
        self._by_id: dict[Ident, Child] = {}
        self._by_pid: dict[int, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter([*self._by_id.values()])

    def __contains__(self, ident: Ident) -> bool:
        return ident in self._by_id

    def get(self, ident: Ident) -> Child | None:
        """The child of that id; ``None``: there is none, or its end was told."""
        return self._by_id.get(ident)

    def add(self, child: Child) -> None:
        """One was started."""
        self._by_id[child.id] = child
        self._by_pid[child.pid] = child

    def running(self) -> list[Child]:
        """Those that were not reaped."""
        return [*self._by_pid.values()]

    def ended(self, pid: int, status: int, now: float) -> None:
        """Something was reaped; what is none of these, an orphan, is passed over."""
        child = self._by_pid.pop(pid, None)
        if child is not None:
            child.ended(status, now)

    def send(self, now: float, stalled: bool) -> None:
        """Have sent what may be sent: output, each child in turn, and the ends behind it.

        Args:
            now: by the clock that :meth:`ended` was told.
            stalled: nothing has come over for a while: what does not fit is dropped, its oldest part first, so that no
                child waits for the link.
        """
        progress = True
        while progress:
            progress = False
            for child in self:
                if child.printed and self.window.room and self._link.waiting < BUSY:
                    self._send_chunk(child, min(CHUNK, self.window.room))
                    # The next one's turn: where there is room for one chunk at a time, the first would take all.
                    self._by_id[child.id] = self._by_id.pop(child.id)
                    progress = True
        for child in self:
            # Not while the next read might be too much for it.
            child.is_full = not stalled and len(child.printed) > RING_SIZE // 2
            if child.status is not None:
                self._tell_end(child, now)

    def flush(self) -> None:
        """Have all of it sent, whatever it takes: this is the end."""
        for child in self:
            child.drain()
            if child.status is not None:
                self._tell_end(child, child.ended_at + LATEST)

    def _tell_end(self, child: Child, now: float) -> None:
        if child.output >= 0:
            if now < child.ended_at + DRAIN_TIME:
                return
            child.drain()
        if child.printed and now >= child.ended_at + LATEST:
            child.keep(LAST_WORDS)
            self._send_chunk(child, LAST_WORDS)
        if not child.printed:
            self._link.send({"t": "exit", "id": child.id, "status": child.status})
            del self._by_id[child.id]

    def next_at(self) -> float | None:
        """When :meth:`send` has something to do for an end, whatever happens until then."""
        times = [
            child.ended_at + (DRAIN_TIME if child.output >= 0 else LATEST)
            for child in self
            if child.status is not None
        ]
        return min(times, default=None)

    def _send_chunk(self, child: Child, size: int) -> None:
        data, dropped = child.take(size)
        frame = {"t": "err", "id": child.id, "data": to_text(data)}
        if dropped:
            frame["dropped"] = dropped
        self.window.sent(self._link.send(frame))
