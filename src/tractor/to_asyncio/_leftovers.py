"""The end of an asyncio loop: what nobody has ended by then is cancelled, and not waited for for ever."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Coroutine
from typing import Any

from tractor import log as _log

log = _log.get_logger()

CANCEL_DEADLINE = 1.6
"""Seconds in which a task must have ended once it was told to, as an actor on the teardown ladder."""


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what tasks are left, shut down async generators and the default executor, close the loop.

    As `asyncio.run()` does, except that tasks which do not end are given up after a deadline, and that errors which
    nobody has looked at are reported now, through the loop's exception handler.
    """
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            _run(loop, _settle(left))
        _run(loop, loop.shutdown_asyncgens())
        _run(loop, loop.shutdown_default_executor())
        _report_unretrieved(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _report_unretrieved(loop: asyncio.AbstractEventLoop) -> None:
    """Report the errors of tasks and futures that nobody has looked at.

    asyncio does so when such a task is collected.  One that something still refers to never is, where the process
    leaves without tearing its modules down, as an actor does.
    """
    for one in gc.get_objects():
        # The type alone: `isinstance()` asks proxies, which is to run their code.
        if not issubclass(type(one), asyncio.Future):
            continue
        # RuntimeError: one that was never initialised.
        with contextlib.suppress(RuntimeError):
            if not one._log_traceback or one.get_loop() is not loop:
                continue
            loop.call_exception_handler(
                {
                    "message": f"{type(one).__name__} exception was never retrieved",
                    "exception": one.exception(),
                    "future": one,
                }
            )


async def _settle(tasks: set[asyncio.Task[Any]]) -> None:
    done, pending = await asyncio.wait(tasks, timeout=CANCEL_DEADLINE)
    for task in done:
        if not task.cancelled() and (exc := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": "unhandled exception while the loop was ending",
                    "exception": exc,
                    "task": task,
                }
            )
    for task in pending:
        log.error(
            "%r was cancelled and still runs after %s s; it is given up", task, CANCEL_DEADLINE
        )
        # Said above.
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def _run(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.Task(coro, loop=loop)
    # Somebody stops the loop: again.
    with contextlib.suppress(RuntimeError):
        loop.run_until_complete(task)
    if not task.done():
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(task)
