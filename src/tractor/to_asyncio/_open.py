"""Starting asyncio tasks from trio."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import trio

from tractor._proto.aio_link import AioEnd
from tractor.runtime._state import current_actor
from tractor.to_asyncio._chan import LinkedTaskChannel, ToTrio
from tractor.to_asyncio._host import current_host
from tractor.to_asyncio._link import CHANNEL_SIZE, TaskLink, name_of
from tractor.trionics._groups import is_multi_cancelled, raise_as_it_was
from tractor.trionics._ki import ki_protected_manager

_RESERVED = ("chan", "to_trio", "from_trio")

RUN_TASK_SIZE = 1024
"""Values in each direction of the channel of `run_task()` that nobody has read yet, at most."""


@ki_protected_manager
async def open_channel_from(
    target: Callable[..., Any],
    suppress_graceful_exits: bool = True,
    *,
    qsize: int = CHANNEL_SIZE,
    **target_kwargs: Any,
) -> AsyncIterator[tuple[LinkedTaskChannel, Any]]:
    """Run ``target(chan=..., **target_kwargs)`` as an asyncio task that is linked with the block.

    The block is entered when the task calls ``chan.started_nowait(value)``.  Neither side outlives the other: an
    error or a cancel of one ends the other, by the tables of the guide.  When the block has been left, the task has
    ended, or was given up with an error.

    Args:
        target: an async function with a parameter ``chan`` (older: ``to_trio`` and/or ``from_trio``).
        suppress_graceful_exits: whether a task that returns, or a block that is left, while the other side runs is
            no error.
        qsize: how many values may be unread in each direction.
        target_kwargs: its other arguments.  One that is called like a parameter of this function goes to the target
            by ``functools.partial``.

    Yields:
        The :class:`LinkedTaskChannel`, and the value.

    Raises:
        RuntimeError: this actor's trio does not run as a guest of asyncio.
        TypeError: ``target`` has no such parameter, or gives no awaitable; or ``qsize`` is not an integer.
        ValueError: ``qsize`` is less than 1.
        AsyncioCancelled: the task was cancelled, not from here.
        AsyncioTaskExited: it returned before it had started; or, with ``suppress_graceful_exits=False``, at all.
        TrioTaskExited: with ``suppress_graceful_exits=False``: it ended because the block was left.
        AsyncioRuntimeTranslationError: it did not end when it was told to and cancelled.
        BaseException: its own error, or the block's; an exception group of both.
    """
    current_host("open_channel_from()")
    _check_size(target, qsize, CHANNEL_SIZE)
    await trio.lowlevel.checkpoint_if_cancelled()
    wanted = _wanted(target)
    if not wanted:
        raise TypeError(
            f"{name_of(target)}() has no parameter named 'chan' (or 'to_trio', 'from_trio'), "
            "through which open_channel_from() links it"
        )
    link = TaskLink(qsize)
    chan = LinkedTaskChannel(link)
    launch(link, chan, target, target_kwargs, wanted)
    if not {"chan", "to_trio"} & wanted:
        # It has no means to say so.
        link.enter()
    exc: BaseException | None = None
    try:
        with link.scope:
            await link.entry.wait()
            if not link.entry_failed:
                yield chan, link.first
    except BaseException as raised:
        exc = raised
    await leave(link, exc, not suppress_graceful_exits)


async def leave(link: TaskLink, exc: BaseException | None, strict: bool) -> None:
    """End a link after its block, and raise what is to be raised."""
    leaving = await link.end(exc, strict)
    if leaving is None:
        return
    actor = current_actor(err_on_no_runtime=False)
    if actor is None or is_multi_cancelled(leaving):
        raise_as_it_was(leaving)
    try:
        raise_as_it_was(leaving)
    except BaseException:
        # It is what a REPL finds being handled. An error outranks a cancel, also one that comes now.
        with contextlib.suppress(trio.Cancelled):
            await actor.hooks.on_crash(leaving)
        raise


@trio.lowlevel.enable_ki_protection
async def run_task(func: Callable[..., Any], *, qsize: int = RUN_TASK_SIZE, **kwargs: Any) -> Any:
    """Run ``func(**kwargs)`` as an asyncio task and return its value.

    Args:
        func: an async function; it gets a :class:`LinkedTaskChannel` if it has a parameter ``chan``.
        qsize: how many values may be unread in each direction of that channel.
        kwargs: its arguments.  One that is called like a parameter of this function goes to ``func`` by
            ``functools.partial``.

    Raises:
        RuntimeError: this actor's trio does not run as a guest of asyncio.
        TypeError: ``func`` gives no awaitable; or ``qsize`` is not an integer.
        ValueError: ``qsize`` is less than 1.
        AsyncioCancelled: the task was cancelled, not from here.
        AsyncioRuntimeTranslationError: it did not end when it was told to and cancelled.
        BaseException: its own error.
    """
    current_host("run_task()")
    _check_size(func, qsize, RUN_TASK_SIZE)
    await trio.lowlevel.checkpoint_if_cancelled()
    wanted = _wanted(func) - kwargs.keys()
    link = TaskLink(qsize)
    chan = LinkedTaskChannel(link)
    launch(link, chan, func, kwargs, wanted)
    if link.machine.aio is None:
        link.enter()
    exc: BaseException | None = None
    value: Any = None
    try:
        with link.scope:
            value = await chan.wait_for_result()
    except BaseException as raised:
        exc = raised
    await leave(link, exc, False)
    return value if link.machine.aio is AioEnd.RETURNED else None


def launch(
    link: TaskLink,
    chan: LinkedTaskChannel,
    target: Callable[..., Any],
    kwargs: dict[str, Any],
    wanted: set[str],
) -> None:
    """Start the link's task with those of the reserved arguments that it takes.  Raises TypeError."""
    if taken := wanted & kwargs.keys():
        raise TypeError(
            f"{name_of(target)}() gets {sorted(taken)} from tractor, and not as keywords"
        )
    given: dict[str, Any] = {
        "chan": chan,
        "to_trio": ToTrio(link, first_enters="chan" not in wanted),
        "from_trio": link.to_aio,
    }
    link.launch(target, {**kwargs, **{name: given[name] for name in wanted}})


def _check_size(target: Callable[..., Any], qsize: Any, default: int) -> None:
    """Whether ``qsize`` can be a channel's, and is not meant for the function.  Raises TypeError, ValueError."""
    if not isinstance(qsize, int) or isinstance(qsize, bool):
        raise TypeError(f"qsize is a number of values, not {qsize!r}")
    if qsize < 1:
        raise ValueError(f"qsize must be at least 1, not {qsize!r}")
    own = _parameters(target).get("qsize")
    if own is None or "qsize" in getattr(target, "keywords", ()):
        return
    if qsize != default or own.default is own.empty:
        name = name_of(target)
        raise TypeError(
            f"{name}() has a parameter named 'qsize', which is the bound of its channel here; "
            f"give it its own by functools.partial({name}, qsize=...)"
        )


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters, none where they can't be told.  Raises TypeError: it can't be called."""
    if not callable(target):
        raise TypeError(f"{target!r} is not an async function")
    try:
        return inspect.signature(target).parameters
    except ValueError:
        return {}


def _wanted(target: Callable[..., Any]) -> set[str]:
    """Which of the reserved arguments a function takes.  Raises TypeError: it can't be called."""
    parameters = _parameters(target)
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name for name in _RESERVED if name in parameters and parameters[name].kind in by_keyword
    }
