"""Ending actors wherever they are: those of this host by their processes, others by asking until no look shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tractor._proto.children.ladder import Rung
from tractor.control._protocol import Refusal
from tractor.observe._ending import ASK_LIMIT, Ended, end_actors
from tractor.observe._finding import Found
from tractor.observe._requests import answers_of
from tractor.observe.afar._by_message import NoRegistrar
from tractor.runtime.seen._samples import Sample, TreeSample

LOOK_INTERVAL = 0.3
"""Seconds between two looks for actors that are to end."""

NO_SIGNALS = "signals reach no process of another host; `--host NAME` runs the command there"

Looks = Callable[[], tuple[Found, TreeSample]]


def is_near(one: Sample, found: Found) -> bool:
    """Whether an actor has a process of its own on this host, which may be looked at, and be sent a signal.

    Args:
        one: the actor.
        found: the look that has found it.
    """
    if one.pid is None or one.uuid in {other.uuid for other in found.elsewhere.actors}:
        return False
    # A sub-interpreter's process is its parent's.
    return one.host == found.host and not any(
        answered.who.pid == one.pid and answered.who.uuid != one.uuid for answered in found.answered
    )


def end_anywhere(
    actors: Sequence[Sample],
    below: Sequence[Sample],
    found: Found,
    looks: Looks,
    *,
    hard: bool,
    limit: float,
) -> list[Ended]:
    """Have actors end, and wait until they, and those below them, have.

    Args:
        actors: those that are told to.
        below: those that go with them.
        found: the look that has found them.
        looks: takes another one.
        hard: begin with the signals.
        limit: seconds to wait in all.

    Returns:
        How each ended.
    """
    begun = time.monotonic()
    near = {one.uuid or str(one.pid) for one in [*actors, *below] if is_near(one, found)}

    def parted(given: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        here = [one for one in given if (one.uuid or str(one.pid)) in near]
        return here, [one for one in given if one not in here]

    (actors_here, actors_far), (below_here, below_far) = parted(actors), parted(below)
    why = _ask(actors_far, found, hard)
    ended: list[Ended] = []
    if actors_here or below_here:
        paths = {uuid: one.path for uuid, one in found.by_uuid.items()}
        ended = end_actors(actors_here, below_here, paths, hard=hard, limit=limit)
    waiting = {one.uuid for one in [*actors_far, *below_far]} - why.keys()
    gone = _wait_gone(waiting, looks, begun, limit)
    for one in actors_far:
        rung = "" if one.uuid in why else Rung.EXIT.value
        ended.append(Ended(one, rung, gone.get(one.uuid), why.get(one.uuid, "")))
    ended += [Ended(one, "", gone.get(one.uuid)) for one in below_far]
    return ended


def _ask(actors: Sequence[Sample], found: Found, hard: bool) -> dict[str, str]:
    """Ask them to end; why one could not be, by uuid."""
    if hard:
        return {one.uuid: NO_SIGNALS for one in actors}
    answers = answers_of(actors, found, ASK_LIMIT, {"op": "cancel"}) if actors else {}
    why: dict[str, str] = {}
    for one in actors:
        answer = answers.get(one.uuid)
        if one.uuid not in answers:
            why[one.uuid] = f"nothing leads to it: {one.state}: {one.why}"
        elif isinstance(answer, Refusal):
            why[one.uuid] = answer.text
    return why


def _wait_gone(uuids: set[str], looks: Looks, begun: float, limit: float) -> dict[str, float]:
    """When no look showed them any more, in seconds from the beginning."""
    gone: dict[str, float] = {}
    while uuids - gone.keys() and time.monotonic() - begun < limit:
        try:
            _, tree = looks()
        except NoRegistrar:
            # Their registrar has gone with them.
            return gone | dict.fromkeys(uuids - gone.keys(), time.monotonic() - begun)
        there = {one.uuid for one in tree.actors if one.state != "gone"}
        for uuid in uuids - there - gone.keys():
            gone[uuid] = time.monotonic() - begun
        if uuids - gone.keys():
            time.sleep(LOOK_INTERVAL)
    return gone
