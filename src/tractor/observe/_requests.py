"""Asking chosen actors one thing each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tractor.control._protocol import Code, Refusal
from tractor.observe._asking import ask_all
from tractor.observe._finding import Found
from tractor.observe._naming import called
from tractor.observe.afar._by_message import ask_peers
from tractor.observe.afar._elsewhere import Road, ask_elsewhere
from tractor.runtime.seen._samples import Missing, Sample


class Told(NamedTuple):
    """What one actor has answered."""

    actor: Sample
    answer: Any


def ask_each(
    actors: Sequence[Sample], found: Found, limit: float, op: str, **fields: Any
) -> tuple[list[Told], list[Missing]]:
    """The answers of those that gave one, and why others gave none.

    Args:
        actors: whom to ask.
        found: the look that has found them.
        limit: seconds in which the next of them must have answered.
        op, fields: the request.
    """
    answers = answers_of(actors, found, limit, {"op": op, **fields})
    told: list[Told] = []
    missing: list[Missing] = []
    for one in actors:
        answer = answers.get(one.uuid)
        if one.uuid not in answers:
            missing.append(Missing(what=called(one), why=f"{one.state}: {one.why}"))
        elif isinstance(answer, Refusal):
            missing.append(Missing(what=called(one), why=answer.text))
        else:
            told.append(Told(one, answer))
    return told, missing


def answers_of(
    actors: Sequence[Sample], found: Found, limit: float, request: Mapping[str, Any]
) -> dict[str, Any]:
    """What each answers, by uuid; a Refusal where it was one, or none came.  Whom nothing leads to is not in it."""
    known = found.roads
    roads = {one.uuid: known[one.uuid] for one in actors if one.uuid in known}
    near = {uuid: road.end for uuid, road in roads.items() if is_socket(road) and not road.hops}
    told = dict(
        ask_elsewhere({u: r for u, r in roads.items() if is_socket(r) and r.hops}, request, limit)
    )
    told.update(ask_peers({u: r for u, r in roads.items() if not is_socket(r)}, request, limit))
    replies = ask_all([path for path in near.values() if isinstance(path, Path)], [request], limit)
    for uuid, path in near.items():
        assert isinstance(path, Path)
        reply = replies[path]
        no_answer = Refusal(Code.FAILED, reply.problem or "no answer")
        told[uuid] = reply.answers[0] if reply.answers else no_answer
    return told


def is_socket(road: Road) -> bool:
    """Whether it begins at a control socket of this host; else at an actor's address for its peers."""
    return isinstance(road.end, Path)
