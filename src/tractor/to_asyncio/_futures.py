"""Running trio tasks from asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tractor._errors import one_line
from tractor.to_asyncio._host import GuestRun, current_host
from tractor.trionics._groups import is_multi_cancelled


class _TrioTaskFuture(asyncio.Future[Any]):
    """Done only after its trio task is; a cancel is passed on to that."""

    def __init__(self, host: GuestRun[Any], scope: trio.CancelScope) -> None:
        super().__init__(loop=host.loop)
        self._in_trio = host.in_trio
        self._scope = scope

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self._in_trio(self._scope.cancel)
        return True

    def finish_cancelled(self) -> None:
        super().cancel()


def run_trio_task_in_future(
    async_fn: Callable[..., Awaitable[Any]], *args: Any
) -> asyncio.Future[Any]:
    """Run ``async_fn(*args)`` as a trio system task; to be called from asyncio.

    Returns:
        A future for its value or error.  To cancel the future is to cancel the trio task, and the future is done only
        once that is; it is cancelled if the trio task was.

    Raises:
        RuntimeError: this actor's trio does not run as a guest of asyncio, or has finished.
    """
    host = current_host("run_trio_task_in_future()")
    if host.token is None or host.finished:
        raise RuntimeError("run_trio_task_in_future(): trio has finished, or has not begun")
    scope = trio.CancelScope()
    future = _TrioTaskFuture(host, scope)

    async def run() -> None:
        try:
            with scope:
                # A system task's errors are trio's end.
                value = await async_fn(*args)
                if not future.done():
                    future.set_result(value)
                return
            future.finish_cancelled()
        except BaseException as exc:
            if is_multi_cancelled(exc):
                future.finish_cancelled()
                raise
            if not future.done():
                _fail(future, exc)

    name = getattr(async_fn, "__qualname__", None) or repr(async_fn)
    trio.lowlevel.spawn_system_task(run, name=name, context=contextvars.copy_context())
    return future


def _fail(future: asyncio.Future[Any], exc: BaseException) -> None:
    try:
        future.set_exception(exc)
    except TypeError:
        # StopIteration can't be raised into a coroutine.
        future.set_exception(RuntimeError(f"the trio task raised {one_line(exc)}"))
