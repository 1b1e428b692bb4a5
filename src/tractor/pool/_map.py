"""A map over the workers of a pool."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

import trio

from tractor._errors import RemoteActorError, one_line
from tractor._util._caller import Caller
from tractor.pool._jobs import Call, Job
from tractor.pool._queue import JobQueue
from tractor.trionics._ki import ki_protected

T = TypeVar("T")

VALUES_PER_TURN = 128
"""Values at hand that are given before other tasks run; every one is a cancellation point."""


@trio.lowlevel.disable_ki_protection
def _take(items: Iterator[Any]) -> Any:
    """The next item: the user's code, which ctrl-c may end."""
    return next(items)


class MapState:
    """Items that are under way and values that are ready.

    Each item that was taken and whose value was not read is in ``live`` (without an outcome) or in ``ready``.
    ``error`` is the first failure; what fails beside it is noted there.
    """

    def __init__(
        self,
        jobs: JobQueue,
        call: Call,
        items: Iterator[Any],
        ordered: bool,
        in_flight: int | None,
        caller: Caller | None = None,
    ) -> None:
        self.jobs = jobs
        self.caller = caller
        self.call = call
        self.items = items
        self.ordered = ordered
        self.in_flight = in_flight
        self.taken = 0
        self.given = 0
        self.live: dict[int, Job] = {}
        self.by_index: dict[int, Any] = {}
        self.in_order: deque[Any] = deque()
        self.error: BaseException | None = None
        self.is_exhausted = False
        self.is_over = False
        self.news = trio.lowlevel.ParkingLot()

    # -- told by the queue ----------------------------------------------------------------------------

    def on_value(self, job: Job, value: Any) -> None:
        """An item's value is ready."""
        del self.live[job.id]
        if self.is_over:
            return
        if self.ordered:
            self.by_index[job.index] = value
            if job.index != self.given:
                return
        else:
            self.in_order.append(value)
        self.news.unpark_all()

    def on_error(self, job: Job, error: BaseException) -> None:
        """An item has failed."""
        del self.live[job.id]
        if self.error is None:
            self.error = error
            if isinstance(error, RemoteActorError):
                error.note_caller(self.caller)
        elif error is not self.error:
            self.error.add_note(f"{job.what()} failed, too: {one_line(error)}")
        self.news.unpark_all()

    def on_dropped(self, job: Job) -> None:
        """An item was withdrawn."""
        del self.live[job.id]

    # -- asked by the iterator ------------------------------------------------------------------------

    @property
    def has_value(self) -> bool:
        """Whether the next value is ready."""
        return self.given in self.by_index if self.ordered else bool(self.in_order)

    def next_value(self) -> Any:
        """The next value, which must be ready."""
        value = self.by_index.pop(self.given) if self.ordered else self.in_order.popleft()
        self.given += 1
        return value

    def fill(self) -> None:
        """Take as many items as may be under way.  Raises what the iterable does."""
        if self.is_exhausted:
            return
        limit = self.in_flight or 2 * len(self.jobs.takers) * self.call.pace.window
        while self.taken - self.given < limit:
            try:
                item = _take(self.items)
            except StopIteration:
                self.is_exhausted = True
                return
            job = self.jobs.submit(self.call, item, self, self.taken)
            self.live[job.id] = job
            self.taken += 1

    async def withdraw(self) -> None:
        """End the map: have what is under way end, and wait for that.  Shielded."""
        self.finish()
        await self.jobs.withdraw(list(self.live.values()))

    def finish(self) -> None:
        """No more items are taken, no more values given."""
        self.is_over = self.is_exhausted = True
        self.by_index.clear()
        self.in_order.clear()
        self.news.unpark_all()

    def abandon(self) -> None:
        """The iterator was thrown away: have what is under way end, without waiting for it."""
        self.finish()
        for taker, had in self.jobs.drop_waiting(list(self.live.values())):
            if not self.jobs.is_closing:
                self.jobs.nursery.start_soon(taker.withdraw, had)


@ki_protected
class PoolMap(AsyncIterator[T], Generic[T]):
    """The values of a :meth:`WorkerPool.map`; not built by users.

    One task at a time may read.  A map that is left early, by ``break`` or an error of the loop's body, has what is
    under way cancelled; :meth:`aclose` also waits for that.
    """

    def __init__(self, state: MapState) -> None:
        self._state = state
        self._token = trio.lowlevel.current_trio_token()
        self._reads = 0
        self._is_read = False

    def __aiter__(self) -> PoolMap[T]:
        return self

    async def __anext__(self) -> T:
        """The next value.

        Raises:
            StopAsyncIteration: there are no more.
            RemoteActorError: an item's call raised; a note tells which item.
            WorkerDied: a worker's process ended; ``what`` is the item that it had.
            RuntimeFailure: the pool is closed.
            trio.BusyResourceError: another task is reading.
            Exception: what the iterable raised.  After each of these, and after a cancellation, the map is over, and
                none of its items runs any more.
        """
        state = self._state
        if self._is_read:
            raise trio.BusyResourceError("another task is reading this map")
        if state.is_over:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        self._is_read = True
        try:
            return await self._next()
        except BaseException:
            await state.withdraw()
            raise
        finally:
            self._is_read = False

    async def _next(self) -> T:
        state = self._state
        self._reads += 1
        state.fill()
        if self._reads % VALUES_PER_TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while True:
            if state.error is not None:
                raise state.error
            if state.has_value:
                value: T = state.next_value()
                return value
            state.fill()
            if state.is_exhausted and not state.live:
                state.finish()
                raise StopAsyncIteration
            await state.news.park()

    async def aclose(self) -> None:
        """End the map and wait until none of its items runs any more.  Shielded and idempotent."""
        await self._state.withdraw()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def __del__(self) -> None:
        state: MapState | None = getattr(self, "_state", None)
        if state is not None and not state.is_over and state.live:
            # Maybe in another thread, or after the run.
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(state.abandon)

    def pformat(self) -> str:
        """A description on one line."""
        state = self._state
        return f"<PoolMap of {state.call.path}: {state.given} values given, {len(state.live)} items under way>"

    __repr__ = pformat
