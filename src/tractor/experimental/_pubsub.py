"""Publish and subscribe: one async generator of an actor, any number of streams that share what it yields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, overload

import trio

from tractor import log as _log
from tractor._errors import ModuleNotExposed
from tractor._proto.pubsub import Line
from tractor.msg._nspath import NamespacePath
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._endpoints import canonical
from tractor.topics._publication import Publication, find_publication, start_publication

log = _log.get_logger("experimental")

F = TypeVar("F", bound=Callable[..., AsyncIterator[Any]])

Packetizer = Callable[[Any, Any], Any]


async def _publish_all(publication: Publication, generator: AsyncIterator[Any]) -> None:
    """Run the generator, to its end."""
    async with aclosing(generator):  # type: ignore[type-var]
        async for published in generator:
            if not isinstance(published, Mapping):
                raise TypeError(
                    f"a publisher must yield a dict of topics and data, and yielded {published!r}"
                )
            for topic, data in published.items():
                await publication.publish(topic, data)
            if not published:
                # A generator that never waits must not keep all others from running.
                await trio.lowlevel.checkpoint()


def _topic_set(topics: Iterable[Hashable] | str) -> frozenset[Hashable]:
    try:
        return frozenset([topics] if isinstance(topics, str) else topics)
    except TypeError as exc:
        raise TypeError(f"topics must be a topic or a list of them, not {topics!r}") from exc


def _packetizer(given: Packetizer | str | None) -> Packetizer | None:
    """The function itself, or the one that a subscriber in another actor has named.

    Raises:
        ModuleNotExposed: it is in a module that peers may not call into.
        TypeError: it can't be called.
    """
    if isinstance(given, str):
        path = NamespacePath(given)
        module, _ = path.to_tuple()
        actor = current_actor()
        if canonical(module) not in actor.enabled:
            raise ModuleNotExposed(
                f"the packetizer {given!r} is in a module that this actor does not expose; add "
                f"{module!r} to `enable_modules`, which now has {sorted(actor.enabled)}"
            )
        given = path.load_ref()
    if given is not None and not callable(given):
        raise TypeError(f"the packetizer must be a function of topic and data, not {given!r}")
    return given


@overload
def msgpub(wrapped: F) -> Callable[..., AsyncIterator[Any]]: ...
@overload
def msgpub(
    wrapped: None = None, *, tasks: Collection[str] = ...
) -> Callable[[F], Callable[..., AsyncIterator[Any]]]: ...
def msgpub(
    wrapped: Callable[..., Any] | None = None, *, tasks: Collection[str] = frozenset()
) -> Any:
    """Make a publisher of an async generator function: any number of streams share what it yields.

    The function needs a parameter ``get_topics``: a function that gives the set of topics that anybody listens to
    right now.  It yields dicts of topics and data.  Peers subscribe with ``portal.open_stream_from(fn, topics=...)``
    and these keywords:

    - ``topics``: a topic or a list of them;
    - ``task_name``: all subscribers of one name share one running generator;
    - ``packetizer``: makes what is sent of a topic and its data, instead of ``{topic: data}``: ``'module:function'``,
      in a module that the publisher's actor enables;
    - all others: the generator's own, of its first subscriber.

    Each subscriber gets one message for each of its topics that is published while it listens.  The generator goes at
    the pace of the slowest: it waits while somebody's buffer (as large as that of a stream) is full.  When it ends, or
    raises, all get what was published before, and then that end or error.  When nobody is left it is cancelled; who
    subscribes afterwards starts it anew.

    Args:
        wrapped: the function, when used without arguments.
        tasks: the names that ``task_name`` may be; default: any.

    Raises:
        TypeError: ``wrapped`` is not an async generator function, or has no such parameter.  A subscriber gets it for
            another ``task_name`` than those of ``tasks``.
    """
    if wrapped is None:
        return functools.partial(msgpub, tasks=tasks)
    fn = wrapped
    name = getattr(fn, "__qualname__", repr(fn))
    if not inspect.isasyncgenfunction(fn):
        raise TypeError(f"the publisher {name!r} must be an async generator function")
    if "get_topics" not in inspect.signature(fn).parameters:
        raise TypeError(f"the publisher {name!r} must have a parameter `get_topics`")
    allowed = frozenset(tasks)

    @functools.wraps(fn)
    async def publisher(
        *,
        topics: Iterable[Hashable] | str,
        task_name: str | None = None,
        packetizer: Packetizer | str | None = None,
        **arguments: Any,
    ) -> AsyncIterator[Any]:
        if allowed and task_name not in allowed:
            raise TypeError(
                f"the publisher {name!r} has no task {task_name!r}; there are: {sorted(allowed)}"
            )
        line = Line(_topic_set(topics), size=max(1, current_actor().msg_buffer_size))
        packet = _packetizer(packetizer) or _as_dict
        publication = _running(fn, task_name, arguments)
        subscriber = publication.join(line)
        try:
            while (delivery := await publication.next(subscriber)) is not None:
                yield packet(delivery.topic, delivery.value)
            if publication.error is not None:
                raise publication.error
        finally:
            await publication.leave(subscriber)

    return publisher


def _as_dict(topic: Any, data: Any) -> Any:
    return {topic: data}


def _running(
    fn: Callable[..., Any], task_name: str | None, arguments: Mapping[str, Any]
) -> Publication:
    """The publication of that name; it is started if there is none."""
    key = (fn, task_name)
    publication = find_publication(key)
    if publication is not None:
        if publication.arguments != arguments:
            log.warning(
                "%s runs already, with other arguments: %r have no effect",
                fn.__qualname__,
                arguments,
            )
        return publication
    publication = Publication(key, fn.__qualname__, arguments)
    generator = fn(get_topics=lambda: publication.topics or set(), **arguments)
    start_publication(publication, functools.partial(_publish_all, publication, generator))
    return publication
