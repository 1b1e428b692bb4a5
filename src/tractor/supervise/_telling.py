"""Telling instruments of the starts and ends of subactors."""

from __future__ import annotations

from time import monotonic, monotonic_ns

import trio

from tractor.msg.types import Error, Return
from tractor.runtime.seen import _events
from tractor.runtime.seen._lives import path_of
from tractor.runtime.seen._told import TOLD
from tractor.supervise._child import Child


def tell_starting(child: Child) -> None:
    """Tell that a process is about to be started."""
    if TOLD.child_starting is not None:
        head = (monotonic_ns(), TOLD.actor, child.aid.uuid, child.aid.name)
        TOLD.child_starting(_events.ChildStarting(*head, child.start_method, _place_of(child)))


def tell_ready(child: Child, began: float, spawned: float) -> None:
    """Tell that it serves.

    Args:
        child: it.
        began, spawned: when its start began and when its process was there, by :func:`time.monotonic`.
    """
    if TOLD.child_ready is not None:
        head = (monotonic_ns(), TOLD.actor, child.aid.uuid, child.aid.name)
        connected = max(child.connected_at, spawned)
        times = (spawned - began, connected - spawned, monotonic() - connected)
        TOLD.child_ready(_events.ChildReady(*head, child.start_method, _place_of(child), *times))


def tell_gone(child: Child, error: BaseException | None) -> None:
    """Tell that its process has ended, or could not be started; ``error``: what it has failed with."""
    if TOLD.child_gone is None:
        return
    outcome: str = "cancelled"
    path: str | None = None
    if error is not None and not isinstance(error, trio.Cancelled):
        spoke = child.process is None or child.boot_error is not None
        outcome, path = "error" if spoke else "died", path_of(error)
    elif child.main is not None:
        outcome, path = _outcome_of_main(child.main.reply)
    head = (monotonic_ns(), TOLD.actor, child.aid.uuid, child.aid.name)
    rung = child.rung_taken
    TOLD.child_gone(
        _events.ChildGone(
            *head, child.start_method, _place_of(child), child.returncode, rung, outcome, path
        )
    )


def _outcome_of_main(reply: object) -> tuple[str, str | None]:
    """How the function of a one-shot has ended, by its reply; there is none where it was taken down before."""
    if isinstance(reply, Error):
        was_cancelled = reply.canceller is not None
        return ("cancelled", None) if was_cancelled else ("error", reply.src_type_path)
    return "ok" if isinstance(reply, Return) else "cancelled", None


def _place_of(child: Child) -> str | None:
    recipe = child.recipe
    return None if recipe is None or recipe.place is None else recipe.place.name
