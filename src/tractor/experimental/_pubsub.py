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
from tractor._util._runs import OfRun
from tractor.msg._nspath import NamespacePath
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._endpoints import canonical

log = _log.get_logger("experimental")

F = TypeVar("F", bound=Callable[..., AsyncIterator[Any]])

Packetizer = Callable[[Any, Any], Any]


class _Subscriber:
    """One stream: its topics, and packets that it has not sent yet."""

    def __init__(
        self, topics: frozenset[Hashable], packetizer: Packetizer | None, buffer: int
    ) -> None:
        self.topics = topics
        self.packetizer = packetizer
        self.send, self.receive = trio.open_memory_channel[Any](buffer)


class _Publication:
    """One running generator and those who listen.

    It is in the table of publications for as long as its generator runs: who subscribes later starts another one.
    """

    def __init__(self, key: Hashable, table: dict[Hashable, _Publication]) -> None:
        self.key = key
        self.table = table
        self.subscribers: list[_Subscriber] = []
        self.arguments: Mapping[str, Any] = {}
        self.error: Exception | None = None
        self.scope = trio.CancelScope()
        self.over = trio.Event()

    def topics(self) -> set[Hashable]:
        """What anybody wants to hear of right now."""
        return {topic for subscriber in self.subscribers for topic in subscriber.topics}

    async def run(self, generator: AsyncIterator[Any]) -> None:
        """The task that runs the generator, to its end or until nobody is left."""
        try:
            with self.scope:
                async with aclosing(generator):  # type: ignore[type-var]
                    async for published in generator:
                        await self._publish(published)
        except Exception as exc:
            # Of those who listen, not of the whole actor.
            self.error = exc
            if not self.subscribers:
                log.error(
                    "a publisher that nobody listens to any more failed: %r", exc, exc_info=exc
                )
        finally:
            if self.table.get(self.key) is self:
                del self.table[self.key]
            for subscriber in self.subscribers:
                subscriber.send.close()
            self.over.set()

    async def _publish(self, published: Any) -> None:
        if not isinstance(published, Mapping):
            raise TypeError(
                f"a publisher must yield a dict of topics and data, and yielded {published!r}"
            )
        was_sent = False
        for topic, data in published.items():
            for subscriber in list(self.subscribers):
                if topic in subscriber.topics:
                    packet = (
                        {topic: data}
                        if subscriber.packetizer is None
                        else subscriber.packetizer(topic, data)
                    )
                    try:
                        await subscriber.send.send(packet)
                    except trio.BrokenResourceError:
                        continue
                    was_sent = True
        if not was_sent:
            # A generator that never waits must not keep all others from running.
            await trio.lowlevel.checkpoint()

    async def leave(self, subscriber: _Subscriber) -> None:
        """Stop listening; the last one stops the generator and waits for its end."""
        subscriber.receive.close()
        self.subscribers.remove(subscriber)
        if not self.subscribers:
            if self.table.get(self.key) is self:
                del self.table[self.key]
            self.scope.cancel()
            with trio.CancelScope(shield=True):
                await self.over.wait()


_publications = OfRun[dict[Hashable, _Publication]]("tractor_publications", dict)


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
        actor = current_actor()
        subscriber = _Subscriber(
            _topic_set(topics), _packetizer(packetizer), max(1, actor.msg_buffer_size)
        )
        publication = _join(fn, task_name, arguments, subscriber)
        try:
            async for packet in subscriber.receive:
                yield packet
            if publication.error is not None:
                raise publication.error
        finally:
            await publication.leave(subscriber)

    return publisher


def _join(
    fn: Callable[..., Any],
    task_name: str | None,
    arguments: Mapping[str, Any],
    subscriber: _Subscriber,
) -> _Publication:
    """Listen to the publication of that name; start it if there is none."""
    table, key = _publications.get(), (fn, task_name)
    publication = table.get(key)
    if publication is not None:
        if publication.arguments != arguments:
            log.warning(
                "%s runs already, with other arguments: %r have no effect",
                fn.__qualname__,
                arguments,
            )
        publication.subscribers.append(subscriber)
        return publication
    publication = _Publication(key, table)
    generator = fn(get_topics=publication.topics, **arguments)
    publication.arguments = arguments
    publication.subscribers.append(subscriber)
    table[key] = publication
    current_actor().service_nursery.start_soon(
        publication.run, generator, name=f"publisher {fn.__qualname__}"
    )
    return publication
