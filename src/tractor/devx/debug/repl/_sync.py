"""Pausing in sync code: in a trio task, in any thread, in an asyncio task."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

import outcome
import trio

import tractor.devx.debug as debug
from tractor import log as _log
from tractor._errors import DebugRequestError, NoRuntime
from tractor.devx.debug.lock._holder import asyncio_task, current_ident, describe
from tractor.devx.debug.lock._session import (
    Holder,
    Lease,
    ReplFixture,
    acquire,
    enter_fixture,
    holds_repl,
    say_paused,
)
from tractor.devx.debug.lock._status import _repl_fail_msg
from tractor.devx.debug.repl._greenback import SyncPauses, portal_is_there, sync_pauses
from tractor.runtime._state import process_actor

if TYPE_CHECKING:
    from tractor.devx.debug.repl._repl import PdbREPL

__all__ = ["current_holder", "pause_from_sync", "retake", "take_terminal"]

log = _log.get_logger()

THREAD_CHECK = 0.1
"""Seconds between two looks whether a thread that has the terminal is alive."""


def pause_from_sync(
    hide_tb: bool = True,
    called_from_builtin: bool = False,
    api_frame: FrameType | None = None,
    allow_no_runtime: bool = False,
    repl_fixture: ReplFixture | None = None,
) -> None:
    """Pause in sync code, and open a REPL at the line after the call once the terminal is free.

    To be called from code in a trio task, in any thread (started by :func:`trio.to_thread.run_sync` or by hand, also
    in one with an asyncio loop of its own) or in an asyncio task that a trio task has started.  The loop of the actor
    runs on while a thread waits and, unless the REPL is in its own thread, while the user is at the prompt.

    Args:
        hide_tb: leave runtime frames out.
        called_from_builtin: it was the builtin ``breakpoint()``.
        api_frame: the frame of the function to open the REPL at the caller of; default: this one's.
        allow_no_runtime: where no runtime is open, open the REPL all the same, without asking for the terminal.
        repl_fixture: as for :func:`tractor.pause`.

    Raises:
        NoRuntime: no runtime is open in this process.
        RuntimeError: greenback is not installed; or the running task can't wait in sync code.
        InternalError: greenback has not been initialised in this actor.
        DebugRequestError: the terminal was refused.
        trio.Cancelled: the task is cancelled.
    """
    __tracebackhide__ = hide_tb
    frame = (api_frame or sys._getframe()).f_back
    assert frame is not None, "called by nobody"
    lease = None
    if process_actor(err_on_no_runtime=not allow_no_runtime) is None:
        holder = Holder(current_ident(), describe(current_ident()))
    else:
        pauses = sync_pauses()
        holder = current_holder(pauses)
        if holds_repl(holder.ident):
            return
        try:
            lease = take_terminal(pauses, holder)
        except BaseException as exc:
            what = "breakpoint()" if called_from_builtin else "pause_from_sync()"
            log.pdb("%s\nin `%s` of %s: %r", _repl_fail_msg, what, holder.text, exc)
            raise
    _open(frame, holder, lease, hide_tb, repl_fixture)


def _sync_pause_from_builtin(*args: Any, **kwargs: Any) -> None:
    """What the builtin ``breakpoint()`` calls; its arguments are those of :func:`pause_from_sync`."""
    __tracebackhide__ = True
    kwargs.setdefault("called_from_builtin", True)
    kwargs.setdefault("api_frame", sys._getframe())
    pause_from_sync(*args, **kwargs)


def _open(
    frame: FrameType,
    holder: Holder,
    lease: Lease | None,
    hide_tb: bool,
    repl_fixture: ReplFixture | None,
) -> None:
    """Have a REPL open at the next line of ``frame``; the lease, if any, ends with it."""
    at_end = contextlib.ExitStack() if lease is None else lease.at_end
    release = at_end.close if lease is None else lease.release
    try:
        repl = debug.mk_pdb(release, hide_tb=hide_tb)
        if lease is not None:
            lease.repl = repl
        if not enter_fixture(at_end, repl, repl_fixture):
            release()
            return
        say_paused(holder)
    except BaseException:
        release()
        raise
    debug.open_at(repl, frame)


# -- the terminal, from sync code ---------------------------------------------------------------------


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
    except (RuntimeError, DebugRequestError) as exc:
        log.pdb("%s: %s", _repl_fail_msg, exc)
        return None
    lease.repl = repl
    say_paused(holder)
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
