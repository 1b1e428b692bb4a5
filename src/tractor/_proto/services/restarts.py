"""How often and how soon services are started again: the intensity of restarts, and the delay before each.

Vocabulary as in Erlang/OTP's `supervisor`; pure: time and chance are arguments.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """The delays before a service that ends again and again is started.

    The n-th restart in a row after abnormal ends waits ``min(maximum, initial * factor ** (n - 1))`` seconds times a
    random factor within ``1 - jitter`` and ``1 + jitter``; a restart after a normal end waits ``initial``, without it.

    Args:
        initial: seconds before the first one, above 0.
        factor: by which each is longer than the one before, at least 1.
        maximum: seconds, at least ``initial``.
        jitter: from 0 to 1.
        reset_after: seconds for which a service must have been ready to begin with ``initial`` again.

    Raises:
        ValueError: one of them is out of its range.
    """

    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.1
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        ranges = {
            "initial": (self.initial, 0 < self.initial < math.inf, "above 0"),
            "factor": (self.factor, 1 <= self.factor < math.inf, "at least 1"),
            "maximum": (
                self.maximum,
                self.initial <= self.maximum < math.inf,
                f"at least `initial`, {self.initial}",
            ),
            "jitter": (self.jitter, 0 <= self.jitter <= 1, "from 0 to 1"),
            "reset_after": (self.reset_after, self.reset_after >= 0, "at least 0"),
        }
        for name, (value, fits, what) in ranges.items():
            if not fits:
                raise ValueError(f"Backoff({name}={value!r}): it must be {what}")

    def delay(self, n: int, chance: float) -> float:
        """Seconds before the ``n``-th restart in a row.

        Args:
            n: from 1; 0 stands for a restart after a normal end.
            chance: from 0 up to 1, exclusively: the place within the jitter.
        """
        if n <= 0:
            return self.initial
        # By logarithms it is known without computing a power that no float can hold.
        grown = math.log(self.initial) + (n - 1) * math.log(self.factor)
        plain = self.maximum
        if grown < math.log(self.maximum):
            plain = min(self.maximum, self.initial * self.factor ** (n - 1))
        return plain * (1 + self.jitter * (2 * chance - 1))


class Restart(NamedTuple):
    """A restart that was decided."""

    begin: float
    """When it is to begin: the time of the decision and the delay."""
    error: Any
    """Why: the error of the end; `None` for a normal one."""


class Intensity:
    """Counts the restarts that were decided, and says which is one too many.

    Args:
        max_restarts: more than that within ``within`` seconds are too many; ``None``: none ever is.
        within: seconds.
    """

    __slots__ = ("counted", "max_restarts", "planned", "within")

    def __init__(self, max_restarts: int | None, within: float) -> None:
        self.max_restarts = max_restarts
        self.within = within
        self.planned: list[Restart] = []
        """The decisions that may still count, in the order in which they were made."""
        self.counted: list[Restart] = []
        """Those that counted for the latest one, itself the last."""

    def decide(self, restart: Restart, now: float) -> bool:
        """Count a decision; whether it is within the limit.

        One from before counts while its time is later than ``restart.begin - within``.  Delays differ, so a later
        decision may begin before an earlier one: only what is too old for one that begins ``now`` is forgotten.
        """
        if self.max_restarts is None:
            return True
        self.planned = [known for known in self.planned if known.begin > now - self.within]
        self.planned.append(restart)
        since = restart.begin - self.within
        self.counted = [known for known in self.planned if known.begin > since]
        return len(self.counted) <= self.max_restarts

    def withdraw(self, restart: Restart) -> None:
        """A restart that was planned will not be."""
        self.planned = [known for known in self.planned if known is not restart]
