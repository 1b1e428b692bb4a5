"""What an actor that has several registrars makes of their answers.

Theory of operation.  Every actor registers with each of its registrars, so any one of them can answer for all.  A
look-up asks those that are not *down*.  One that has nothing to say within `ANSWER_TIME` is down, until it has answered
a question that it is asked in the background; one that is gone refuses at once, which costs no time.  Where all are
down all are asked: whichever comes back first answers.

What they know is put together (`merged`): a registrar that has just come back knows only some, and of two incarnations
of a service one may know the older.  That nobody has a name is believed if one says so that knows everybody
(`nobody_in`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from tractor._proto.registry import AddrT, Entry, Uid

KeyT = TypeVar("KeyT", bound=Hashable)

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


def merged(answers: Mapping[KeyT, Sequence[Entry[AddrT]]]) -> list[Entry[AddrT]]:
    """What several registrars know of the actors of a name: each actor once, newest first.

    Args:
        answers: by registrar, newest first.

    Returns:
        Each with the addresses that any of them knows; ``age`` and ``started`` are the largest given.  Of actors that
        were started at the same time those of the first registrar come first, in its order.
    """
    found: dict[Uid, Entry[AddrT]] = {}
    for entries in answers.values():
        for entry in entries:
            known = found.get(entry.uid, entry)
            found[entry.uid] = Entry(
                entry.uid,
                max(known.age, entry.age),
                list(dict.fromkeys([*known.addrs, *entry.addrs])),
                max(known.started, entry.started),
            )
    return sorted(found.values(), key=lambda entry: entry.started, reverse=True)


def nobody_in(settling: Mapping[KeyT, float]) -> float | None:
    """Seconds until it may be believed that nobody has a name that no registrar knows.

    Args:
        settling: by registrar that has answered the seconds until it knows everybody.

    Returns:
        0: now; ``None``: none has answered.
    """
    return min(settling.values(), default=None)


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
