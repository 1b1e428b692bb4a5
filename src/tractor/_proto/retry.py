"""Pauses between the tries of something that fails for now."""

from __future__ import annotations

from collections.abc import Callable


class RetryPauses:
    """Pauses that double up to a limit.

    Each is shortened at random, so that the many who have lost one peer do not all come back at once.

    Args:
        first: the first pause, in seconds.
        limit: the longest pause, in seconds.
        chance: gives a number from 0 up to 1.

    True of every pause: it is more than half of its step, and at most its step; steps are ``first``,
    ``2 * first``, ... ``limit``.
    """

    __slots__ = ("_chance", "_first", "_limit", "_step")

    def __init__(self, first: float, limit: float, chance: Callable[[], float]) -> None:
        self._first = first
        self._limit = limit
        self._chance = chance
        self._step = first

    def reset(self) -> None:
        """It has succeeded: the next pause is the first one again."""
        self._step = self._first

    def next(self) -> float:
        """The pause until the next try, in seconds."""
        step, self._step = self._step, min(self._step * 2, self._limit)
        return step * (1 - self._chance() / 2)
