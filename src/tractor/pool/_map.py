"""A map over the workers of a pool."""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, one_line
from tractor._util._caller import Caller
from tractor.pool._items import ONCE, Handling
from tractor.pool._jobs import Call, Job, closed_error
from tractor.pool._queue import JobQueue
from tractor.trionics._ki import ki_protected

log = _log.get_logger("trionics")

T = TypeVar("T")

VALUES_PER_TURN = 128
"""Values at hand that are given before other tasks run; every one is a cancellation point."""


@trio.lowlevel.disable_ki_protection
def _take(items: Iterator[Any]) -> Any:
    """The next item: the user's code, which ctrl-c may end."""
    return next(items)


@trio.lowlevel.disable_ki_protection
async def _await_next(items: AsyncIterator[Any]) -> Any:
    """The next item of an async iterable: the user's code."""
    return await anext(items)


class MapState:
    """Items that are under way and values that are ready.

    Each item that was taken and whose value was not read is in ``live`` (without an outcome) or in ``ready``.
    ``error`` is the first failure; what fails beside it is noted there.  An async iterable is read by a task of the
    pool's, which lasts no longer than the map.
    """

    def __init__(
        self,
        jobs: JobQueue,
        call: Call,
        items: Iterable[Any] | AsyncIterable[Any],
        ordered: bool,
        in_flight: int | None,
        handling: Handling = ONCE,
        caller: Caller | None = None,
    ) -> None:
        self.jobs = jobs
        self.caller = caller
        self.call = call
        self.source = items
        self.items: Iterator[Any] = iter(())
        self.async_items: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable) and not isinstance(items, Iterable):
            self.async_items = aiter(items)
        else:
            self.items = iter(items)
        self.feeding: trio.CancelScope | None = None
        self.room = trio.lowlevel.ParkingLot()
        self.ordered = ordered
        self.in_flight = in_flight
        self.handling = handling
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

    def on_taken(self, job: Job) -> bool:
        """An item goes to a worker."""
        return True

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
        if isinstance(error, RemoteActorError):
            error.note_caller(self.caller)
        if self.handling.return_exceptions and not self.jobs.is_closing:
            self.on_value(job, error)
            return
        del self.live[job.id]
        self.fail(error, job.what())

    def fail(self, error: BaseException, what: str) -> None:
        """The map ends with this error; where it has one already, that tells of this one."""
        if self.error is None:
            self.error = error
        elif error is not self.error:
            self.error.add_note(f"{what} failed, too: {one_line(error)}")
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

    @property
    def has_room(self) -> bool:
        """Whether one more item may be under way."""
        window = self.call.pace.window if self.handling.timeout is None else 1
        return self.taken - self.given < (self.in_flight or 2 * len(self.jobs.takers) * window)

    def fill(self) -> None:
        """Take as many items as may be under way.  Raises what the iterable does, or the key of the map."""
        if self.is_exhausted:
            return
        if self.async_items is not None:
            if self.feeding is None:
                self.jobs.refuse_if_closed()
                self.feeding = trio.CancelScope()
                self.jobs.feeding.add(self.feeding)
                self.jobs.nursery.start_soon(self._feed, self.async_items, self.feeding)
            self.room.unpark_all()
            return
        while self.has_room:
            try:
                item = _take(self.items)
            except StopIteration:
                self.is_exhausted = True
                return
            self._submit(item)

    def _submit(self, item: Any) -> None:
        job = self.jobs.submit(self.call, item, self, self.taken, self.handling)
        self.live[job.id] = job
        self.taken += 1

    async def _feed(self, items: AsyncIterator[Any], scope: trio.CancelScope) -> None:
        """Read an async iterable, as far as there is room; what it raises ends the map."""
        try:
            with scope:
                try:
                    while True:
                        while not self.has_room:
                            await self.room.park()
                        try:
                            item = await _await_next(items)
                        except StopAsyncIteration:
                            break
                        self._submit(item)
                finally:
                    if inspect.isasyncgen(items):
                        await items.aclose()
        except trio.Cancelled:
            raise
        except BaseException as exc:
            if self.is_over and not isinstance(exc, Exception):
                raise
            if self.is_over:
                log.warning("the items of %s failed when they were closed: %r", self.call.path, exc)
            self.fail(exc, "the iterable")
        finally:
            self.jobs.feeding.discard(scope)
            if self.jobs.is_closing and not self.is_over:
                self.fail(closed_error(), "the pool")
            self.feeding = None
            self.async_items = None
            self.is_exhausted = True
            self.news.unpark_all()

    async def withdraw(self) -> None:
        """End the map: have what is under way end, and wait for that.  Shielded."""
        self.finish()
        await self.jobs.withdraw(list(self.live.values()))
        with trio.CancelScope(shield=True):
            while self.feeding is not None:
                await self.news.park()

    def finish(self) -> None:
        """No more items are taken, no more values given."""
        self.is_over = self.is_exhausted = True
        if self.feeding is not None:
            self.feeding.cancel()
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
    under way cancelled; :meth:`aclose` also waits for that.  ``len()`` is the number of items, also of those that were
    read, where the iterable tells it.
    """

    def __init__(self, state: MapState) -> None:
        self._state = state
        self._length: int | None = None
        # Some have a length in name only, or one beyond all numbers: then nobody is told any.
        with contextlib.suppress(Exception):
            hint = operator.length_hint(state.source, -1)
            self._length = None if hint < 0 else hint
        self._token = trio.lowlevel.current_trio_token()
        self._reads = 0
        self._is_read = False

    def __aiter__(self) -> PoolMap[T]:
        return self

    def __len__(self) -> int:
        """All items.  Raises TypeError: the iterable does not tell how many it has."""
        if self._length is None:
            raise TypeError("the items of this map can't be counted: their iterable has no length")
        return self._length

    def __bool__(self) -> bool:
        return True

    def __length_hint__(self) -> int:
        """The values that are left; ``NotImplemented`` where that is not known."""
        return NotImplemented if self._length is None else self._length - self._state.given

    async def __anext__(self) -> T:
        """The next value.

        Raises:
            StopAsyncIteration: there are no more.
            RemoteActorError: an item's call raised; a note tells which item.
            WorkerDied: a worker's process ended; ``what`` is the item that it had.
            ItemTimeout: an item took longer than ``timeout``.
            MsgTypeError: an item or its value can't be sent, or is not what its annotation says.
            TypeError: an item of a ``starmap()`` holds no arguments for the function.
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
                state.room.unpark_all()
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
        if state is not None and not state.is_over and (state.live or state.feeding):
            # Maybe in another thread, or after the run.
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(state.abandon)

    def pformat(self) -> str:
        """A description on one line."""
        state = self._state
        return f"<PoolMap of {state.call.path}: {state.given} values given, {len(state.live)} items under way>"

    __repr__ = pformat
