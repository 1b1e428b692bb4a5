"""Which slices can be drawn on one line: those that nest.  Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from tractor.observe.tracing._timeline import Slice


def nested(slices: Iterable[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Those that nest, by time and the outer before the inner, and those that don't nest with these."""
    fits: list[Slice] = []
    rest: list[Slice] = []
    around: list[int] = []
    for one in _sorted(slices):
        while around and around[-1] <= one.start:
            around.pop()
        if around and one.end > around[-1]:
            rest.append(one)
            continue
        fits.append(one)
        if one.end > one.start:
            around.append(one.end)
    return fits, rest


def lanes(slices: Iterable[Slice]) -> list[list[Slice]]:
    """As few lines as hold them all; on each they nest, and only those of one unit are within another."""
    made: list[list[Slice]] = []
    # When the line of each number is free again; and where each unit is drawn now, with the ends of what is around.
    free: list[tuple[int, int]] = []
    of_unit: dict[object, tuple[int, list[int]]] = {}
    for one in _sorted(slices):
        number, around = of_unit.get(one.unit, (-1, []))
        while around and around[-1] <= one.start:
            around.pop()
        if not around or one.end > around[-1]:
            if free and free[0][0] <= one.start:
                number = heapq.heappop(free)[1]
            else:
                number = len(made)
                made.append([])
            # Even one without length takes its line until a moment later: two at once are drawn on two.
            heapq.heappush(free, (max(one.end, one.start + 1), number))
            around = []
            of_unit[one.unit] = (number, around)
        made[number].append(one)
        around.append(one.end)
    return made


def _sorted(slices: Iterable[Slice]) -> list[Slice]:
    return sorted(slices, key=lambda one: (one.start, -one.end))
