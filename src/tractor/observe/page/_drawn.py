"""A trace as the page draws it: rows of slices, each with all that is told of it.  Pure.

It is made from the very records of the file, so the page shows nothing that is not in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from tractor.observe.tracing._format import Record, Trace

MOST = 100_000
"""Slices and marks that a page gets."""

MOST_ROWS = 2_000

SPANS = "contexts and streams"
MARKS = "events"

BAD_OUTCOMES = frozenset({"error", "died"})
BAD_KINDS = frozenset({"crash", "death", "lost"})
BAD_STATES = frozenset({"blocked"})

_MOST_LINES = 24
"""Of the spans of an actor."""

_TEXT = 200
"""Characters of what is told of a slice."""


class _One:
    """A slice, or a mark, which has no length."""

    __slots__ = ("args", "cat", "depth", "dur", "is_bad", "name", "row", "ts")

    def __init__(self, record: Record, row: tuple[int, Any], dur: float, depth: int) -> None:
        self.name: str = record["name"]
        self.cat: str = record["cat"]
        self.ts: float = record["ts"]
        self.args: dict[str, Any] = record["args"]
        self.row = row
        self.dur = dur
        self.depth = depth
        self.is_bad = (
            self.args.get("outcome") in BAD_OUTCOMES
            or self.cat in BAD_KINDS
            or (self.cat == "state" and self.name in BAD_STATES)
        )

    @property
    def weight(self) -> tuple[bool, float]:
        """What stays where not all have room: errors, and what took long."""
        return self.is_bad, self.dur


def drawn(trace: Trace, most: int = MOST, most_rows: int = MOST_ROWS) -> dict[str, Any]:
    """What a page needs to draw a trace.

    Args:
        trace: it.
        most: so many slices and marks; the shortest others are left out, and counted.
        most_rows: so many rows, likewise with what is in the others.

    Returns:
        ``names`` and ``cats``, texts by number; ``actors``, each with its ``title`` and ``rows``; a row has its
        ``name``, its ``depth`` in lines, and ``slices``: start and length in microseconds, numbers of name and kind,
        line, whether it is an error, and words about it.  ``left_out``: so many slices; ``rows_left_out``: rows.
    """
    found = _Reader(trace.records())
    rows = list(found.rows)
    kept_rows = set(rows[:most_rows])
    kept = [one for one in found.all if one.row in kept_rows]
    if len(kept) > most:
        kept = heapq.nlargest(most, kept, key=lambda one: one.weight)
        kept.sort(key=lambda one: (one.ts, -one.dur))
    names, cats = _Numbers(), _Numbers()
    by_row: dict[tuple[int, Any], list[list[Any]]] = {row: [] for row in rows[:most_rows]}
    for one in kept:
        words = ", ".join(f"{key} {value}" for key, value in one.args.items())[:_TEXT]
        by_row[one.row].append(
            [one.ts, one.dur, names[one.name], cats[one.cat], one.depth, int(one.is_bad), words]
        )
    actors = []
    for pid, title in found.actors.items():
        its = [row for row in by_row if row[0] == pid]
        shown = [
            {"name": found.rows[row], "depth": found.depths[row], "slices": by_row[row]}
            for row in its
        ]
        actors.append({"title": title, "rows": shown})
    return {
        "names": list(names),
        "cats": list(cats),
        "actors": actors,
        "slices": len(kept),
        "left_out": len(found.all) - len(kept),
        "rows_left_out": max(0, len(rows) - most_rows),
    }


class _Numbers(dict[str, int]):
    """A number for each text, in the order in which they came."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


class _Reader:
    """Takes the records of a file apart.

    Attributes:
        actors: their titles.
        rows: their names.
        depths: lines of each row.
        all: slices and marks by time, the outer before the inner.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.actors: dict[int, str] = {}
        self.rows: dict[tuple[int, Any], str] = {}
        self.depths: dict[tuple[int, Any], int] = {}
        self.all: list[_One] = []
        self._threads: dict[int, str] = {}
        self._around: dict[tuple[int, Any], list[float]] = {}
        self._spans: dict[tuple[int, str], Record] = {}
        spans: list[tuple[Record, float]] = []
        marks: list[Record] = []
        for record in records:
            phase = record["ph"]
            if phase == "M":
                self._name(record)
            elif phase == "X":
                row = self._row(record, record["tid"], self._threads[record["tid"]])
                self._add(record, row, record["dur"], self._depth(row, record))
            elif phase == "i":
                marks.append(record)
            elif phase == "b":
                self._spans[record["pid"], record["id2"]["local"]] = record
            elif phase == "e":
                begun = self._spans.pop((record["pid"], record["id2"]["local"]))
                spans.append((begun, record["ts"] - begun["ts"]))
        for record, dur in sorted(spans, key=lambda one: one[0]["ts"]):
            row = self._row(record, "spans", SPANS)
            self._add(record, row, dur, self._line(row, record["ts"], dur))
        for record in marks:
            self._add(record, self._row(record, "marks", MARKS), 0.0, 0)
        self.all.sort(key=lambda one: (one.ts, -one.dur))

    def _name(self, record: Record) -> None:
        if record["name"] == "process_name":
            self.actors[record["pid"]] = record["args"]["name"]
        elif record["name"] == "thread_name":
            self._threads[record["tid"]] = record["args"]["name"]

    def _row(self, record: Record, key: Any, name: str) -> tuple[int, Any]:
        row = (record["pid"], key)
        self.rows.setdefault(row, name)
        self.depths.setdefault(row, 1)
        return row

    def _add(self, record: Record, row: tuple[int, Any], dur: float, depth: int) -> None:
        self.depths[row] = max(self.depths[row], depth + 1)
        self.all.append(_One(record, row, dur, depth))

    def _depth(self, row: tuple[int, Any], record: Record) -> int:
        """Those of a thread nest."""
        around = self._around.setdefault(row, [])
        while around and around[-1] <= record["ts"]:
            around.pop()
        depth = len(around)
        if record["dur"]:
            around.append(record["ts"] + record["dur"])
        return depth

    def _line(self, row: tuple[int, Any], start: float, dur: float) -> int:
        """The first that is free then, of those that spans of an actor are drawn on."""
        ends = self._around.setdefault(row, [])
        for number, end in enumerate(ends):
            if end <= start:
                ends[number] = start + dur
                return number
        if len(ends) < _MOST_LINES:
            ends.append(start + dur)
            return len(ends) - 1
        # They lie over each other there; the list has each.
        return _MOST_LINES - 1
