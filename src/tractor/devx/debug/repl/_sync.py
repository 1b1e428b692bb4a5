"""Pausing in sync code: in a trio task, in any thread, in an asyncio task."""

from __future__ import annotations

from types import FrameType
from typing import Any

from tractor import log as _log
from tractor._util._frames import frame_at
from tractor.devx.debug.lock._holder import current_ident, describe
from tractor.devx.debug.lock._lease import Lease, NoLease
from tractor.devx.debug.lock._session import ReplFixture, holds_repl
from tractor.devx.debug.lock._status import Holder, _repl_fail_msg
from tractor.devx.debug.repl import _opening
from tractor.devx.debug.repl._greenback import sync_pauses
from tractor.devx.debug.repl._taking import current_holder, take_terminal
from tractor.runtime._state import process_actor

log = _log.get_logger()


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
    frame = (api_frame or frame_at()).f_back
    assert frame is not None, "called by nobody"
    lease: Lease | NoLease
    if process_actor(err_on_no_runtime=not allow_no_runtime) is None:
        lease = NoLease(Holder(current_ident(), describe(current_ident())))
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
    repl = _opening.for_pause(lease, repl_fixture, hide_tb)
    if repl is not None:
        _opening.open_at(repl, frame)


def _sync_pause_from_builtin(*args: Any, **kwargs: Any) -> None:
    """What the builtin ``breakpoint()`` calls; its arguments are those of :func:`pause_from_sync`."""
    __tracebackhide__ = True
    kwargs.setdefault("called_from_builtin", True)
    kwargs.setdefault("api_frame", frame_at())
    pause_from_sync(*args, **kwargs)
