"""What a recording has brought together: the events of several actors, and figures of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tractor.runtime.seen._events import Dialog, Event
from tractor.runtime.seen._samples import Missing


class Point(NamedTuple):
    """A figure at a time.

    Attributes:
        time: in nanoseconds of this host's clock.
        value: of what it is a figure; ``None``: unknown.
    """

    time: int
    value: float


class Phase(NamedTuple):
    """A state other than running, in which an actor was for a while.

    Attributes:
        name: of the state.
        start, end: in nanoseconds of this host's clock.
    """

    name: str
    start: int
    end: int


class Loss(NamedTuple):
    """Events that were lost.

    Attributes:
        time: when that was told, in nanoseconds of the actor's host.
        number: how many.
    """

    time: int
    number: int


class Offset(NamedTuple):
    """What to add to the clock of an actor's host to have this host's.

    Attributes:
        ns: nanoseconds.
        error: by how many it may be wrong, each way; half a round trip.
    """

    ns: int = 0
    error: int = 0


SAME_CLOCK = Offset()


@dataclass
class StreamFigures:
    """Figures of one end of a stream.

    Attributes:
        dialog, side: the end.
        function, peer: what is called, and the other actor.
        buffered: messages that nobody has read yet.
        credit: messages that may be sent before the reader has read one.
        rate: messages a second, both ways.
        messages: so many went over it while it was looked at.
    """

    dialog: Dialog
    side: str
    function: str
    peer: str
    buffered: list[Point] = field(default_factory=list)
    credit: list[Point] = field(default_factory=list)
    rate: list[Point] = field(default_factory=list)
    messages: int = 0


@dataclass
class Seen:
    """An end of a dialog that was open when an actor was looked at.

    Attributes:
        kind, function, peer: as of :class:`tractor.DialogSample`.
        first, last: when it was seen, in nanoseconds of this host's clock.
    """

    kind: str
    function: str
    peer: str
    first: int
    last: int


@dataclass
class Recorded:
    """One actor.

    Attributes:
        name, uuid, pid, host, parent: it.
        began: when its recording began, in nanoseconds of its host's clock.
        ended: when it ended, or its recording did.
        how: ``'open'``: it still ran then; ``'ended'``, or ``'died'``: without a word.
        clock: of its host.
        events: what it has told, in its order.
        losses: what was lost of that.
        unknown: events that this version does not know.
        figures: CPU, memory and lag, by name with the unit.
        streams: figures of streams.
        seen: dialogs that were open when it was looked at.
        phases: states.
    """

    name: str
    uuid: str
    pid: int
    host: str
    parent: str | None
    began: int
    ended: int = 0
    how: str = "open"
    clock: Offset = SAME_CLOCK
    events: list[Event] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unknown: int = 0
    figures: dict[str, list[Point]] = field(default_factory=dict)
    streams: dict[tuple[Dialog, str], StreamFigures] = field(default_factory=dict)
    seen: dict[tuple[Dialog, str], Seen] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Events that are not among :attr:`events`."""
        return sum(loss.number for loss in self.losses)

    @property
    def title(self) -> str:
        """What its track is called."""
        return f"{self.name}[{self.uuid[:6]}]@{self.pid}"


@dataclass
class Recording:
    """What was recorded.

    Attributes:
        time: when it began, in seconds since 1970.
        host: the name of this host.
        began, ended: in nanoseconds of this host's clock.
        actors: in tree order, parents before their children.
        missing: who was not recorded, and why.
    """

    time: float
    host: str
    began: int
    ended: int
    actors: Sequence[Recorded]
    missing: Sequence[Missing] = ()


def best_offset(exchanges: Sequence[tuple[int, int, int]]) -> Offset:
    """The offset of another clock, from the exchange that took the shortest time.

    Where that can be the same clock, it is: its times are exact.

    Args:
        exchanges: of each when it was asked, what the other clock then said, and when that had come; in nanoseconds.
    """
    if not exchanges:
        return Offset()
    asked, said, came = min(exchanges, key=lambda one: one[2] - one[0])
    if asked <= said <= came:
        return Offset()
    error = (came - asked + 1) // 2
    return Offset((asked + came) // 2 - said, error)
