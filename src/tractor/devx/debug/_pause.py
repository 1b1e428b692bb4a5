"""Pausing in a trio task, and having the terminal without a REPL."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any

import trio

from tractor import log as _log
from tractor._util._frames import frame_at
from tractor.devx.debug.lock._debugger import Debugger, debugger_of
from tractor.devx.debug.lock._session import (
    ReplFixture,
    acquire,
    holds_repl,
)
from tractor.devx.debug.lock._status import Holder, _repl_fail_msg
from tractor.devx.debug.repl import _opening
from tractor.msg.types import Uid
from tractor.runtime._state import process_actor
from tractor.runtime._vars import debug_mode
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()


async def pause(
    *,
    hide_tb: bool = True,
    api_frame: FrameType | None = None,
    shield: bool = False,
    repl_fixture: ReplFixture | None = None,
) -> None:
    """Stop the calling trio task and open a REPL at the line after this call.

    Only one task of the whole tree has the terminal at a time; others wait for their turn.  A task that has it, and
    comes here again by stepping, goes on stepping.

    Args:
        hide_tb: leave the runtime's frames out of what the REPL shows.
        api_frame: the frame of a function of the caller's own that stands for this one: the REPL opens in its caller.
        shield: also in a scope that is cancelled; the cancellation goes on afterwards.
        repl_fixture: context manager factory, called with ``repl=`` and ``maybe_bxerr=``, round the REPL; when it
            yields ``False`` no REPL is opened.

    Raises:
        NoRuntime: there is no actor in this process.
        RuntimeError: the task is in another trio loop than the actor's, in a thread of its own.
        DebugRequestError: the terminal was refused; nothing is held.
        trio.Cancelled: the scope is, or was while waiting, cancelled, and ``shield`` is false.
        bdb.BdbQuit: at the next line: the user has quit the REPL.
    """
    __tracebackhide__ = hide_tb
    process_actor(err_on_no_runtime=True)
    frame = api_frame or frame_at()
    repl = await _open(hide_tb, shield, repl_fixture)
    if repl is not None:
        assert frame.f_back is not None
        # The last thing that is done: all that this thread calls afterwards is traced.
        _opening.open_at(repl, frame.f_back)


async def _open(hide_tb: bool, shield: bool, fixture: ReplFixture | None) -> Any:
    """Get the terminal and make a REPL for the calling task; ``None``: it goes on without."""
    __tracebackhide__ = hide_tb
    task = trio.lowlevel.current_task()
    if holds_repl(task):
        await trio.lowlevel.checkpoint()
        return None
    holder = Holder(task, repr(task))
    try:
        lease = await acquire(holder, shield=shield)
    except BaseException as exc:
        _say_failed(exc, shield)
        raise
    try:
        return _opening.for_pause(lease, fixture, hide_tb)
    except BaseException as exc:
        _say_failed(exc, True)
        raise


def _say_failed(exc: BaseException, shield: bool) -> None:
    hint = ""
    if isinstance(exc, trio.Cancelled) and not shield:
        hint = (
            "\nthe task is in a scope that is cancelled; to pause it all the same use\n\n"
            "  await tractor.pause(shield=True)\n"
        )
    log.pdb("%s: %r%s", _repl_fail_msg, exc, hint)


async def breakpoint(
    *,
    hide_tb: bool = True,
    api_frame: FrameType | None = None,
    shield: bool = False,
    repl_fixture: ReplFixture | None = None,
) -> None:
    """The outdated name of :func:`pause`."""
    warnings.warn(
        "`tractor.breakpoint()` is outdated; use `tractor.pause()`",
        DeprecationWarning,
        stacklevel=2,
    )
    await pause(
        hide_tb=hide_tb,
        api_frame=api_frame or frame_at(),
        shield=shield,
        repl_fixture=repl_fixture,
    )


async def maybe_pause_bp() -> None:
    """Pause where debug mode is on, at the line after this call; else do nothing."""
    if debug_mode():
        await pause(api_frame=frame_at())


async def maybe_wait_for_debugger(
    poll_steps: int = 2,
    poll_delay: float = 0.1,
    child_in_debug: bool = False,
    header_msg: str = "",
) -> bool:
    """Wait, shielded, until nobody whom this actor knows of holds or awaits the REPL; the root knows of all.

    Args:
        poll_steps: how often to look again before it is believed that nobody does.
        poll_delay: seconds between two looks.
        child_in_debug: a child is known to be about to ask: look also where debug mode is off here.
        header_msg: logged, with who holds the REPL, when there is something to wait for.

    Returns:
        Whether there was something to wait for.
    """
    actor = process_actor(err_on_no_runtime=True)
    waited = False
    if not (child_in_debug or debug_mode()) and not isinstance(actor.hooks, Debugger):
        await trio.lowlevel.checkpoint()
        return waited
    debugger = debugger_of(actor)
    with trio.CancelScope(shield=True):
        for _ in range(max(poll_steps, 1)):
            if debugger.repl_busy():
                waited = True
                stats = debugger.statistics()
                log.devx("%s the REPL is in use by %s", header_msg, stats.holder or stats.waiting)
                await debugger.wait_for_repl()
                break
            await trio.sleep(poll_delay)
    return waited


@ki_protected_manager
async def acquire_debug_lock(subactor_uid: Uid) -> AsyncIterator[Any]:
    """Have the tree's terminal for the length of the block, without a REPL.

    Args:
        subactor_uid: this actor's own uid.

    Yields:
        In a subactor the request's dialog, with its ``cid`` and ``chan``; ``None`` in the root, and where debug mode
        is off.

    Raises:
        NoRuntime: there is no actor in this process.
        ValueError: the uid is another actor's.
        DebugRequestError: the terminal was refused.
    """
    actor = process_actor(err_on_no_runtime=True)
    if tuple(subactor_uid) != actor.aid.uid:
        raise ValueError(
            f"the terminal can be had for this actor {actor.aid.uid} only, not for {subactor_uid}"
        )
    if not debug_mode():
        yield None
        return
    task = trio.lowlevel.current_task()
    lease = await acquire(Holder(task, repr(task)))
    try:
        yield lease.dialog
    finally:
        lease.release()
