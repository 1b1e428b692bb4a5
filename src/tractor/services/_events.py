"""What a supervisor tells of its services, to whoever subscribes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from tractor.trionics._broadcast import Lagged
from tractor.trionics._ki import ki_protected

HELD: Final = 256
"""Events that are kept for a reader who is slow."""


class ServiceEvent(msgspec.Struct, frozen=True):
    """One step of a service.

    Attributes:
        service: its name; of a replica, that one's.
        incarnation: the number of the life that it is about; 0: before the first.
        kind: ``'starting'``, ``'ready'``, ``'ended'``, ``'crashed'``, ``'backoff'``, ``'stopping'``, ``'stopped'``,
            ``'failed'`` or ``'gave-up'``.
        time: when, in seconds since 1970.
        error: with which it ended.
        delay: seconds until it is started again, of ``'backoff'``.
        because: why it is stopped, of ``'stopping'``: ``'stop'``, ``'restart'``, ``'round'``, ``'close'`` or
            ``'start failed'``.
    """

    service: str
    incarnation: int
    kind: str
    time: float
    error: BaseException | None = None
    delay: float | None = None
    because: str | None = None


@ki_protected
class Events:
    """The events from a subscription on: an async iterator, and a context manager that ends the subscription.

    It ends when the supervisor is closed and all events are read.  A reader that is more than 256 behind gets
    :class:`~tractor.trionics.Lagged` once, which tells how many it has lost, and can go on.
    """

    def __init__(self, concerns: Callable[[ServiceEvent], bool]) -> None:
        self._concerns = concerns
        self._held: deque[ServiceEvent] = deque()
        self._lost = 0
        self._ended = False
        self._changed = trio.Event()

    def put(self, event: ServiceEvent) -> None:
        """Called by the supervisor."""
        if self._ended or not self._concerns(event):
            return
        self._held.append(event)
        if len(self._held) > HELD:
            self._held.popleft()
            self._lost += 1
        self._changed.set()

    def end(self) -> None:
        """No more events come; those that are held can still be read."""
        self._ended = True
        self._changed.set()

    close = end

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    @property
    def ended(self) -> bool:
        """Whether no more events come."""
        return self._ended

    def take(self) -> ServiceEvent | None:
        """The next event that is there already; ``None``: none is."""
        return self._held.popleft() if self._held else None

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> ServiceEvent:
        """The next event.

        Raises:
            Lagged: the oldest ones were dropped.
            StopAsyncIteration: the supervisor is closed, or the subscription.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._held and not self._ended:
            self._changed = trio.Event()
            await self._changed.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self._lost:
            lost, self._lost = self._lost, 0
            raise Lagged(lost, HELD)
        if not self._held:
            raise StopAsyncIteration
        return self._held.popleft()
