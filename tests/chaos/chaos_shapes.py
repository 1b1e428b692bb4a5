"""Shapes of outcomes: one kind of event is to have one, whichever way it was seen first."""

from __future__ import annotations

from collections.abc import Iterable

import ep_outcome_events
import trio
from chaos_outcomes import Figures, PlannedError
from chaos_plan import LINKS, Branch, Fault, Plan

import tractor
from tractor.testing import get_rando_addr

__all__ = ["EVENTS", "count_event", "event_of", "note_branch", "shape_of"]

EVENTS = tuple(ep_outcome_events.EVENTS)

MAY_PASS_UNNOTICED = (*LINKS, "SIGSTOP", "blocked loop")
"""Faults that need not end anything: late bytes, or a limit of bytes that was not reached."""

EVENT_LIMIT = 60.0
"""Seconds after which an event counts as hanging."""


def shape_of(exc: BaseException | None) -> str:
    """The type of an error, of its source and cause; the same however many actors have relayed it."""
    if isinstance(exc, PlannedError) or exc is None:
        return "as planned"
    if isinstance(exc, BaseExceptionGroup):
        return f"group of {', '.join(sorted(map(shape_of, exc.exceptions)))}"
    if isinstance(exc, tractor.ActorFailure):
        cause = f" from {type(exc.__cause__).__name__}" if exc.__cause__ is not None else ""
        return f"ActorFailure{cause}"
    if type(exc) is tractor.RemoteActorError:
        return f"RemoteActorError({exc.src_type_str})"
    return type(exc).__name__


def event_of(plan: Plan, branch: Branch, happened: Iterable[Fault]) -> str | None:
    """The one event that a branch has met; ``None`` where none or several have.

    Args:
        plan: the round's.
        branch: which one.
        happened: the faults that took place.
    """
    path = branch.node.path
    mine = [fault for fault in plan.faults if fault.path.partition(".")[0] == path]
    ended = any(
        one.kind == "cancel actor" and one.path.partition(".")[0] == path for one in plan.operations
    )
    if len(mine) != 1 or mine[0] not in happened or ended:
        return None
    (fault,) = mine
    return f"{fault.kind}, {'the actor' if fault.path == path else 'one below'}"


def note_branch(figures: Figures, event: str | None, shape: str, seed: str) -> None:
    """Count how a branch has ended."""
    if event is None or (shape == "as planned" and event.startswith(MAY_PASS_UNNOTICED)):
        return
    figures.note_shape(event, shape, seed)


def count_event(name: str, backend: str, tpt: str, times: int = 1) -> Figures:
    """Have one event happen in a tree of its own, so many times, and count its shapes."""
    what, args, expected = ep_outcome_events.EVENTS[name]
    figures = Figures()

    async def main() -> None:
        root = tractor.open_root_actor(
            registry_addrs=[get_rando_addr(tpt)], start_method=backend, loglevel="critical"
        )
        async with root:
            for _ in range(times):
                with trio.fail_after(EVENT_LIMIT):
                    shape = await what(*args)
                figures.note_shape(name, shape, name)
                if shape != expected:
                    figures.wrong.append(f"{name!r} had the outcome {shape!r}, not {expected!r}")

    try:
        trio.run(main)
    except trio.TooSlowError:
        figures.hangs.append(f"the event {name!r}")
    return figures
