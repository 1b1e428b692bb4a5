"""The queue towards an asyncio task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class AsyncioQueue(asyncio.Queue[Any]):
    """What a linked asyncio task reads from its trio side; also what a target gets as ``from_trio``.

    Once the trio side has ended, values that it had sent can still be read; then every read raises.

    Attributes:
        taken: values that were read.
        told: whether the end was raised in the task.
        on_idle: called when a reader has nothing to read.

    Args:
        on_read: called when a value was taken.
        on_swallowed: called when the end was raised in a reader that goes on reading.
    """

    def __init__(self, on_read: Callable[[], None], on_swallowed: Callable[[], None]) -> None:
        super().__init__()
        self.taken = 0
        self.told = False
        self.on_idle: Callable[[], object] | None = None
        self._on_read = on_read
        self._on_swallowed = on_swallowed
        self._end: BaseException | None = None

    def _get(self) -> Any:
        item = super()._get()
        self.taken += 1
        self._on_read()
        return item

    @property
    def read_now(self) -> bool:
        """Whether a task waits for a value."""
        getters: Any = self._getters  # type: ignore[attr-defined]
        return any(not getter.done() for getter in getters)

    async def get(self) -> Any:
        """The next value.

        Raises:
            TrioTaskExited, TrioCancelled: the trio side has ended, and all values were read.
            asyncio.QueueShutDown: the second time, after a graceful exit, on Python 3.13 and newer.
        """
        if self._end is not None and self.empty():
            if not self.told:
                self.told = True
                raise self._end
            # A reader that ignores every error must not keep the loop busy.
            self._on_swallowed()
            await asyncio.sleep(0)
            raise self._end
        if self.on_idle is not None and self.empty():
            # Once this reader waits.
            asyncio.get_running_loop().call_soon(self.on_idle)
        return await super().get()

    def end(self, exc: BaseException) -> None:
        """No value follows; a read of the empty queue raises ``exc``.  Who waits already is not woken by this."""
        self._end = exc

    def close(self, graceful: bool) -> None:
        """Wake whoever still waits, in tasks that nobody has linked; to be called after :meth:`end`."""
        shutdown = getattr(self, "shutdown", None)
        if graceful and shutdown is not None:
            shutdown()
            return
        getters: Any = self._getters  # type: ignore[attr-defined]
        for getter in list(getters):
            if not getter.done() and self._end is not None:
                getter.set_exception(self._end)
