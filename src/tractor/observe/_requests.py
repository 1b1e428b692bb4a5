"""Asking chosen actors one thing each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tractor.control._protocol import Refusal
from tractor.observe._asking import ask_all
from tractor.observe._finding import Found
from tractor.observe._naming import called
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
    paths: dict[str, Path] = {uuid: one.path for uuid, one in found.by_uuid.items()}
    asked = [one for one in actors if one.uuid in paths]
    replies = ask_all([paths[one.uuid] for one in asked], [{"op": op, **fields}], limit)
    told: list[Told] = []
    missing: list[Missing] = []
    for one in actors:
        if one not in asked:
            missing.append(Missing(what=called(one), why=f"{one.state}: {one.why}"))
            continue
        reply = replies[paths[one.uuid]]
        if not reply.answers:
            missing.append(Missing(what=called(one), why=reply.problem or "no answer"))
        elif isinstance(reply.answers[0], Refusal):
            missing.append(Missing(what=called(one), why=reply.answers[0].text))
        else:
            told.append(Told(one, reply.answers[0]))
    return told, missing
