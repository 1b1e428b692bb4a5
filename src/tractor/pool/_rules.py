"""What holds for every worker of a pool: how it is made ready, and when it is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tractor.pool._jobs import Call, call_of
from tractor.pool._messages import Given

INITIALIZER = 0
"""The number of the job that makes a worker ready.  What that returns stays there, as the actor's state."""


class Rules(msgspec.Struct, frozen=True, eq=False):
    """What holds for every worker.

    Attributes:
        initializer: what is called first; ``None``: nothing.
        arguments: its arguments.
        max_tasks: jobs that a worker is given before it is replaced; ``None``: no limit.
        max_rss: bytes resident above which it is replaced, after the job that it runs; ``None``: no limit.
        share_above: bytes from which on an array is lent, not sent; ``None``: none is.
    """

    initializer: Call | None = None
    arguments: Any = None
    max_tasks: int | None = None
    max_rss: int | None = None
    share_above: int | None = None

    def left(self, had: int) -> int | None:
        """How many jobs a worker that was given ``had`` may still be given."""
        return None if self.max_tasks is None else max(0, self.max_tasks - had)


NO_RULES = Rules()


def rules_of(
    initializer: Any,
    initargs: Sequence[Any],
    max_tasks: int | None,
    max_rss: int | None,
    share_above: int | None = None,
) -> Rules:
    """The rules that these options of a pool make.

    Raises:
        TypeError, ValueError: one is out of its range, or ``initializer`` is not a function that a worker could call.
    """
    limits = {"max_tasks": max_tasks, "max_rss": max_rss, "share_above": share_above}
    for name, limit in limits.items():
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise TypeError(f"{name}={limit!r}: give a whole number, or None for no limit")
        if limit is not None and limit < 1:
            raise ValueError(f"{name}={limit}: it is 1 at least, or None for no limit")
    if initializer is None:
        if initargs:
            raise ValueError(f"initargs={initargs!r} were given without an initializer")
        return Rules(max_tasks=max_tasks, max_rss=max_rss, share_above=share_above)
    call = call_of(initializer, Given.POSITIONS, {})
    return Rules(call, call.arguments(tuple(initargs), {}), max_tasks, max_rss, share_above)
