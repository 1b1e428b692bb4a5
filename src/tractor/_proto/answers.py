"""What a look-up makes of the answers of several registrars.

Theory of operation.  What they know is put together (`merged`): a registrar that has just come back knows only some,
and of two incarnations of a service one may know the older.  That nobody has a name is believed if one says so that
knows everybody (`nobody_in`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tractor._proto.registrars import KeyT
from tractor._proto.registry import AddrT, Entry, Uid


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
                known.host or entry.host,
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
