"""Those that no socket of this host leads to: on other hosts, and in interpreters that share a process.

Their nearest actor on this host passes down what they are asked; see :mod:`tractor.control._relay`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tractor.address._types import UnwrappedAddress
from tractor.control._passing import Told
from tractor.control._protocol import MAX_REQUEST, Code, Refusal, outcome_in
from tractor.observe._asking import Reply, ask_all
from tractor.observe._in_code import list_told
from tractor.process.host._host_id import is_here
from tractor.runtime.seen._samples import ChildSample, Missing, Sample

SLACK = 1.0
"""Seconds that an answer from elsewhere may come after its limit: each on the way has its own."""


class Road(NamedTuple):
    """The way to an actor.

    Attributes:
        end: a control socket of this host, or the address of an actor that listens for its peers.
        hops: uuids of those below that one, the last that of the actor itself; empty: it is there itself.
    """

    end: Path | UnwrappedAddress
    hops: tuple[str, ...] = ()


class Elsewhere:
    """What is known of actors elsewhere.

    Attributes:
        actors: they, parents before their children.
        missing: what is not known, and why.
        roads: the way to each that can be asked, by uuid.
        truncated: actors that were left out.
    """

    def __init__(self) -> None:
        self.actors: list[Sample] = []
        self.missing: list[Missing] = []
        self.roads: dict[str, Road] = {}
        self.truncated = 0

    def add(
        self, told: Told, parent: str, known: ChildSample | None, end: Path | UnwrappedAddress
    ) -> None:
        """Add one that an actor has passed the question to, and those below.

        Args:
            told: what they have said.
            parent: the uuid of the actor at the end of the road.
            known: what that one says of it.
            end: where that one is asked.
        """
        list_told(told, parent, known, self.actors, self.missing)
        self._add_roads(told, Road(end))

    def _add_roads(self, told: Told, above: Road) -> None:
        road = self.roads[told.uuid] = above._replace(hops=(*above.hops, told.uuid))
        for child in told.below:
            self._add_roads(child, road)


def are_elsewhere(parent: Sample) -> bool:
    """Whether an actor of this host has subactors that it alone can ask."""
    return any(
        (child.host and not is_here(child.host))
        or (child.pid is not None and child.pid == parent.pid)
        for child in parent.children
    )


def look_elsewhere(parents: Iterable[tuple[Path, Sample]], limit: float) -> Elsewhere:
    """Ask actors of this host for those that they alone can ask.

    Args:
        parents: the control socket of each, and what it has said of itself.
        limit: seconds that the answers may take in all.
    """
    found = Elsewhere()
    asked = {path: one for path, one in parents if are_elsewhere(one)}
    if not asked:
        return found
    replies = ask_all([*asked], [{"op": "below", "limit": limit}], limit + SLACK)
    for path, one in asked.items():
        why = _take(found, replies[path], path, one)
        if why:
            what = f"subactors of {one.name}@{one.pid} elsewhere"
            found.missing.append(Missing(what=what, why=why))
    return found


def _take(found: Elsewhere, reply: Reply, path: Path, parent: Sample) -> str:
    """Take an answer; why there is none."""
    if not reply.answers:
        return reply.problem or "no answer"
    answer = reply.answers[0]
    if isinstance(answer, Refusal):
        return answer.text
    words = {child.uuid: child for child in parent.children}
    with contextlib.suppress(msgspec.ValidationError, KeyError, TypeError):
        found.truncated += int(answer["truncated"])
        for told in msgspec.convert(answer["told"], list[Told]):
            found.add(told, parent.uuid, words.get(told.uuid), path)
        return ""
    return "its answer is none"


AT_A_TIME = 16
"""Actors that one request is passed to."""

ROOM = MAX_REQUEST // 2
"""Bytes of paths in one request."""


def ask_elsewhere(
    roads: Mapping[str, Road], request: Mapping[str, Any], limit: float
) -> dict[str, Any]:
    """What each of some actors answers, of those that sockets of this host lead towards.

    Args:
        roads: the way to each, by uuid.
        request: what is asked.
        limit: seconds for each answer.

    Returns:
        The answers, by uuid; a Refusal where it was one, or none came.
    """
    ends: dict[Path, list[str]] = {}
    for uuid, road in roads.items():
        assert isinstance(road.end, Path)
        ends.setdefault(road.end, []).append(uuid)
    # Stacks may have a megabyte each, and so may one answer.
    most = 1 if request.get("op") == "stacks" else AT_A_TIME
    found: dict[str, Any] = {}
    for end, uuids in ends.items():
        parts = _parts(uuids, roads, most)
        lines = [
            {"op": "pass", "paths": [list(roads[uuid].hops) for uuid in part], **more}
            for part in parts
            for more in [{"ask": dict(request), "limit": limit}]
        ]
        reply = ask_all([end], lines, (limit + SLACK) * len(parts))[end]
        for at, part in enumerate(parts):
            answer = reply.answers[at] if at < len(reply.answers) else None
            found.update(_of_each(part, answer, reply.problem or "no answer"))
    return found


def _parts(uuids: Sequence[str], roads: Mapping[str, Road], most: int) -> list[list[str]]:
    """Those of one request each."""
    parts: list[list[str]] = []
    room = 0
    for uuid in uuids:
        size = len(msgspec.json.encode(roads[uuid].hops))
        if not parts or len(parts[-1]) >= most or size > room:
            parts.append([])
            room = ROOM
        parts[-1].append(uuid)
        room -= size
    return parts


def _of_each(uuids: Sequence[str], answer: Any, problem: str) -> dict[str, Any]:
    if not isinstance(answer, list) or len(answer) != len(uuids):
        refusal = answer if isinstance(answer, Refusal) else Refusal(Code.FAILED, problem)
        return dict.fromkeys(uuids, refusal)
    found: dict[str, Any] = {}
    for uuid, one in zip(uuids, answer, strict=True):
        try:
            found[uuid] = outcome_in(one)
        except Refusal as exc:
            found[uuid] = exc
        except ValueError as exc:
            found[uuid] = Refusal(Code.FAILED, str(exc))
    return found
