"""The table of ``tractor ps``: which actors, in which order, each as a line.  Pure."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tractor.observe._naming import called
from tractor.observe._words import UNKNOWN, lag, per_cent, plain, size, span, whole
from tractor.runtime.seen._samples import Sample, TreeSample

LAG_IS_HIGH = 0.1
"""Seconds."""

NAMED = 8
"""Actors of one kind that are named below the table."""

RED, YELLOW, DIM, OFF = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class Column(NamedTuple):
    """One of the table's.

    Attributes:
        key: the field of a sample by which it is sorted.
        text: what stands there.
        left: it is written from the left on.
    """

    key: str
    text: Callable[[Sample], str]
    left: bool = False


def _lag(one: Sample) -> str:
    return ">" if one.state == "blocked" else lag(one.lag)


COLUMNS: dict[str, Column] = {
    "NAME": Column("name", lambda one: plain(one.name), left=True),
    "PID": Column("pid", lambda one: UNKNOWN if one.pid is None else str(one.pid)),
    "HOST": Column("host", lambda one: plain(one.host), left=True),
    "STATE": Column("state", lambda one: one.state, left=True),
    "UP": Column("uptime", lambda one: span(one.uptime)),
    "CPU": Column("cpu", lambda one: per_cent(one.cpu)),
    "RSS": Column("rss", lambda one: size(one.rss)),
    "PSS": Column("pss", lambda one: size(one.pss)),
    "TASKS": Column("tasks", lambda one: whole(one.tasks)),
    "CALL": Column("calls", lambda one: whole(one.calls)),
    "CTX": Column("contexts", lambda one: whole(one.contexts)),
    "STR": Column("streams", lambda one: whole(one.streams)),
    "LAG": Column("lag", _lag),
    "FILL": Column("fill", lambda one: per_cent(one.fill)),
    "RST": Column("restarts", lambda one: whole(one.restarts)),
}
"""Every column; HOST and PSS are shown where they are of use."""


class Row(NamedTuple):
    """An actor in its place.

    Attributes:
        sample: it.
        prefix: the branches of the tree before its name.
        dimmed: it is there for the sake of one below it alone.
        first: it begins another tree than the row before.
    """

    sample: Sample
    prefix: str
    dimmed: bool
    first: bool


def rows_of(
    actors: Sequence[Sample],
    *,
    sort: str | None = None,
    only: str | None = None,
    depth: int | None = None,
) -> list[Row]:
    """The actors as a tree.

    Args:
        actors: parents before their children.
        sort: a column, by which those of one parent are ordered, the largest first; ``None``: by name.
        only: a pattern of names; those above a match stay, dimmed.
        depth: levels below the roots that are shown.
    """
    known = {one.uuid for one in actors if one.uuid}
    below: dict[str | None, list[Sample]] = {}
    for one in actors:
        below.setdefault(one.parent if one.parent in known else None, []).append(one)
    if sort is not None:
        key = COLUMNS[sort].key
        for siblings in below.values():
            siblings.sort(key=lambda one: _sortable(getattr(one, key)), reverse=key != "name")
    shown = {id(one) for one in actors if only is None or fnmatch.fnmatchcase(one.name, only)}
    rows: list[Row] = []

    def add(one: Sample, prefix: str, rest: str, level: int, first: bool) -> bool:
        """Whether it, or one below it, is shown."""
        place = len(rows)
        rows.append(Row(one, prefix, id(one) not in shown, first))
        wanted = id(one) in shown
        children = below.get(one.uuid, []) if one.uuid else []
        if depth is not None and level >= depth:
            children = []
        kept: list[Sample] = [child for child in children if _is_kept(child, below, shown)]
        for i, child in enumerate(kept):
            last = i == len(kept) - 1
            branch, bar = ("└─ ", "   ") if last else ("├─ ", "│  ")
            wanted = add(child, rest + branch, rest + bar, level + 1, False) or wanted
        if not wanted:
            del rows[place:]
        return wanted

    begun = 0
    for root in below.get(None, []):
        here = len(rows)
        add(root, "", "", 0, False)
        # Trees stand apart; actors that are alone do not.
        if here and len(rows) > here and max(len(rows) - here, here - begun) > 1:
            rows[here] = rows[here]._replace(first=True)
        begun = here
    return rows


def _is_kept(one: Sample, below: dict[str | None, list[Sample]], shown: set[int]) -> bool:
    stack = [one]
    while stack:
        one = stack.pop()
        if id(one) in shown:
            return True
        stack += below.get(one.uuid, []) if one.uuid else []
    return False


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def columns_for(actors: Iterable[Sample], pss: bool = False) -> list[str]:
    """The columns that are of use."""
    several = len({one.host for one in actors}) > 1
    left_out = {"HOST"} - ({"HOST"} if several else set()) | ({"RSS"} if pss else {"PSS"})
    return [name for name in COLUMNS if name not in left_out]


def table(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    since_start: bool = True,
    colour: bool = False,
    width: int | None = None,
) -> list[str]:
    """The lines of a table.

    Args:
        rows: what is in it.
        columns: which of :data:`COLUMNS`.
        since_start: CPU is over the life of a process, and marked for that.
        colour: colour STATE and LAG.
        width: characters to which a line is cut; ``None``: it is not.
    """
    cells = [[_cell(name, row, since_start) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[i]) for line in cells)]) for i, name in enumerate(columns)]
    lines = [_line(columns, columns, widths, None)[:width].rstrip()]
    for row, line in zip(rows, cells, strict=True):
        if row.first:
            lines.append("")
        marks = _marks(row, columns) if colour else None
        text = _line(line, columns, widths, None).rstrip()
        if marks and (width is None or len(text) <= width):
            text = _line(line, columns, widths, marks).rstrip()
        elif width is not None:
            text = text[:width].rstrip()
        lines.append(f"{DIM}{text}{OFF}" if colour and row.dimmed else text)
    return lines


def _cell(name: str, row: Row, since_start: bool) -> str:
    text = COLUMNS[name].text(row.sample)
    if name == "NAME":
        return row.prefix + text
    if name == "CPU" and since_start and text != UNKNOWN:
        return f"~{text}"
    return text


def _line(
    cells: Sequence[str],
    columns: Sequence[str],
    widths: Sequence[int],
    marks: dict[str, str] | None,
) -> str:
    parts = []
    for cell, name, room in zip(cells, columns, widths, strict=True):
        text = cell.ljust(room) if COLUMNS[name].left else cell.rjust(room)
        mark = marks.get(name) if marks else None
        parts.append(f"{mark}{text}{OFF}" if mark else text)
    return "  ".join(parts)


def _marks(row: Row, columns: Sequence[str]) -> dict[str, str]:
    one = row.sample
    marks = {}
    if one.state in ("blocked", "zombie", "lost", "gone"):
        marks["STATE"] = RED
    elif one.state not in ("run", "boot"):
        marks["STATE"] = YELLOW
    if one.state == "blocked" or (one.lag or 0.0) >= LAG_IS_HIGH:
        marks["LAG"] = RED
    return {name: mark for name, mark in marks.items() if name in columns}


def summary(tree: TreeSample) -> list[str]:
    """What stands below the table: how many, in which states, and what to do about them."""
    actors = tree.actors
    known = {one.uuid for one in actors if one.uuid}
    roots = sum(one.parent not in known for one in actors)
    states = Counter(one.state for one in actors)
    parts = []
    for state in (
        "blocked",
        "repl",
        "stopped",
        "zombie",
        "boot",
        "cancel",
        "backoff",
        "gone",
        "lost",
    ):
        if count := states[state]:
            first = next(one for one in actors if one.state == state)
            hint = f" (`tractor stacks {called(first)}`)" if state == "blocked" else ""
            parts.append(f"{count} {state}{hint}")
    head = f"{_number(len(actors), 'actor')} in {_number(roots, 'tree')}"
    lines = [head + ("; " + ", ".join(parts) if parts else "")]
    mute: dict[str, list[str]] = {}
    for one in actors:
        if one.state == "mute":
            mute.setdefault(one.why or "no answer", []).append(called(one))
    for why, names in mute.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(plain(f"{len(names)} mute: {', '.join(names[:NAMED])}{more}: {why}"))
    if mute:
        lines[-1] += "; figures by the system"
    if tree.truncated:
        lines.append(f"{tree.truncated} more were left out")
    return lines


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
