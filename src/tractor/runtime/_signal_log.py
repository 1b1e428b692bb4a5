"""When this process has got which signal."""

from __future__ import annotations

import trio

SAME_WITHIN = 1.0
"""Seconds between two arrivals of one signal to a group: they are sent one after the other."""


class SignalLog:
    """When this process has got which signal.

    Attributes:
        watching: whether it is told of every signal.
    """

    def __init__(self) -> None:
        self.watching = False
        self._last: dict[int, float] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def note(self, number: int, at: float) -> None:
        """Signal ``number`` has come, at a time of the monotonic clock."""
        self._last[number] = at
        self._changed.unpark_all()

    def got(self, number: int, at: float) -> bool:
        """Whether that signal has come here, too, about then."""
        last = self._last.get(number)
        return last is not None and abs(last - at) <= SAME_WITHIN

    async def wait_for(self, number: int, at: float) -> None:
        """Wait until :meth:`got` is true."""
        while not self.got(number, at):
            await self._changed.park()
