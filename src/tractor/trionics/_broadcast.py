"""One source, many readers: each subscriber gets each value, at the pace of the fastest.

Theory of operation.  The values that were taken from the source stand in a ring, and are numbered from the first; a
subscriber keeps the number of the next one that it reads.  Whoever has read everything takes the next value for all:
the others that need one wait for that task, not for the source, so the source has one reader at a time and no value
is taken twice.  If that task is cancelled, one of those that wait takes over.  A value that a subscriber has not read
when it leaves the ring is lost to it, and its next read says how many were; unless it is one that may not lose any:
then nothing is received before it has read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import msgspec
import trio

from tractor.log import get_logger
from tractor.trionics._ki import ki_protected_manager

log = get_logger("trionics")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Lagged(trio.TooSlowError):
    """A subscriber fell so far behind that values were overwritten before it read them.

    Attributes:
        lost: how many values this subscriber will never see.  Its next receive gives the oldest
            value that is still held.
    """

    def __init__(self, lost: int, max_buffer_size: int) -> None:
        super().__init__(
            f"{lost} values were lost: this subscriber fell more than the buffer's "
            f"{max_buffer_size} behind; read faster or make `max_buffer_size` larger"
        )
        self.lost = lost
        self.max_buffer_size = max_buffer_size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lost, self.max_buffer_size)


class Receivable(Protocol[T_co]):
    """What can be broadcast: anything with ``receive()``, and maybe ``receive_nowait()``."""

    async def receive(self) -> T_co: ...


@runtime_checkable
class AsyncReceiver(Receivable[T_co], Protocol[T_co]):
    """What can be received from, also by ``async for``: trio's receive channels, ``MsgStream``, a subscriber."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    async def __anext__(self) -> T_co: ...


class BroadcastStatistics(msgspec.Struct, frozen=True):
    """State of a broadcaster as one subscriber sees it.

    Attributes:
        max_buffer_size: values that are held at most.
        buffered: values that are held.
        received: values that have come from the source.
        behind: values that this subscriber has not read, lost ones included.
        lost: values that this subscriber was told it had lost.
        subscribers: open subscribers of the source.
        tasks_waiting: tasks that wait for another one's receive.
        raise_on_lag: how this subscriber learns of a loss.
        closed: this subscriber is closed.
    """

    max_buffer_size: int
    buffered: int
    received: int
    behind: int
    lost: int
    subscribers: int
    tasks_waiting: int
    raise_on_lag: bool
    closed: bool


class _Source(Generic[T]):
    """What all subscribers share.

    Value number ``n`` (from 0) is held iff ``received - len(ring) <= n < received``.  At most one
    task is in ``receive`` at a time; ``waiting`` holds the others.  ``end`` is set once: nothing is
    received after it.  ``lossless`` holds the subscribers of which none may be overtaken: while one of them is a
    whole ring behind nothing is received, and who wants more waits until it has read.
    """

    def __init__(
        self,
        max_buffer_size: int,
        receive: Callable[[], Awaitable[T]],
        receive_nowait: Callable[[], T] | None,
    ) -> None:
        self.ring: deque[T] = deque(maxlen=max_buffer_size)
        self.max_buffer_size = max_buffer_size
        self.receive = receive
        self.receive_nowait = receive_nowait
        self.received = 0
        self.receiving = False
        self.waiting = trio.lowlevel.ParkingLot()
        self.subscribers = 0
        self.lossless: set[BroadcastReceiver[T]] = set()
        self.end: Exception | None = None
        self._end_traceback: TracebackType | None = None

    def put(self, value: T) -> None:
        self.ring.append(value)
        self.received += 1

    def is_held_up(self) -> bool:
        """Whether another value would overwrite one that a lossless subscriber has not read."""
        oldest = self.received - self.max_buffer_size
        return any(reader.position <= oldest for reader in self.lossless)

    def finish(self, error: Exception) -> None:
        self.end, self._end_traceback = error, error.__traceback__

    def raise_end(self) -> None:
        """Raise what the source ended with, if it has; its traceback does not grow by that."""
        if self.end is not None:
            raise self.end.with_traceback(self._end_traceback)


