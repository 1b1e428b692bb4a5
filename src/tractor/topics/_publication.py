"""The carrier of `tractor._proto.pubsub`: a publisher's task, and the tasks of its subscribers in the same actor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

import trio

from tractor import log as _log
from tractor._proto.pubsub import Delivery, Fanout, Line
from tractor._util._runs import OfRun
from tractor._util._waiters import Waiters
from tractor.runtime._state import current_actor

log = _log.get_logger()

ValueT = TypeVar("ValueT")
SentT = TypeVar("SentT", contravariant=True)


class Subscriber:
    """One line, and the task that waits for what comes into it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.changed = Waiters()


class Publication:
    """One running publisher and those who listen.

    It is in the table of publications for as long as it runs: who subscribes after its end starts another one.

    Args:
        key: by which it is found.
        name: for people.
        arguments: with which it runs.
        keep_last: who joins late gets the last value of each topic.
        linger: seconds that it goes on when nobody listens any more.
    """

    def __init__(
        self,
        key: Hashable,
        name: str,
        arguments: Mapping[str, object],
        *,
        keep_last: bool = False,
        linger: float = 0.0,
    ) -> None:
        self.key = key
        self.name = name
        self.arguments = arguments
        self.error: Exception | None = None
        self._linger = linger
        self._fanout = Fanout(keep_last)
        self._subscribers: dict[int, Subscriber] = {}
        self._table = _publications.get()
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        # Publishers that wait for a line to have room; one publishes at a time, so that none is overtaken.
        self._room = Waiters()
        self._turn = trio.StrictFIFOLock()
        # Grows with each subscriber that comes or goes.
        self._comings = 0

    # -- the publisher's side -------------------------------------------------------------------------

    @property
    def topics(self) -> set[Hashable] | None:
        """What anybody listens to right now; ``None``: somebody listens to all."""
        return self._fanout.topics

    async def publish(self, topic: Hashable, value: object) -> bool:
        """Put a value into the line of each subscriber that wants it, once all lossless ones have room.

        Cancelled while it waits, none has got it.

        Returns:
            Whether anybody wanted it.

        Raises:
            trio.ClosedResourceError: the publisher has ended; another task of its actor had kept it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._turn.locked() or self._fanout.holds_up(topic):
            async with self._turn:
                while self._fanout.holds_up(topic) and not self._fanout.over:
                    await self._room.park()
                return self._put(topic, value)
        is_wanted = self._put(topic, value)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return is_wanted

    def _put(self, topic: Hashable, value: object) -> bool:
        if self._fanout.over:
            raise trio.ClosedResourceError(f"the publisher {self.name} has ended")
        lines = self._fanout.publish(topic, value)
        for line in lines:
            self._subscribers[id(line)].changed.wake_all()
        return bool(lines)

    async def run(self, publish: Callable[[], Awaitable[object]]) -> None:
        """The publisher's task: to its end, or until nobody is left."""
        try:
            with self._scope:
                await publish()
        except Exception as exc:
            # Of those who listen, not of the whole actor.
            self.error = exc
            if not self._subscribers:
                log.error("%s failed while nobody listened: %r", self.name, exc, exc_info=exc)
        finally:
            self._forget()
            self._fanout.end()
            self._room.wake_all()
            for subscriber in self._subscribers.values():
                subscriber.changed.wake_all()
            self._over.set()

    def _forget(self) -> None:
        if self._table.get(self.key) is self:
            del self._table[self.key]

    # -- the subscribers' side ------------------------------------------------------------------------

    def join(self, line: Line) -> Subscriber:
        """Listen from now on; ends with :meth:`leave`."""
        subscriber = Subscriber(line)
        self._comings += 1
        self._subscribers[id(line)] = subscriber
        self._fanout.join(line)
        return subscriber

    async def next(self, subscriber: Subscriber) -> Delivery | None:
        """What comes next for it; ``None``: the publisher has ended, and all that it had published was taken."""
        while (delivery := subscriber.line.take()) is None:
            if self._fanout.is_over_for(subscriber.line):
                return None
            await subscriber.changed.park()
        self._room.wake_all()
        return delivery

    async def leave(self, subscriber: Subscriber) -> None:
        """Stop listening.  The last one stops the publisher, unless that lingers, and waits for its end."""
        self._subscribers.pop(id(subscriber.line), None)
        self._comings += 1
        is_last = self._fanout.leave(subscriber.line)
        self._room.wake_all()
        if not is_last or self._over.is_set():
            return
        if not self._linger:
            self._forget()
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await self._over.wait()
        elif self._linger < float("inf"):
            current_actor().service_nursery.start_soon(
                self._end_if_unheard, self._comings, name=f"end of {self.name}"
            )

    async def _end_if_unheard(self, comings: int) -> None:
        with trio.move_on_after(self._linger):
            await self._over.wait()
        if comings == self._comings:
            # Out of the table before it can be joined again.
            self._forget()
            self._scope.cancel()


_publications = OfRun[dict[Hashable, Publication]]("tractor_publications", dict)


def find_publication(key: Hashable) -> Publication | None:
    """The one that runs in this actor; ``None``: none does."""
    return _publications.get().get(key)


def start_publication(publication: Publication, publish: Callable[[], Awaitable[object]]) -> None:
    """Start a publisher's task in this actor; who looks for it finds it from now on."""
    _publications.get()[publication.key] = publication
    current_actor().service_nursery.start_soon(
        publication.run, publish, name=f"publisher {publication.name}"
    )


def require_topic(topic: object) -> None:
    """Return where it can be one.  Raises TypeError."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic is a string, not {topic!r}")


class Publisher(Generic[SentT]):
    """What a feed sends by.  Not built by users: see :func:`tractor.topics.publisher`."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    @property
    def topics(self) -> frozenset[str] | None:
        """The topics that anybody listens to right now; ``None``: somebody listens to all."""
        wanted = self._publication.topics
        return None if wanted is None else frozenset(map(str, wanted))

    async def send(self, value: SentT, topic: str = "") -> bool:
        """Publish a value to all who listen to its topic.

        It waits while one of these that is ``'lossless'`` is as far behind as it may be.  Cancelled then, nobody has
        got the value.  Values that several tasks send are delivered in one order to all.

        Args:
            value: of the feed's ``pld_spec``.
            topic: what it is about.

        Returns:
            Whether anybody listens to that topic.

        Raises:
            TypeError: ``topic`` is no string.
            trio.ClosedResourceError: the feed has ended; another task of its actor had kept this.
        """
        require_topic(topic)
        return await self._publication.publish(topic, value)
