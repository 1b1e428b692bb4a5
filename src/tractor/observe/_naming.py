"""Which actors somebody means: by name, ``name@pid``, pid, the beginning of a uuid, service, or address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tractor.runtime.seen._samples import Sample
from tractor.transport._addresses import wrap_address

SHORTEST_UUID = 6
"""Characters of a uuid that name an actor."""


def matching(
    wanted: str, actors: Iterable[Sample], addrs: Mapping[str, Collection[Any]] | None = None
) -> list[Sample]:
    """The actors that ``wanted`` names.

    Args:
        wanted: what somebody has written.
        actors: all that there are.
        addrs: where each listens, by uuid, as far as that is known.
    """
    actors = list(actors)
    if wanted.startswith("/"):
        return _at(wanted, actors, addrs or {})
    if wanted.isdecimal() and (found := [one for one in actors if one.pid == int(wanted)]):
        return found
    if found := [one for one in actors if wanted in _names(one)]:
        return found
    if found := [
        one for one in actors if one.restarts is not None and one.name.rpartition(".")[0] == wanted
    ]:
        # The replicas of a service.
        return found
    if len(wanted) >= SHORTEST_UUID:
        return [one for one in actors if one.uuid.startswith(wanted)]
    return []


def _names(one: Sample) -> set[str]:
    short = f"{one.name}[{one.uuid[:6]}]"
    return {one.name, f"{one.name}@{one.pid}", short, f"{short}@{one.pid}"}


def _at(wanted: str, actors: list[Sample], addrs: Mapping[str, Collection[Any]]) -> list[Sample]:
    try:
        address = wrap_address(wanted).unwrap()
    except (TypeError, ValueError, ImportError):
        return []
    return [one for one in actors if any(tuple(a) == address for a in addrs.get(one.uuid, ()))]


def with_all_below(chosen: Iterable[Sample], actors: Iterable[Sample]) -> list[Sample]:
    """These, and all that are below them, in the order of ``actors``, where parents come first."""
    wanted = {id(one) for one in chosen}
    uuids: set[str] = set()
    found = []
    for one in actors:
        if id(one) in wanted or one.parent in uuids:
            found.append(one)
            if one.uuid:
                uuids.add(one.uuid)
    return found


def called(one: Sample) -> str:
    """What to call an actor, so that it can be named again."""
    return f"{one.name}@{one.pid}"
