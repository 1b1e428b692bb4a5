"""Integers that meet in the table of a dict."""

from __future__ import annotations

import random

__all__ = ["meeting"]


def meeting(bits: int) -> list[int]:
    """Integers that fill a dict's table of ``2**bits`` places, of which some meet most of the others.

    The first ones lie where a search goes on that has used up its number; the others come to them after few steps,
    each of which finds its place taken.
    """
    size = 1 << bits
    mask = size - 1
    orbit = [0]
    while len(orbit) < size * 3 // 5:
        orbit.append(orbit[-1] * 5 + 1 & mask)
    place = {at: number for number, at in enumerate(orbit)}
    rng = random.Random(1)
    others: set[int] = set()
    while len(others) < size // 20:
        key = rng.randrange(size, size << 5)
        at, rest = key & mask, key
        while rest and at in place:
            rest >>= 5
            at = at * 5 + rest + 1 & mask
        if not rest and place.get(at, size) < size // 5:
            others.add(key)
    return [*orbit, *others]