class BroadcastReceiver(trio.abc.ReceiveChannel[T]):
    """One subscriber; made by :func:`broadcast_receiver` and :meth:`subscribe`, not by users.

    Closing it leaves the source and the other subscribers as they are.
    """

    def __init__(self, source: _Source[T], raise_on_lag: bool, lossless: bool = False) -> None:
        self._source = source
        self._raise_on_lag = raise_on_lag
        self._next = source.received
        self._lossless = lossless
        if lossless:
            source.lossless.add(self)
        self._lost = 0
        self._closed = False
        self._receive_scope: trio.CancelScope | None = None
        source.subscribers += 1

    @property
    def position(self) -> int:
        """The number of the value that it reads next."""
        return self._next

    @property
    def lags(self) -> bool:
        """Whether values were overwritten that it has not read: the next receive tells."""
        return self._source.received - len(self._source.ring) > self._next

    def _take(self) -> T:
        """The next value; raises WouldBlock, Lagged, or how this or the source ended."""
        if self._closed:
            raise trio.ClosedResourceError("this subscriber was closed")
        source = self._source
        oldest = source.received - len(source.ring)
        lost = oldest - self._next
        if lost > 0:
            self._next = oldest
            self._lost += lost
            if self._raise_on_lag:
                raise Lagged(lost, source.max_buffer_size)
            log.warning(
                "a subscriber lagged: %d values were lost, its buffer is %d",
                lost,
                source.max_buffer_size,
            )
        if self._next < source.received:
            value = source.ring[self._next - oldest]
            self._next += 1
            if self._lossless:
                # Somebody may wait for this very step.
                source.waiting.unpark_all()
            return value
        source.raise_end()
        raise trio.WouldBlock

    async def receive(self) -> T:
        """The next value.  Cancelled while it waits, it has lost none.

        Raises:
            Lagged: values were overwritten before this subscriber read them.
            trio.EndOfChannel: the source has ended, and every value was read.
            trio.ClosedResourceError: this subscriber was closed, or the source was.
            Exception: any other error of the source: it reaches each subscriber after the values
                that came before it, and is final.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            value = self._take()
        except trio.WouldBlock:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return value
        while True:
            if self._source.receiving or self._source.is_held_up():
                await self._source.waiting.park()
            else:
                await self._receive_for_all()
            try:
                return self._take()
            except trio.WouldBlock:
                continue

    async def _receive_for_all(self) -> None:
        source = self._source
        source.receiving = True
        try:
            with trio.CancelScope() as self._receive_scope:
                source.put(await source.receive())
        except Exception as error:
            source.finish(error)
        finally:
            self._receive_scope = None
            source.receiving = False
            # Everybody, not just one: whoever is woken may be closed or cancelled itself and then
            # would not go on receiving for those that still wait.
            source.waiting.unpark_all()

    def receive_nowait(self) -> T:
        """The next value, if it can be had at once.

        Raises:
            trio.WouldBlock: it can't.
            Lagged, Exception: as :meth:`receive`.
        """
        try:
            return self._take()
        except trio.WouldBlock:
            source = self._source
            if source.receiving or source.receive_nowait is None or source.is_held_up():
                raise
        try:
            source.put(source.receive_nowait())
        except trio.WouldBlock:
            raise
        except Exception as error:
            source.finish(error)
        return self._take()

    @ki_protected_manager
    async def subscribe(
        self, raise_on_lag: bool = True, *, lossless: bool = False
    ) -> AsyncIterator[BroadcastReceiver[T]]:
        """Another subscriber, closed at the end of the block.

        It gets the values that come from the source from now on, whatever this one has read.

        Args:
            raise_on_lag: on a loss raise :class:`Lagged`; else log it.
            lossless: there is no loss: while this subscriber is a whole buffer behind, the source is not read, and
                the others wait for it.

        Raises:
            trio.ClosedResourceError: this subscriber was closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("this subscriber was closed")
        async with self._another(raise_on_lag, lossless) as receiver:
            yield receiver

    def _another(self, raise_on_lag: bool, lossless: bool) -> BroadcastReceiver[T]:
        return BroadcastReceiver(self._source, raise_on_lag, lossless)

    async def aclose(self) -> None:
        """Close this subscriber; its waiting tasks get ``ClosedResourceError``.  Idempotent."""
        if not self._closed:
            self._closed = True
            self._source.subscribers -= 1
            self._source.lossless.discard(self)
            if self._receive_scope is not None:
                self._receive_scope.cancel()
            self._source.waiting.unpark_all()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> BroadcastStatistics:
        """A frozen record of plain values."""
        source = self._source
        return BroadcastStatistics(
            max_buffer_size=source.max_buffer_size,
            buffered=len(source.ring),
            received=source.received,
            behind=source.received - self._next,
            lost=self._lost,
            subscribers=source.subscribers,
            tasks_waiting=source.waiting.statistics().tasks_waiting,
            raise_on_lag=self._raise_on_lag,
            closed=self._closed,
        )

    def pformat(self) -> str:
        """A description on one line."""
        stats = self.statistics()
        state = "closed" if stats.closed else f"{stats.behind} behind"
        return f"<{type(self).__name__} {state}, one of {stats.subscribers} subscribers>"

    __repr__ = pformat


