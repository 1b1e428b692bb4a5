"""The subscriber's side of a feed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import trio

from tractor._proto.pubsub import Line
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._context import Context, MsgStream
from tractor.runtime.dialog._targets import plain_function
from tractor.topics._publication import Publisher, require_topic
from tractor.topics._publisher import FEED_MARK

ValueT = TypeVar("ValueT")

Slow: TypeAlias = Literal["lossless", "latest", "drop_oldest"]
"""What becomes of values that a subscriber is too slow for."""

WINDOW = 16
"""Values of a ``'drop_oldest'`` subscription that may be on their way, beyond those that wait at the publisher."""


class Item(NamedTuple, Generic[ValueT]):
    """What a subscriber gets: the topic, and a value of it."""

    topic: str
    value: ValueT


class Subscription(Generic[ValueT]):
    """An async iterator of :class:`Item`; see :func:`subscribe`.

    Attributes:
        dropped: how many values this subscriber has lost so far, as of the last item that it got.
    """

    def __init__(
        self, ctx: Context[Any, Any, Any, Any], stream: MsgStream, window: int | None
    ) -> None:
        self.dropped: int = 0
        self._ctx = ctx
        self._stream = stream
        self._window = window
        # Taken, and not granted anew. Of a window of one that is when the next is asked for, so that it is the newest.
        self._taken = 1 if window == 1 else 0
        self._over = False

    async def receive(self) -> Item[ValueT]:
        """The next item.  For one task at a time; cancelled, nothing is lost.

        Raises:
            trio.EndOfChannel: the feed has returned, and all that it had sent was received.
            RemoteActorError: the feed has raised; likewise after what it had sent.
            ContextCancelled, TransportClosed: its actor is going down, or gone.
        """
        if self._over:
            raise trio.EndOfChannel
        if self._window is not None and self._taken >= max(1, self._window // 2):
            await self._stream.send(self._taken)
            self._taken = 0
        delivery = await self._stream.receive()
        if delivery is None:
            self._over = True
            await self._stream.aclose()
            await self._ctx.wait_for_result()
            raise trio.EndOfChannel
        topic, value, self.dropped = delivery
        self._taken += 1
        return Item(topic, value)

    def __aiter__(self) -> Subscription[ValueT]:
        return self

    async def __anext__(self) -> Item[ValueT]:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


@asynccontextmanager
async def subscribe(
    portal: Portal,
    feed: Callable[Concatenate[Publisher[ValueT], ...], Awaitable[None]],
    /,
    *topics: str,
    slow: Slow = "lossless",
    size: int = 1024,
    **arguments: Any,
) -> AsyncIterator[Subscription[ValueT]]:
    """Listen to a feed of another actor, for the length of the block.

    When the block has been entered, nothing is missed that is published from then on.  When it has been left, the
    feed has forgotten this subscriber.  One whose process dies is forgotten, too.

    Args:
        portal: to the actor.
        feed: a function that is decorated with :func:`publisher`, or a ``functools.partial`` of one.
        topics: those to listen to; none: all.
        slow: what becomes of values that this subscriber is too slow for.  ``'lossless'``: the feed waits, and with it
            all its subscribers; ``'latest'``: it gets the newest of each topic; ``'drop_oldest'``: the oldest are lost.
            :attr:`Subscription.dropped` counts those that were lost.
        size: values that may wait at the feed, up to 65,536; of no meaning for ``'latest'``.
        arguments: the feed's own.

    Yields:
        A :class:`Subscription`.

    Raises:
        TypeError: ``feed`` is no feed, or its arguments do not fit; a topic is no string.
        ValueError: ``slow`` or ``size`` makes no sense.
        RuntimeError: the portal leads to this very actor.
        RemoteActorError, ContextCancelled, TransportClosed: as :meth:`Portal.open_context`; and the feed's error.
        MsgTypeError: a value, or an argument, is not of its declared type.
    """
    plain, merged = plain_function(feed)
    arguments = {**merged, **arguments}
    fn = getattr(plain, FEED_MARK, None)
    if fn is None:
        raise TypeError(f"{feed!r} is no feed: decorate it with `@tractor.topics.publisher`")
    for topic in topics:
        require_topic(topic)
    inspect.signature(fn).bind(None, **arguments)
    Line(topics, slow, size)
    window = {"lossless": None, "latest": 1, "drop_oldest": min(size, WINDOW)}[slow]
    opening = portal.open_context(
        plain,
        topics=list(topics) or None,
        slow=slow,
        size=size,
        credit=0 if window == 1 else window,
        arguments=arguments,
    )
    async with opening as (ctx, _), ctx.open_stream() as stream:
        yield Subscription(ctx, stream, window)
