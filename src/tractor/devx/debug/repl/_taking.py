"""The terminal for sync code: in a trio task, in any thread, in an asyncio task."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import outcome
import trio

from tractor import log as _log
from tractor._errors import DebugRequestError, NoRuntime
from tractor.devx.debug.lock._holder import asyncio_task, current_ident, describe
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.lock._session import acquire, say_paused
from tractor.devx.debug.lock._status import Holder, _repl_fail_msg
from tractor.devx.debug.repl._greenback import SyncPauses, portal_is_there, sync_pauses
from tractor.runtime._state import process_actor

if TYPE_CHECKING:
    from tractor.devx.debug.repl._repl import PdbREPL

log = _log.get_logger()

THREAD_CHECK = 0.1
"""Seconds between two looks whether a thread that has the terminal is alive."""


def current_holder(pauses: SyncPauses) -> Holder:
    """Who runs here: a task in the actor's own thread, else the thread as a whole."""
    ident: object = threading.current_thread()
    if threading.get_ident() == pauses.thread:
        ident = current_ident()
    return Holder(ident, describe(ident))


def take_terminal(pauses: SyncPauses, holder: Holder, *, shield: bool = False) -> Lease:
    """Wait for the terminal, on behalf of whatever runs here.

    Args:
        pauses: the actor's.
        holder: from :func:`current_holder`.
        shield: also in a cancelled scope.

    Raises:
        RuntimeError: this task can't wait in sync code.
        NoRuntime: the runtime has ended.
        DebugRequestError: the terminal was refused.
        trio.Cancelled: the task is cancelled.
    """
    if isinstance(holder.ident, threading.Thread):
        if threading.get_ident() == pauses.thread:
            raise RuntimeError(
                "sync code can't pause here: this is the thread of the actor's loop, but no task of it runs "
                "(in a callback or an instrument)"
            )
        return _for_thread(pauses, holder)
    is_trio = trio.lowlevel.in_trio_task()
    if not portal_is_there():
        kind = (
            "trio task was started before the debugger"
            if is_trio
            else "asyncio task was not started by `tractor`"
        )
        raise RuntimeError(
            f"sync code can't pause in {holder.text}: this {kind}; "
            "call `await greenback.ensure_portal()` in it first"
        )
    import greenback

    waiting: Coroutine[Any, Any, Lease]
    waiting = acquire(holder, shield=shield) if is_trio else _for_asyncio(pauses, holder)
    lease: Lease = greenback.await_(waiting)
    return lease


def retake(repl: PdbREPL) -> Callable[[], None] | None:
    """Take the terminal for a REPL that was left with a breakpoint, which is hit now.

    Returns:
        What gives it back; ``None``: it can't be had from here.
    """
    if process_actor() is None:
        return lambda: None
    try:
        pauses = sync_pauses()
        holder = current_holder(pauses)
        lease = take_terminal(pauses, holder, shield=True)
        try:
            repl.take(lease)
        except BaseException:
            lease.release()
            raise
    except (RuntimeError, DebugRequestError) as exc:
        log.pdb("%s: %s", _repl_fail_msg, exc)
        return None
    say_paused(lease)
    return lease.release


def _ask(
    pauses: SyncPauses,
    holder: Holder,
    answer: Callable[[outcome.Outcome[Lease]], object],
    until: Callable[[], bool],
) -> Callable[[], None]:
    """Acquire the terminal in a system task of the actor's loop.

    Args:
        pauses: the actor's.
        holder: who asks.
        answer: called once, in the loop's thread.
        until: whether the holder is gone, looked at now and then; the terminal is given back then.

    Returns:
        What withdraws the request, from any thread.

    Raises:
        NoRuntime: the loop has ended.
    """
    scope = trio.CancelScope()

    async def ask() -> None:
        lease = None
        got: outcome.Outcome[Lease]
        try:
            with scope:
                lease = await acquire(holder)
        except trio.Cancelled:
            answer(
                outcome.Error(DebugRequestError("the runtime ended while the terminal was awaited"))
            )
            raise
        except BaseException as exc:
            got = outcome.Error(exc)
        else:
            withdrawn = DebugRequestError(f"the request of {holder.text} was withdrawn")
            got = outcome.Error(withdrawn) if lease is None else outcome.Value(lease)
        answer(got)
        while lease is not None and not lease.released:
            if until():
                lease.release()
            await trio.sleep(THREAD_CHECK)

    def start() -> None:
        trio.lowlevel.spawn_system_task(ask, name=f"terminal for {holder.text}")

    def withdraw() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            pauses.token.run_sync_soon(scope.cancel)

    try:
        pauses.token.run_sync_soon(start)
    except trio.RunFinishedError:
        raise NoRuntime("the actor's runtime has ended: this thread can't pause any more") from None
    return withdraw


def _for_thread(pauses: SyncPauses, holder: Holder) -> Lease:
    """Block this thread until it has the terminal.  Raises NoRuntime, DebugRequestError."""
    answers: SimpleQueue[outcome.Outcome[Lease]] = SimpleQueue()
    thread = threading.current_thread()
    _ask(pauses, holder, answers.put, lambda: not thread.is_alive())
    return answers.get().unwrap()


async def _for_asyncio(pauses: SyncPauses, holder: Holder) -> Lease:
    """Wait in an asyncio task of the actor's thread.

    Raises:
        DebugRequestError: the terminal was refused.
        asyncio.CancelledError: the task was cancelled; nothing is held.
    """
    import asyncio

    future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
    task: Any = asyncio_task()

    def answer(got: outcome.Outcome[Lease]) -> None:
        if not future.done():
            if isinstance(got, outcome.Error):
                future.set_exception(got.error)
            else:
                future.set_result(got.unwrap())
        elif isinstance(got, outcome.Value):
            got.unwrap().release()

    withdraw = _ask(pauses, holder, answer, task.done)
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().release()
        withdraw()
        raise
