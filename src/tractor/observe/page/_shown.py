"""What the page shows, made of looks one after the other: each state whole, folded and ended actors too.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tractor.observe._history import History, key_of
from tractor.runtime.seen._samples import DialogSample, Sample, TreeSample

MAX_SHOWN = 1000
"""Actors; the others are folded into those above them."""

MAX_DIALOGS = 200

MAX_ENDED = 3
"""Programs that have ended whose last state is kept."""

MAX_OF_ENDED = 200
"""Actors of such a state."""

CALM = ("run", "boot")

Key = tuple[str, int | None]

_LEFT_OUT = ("children", "dialogs", "limits_reached", "start_method", "stale")
"""Fields of a sample that the list of actors has no use for."""


class Shown:
    """The state of the tree and the table.

    Args:
        is_part: only a part of a tree is looked at, so that its top has a parent that is not there.
    """

    def __init__(self, is_part: bool = False) -> None:
        self._is_part = is_part
        self.history = History()
        # What each was at the look before; who does not answer can't say whose child it is.
        self._before: dict[tuple[str, int | None], Sample] = {}
        self._since: dict[Key, tuple[str, float]] = {}
        # Those whose state is that of their first look: it may have begun long before.
        self._first: set[Key] = set()
        # The trees that live, by the root's uuid.
        self._trees: dict[str, list[Sample]] = {}
        self._ended: list[dict[str, Any]] = []

    def add(self, tree: TreeSample, statuses: Mapping[int, int | None] | None = None) -> None:
        """Take a look.

        Args:
            tree: it.
            statuses: how roots have ended whose processes nobody has waited for yet, by pid.
        """
        actors = [self._remembered(one) for one in tree.actors]
        self.history.add(msgspec.structs.replace(tree, actors=tuple(actors)))
        assert self.history.latest is not None
        dated = [self._dated(one, tree.time) for one in self.history.latest.actors]
        self._first = {
            key_of(one)
            for one in dated
            if key_of(one) not in self._since
            or (key_of(one) in self._first and self._since[key_of(one)][0] == one.state)
        }
        self._since = {key_of(one): (one.state, one.since or tree.time) for one in dated}
        self.latest = msgspec.structs.replace(self.history.latest, actors=tuple(dated))
        self._note_ends(dated, tree.time, statuses or {})
        self._before = {(one.name, one.pid): one for one in dated}

    def _remembered(self, one: Sample) -> Sample:
        """With its uuid and parent, where it could not tell them this time."""
        known = None if one.uuid else self._before.get((one.name, one.pid))
        if known is None or one.pid is None:
            return one
        return msgspec.structs.replace(
            one, uuid=known.uuid, parent=known.parent if one.parent is None else one.parent
        )

    def _dated(self, one: Sample, now: float) -> Sample:
        if one.since is not None:
            return one
        state, since = self._since.get(key_of(one), ("", now))
        return msgspec.structs.replace(one, since=since if state == one.state else now)

    def _note_ends(
        self, actors: Sequence[Sample], now: float, statuses: Mapping[int, int | None]
    ) -> None:
        present = {one.uuid for one in actors if one.uuid and one.state not in ("zombie", "gone")}
        for uuid, last in list(self._trees.items()):
            if uuid in present:
                continue
            del self._trees[uuid]
            root = last[0]
            left = [one for one in actors if one.uuid in {it.uuid for it in last} - {uuid}]
            self._ended.append(
                {
                    "name": root.name,
                    "pid": root.pid,
                    "uuid": uuid,
                    "time": now,
                    "status": statuses.get(root.pid) if root.pid is not None else None,
                    "left": len(left),
                    "truncated": max(0, len(last) - MAX_OF_ENDED),
                    "actors": [_row(one, None, {}) for one in last[:MAX_OF_ENDED]],
                }
            )
        del self._ended[:-MAX_ENDED]
        for root, below in trees_of(actors):
            if root.uuid in present and (root.parent is None or self._is_part):
                self._trees[root.uuid] = [root, *below]

    def state(self) -> dict[str, Any]:
        """All of it, as plain data."""
        tree = self.latest
        kept, folded, left_out = folded_to(tree.actors, MAX_SHOWN)
        total = self.history.total()
        return {
            "time": tree.time,
            "host": tree.host,
            "count": len(tree.actors),
            "calls_rate": total.calls,
            "messages_rate": total.messages,
            "actors": [
                {**_row(one, self.history, folded), "since_at_least": key_of(one) in self._first}
                for one in kept
            ],
            "missing": [{"what": one.what, "why": one.why} for one in tree.missing[:MAX_SHOWN]],
            "missing_count": len(tree.missing),
            "truncated": tree.truncated + left_out,
            "ended": self._ended,
        }


def _row(one: Sample, history: History | None, folded: Mapping[Key, int]) -> dict[str, Any]:
    row = msgspec.structs.asdict(one)
    for name in _LEFT_OUT:
        del row[name]
    rates = history.rates(one) if history is not None else None
    row["calls_rate"] = rates.calls if rates is not None else None
    row["messages_rate"] = rates.messages if rates is not None else None
    row["folded"] = folded.get(key_of(one), 0)
    return row


def trees_of(actors: Iterable[Sample]) -> list[tuple[Sample, list[Sample]]]:
    """Each root with all below it; parents come before their children."""
    roots: dict[str, tuple[Sample, list[Sample]]] = {}
    of: dict[str, str] = {}
    alone: list[tuple[Sample, list[Sample]]] = []
    for one in actors:
        root = of.get(one.parent) if one.parent is not None else None
        if root is not None:
            roots[root][1].append(one)
        elif one.uuid:
            roots[one.uuid] = (one, [])
        else:
            alone.append((one, []))
        if one.uuid:
            of[one.uuid] = root or one.uuid
    return [*roots.values(), *alone]


def folded_to(actors: Sequence[Sample], most: int) -> tuple[list[Sample], dict[Key, int], int]:
    """The actors that are shown: those in trouble first, then from the roots down, and each with all above it.

    Args:
        actors: parents before their children.
        most: how many are shown.

    Returns:
        Them, in their order; how many are folded into each; and how many are folded into none.
    """
    if len(actors) <= most:
        return list(actors), {}, 0
    by_uuid = {one.uuid: one for one in actors if one.uuid}
    depth: dict[int, int] = {}
    for one in actors:
        above = by_uuid.get(one.parent or "")
        depth[id(one)] = 0 if above is None or above is one else depth.get(id(above), 0) + 1
    kept: set[int] = set()
    for one in sorted(actors, key=lambda one: (one.state in CALM, depth[id(one)])):
        line = list(_line_up(one, by_uuid, kept))
        if len(kept) + len(line) <= most:
            kept.update(map(id, line))
    folded: dict[Key, int] = {}
    left_out = 0
    for one in actors:
        if id(one) in kept:
            continue
        above = by_uuid.get(one.parent or "")
        seen = 0
        while above is not None and id(above) not in kept and seen < len(actors):
            above, seen = by_uuid.get(above.parent or ""), seen + 1
        if above is None or id(above) not in kept:
            left_out += 1
        else:
            folded[key_of(above)] = folded.get(key_of(above), 0) + 1
    return [one for one in actors if id(one) in kept], folded, left_out


def _line_up(one: Sample, by_uuid: Mapping[str, Sample], kept: set[int]) -> Iterable[Sample]:
    """It and those above it that are not kept yet."""
    seen: set[int] = set()
    above: Sample | None = one
    while above is not None and id(above) not in kept and id(above) not in seen:
        seen.add(id(above))
        yield above
        above = by_uuid.get(above.parent or "")


class Dialogs:
    """The dialogs of one actor, with the rates of their streams."""

    def __init__(self) -> None:
        self._before: dict[tuple[Any, ...], tuple[float, DialogSample]] = {}

    def state(self, one: Sample) -> dict[str, Any]:
        """What is shown of a look at it."""
        rows = []
        now: dict[tuple[Any, ...], tuple[float, DialogSample]] = {}
        for dialog in (one.dialogs or ())[:MAX_DIALOGS]:
            key: tuple[Any, ...] = (dialog.kind, dialog.side, dialog.function, dialog.peer)
            # Several of one kind are told apart by their order among themselves, as well as that can be.
            key = (*key, sum(other[:4] == key for other in now))
            time, before = self._before.get(key, (0.0, None))
            passed = one.time - time
            row = msgspec.structs.asdict(dialog)
            for name in ("sent", "received"):
                rate = None
                old = None if before is None else getattr(before, name)
                new = getattr(dialog, name)
                if old is not None and new is not None and new >= old and passed > 0:
                    rate = (new - old) / passed
                row[f"{name}_rate"] = rate
            rows.append(row)
            now[key] = (one.time, dialog)
        self._before = now
        rows.sort(key=lambda row: -sum(row[f"{name}_rate"] or 0 for name in ("sent", "received")))
        return {
            "uuid": one.uuid,
            "name": one.name,
            "pid": one.pid,
            "time": one.time,
            "dialogs": rows if one.dialogs is not None else None,
            "truncated": one.truncated,
            "limits_reached": one.limits_reached,
            "start_method": one.start_method,
        }


MAX_EVENTS = 500

_BAD_SERVICE = ("crashed", "failed", "gave-up")


class Events:
    """What has happened to all actors, the latest 500."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._since: dict[str, int] = {}
        self.lost = 0

    def since(self, uuid: str) -> int:
        """The number of the last event of an actor that is known."""
        return self._since.get(uuid, 0)

    def add(self, actor: Sample, answer: Mapping[str, Any]) -> bool:
        """Take what an actor has told; whether something is new."""
        since = self.since(actor.uuid)
        new = [one for one in answer["events"] if one["number"] > since]
        count = answer["count"]
        # A first question is not told what was dropped before it.
        if since and new:
            self.lost += max(0, count - since - len(new))
        self._since[actor.uuid] = count
        for event in new:
            told = {**event, "actor": actor.name, "actor_pid": actor.pid, "actor_uuid": actor.uuid}
            told["bad"] = is_bad(event)
            self._kept.append(told)
        self._kept.sort(key=lambda one: (one["time"], one["actor"], one["number"]))
        spare = len(self._kept) - MAX_EVENTS
        if spare > 0:
            # What is no crash goes first, but for the latest: many actors start at a time.
            old = [one for one in self._kept[: -MAX_EVENTS // 5] if not one["bad"]][:spare]
            gone = {id(one) for one in old}
            self._kept = [one for one in self._kept if id(one) not in gone][-MAX_EVENTS:]
        return bool(new)

    def forget(self, uuids: Iterable[str]) -> None:
        """Drop what is remembered of actors that are none of these; their events stay."""
        known = set(uuids)
        self._since = {uuid: n for uuid, n in self._since.items() if uuid in known}

    def state(self, time: float, missing: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """All of it, as plain data."""
        return {"time": time, "events": self._kept, "lost": self.lost, "missing": list(missing)}


def is_bad(event: Mapping[str, Any]) -> bool:
    """Whether it is a crash, or a restart."""
    kind = event["kind"]
    if kind == "service_event":
        return event.get("event") in _BAD_SERVICE
    if kind == "child_gone":
        return bool(event.get("error")) or event.get("cause") == "died"
    return bool(kind == "actor_failed")
