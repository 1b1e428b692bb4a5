"""Having the REPL: getting it, saying so, and giving it back."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import DebugStateError
from tractor.devx._frames import is_runtime_frame
from tractor.devx.debug.lock._debugger import Debugger, debugger_of
from tractor.devx.debug.lock._lease import Lease, NoLease
from tractor.devx.debug.lock._status import Holder, _crash_msg, _pause_msg
from tractor.runtime._state import process_actor
from tractor.runtime._vars import runtime_vars
from tractor.trionics._masking import BoxedMaybeException

log = _log.get_logger()

ReplFixture = Callable[..., AbstractContextManager[Any]]


def holds_repl(ident: object) -> bool:
    """Whether that task or thread of this actor has the REPL already, so that a further pause is a no-op."""
    actor = process_actor()
    return actor is not None and isinstance(actor.hooks, Debugger) and actor.hooks.owns(ident)


@trio.lowlevel.enable_ki_protection
async def acquire(holder: Holder, *, shield: bool = False) -> Lease:
    """Wait for the REPL: for the turn in this actor, then for the tree's one terminal.

    Called in a trio task, for itself or on behalf of a thread or another loop's task.

    Args:
        holder: who wants it.
        shield: wait also in a scope that is cancelled.

    Raises:
        NoRuntime: there is no actor in this process.
        DebugRequestError: the terminal was refused; nothing is held.
        DebugStateError: ``holder`` has, or waits for, it already.
        trio.Cancelled: nothing is held.
    """
    debugger = debugger_of(process_actor(err_on_no_runtime=True))
    if holder.ident == debugger.record.owner or holder.ident in debugger.record.queue:
        raise DebugStateError(f"{holder.text} holds or awaits the REPL already")
    with trio.CancelScope(shield=shield):
        await trio.lowlevel.checkpoint_if_cancelled()
        ask = await debugger.hold(holder)
        debugger.lease = lease = Lease(debugger, holder, ask)
        return lease
    raise AssertionError("a scope without a deadline does not end its block")


def say_paused(lease: Lease | NoLease) -> None:
    """Print what precedes the prompt of a pause."""
    text = f"{_pause_msg}\n\n>(\n|_{_uid_text()}\n{lease.holder.text}\n"
    (lease.say or _log_it)(text)


def _log_it(text: str) -> None:
    log.pdb("%s", text, stacklevel=3)


def say_crashed(
    lease: Lease | NoLease,
    exc: BaseException | None,
    tb: TracebackType | None = None,
    hide_tb: bool = True,
) -> None:
    """Print what precedes the prompt of a post-mortem.

    Args:
        lease: of who has the REPL.
        exc: the error; ``None``: only a traceback is known.
        tb: the traceback that is looked at, where it is not the error's own.
        hide_tb: leave the runtime's frames out, as the REPL does.
    """
    if exc is not None and (tb is None or tb is exc.__traceback__):
        text = format_error(exc, hide_tb)
    else:
        text = "".join(traceback.format_tb(tb))
    said = f"{_crash_msg}\n\nx>(\n |_ {lease.holder.text} @ {_uid_text()}\n\n{text}"
    (lease.say or _log_it)(said)


def format_error(exc: BaseException, hide_tb: bool = True) -> str:
    """An error with its traceback, causes and group members, as text."""
    shown = traceback.TracebackException.from_exception(exc)
    if hide_tb:
        _hide_frames(shown, exc)
    return "".join(shown.format())


def _hide_frames(shown: traceback.TracebackException, exc: BaseException) -> None:
    """Leave runtime frames out, unless nothing would be left."""
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    if len(frames) == len(shown.stack):
        pairs = zip(shown.stack, frames, strict=True)
        visible = [line for line, frame in pairs if not is_runtime_frame(frame)]
        if visible:
            shown.stack = traceback.StackSummary.from_list(visible)
    pairs_below: list[tuple[traceback.TracebackException | None, BaseException | None]] = [
        (shown.__cause__, exc.__cause__),
        (shown.__context__, exc.__context__),
    ]
    if isinstance(exc, BaseExceptionGroup) and shown.exceptions is not None:
        pairs_below += zip(shown.exceptions, exc.exceptions, strict=False)
    for inner_shown, inner in pairs_below:
        if inner_shown is not None and inner is not None:
            _hide_frames(inner_shown, inner)


def _uid_text() -> str:
    actor = process_actor()
    return "(no actor)" if actor is None else str(actor.aid.uid)


def enter_fixture(
    at_end: contextlib.ExitStack,
    repl: Any,
    fixture: ReplFixture | None,
    box: BoxedMaybeException | None = None,
) -> bool:
    """Enter the user's ``repl_fixture``, the argument or else the runtime var.

    Args:
        at_end: leaves it.
        repl: what is about to open.
        fixture: the argument, if one was given.
        box: the exception of a post-mortem.

    Returns:
        Whether the REPL is to be opened: the fixture did not yield ``False``.
    """
    chosen = fixture or runtime_vars().repl_fixture
    if not chosen:
        return True
    return at_end.enter_context(chosen(repl=repl, maybe_bxerr=box)) is not False
