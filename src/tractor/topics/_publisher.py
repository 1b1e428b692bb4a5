"""What makes a feed of an async function: the endpoint that subscribers open."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from types import GenericAlias
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints, overload

import msgspec
import trio

from tractor._proto.pubsub import Line
from tractor.runtime.dialog._context import Context, MsgStream
from tractor.runtime.dialog._endpoints import context
from tractor.topics._publication import (
    Publication,
    Publisher,
    Subscriber,
    find_publication,
    start_publication,
)

P = ParamSpec("P")
ValueT = TypeVar("ValueT")

FeedFunction = Callable[Concatenate[Publisher[ValueT], P], Awaitable[None]]

FEED_MARK = "__tractor_feed__"
"""The attribute by which a feed's endpoint leads to its function."""


@overload
def publisher(fn: FeedFunction[ValueT, P]) -> FeedFunction[ValueT, P]: ...
@overload
def publisher(
    fn: None = None, *, pld_spec: Any = Any, keep_last: bool = False, linger: float = 0.0
) -> Callable[[FeedFunction[ValueT, P]], FeedFunction[ValueT, P]]: ...
def publisher(
    fn: Any = None, *, pld_spec: Any = Any, keep_last: bool = False, linger: float = 0.0
) -> Any:
    """Make a feed of an async function: one run of it feeds all who subscribe, by :func:`tractor.topics.subscribe`.

    The function's first parameter gets the :class:`Publisher` that it sends by; others are arguments of its
    subscribers, and those of equal arguments share one run.  It is found as other endpoints are: at the top of a
    module that its actor enables.

    It begins with the first subscriber, and is cancelled when the last one has left, whose block is not left before
    that.  When it returns, its subscribers get what it has sent, then the end; when it raises, the error.  Who
    subscribes afterwards starts it anew.

    Args:
        fn: the function, when used without arguments.
        pld_spec: the type of the values; default: any plain data.
        keep_last: the last value of each topic is kept, and is what somebody who joins late gets first, in the order
            in which they were sent.
        linger: seconds that it goes on when nobody listens any more; ``math.inf``: until its actor ends.

    Raises:
        TypeError: it is not an async function with a parameter by position.
        ValueError: ``linger`` is below 0, or no number.
    """
    if fn is None:
        return partial(publisher, pld_spec=pld_spec, keep_last=keep_last, linger=linger)
    name = getattr(fn, "__qualname__", repr(fn))
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"the feed {name!r} must be an async function, and none that yields")
    if not _takes_publisher(fn):
        raise TypeError(f"the feed {name!r} needs a first parameter for its `Publisher`")
    if not linger >= 0:
        raise ValueError(f"linger={linger!r}: it is a number of seconds, from 0 on")
    payload = type(None) if pld_spec is None else pld_spec

    async def endpoint(
        ctx: Context,
        topics: list[str] | None,
        slow: str,
        size: int,
        credit: int | None,
        arguments: dict[str, Any],
    ) -> None:
        line = Line(topics, slow, size, credit)
        publication = _joined_or_started(fn, name, arguments, keep_last, linger)
        subscriber = publication.join(line)
        try:
            await ctx.started(None)
            async with ctx.open_stream() as stream:
                await _serve(publication, subscriber, stream)
        finally:
            await publication.leave(subscriber)
        if publication.error is not None:
            raise publication.error

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(endpoint, attribute, getattr(fn, attribute))
    setattr(endpoint, FEED_MARK, fn)
    return context(pld_spec=GenericAlias(tuple, (str, payload, int)) | int | None)(endpoint)


def _takes_publisher(fn: Callable[..., Any]) -> bool:
    first = next(iter(inspect.signature(fn).parameters.values()), None)
    return first is not None and first.kind in (
        first.POSITIONAL_ONLY,
        first.POSITIONAL_OR_KEYWORD,
        first.VAR_POSITIONAL,
    )


def _joined_or_started(
    fn: Any, name: str, arguments: dict[str, Any], keep_last: bool, linger: float
) -> Publication:
    """The publication for these arguments.

    Raises:
        TypeError: they do not fit the function.
        msgspec.ValidationError: one is not what its annotation says.
    """
    inspect.signature(fn).bind(None, **arguments)
    given = _converted(fn, arguments)
    key: Hashable = (fn, msgspec.json.encode(given, enc_hook=repr, order="sorted"))
    publication = find_publication(key)
    if publication is None:
        publication = Publication(key, name, given, keep_last=keep_last, linger=linger)
        start_publication(publication, partial(fn, Publisher(publication), **given))
    return publication


def _converted(fn: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """What came as plain data, as the function is annotated."""
    try:
        hints = get_type_hints(fn)
    except (NameError, TypeError):
        # One that can't be evaluated asks for nothing, as with other endpoints.
        hints = {}
    return {name: msgspec.convert(value, hints.get(name, Any)) for name, value in arguments.items()}


async def _serve(publication: Publication, subscriber: Subscriber, stream: MsgStream) -> None:
    """Send a subscriber what is in its line, until it leaves, or has read the end."""
    async with trio.open_nursery() as tn:

        async def send_all() -> None:
            while (delivery := await publication.next(subscriber)) is not None:
                await stream.send(tuple(delivery))
            await stream.send(None)

        tn.start_soon(send_all)
        async for count in stream:
            subscriber.line.grant(count)
            subscriber.changed.wake_all()
        tn.cancel_scope.cancel()