class BroadcastChannel(BroadcastReceiver[T]):
    """A subscriber to a two-way channel: it can also send."""

    def __init__(
        self,
        source: _Source[T],
        raise_on_lag: bool,
        send: Callable[[Any], Awaitable[None]],
        lossless: bool = False,
    ) -> None:
        super().__init__(source, raise_on_lag, lossless)
        self._send = send

    async def send(self, value: Any) -> None:
        """Send on the channel below.

        Raises:
            trio.ClosedResourceError: this subscriber was closed.
            Exception: whatever the channel raises.
        """
        if self._closed:
            raise trio.ClosedResourceError("this subscriber was closed")
        await self._send(value)

    def _another(self, raise_on_lag: bool, lossless: bool) -> BroadcastChannel[T]:
        return BroadcastChannel(self._source, raise_on_lag, self._send, lossless)


def broadcast_receiver(
    recv_chan: Receivable[T],
    max_buffer_size: int,
    receive_afunc: Callable[[], Awaitable[T]] | None = None,
    raise_on_lag: bool = True,
    *,
    receive_nowait_func: Callable[[], T] | None = None,
    send_afunc: Callable[[Any], Awaitable[None]] | None = None,
) -> BroadcastReceiver[T]:
    """Let several tasks read one channel, each of them every value.

    Args:
        recv_chan: the source.  Nobody else may receive from it from now on.
        max_buffer_size: values that are held for those who are behind, at least 1.
        receive_afunc: used in place of ``recv_chan.receive``; then ``recv_chan.receive_nowait`` is
            not used either.
        raise_on_lag: on a loss the first subscriber raises :class:`Lagged`; else it is logged.
        receive_nowait_func: used in place of ``recv_chan.receive_nowait``.
        send_afunc: what the ``send()`` of all subscribers calls; without it they have none.

    Returns:
        The first subscriber; the others come from its :meth:`~BroadcastReceiver.subscribe`.

    Raises:
        ValueError: ``max_buffer_size`` is less than 1.
    """
    if max_buffer_size < 1:
        raise ValueError(f"max_buffer_size must be at least 1, not {max_buffer_size!r}")
    if receive_nowait_func is None and receive_afunc is None:
        receive_nowait_func = getattr(recv_chan, "receive_nowait", None)
    source = _Source(max_buffer_size, receive_afunc or recv_chan.receive, receive_nowait_func)
    if send_afunc is None:
        return BroadcastReceiver(source, raise_on_lag)
    return BroadcastChannel(source, raise_on_lag, send_afunc)
