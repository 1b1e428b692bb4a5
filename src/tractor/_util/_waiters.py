"""Tasks that wait until somebody wakes them."""

from __future__ import annotations

from collections import deque
from typing import Any

import trio


class Waiters(deque[trio.lowlevel.Task]):
    """As ``trio.lowlevel.ParkingLot``, for what is woken with every message and seldom has anybody waiting.

    Whether somebody waits is the truth value, so to ask costs no call.
    """

    __slots__ = ()

    async def park(self) -> None:
        """Wait until woken.  Cancelled, the task waits no more."""
        task = trio.lowlevel.current_task()
        self.append(task)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self, n: int = 1) -> None:
        """Wake those who have waited longest, at most ``n``."""
        for _ in range(min(n, len(self))):
            trio.lowlevel.reschedule(self.popleft())

    def wake_all(self) -> None:
        """Wake all who wait now."""
        while self:
            trio.lowlevel.reschedule(self.popleft())
