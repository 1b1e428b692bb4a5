"""Nursery helpers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

import trio

from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected_manager

T = TypeVar("T")


@ki_protected_manager
async def maybe_open_nursery(
    nursery: Any = None,
    shield: bool = False,
    lib: Any = trio,
    **kwargs: Any,
) -> AsyncIterator[Any]:
    """The given nursery, or a new one for the block.

    Args:
        nursery: used as it is, and left open.
        shield: shield a new nursery's cancel scope.
        lib: what has the ``open_nursery()`` that makes a new one: trio, or tractor.
        kwargs: its keywords.

    Yields:
        The nursery.
    """
    if nursery is not None:
        yield nursery
        return
    async with lib.open_nursery(**kwargs) as new:
        if shield:
            new.cancel_scope.shield = True
        yield new


async def start_or_cancel(
    nursery: trio.Nursery,
    async_fn: Callable[..., Awaitable[object]],
    *args: Any,
    name: object = None,
) -> Any:
    """``nursery.start()`` that tells a cancelled start from a function that forgot to report.

    Args:
        nursery: where the task goes once it has called ``task_status.started()``.
        async_fn, args, name: as for :meth:`trio.Nursery.start`.

    Returns:
        What the task passed to ``task_status.started()``.

    Raises:
        trio.Cancelled: the caller was cancelled, also if ``async_fn`` absorbed that and just returned.
        RuntimeError: ``async_fn`` returned without a call of ``started()`` for another reason.
        Exception: whatever ``async_fn`` raised before that.
    """
    returned = False

    async def tracked(*args: Any, task_status: trio.TaskStatus[Any]) -> None:
        nonlocal returned
        await async_fn(*args, task_status=task_status)
        returned = True

    try:
        return await nursery.start(tracked, *args, name=async_fn if name is None else name)
    except RuntimeError as error:
        # A function that returned has raised nothing: then the error is that of `start()`.
        if not returned:
            raise
        await trio.lowlevel.checkpoint_if_cancelled()
        if nursery.cancel_scope.cancel_called:
            error.add_note("the nursery was cancelled before")
        raise


class _Gathering:
    """The contexts of one :func:`gather_contexts` block.

    Each lives in a task of its own, so that its exit is in the task of its entry.  ``settled`` is
    set when every one was entered or one has failed, ``left`` when every task is done.
    """

    def __init__(self, managers: list[AbstractAsyncContextManager[Any]]) -> None:
        self.managers = managers
        self.values: dict[int, Any] = {}
        self.running = len(managers)
        self.scopes = [trio.CancelScope() for _ in managers]
        self.settled = trio.Event()
        self.leave = trio.Event()
        self.left = trio.Event()

    async def hold(self, number: int) -> None:
        try:
            with self.scopes[number]:
                async with self.managers[number] as value:
                    self.values[number] = value
                    if len(self.values) == len(self.managers):
                        self.settled.set()
                    await self.leave.wait()
        finally:
            self.settled.set()
            self.running -= 1
            if not self.running:
                self.left.set()

    async def abort(self) -> None:
        """Cancel all contexts and wait for their exit."""
        for scope in self.scopes:
            scope.cancel()
        with trio.CancelScope(shield=True):
            await self.left.wait()


@ki_protected_manager
async def gather_contexts(
    mngrs: Iterable[AbstractAsyncContextManager[T]],
    tn: trio.Nursery | None = None,
) -> AsyncIterator[tuple[T, ...]]:
    """Enter several async context managers at the same time.

    They also exit at the same time, and all have when the block is left.  Each is entered and
    exited by a task of its own: an error of the block reaches them as a cancellation.

    Args:
        mngrs: the managers, at least one.
        tn: the nursery of those tasks, around the caller; default: one of its own.

    Yields:
        Their values, in the order of ``mngrs``.

    Raises:
        ValueError: ``mngrs`` is empty; nothing was entered.
        RuntimeError: one of them failed to enter, and its error is raised by a ``tn`` that is not
            around the caller.
        BaseException: an error of the block or of a manager; a group if there are several.
    """
    managers = list(mngrs)
    if not managers:
        raise ValueError(
            "gather_contexts() got no context managers: `mngrs` is empty, "
            "or it is an iterator that was used up before"
        )
    gathering = _Gathering(managers)
    # The group of an own nursery is of our making; what a given one raises is not ours to change.
    async with (
        nullcontext() if tn is not None else collapse_eg(add_notes=False),
        maybe_open_nursery(tn) as nursery,
    ):
        for number in range(len(managers)):
            nursery.start_soon(gathering.hold, number)
        try:
            await gathering.settled.wait()
            if len(gathering.values) < len(managers):
                await trio.lowlevel.checkpoint()
                raise RuntimeError(
                    "a context manager failed to enter; its error is raised by the nursery `tn`"
                )
            yield tuple(gathering.values[number] for number in range(len(managers)))
            gathering.leave.set()
            await gathering.left.wait()
        except BaseException:
            await gathering.abort()
            raise
