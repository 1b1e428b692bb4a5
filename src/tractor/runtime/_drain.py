"""How an actor comes to serve nothing any more, without cancelling what it serves."""

from __future__ import annotations

import math
from collections.abc import Collection

import trio

from tractor._util._waiters import Waiters
from tractor.runtime._records import RegistrationRecord
from tractor.runtime.dialog._callee import ServedTask
from tractor.runtime.dialog._host import Served


class Draining:
    """Waits for the end of what an actor serves, which begins nothing new from then on.

    Args:
        served: what it serves.
        changed: wakes who waits for the end of all; each end does, once ``is_begun``.
    """

    def __init__(self, served: Collection[Served], changed: Waiters) -> None:
        self.is_begun = False
        self._served = served
        self._changed = changed
        self._unregistered = trio.Event()

    async def run(
        self,
        seconds: float,
        own: Served | None,
        registration: RegistrationRecord | None,
        nursery: trio.Nursery,
    ) -> bool:
        """Have the actor unregistered, and wait until none but ``own`` is served; whether that came in time."""
        if not self.is_begun:
            self.is_begun = True
            # In a task of its own: that goes on when the time is over, or the caller cancelled.
            nursery.start_soon(self._unregister, registration, name="unregistration")
        with trio.move_on_after(seconds):
            while self._runs_beside(own):
                await self._changed.park()
            await self._unregistered.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return not self._runs_beside(own)

    def _runs_beside(self, own: Served | None) -> bool:
        return any(task is not own for task in self._served)

    @trio.lowlevel.enable_ki_protection
    async def _unregister(self, registration: RegistrationRecord | None) -> None:
        try:
            if registration is not None:
                await registration.stop()
        finally:
            self._unregistered.set()


def checked_timeout(seconds: object) -> float:
    """A time in seconds, which may be for ever.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or not a number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"a time in seconds is needed, not {seconds!r}")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{seconds!r} is no time in seconds: it must be 0 or more")
    return float(seconds)


def serving_task(service: trio.Nursery) -> Served | None:
    """The request that the calling code serves, if it does: it can't wait for its own end."""
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task.parent_nursery is not service:
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    # The first frame of such a task is `ServedTask.run()`.
    frame = getattr(task.coro, "cr_frame", None) if task is not None else None
    found = frame.f_locals.get("self") if frame is not None else None
    return found if isinstance(found, ServedTask) else None
