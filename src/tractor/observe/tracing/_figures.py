"""Figures of an actor, from looks at it that come several times a second.  Pure."""

from __future__ import annotations

from tractor.observe.tracing._recorded import Phase, Point, Recorded, Seen, StreamFigures
from tractor.runtime.seen._events import Dialog
from tractor.runtime.seen._samples import DialogSample, Sample

CPU, RSS, LAG = "CPU %", "RSS MiB", "lag ms"

PHASES = {"repl": "REPL", "blocked": "blocked"}
"""States that are drawn."""


class Figures:
    """Makes the figures of one actor.

    Args:
        recorded: where they go.
    """

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._before: tuple[int, float] | None = None
        self._counts: dict[tuple[Dialog, str], tuple[int, int]] = {}
        # The phase that the look before has seen.
        self._in: str | None = None

    def add(self, sample: Sample, asked: int, came: int) -> None:
        """Take a look.

        Args:
            sample: it.
            asked, came: when, in nanoseconds of this host's clock.
        """
        if sample.cpu_seconds is not None:
            if self._before is not None and came > self._before[0]:
                used = sample.cpu_seconds - self._before[1]
                self._point(CPU, came, 100 * used / ((came - self._before[0]) / 1e9))
            self._before = came, sample.cpu_seconds
        if sample.rss is not None:
            self._point(RSS, came, sample.rss / 2**20)
        if sample.lag is not None:
            self._point(LAG, came, sample.lag * 1000)
        self._phase(sample.state, asked, came)
        for dialog in sample.dialogs or ():
            self._see(dialog, asked, came)
            self._stream(dialog, came)

    def _point(self, name: str, time: int, value: float) -> None:
        self._recorded.figures.setdefault(name, []).append(Point(time, round(value, 3)))

    def _phase(self, state: str, asked: int, came: int) -> None:
        name = PHASES.get(state)
        phases = self._recorded.phases
        if name is not None and name == self._in:
            phases[-1] = phases[-1]._replace(end=came)
        elif name is not None:
            phases.append(Phase(name, asked, came))
        self._in = name

    def _see(self, dialog: DialogSample, asked: int, came: int) -> None:
        if dialog.dialog is None:
            return
        key = dialog.dialog, dialog.side
        seen = self._recorded.seen.get(key)
        if seen is None:
            seen = Seen(dialog.kind, dialog.function, dialog.peer, asked, came)
            self._recorded.seen[key] = seen
        seen.last = came

    def _stream(self, dialog: DialogSample, came: int) -> None:
        if dialog.dialog is None or dialog.sent is None or dialog.received is None:
            return
        key = dialog.dialog, dialog.side
        stream = self._recorded.streams.get(key)
        if stream is None:
            stream = StreamFigures(dialog.dialog, dialog.side, dialog.function, dialog.peer)
            self._recorded.streams[key] = stream
        if dialog.buffered is not None:
            stream.buffered.append(Point(came, dialog.buffered))
        if dialog.credit is not None:
            stream.credit.append(Point(came, dialog.credit))
        messages = dialog.sent + dialog.received
        before = self._counts.get(key)
        if before is not None and came > before[0]:
            new = max(0, messages - before[1])
            stream.messages += new
            rate = new / ((came - before[0]) / 1e9)
            stream.rate.append(Point(came, round(rate, 1)))
        self._counts[key] = came, messages
