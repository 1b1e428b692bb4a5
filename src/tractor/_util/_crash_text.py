"""An error of another actor as people read it: the fault first, then a line for each hop, then the remote traceback.

Lines of spans, each a text and its style as ``rich`` names styles, so that what is printed plainly and in colour is
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

Span = tuple[str, str]
"""A text and its style."""

Line = list[Span]

SHOWN_HOPS = 12
"""Of more, those in the middle are counted only."""

_KIND, _ACTOR, _PLACE, _DIM = "bold red", "cyan", "green", "dim"


def actor_of(uid: tuple[str, str] | None, pid: int = 0) -> str:
    """An actor in a few letters, ``'leaf@4711'``; without its pid, ``'leaf (bcbb677c)'``; empty: none is known."""
    if uid is None or not any(uid):
        return ""
    return f"{uid[0]}@{pid}" if pid else short_uid(uid)


def short_uid(uid: tuple[str, str]) -> str:
    """A name, and of the uuid as much as tells it from others."""
    return f"{uid[0]} ({uid[1][:8]})"


def fault(kind: str, actor: str, message: str, place: str) -> Iterator[Line]:
    """What went wrong, where and why: ``IndexError in leaf@4711: list index out of range  deep.py:6 in parse()``."""
    first, *others = message.splitlines() or [""]
    line: Line = [(kind, _KIND)]
    line += [(" in ", ""), (actor, _ACTOR)] if actor else []
    line += [(f": {first}", "")] if first else []
    line += [("  ", ""), (place, _PLACE)] if place else []
    yield line
    yield from ([(other, "")] for other in others)


def hops(steps: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """Who had called what failed, and had been called for that in its turn.

    Args:
        steps: the actor and the place of each call, as far as they are known; the one next to the fault first.
    """
    over = len(steps) - SHOWN_HOPS
    for number, (actor, place) in enumerate(steps):
        if over > 0 and number == SHOWN_HOPS // 2:
            yield [(f"  ... {over} more ...", _DIM)]
        if over > 0 and 0 <= number - SHOWN_HOPS // 2 < over:
            continue
        line: Line = [("  called by " if place else "  relayed by ", _DIM)]
        line += [(place, _PLACE)] if place else []
        line += [(" in ", _DIM)] if place and actor else []
        line += [(actor, _ACTOR)] if actor else []
        yield line


def box(title: str, text: str) -> Iterator[Line]:
    """``text`` in a box that is open to the right, so that it can be of any width."""
    yield [("+-- ", _DIM), (title, _ACTOR)]
    for line in text.rstrip().splitlines():
        yield [("|", _DIM), (f" {line}".rstrip(), "")]
    yield [("+--", _DIM)]


def as_text(lines: Iterable[Line]) -> str:
    """The lines without their colours."""
    return "\n".join("".join(text for text, _ in line) for line in lines)


def as_spans(lines: Iterable[Line]) -> list[Span]:
    """The lines one after another, each but the first with its line break before it."""
    return list(islice((span for line in lines for span in (("\n", ""), *line)), 1, None))
