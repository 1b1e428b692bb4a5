"""Raising an exception in an asyncio task that waits.

asyncio itself can only cancel a task. But what a task waits for is a future, and a future can be given an exception;
the task then wakes up with it. That is right only where nobody else waits for that future, and where the code that
waits also tidies up after errors other than `CancelledError`.
"""

from __future__ import annotations

import asyncio
from types import CodeType
from typing import Any

_TIDY_AFTER_ANY_ERROR = {
    "asyncio.tasks": {"sleep"},
    "asyncio.locks": {"Event.wait", "Condition.wait"},
    "asyncio.queues": {"Queue.get", "Queue.put", "Queue.join"},
}
"""Of the standard library's modules that wait for each other's tasks and locks: what may get any exception.

A lock would lose a wake-up, `wait_for()` and a task group would leave tasks behind.
"""

_ONLY_CANCELLED = ("asyncio.", "concurrent.futures")
_ASYNCIO_STREAMS = ("asyncio.streams",)
_JOINS = ("__aexit__", "_aexit")
"""Functions that wait for what a block has started, in any library: structured concurrency is up to them."""
_GREENLET = "_greenback_shim"
"""Greenback's, that runs a task's own coroutine; what sync code in that waits for is hidden."""


def maybe_signal_aio_task(
    aio_task: asyncio.Task[Any],
    exc: BaseException,
    *,
    cause: BaseException | None = None,
    pre_captured_fut: asyncio.Future[Any] | None = None,
    allow_cancel_fallback: bool = False,
) -> tuple[bool, str]:
    """Raise an exception in a task of this thread's asyncio loop, at what it awaits.

    Args:
        aio_task: the task.
        exc: what to raise there.
        cause: becomes the ``__cause__`` of ``exc``.
        pre_captured_fut: only if the task still waits for this future.
        allow_cancel_fallback: cancel the task where the exception can't be raised.

    Returns:
        Whether the task was told in either way, and in words what was done, or why nothing was.
    """
    if cause is not None:
        exc.__cause__ = cause
    if aio_task.done():
        return False, "the task has ended"
    fut = awaited_future(aio_task)
    if isinstance(fut, str):
        why = fut
    elif pre_captured_fut is not None and fut is not pre_captured_fut:
        why = "the task waits for another future by now"
    else:
        set_on_future(fut, exc)
        return True, f"raised {type(exc).__name__} at the future that it awaits"
    if not allow_cancel_fallback:
        return False, why
    aio_task.cancel(f"{type(exc).__name__}: {exc}")
    return True, f"cancelled: {why}"


def set_on_future(fut: asyncio.Future[Any], exc: BaseException) -> None:
    """Give a future an exception, of which it is not told that nobody has looked at it."""
    fut.set_exception(exc)
    fut.exception()


def awaited_future(task: asyncio.Task[Any]) -> asyncio.Future[Any] | str:
    """The future at which an exception can be raised in a task; else why there is none."""
    fut = getattr(task, "_fut_waiter", None)
    if fut is None:
        return "the task is not waiting"
    if not isinstance(fut, asyncio.Future) or type(fut).__name__ != "Future" or fut.done():
        return f"the task waits for a {type(fut).__name__}"
    if len(getattr(fut, "_callbacks", None) or ()) != 1:
        return "others wait for the same future"
    where = innermost_code(task)
    if where is not None and not takes_any_error(*where):
        return f"the task waits in {where[0]}.{_qualname(where[1])}()"
    return fut


def takes_any_error(module: str, code: CodeType) -> bool:
    """Whether code that waits for a future tidies up after any exception, as far as is known."""
    name = _qualname(code)
    if code.co_name in (*_JOINS, _GREENLET):
        return False
    if module.startswith(_ASYNCIO_STREAMS) or not module.startswith(_ONLY_CANCELLED):
        return True
    return name in _TIDY_AFTER_ANY_ERROR.get(module, ())


def _qualname(code: CodeType) -> str:
    return code.co_qualname


def innermost_code(task: asyncio.Task[Any]) -> tuple[str, CodeType] | None:
    """Module and code of the coroutine that waits, at the end of a task's chain; ``None`` where it is hidden."""
    found = codes(task)
    return found[-1] if found else None


def codes(task: asyncio.Task[Any]) -> list[tuple[str, CodeType]]:
    """Module and code of each coroutine in the chain of a task that waits, from the outermost one."""
    awaits: Any = task.get_coro()
    found: list[tuple[str, CodeType]] = []
    while awaits is not None:
        frame = getattr(awaits, "cr_frame", None) or getattr(awaits, "gi_frame", None)
        if frame is None:
            # A future's iterator, or something written in C.
            break
        if frame.f_code.co_name == _GREENLET and not frame.f_locals["orig_coro"].cr_running:
            awaits = frame.f_locals["orig_coro"]
            continue
        found.append((frame.f_globals.get("__name__", ""), frame.f_code))
        awaits = getattr(awaits, "cr_await", None) or getattr(awaits, "gi_yieldfrom", None)
    return found
