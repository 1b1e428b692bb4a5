"""Which of its registrars an actor asks, and what it tells them of its start.

Theory of operation.  Every actor registers with each of its registrars, so any one of them can answer for all.  A
look-up asks those that are not *down*.  One that has nothing to say within `ANSWER_TIME` is down, until it has answered
a question that it is asked in the background; one that is gone refuses at once, which costs no time.  Where all are
down all are asked: whichever comes back first answers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

RETRY_LIMIT: Final = 1.0
"""Seconds between two tries to register with a registrar that is lost, at most."""

ANSWER_TIME: Final = 1.0
"""Seconds that a look-up waits for the answer of a registrar, and the start of an actor for its registration."""


class Down(Generic[KeyT]):
    """Which registrars have left a question unanswered.

    True between any two calls: one that is down is being asked in the background, by whoever was told to.
    """

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[KeyT] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def to_ask(self, keys: Sequence[KeyT]) -> list[KeyT]:
        """Those of a look-up's registrars to ask: the ones that are not down; where there are none, all."""
        return [key for key in keys if key not in self._keys] or list(keys)

    def silent(self, key: KeyT) -> bool:
        """One has not answered in time; returns whether it is to be asked in the background from now on."""
        if key in self._keys:
            return False
        self._keys.add(key)
        return True

    def heard(self, key: KeyT) -> None:
        """It has answered, or is known to be gone: it costs a look-up no time any more."""
        self._keys.discard(key)


def start_time(now: float, last: float) -> float:
    """When an actor is started, for its parent, which has started others.

    Args:
        now: seconds since 1970, by a clock that may be set back.
        last: what the last of them has got.

    Returns:
        ``now``, or a little later than ``last``: of two the one that is started later is the newer one.
    """
    return max(now, last + TICK)


TICK: Final = 1e-6
"""Seconds by which two starts differ at least; a float of this size can still tell them apart."""
