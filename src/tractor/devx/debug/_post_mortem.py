"""Post-mortems: by hand, and for every error that leaves an actor in debug mode."""

from __future__ import annotations

import bdb
import contextlib
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import trio

from tractor import log as _log
from tractor._errors import ContextCancelled, DebugRequestError, RemoteActorError, TransportClosed
from tractor.devx.debug.lock._debugger import debugger_of
from tractor.devx.debug.lock._session import (
    ReplFixture,
    acquire,
    holds_repl,
)
from tractor.devx.debug.lock._status import Holder, _repl_fail_msg
from tractor.devx.debug.repl import _opening
from tractor.devx.debug.repl._respawn import crashing, respawn_if_wanted
from tractor.runtime._state import process_actor
from tractor.trionics._groups import is_multi_cancelled, leaves
from tractor.trionics._masking import BoxedMaybeException

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

log = _log.get_logger()

DebugFilter = Callable[[BaseException], bool]

NO_CRASH: tuple[type[BaseException], ...] = (
    trio.Cancelled,
    ContextCancelled,
    KeyboardInterrupt,
    TransportClosed,
    bdb.BdbQuit,
)
"""What is not a crash, alone or in groups of nothing else."""

SEEN = "__tractor_repl__"
"""The attribute of an exception for which this actor has opened the REPL already."""


def is_crash(exc: BaseException) -> bool:
    """Whether an exception is a reason for a REPL: more than cancellations, lost peers and users who quit."""
    return not all(
        isinstance(leaf, NO_CRASH)
        # A lost connection, told by the nursery of a child that has ended in good order because of it.
        or (isinstance(leaf.__cause__, TransportClosed) and getattr(leaf, "returncode", None) == 0)
        # A cancellation that came through a further actor.
        or (isinstance(leaf, RemoteActorError) and leaf.src_type is trio.Cancelled)
        for leaf in leaves(exc)
    )


def _default_filter(exc: BaseException) -> bool:
    return not is_multi_cancelled(exc)


def arm(actor: Actor, debug_filter: DebugFilter | None = None) -> None:
    """Have every error that leaves a task of ``actor`` open the REPL."""
    chosen = debug_filter or _default_filter

    async def crash_repl(exc: BaseException) -> None:
        # Whatever goes wrong here must not replace the error itself.
        try:
            if is_crash(exc) and _is_new(exc) and chosen(exc):
                await _open_for_crash(exc)
        except Exception:
            log.exception("no post-mortem for the %r", type(exc).__name__)

    debugger_of(actor).crash_repl = crash_repl


def _is_new(exc: BaseException) -> bool:
    """Whether no REPL was opened yet in this actor for that exception, or for each of its group."""
    return not (getattr(exc, SEEN, False) or all(getattr(one, SEEN, False) for one in leaves(exc)))


def _note_seen(exc: BaseException) -> None:
    for one in (exc, *leaves(exc)):
        with contextlib.suppress(Exception):
            setattr(one, SEEN, True)


async def _open_for_crash(exc: BaseException) -> None:
    _note_seen(exc)
    try:
        with crashing(exc):
            await _post_mortem(exc, exc.__traceback__, hide_tb=True, shield=True, fixture=None)
        await respawn_if_wanted()
    except DebugRequestError as why:
        log.pdb("%s: %s", _repl_fail_msg, why)


async def post_mortem(
    *,
    tb: TracebackType | None = None,
    api_frame: FrameType | None = None,
    hide_tb: bool = False,
    shield: bool = False,
    repl_fixture: ReplFixture | None = None,
) -> None:
    """Open a REPL at the error that is being handled, and wait until the user has left it, by whatever command.

    Args:
        tb: another traceback than that error's.
        api_frame: the frame of a function of the caller's own that stands for this one.
        hide_tb: leave the runtime's frames out of what the REPL shows.
        shield: also in a scope that is cancelled; the cancellation goes on afterwards.
        repl_fixture: as for :func:`pause`; ``maybe_bxerr`` boxes the error.

    Raises:
        NoRuntime: there is no actor in this process.
        RuntimeError: no error is being handled, and there is no ``tb``; or as :func:`pause`.
        DebugRequestError: the terminal was refused.
        trio.Cancelled: the scope is cancelled, and ``shield`` is false.
    """
    __tracebackhide__ = hide_tb
    process_actor(err_on_no_runtime=True)
    exc = sys.exc_info()[1]
    found = tb or (exc.__traceback__ if exc is not None else None)
    if found is None:
        raise RuntimeError(
            "`post_mortem()` found no error that is being handled: call it in an `except` block, or pass `tb=`"
        )
    await _post_mortem(exc, found, hide_tb=hide_tb, shield=shield, fixture=repl_fixture)


async def _post_mortem(
    exc: BaseException | None,
    tb: TracebackType | None,
    *,
    hide_tb: bool,
    shield: bool,
    fixture: ReplFixture | None,
) -> None:
    if tb is None:
        return
    task = trio.lowlevel.current_task()
    if holds_repl(task):
        # It is being stepped through; the user is there.
        await trio.lowlevel.checkpoint()
        return
    holder = Holder(task, repr(task))
    try:
        lease = await acquire(holder, shield=shield)
    except trio.Cancelled as why:
        log.pdb("%s: %r\nuse\n\n  await tractor.post_mortem(shield=True)\n", _repl_fail_msg, why)
        raise
    _opening.at_crash(lease, fixture, hide_tb, BoxedMaybeException(value=exc), tb)
