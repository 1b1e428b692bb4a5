"""Processes that help an actor to start others, and end with it: fork servers."""

from __future__ import annotations

from tractor.process._stat import ProcessId
from tractor.process.sentinel._sentinel import forget, guard, stand_down
from tractor.runtime._state import current_actor


def note_helper(pid: int) -> None:
    """Tell those who look after this actor's processes of one; at each start of a subactor by it.

    The sentinel stands down when the last subactor is gone, which the helper survives.
    """
    own = ProcessId.of(pid)
    sentinel = guard(own)
    actor = current_actor(err_on_no_runtime=False)
    if actor is not None:
        actor.report_descendants(up=[own] if sentinel is None else [own, sentinel])


def forget_helper(pid: int) -> None:
    """It was reaped, with the end of the actor; there are no other processes left below that."""
    forget(pid)
    gone = [pid, stand_down()]
    actor = current_actor(err_on_no_runtime=False)
    if actor is not None:
        actor.report_descendants(gone=[one for one in gone if one is not None])
