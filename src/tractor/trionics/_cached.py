"""One shared instance of a context manager for all tasks of an actor that ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, TypeVar

import trio

from tractor import log as _log
from tractor._errors import NoRuntime
from tractor._util._runs import OfRun
from tractor.runtime._state import current_actor
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()

T = TypeVar("T")

NO_KWARGS: Mapping[str, Any] = MappingProxyType({})


class _Slot:
    """What is known under one key.

    ``lock`` is held while the instance is entered and while it is exited by its last user, so at
    most one instance exists at a time.  The slot lives as long as a task holds or wants the lock,
    or uses the instance: ``interested`` counts them.
    """

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.interested = 0
        self.instance: _Instance | None = None


class _Instance:
    """One entered context manager, hosted by a task of its own in the service nursery.

    ``entered`` is set once it has a value; ``ended`` when its exit is over, whatever came of that.
    ``error`` is what it ended with.  ``scopes`` are those of its users' blocks.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.entered = False
        self.error: Exception | None = None
        self.unused = trio.Event()
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self.scopes: set[trio.CancelScope] = set()

    async def host(
        self,
        make: Callable[[], AbstractAsyncContextManager[Any]],
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            with self.scope:
                async with make() as self.value:
                    self.entered = True
                    task_status.started()
                    await self.unused.wait()
        except Exception as error:
            if not self.entered:
                raise
            # Its users raise it: an error of an instance is not an error of the whole actor.
            self.error = error
        finally:
            self.ended.set()
            for scope in self.scopes:
                scope.cancel()

    async def leave(self) -> None:
        """End it as its last user, and wait; a cancelled wait cancels the exit, and still waits."""
        self.unused.set()
        try:
            await self.ended.wait()
        except trio.Cancelled:
            self.scope.cancel()
            with trio.CancelScope(shield=True):
                await self.ended.wait()
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error


_slots = OfRun[dict[Hashable, _Slot]]("tractor_cached_contexts", dict)


def _key_of(
    acm_func: Callable[..., Any],
    kwargs: Mapping[str, Any],
    key: Hashable | Callable[..., Hashable] | None,
) -> Hashable:
    if key is None:
        found: Hashable = tuple(sorted(kwargs.items(), key=lambda item: item[0]))
    else:
        found = key(**kwargs) if callable(key) and not isinstance(key, type) else key
    try:
        hash(found)
    except TypeError as error:
        raise TypeError(
            f"the key of {acm_func!r} can't be hashed: {found!r}; pass `key`, or a function of "
            "the keywords as `key`"
        ) from error
    return acm_func, found


def _encloses(nursery: trio.Nursery, task: trio.lowlevel.Task) -> bool:
    """Whether ``task`` is in a block of ``nursery``, or in a task below it."""
    inside: list[trio.Nursery] = task.child_nurseries
    while nursery not in inside:
        above = task.parent_nursery
        if above is None or above.parent_task is None:
            return False
        task = above.parent_task
        # Nurseries that the parent opened inside `above` are not around this task.
        inside = task.child_nurseries[: task.child_nurseries.index(above) + 1]
    return True


def _service_nursery(tn: trio.Nursery | None) -> trio.Nursery:
    if tn is not None:
        if not _encloses(tn, trio.lowlevel.current_task()):
            raise RuntimeError(
                f"the nursery {tn!r} does not enclose this task: the shared context could end "
                "before the task that uses it; pass a `tn` opened around the call"
            )
        return tn
    try:
        actor = current_actor()
    except NoRuntime as error:
        raise RuntimeError(
            "maybe_open_context() without a runtime needs a nursery: pass `tn`"
        ) from error
    return actor.service_nursery


async def _acquire(
    slot: _Slot,
    acm_func: Callable[..., AbstractAsyncContextManager[T]],
    kwargs: Mapping[str, Any],
    nursery: trio.Nursery,
    scope: trio.CancelScope,
) -> tuple[bool, _Instance]:
    """Become a user of the slot's instance; make one if there is none."""
    async with slot.lock:
        instance = slot.instance
        hit = instance is not None and not instance.ended.is_set()
        if instance is None or not hit:
            instance = _Instance(getattr(acm_func, "__qualname__", repr(acm_func)))
            await nursery.start(instance.host, lambda: acm_func(**kwargs), name=instance.name)
            slot.instance = instance
        else:
            log.info(
                "%s is shared: a cache hit, used %d times", instance.name, len(instance.scopes) + 1
            )
        instance.scopes.add(scope)
        if instance.ended.is_set():
            # It ended between its entry and our being told of that.
            scope.cancel()
    return hit, instance


async def _release(slot: _Slot, instance: _Instance, scope: trio.CancelScope) -> None:
    """Stop being a user; the last one ends the instance."""
    # Shielded, and yet bounded: while we use the instance nobody holds the lock for long, unless it
    # has ended under us, and then it is no more than the entry of the next one.
    with trio.CancelScope(shield=True):
        await slot.lock.acquire()
    try:
        instance.scopes.discard(scope)
        if not instance.scopes:
            if slot.instance is instance:
                slot.instance = None
            await instance.leave()
    finally:
        slot.lock.release()


@ki_protected_manager
async def maybe_open_context(
    acm_func: Callable[..., AbstractAsyncContextManager[T]],
    kwargs: Mapping[str, Any] = NO_KWARGS,
    key: Hashable | Callable[..., Hashable] | None = None,
    tn: trio.Nursery | None = None,
) -> AsyncIterator[tuple[bool, T]]:
    """Use the actor's instance of a context manager; the first user enters it, the last exits it.

    Args:
        acm_func: makes the context manager.
        kwargs: its keywords.
        key: what tells instances of the same ``acm_func`` apart, or a function that gets ``kwargs``
            as keywords and returns it; default: the keywords.
        tn: the nursery of the task that hosts the instance, around the caller; default: the
            actor's service nursery.

    Yields:
        Whether there was an instance already, and its value.

    Raises:
        RuntimeError: ``tn`` is not around the caller; there is no runtime and no ``tn``; or the
            instance was cancelled, by the end of its nursery, while it was in use.
        TypeError: the key can't be hashed.
        Exception: what the entry raised: nothing is kept, and the next user tries again.  What the
            exit raised, for the last user, who waits for it.  If the instance ends in the midst
            of its use, each user's block is cancelled and raises its error.
    """
    nursery = _service_nursery(tn)
    slots = _slots.get()
    slot_key = _key_of(acm_func, kwargs, key)
    slot = slots.setdefault(slot_key, _Slot())
    slot.interested += 1
    try:
        scope = trio.CancelScope()
        hit, instance = await _acquire(slot, acm_func, kwargs, nursery, scope)
        try:
            with scope:
                yield hit, instance.value
        finally:
            await _release(slot, instance, scope)
        if scope.cancelled_caught:
            raise instance.error or RuntimeError(
                f"the shared context {instance.name} ended while it was in use: its nursery was "
                "cancelled"
            )
    finally:
        slot.interested -= 1
        if not slot.interested:
            del slots[slot_key]
