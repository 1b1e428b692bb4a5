"""A recording as Trace Event JSON, which Perfetto's viewer reads.  Pure.

A process is an actor, numbered by its place in the tree; a thread is a task of it.  Times are microseconds since the
beginning, exact to the nanosecond.  Records come by time: the beginning of a file is the beginning of the trace.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, TypeAlias

import msgspec

from tractor._util.dist._version import __version__
from tractor.observe.tracing._arrows import Arrows, draw
from tractor.observe.tracing._lanes import lanes, nested
from tractor.observe.tracing._recorded import Point, Recorded, Recording, StreamFigures
from tractor.observe.tracing._timeline import Mark, Slice, Span, Timeline

MAX_TASKS = 500
"""Tasks of an actor that have a thread of their own."""

MAX_STREAMS = 32
"""Streams of an actor that have counters, the busiest."""

RUNTIME = "runtime"
OTHERS = "other tasks"

_FIRST_TID = 1_000_000
"""No process has that number: a thread of its process's number is taken as the main thread."""

Record: TypeAlias = dict[str, Any]
_Timed: TypeAlias = tuple[int, int, int, Record]


class Trace:
    """A trace, to be written.

    Args:
        recording: what was recorded.

    Attributes:
        metadata: what is told of it as a whole.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._timelines = [Timeline(one) for one in recording.actors]
        self._arrows = draw(self._timelines)
        self._numbers = count()
        self.metadata = self._metadata()

    def records(self) -> Iterator[Record]:
        """All records: names first, then by time."""
        tids = count(_FIRST_TID)
        tracks = [
            _Tracks(number, timeline, self._arrows, self._recording, tids, self._numbers)
            for number, timeline in enumerate(self._timelines, 1)
        ]
        names = chain.from_iterable(one.names for one in tracks)
        timed = heapq.merge(*(sorted(one.timed, key=_when) for one in tracks), key=_when)
        return chain(names, (record for *_, record in timed))

    def _metadata(self) -> Record:
        recording, arrows = self._recording, self._arrows
        return {
            "made-by": f"tractor trace {__version__}",
            "time": recording.time,
            "host": recording.host,
            "seconds": (recording.ended - recording.began) / 1e9,
            "clock": "CLOCK_MONOTONIC",
            "actors": [
                {
                    "number": number,
                    "name": one.name,
                    "uuid": one.uuid,
                    "pid": one.pid,
                    "host": one.host,
                    "parent": one.parent,
                    "end": one.how,
                    "events": len(one.events),
                    "lost": one.lost,
                    "unknown": one.unknown,
                    "clock-offset-us": (arrows.shifts[one.uuid]) / 1000,
                    "clock-error-us": one.clock.error / 1000,
                }
                for number, one in enumerate(recording.actors, 1)
            ],
            "lost": sum(one.lost for one in recording.actors),
            "missing": msgspec.to_builtins(list(recording.missing)),
            "arrows": arrows.count,
            "arrows-moved": arrows.moved,
            "arrows-back": len(arrows.back),
        }


def _when(timed: _Timed) -> tuple[int, int, int]:
    return timed[:3]


class _Tracks:
    """The tracks of one actor.

    Attributes:
        names: records that name its process and threads.
        timed: the others, each with its time, its length below 0, and a number.
    """

    def __init__(
        self,
        pid: int,
        timeline: Timeline,
        arrows: Arrows,
        recording: Recording,
        tids: Iterator[int],
        numbers: Iterator[int],
    ) -> None:
        self._pid = pid
        self._shift = arrows.shifts[timeline.recorded.uuid] - recording.began
        self._began = recording.began
        self._tids = tids
        self._numbers = numbers
        self._sort = count()
        # Of the tasks that have a thread.
        self._threads: dict[int, int] = {}
        self.names: list[Record] = []
        self.timed: list[_Timed] = []
        recorded = timeline.recorded
        self._name("process_name", pid, name=recorded.title)
        self._name("process_sort_index", pid, sort_index=pid)
        self._name("process_labels", pid, labels=recorded.host)
        self._runtime = self._thread(RUNTIME)
        self._draw_runtime(timeline, arrows)
        self._draw_tasks(timeline, arrows)
        self._draw_spans(timeline.spans)
        self._draw_back(timeline, arrows)
        self._draw_figures(recorded)

    def _name(self, what: str, tid: int, **args: Any) -> None:
        self.names.append({"ph": "M", "name": what, "pid": self._pid, "tid": tid, "args": args})

    def _thread(self, name: str) -> int:
        tid = next(self._tids)
        self._name("thread_name", tid, name=name)
        self._name("thread_sort_index", tid, sort_index=next(self._sort))
        return tid

    # -- what is drawn where --------------------------------------------------------------------------

    def _draw_runtime(self, timeline: Timeline, arrows: Arrows) -> None:
        own = [
            one.mark for one in arrows.cancelled.get(timeline.recorded.uuid, ()) if one.task is None
        ]
        points = [*(mark for mark, _ in timeline.cancels), *own]
        for number, line in enumerate(lanes(timeline.runtime)):
            self._add_slices(line, self._runtime if not number else self._thread(RUNTIME))
        # Without length, they fit into whatever is drawn there.
        self._add_slices(points, self._runtime)
        for mark in timeline.marks:
            self._add_mark(mark)

    def _draw_tasks(self, timeline: Timeline, arrows: Arrows) -> None:
        others = list(timeline.stray)
        ends: dict[int, list[Slice]] = {}
        for cancelled in arrows.cancelled.get(timeline.recorded.uuid, ()):
            if cancelled.task is not None:
                ends.setdefault(cancelled.task, []).append(cancelled.mark)
        for task, slices in timeline.tasks.items():
            if not slices and task not in ends:
                continue
            if len(self._threads) >= MAX_TASKS:
                others += [*slices, *ends.get(task, ())]
                continue
            fits, rest = nested([*slices, *ends.get(task, ())])
            others += rest
            self._threads[task] = tid = self._thread(f"task {task}")
            self._add_slices(fits, tid)
        for line in lanes(others):
            self._add_slices(line, self._thread(OTHERS))

    def _draw_spans(self, spans: Iterable[Span]) -> None:
        for one in spans:
            common: Record = {"cat": one.cat, "id2": {"local": hex(next(self._numbers) + 1)}}
            tid = (
                self._threads.get(one.task, self._runtime)
                if one.task is not None
                else self._runtime
            )
            common |= {"pid": self._pid, "tid": tid}
            first = {"ph": "b", "name": one.name, **common, "args": one.args, **_arrows(one)}
            self._add(one.start, 0, first)
            for time, name, args in one.marks:
                self._add(time, 0, {"ph": "n", "name": name, **common, "args": args})
            self._add(one.end, 0, {"ph": "e", "name": one.name, **common, "args": {}})

    def _draw_back(self, timeline: Timeline, arrows: Arrows) -> None:
        """Arrows that go back, as they are."""
        for number, ends in enumerate(arrows.back, 1):
            for phase, (uuid, one) in zip("sf", ends, strict=True):
                tid = self._threads.get(one.task) if one.task is not None else None
                if uuid == timeline.recorded.uuid and tid is not None:
                    arrow = {"ph": phase, "name": "back", "cat": "back", "id": number}
                    if phase == "f":
                        arrow["bp"] = "e"
                    self._add(one.start, 0, {**arrow, "pid": self._pid, "tid": tid})

    def _draw_figures(self, recorded: Recorded) -> None:
        for name, points in recorded.figures.items():
            what, _, unit = name.partition(" ")
            self._add_points(what, unit, points)
        busiest = sorted(recorded.streams.values(), key=lambda one: -one.messages)[:MAX_STREAMS]
        for stream in busiest:
            name = _stream_name(stream)
            self._add_points(name, "buffered", stream.buffered)
            self._add_points(name, "credit", stream.credit)
            self._add_points(name, "messages/s", stream.rate)

    # -- records --------------------------------------------------------------------------------------

    def _us(self, time: int) -> float:
        return max(0, time + self._shift) / 1000

    def _add(self, time: int, length: int, record: Record) -> None:
        record["ts"] = self._us(time)
        self.timed.append((max(0, time + self._shift), -length, next(self._numbers), record))

    def _add_slices(self, slices: Sequence[Slice], tid: int) -> None:
        for one in slices:
            start, end = (max(0, time + self._shift) for time in (one.start, one.end))
            record = {"ph": "X", "name": one.name, "cat": one.cat, "pid": self._pid, "tid": tid}
            record |= {"dur": (end - start) / 1000, "args": one.args, **_arrows(one)}
            self._add(one.start, end - start, record)

    def _add_mark(self, mark: Mark) -> None:
        record = {"ph": "i", "s": "p" if mark.wide else "t", "name": mark.name, "cat": mark.cat}
        self._add(
            mark.time, 0, {**record, "pid": self._pid, "tid": self._runtime, "args": mark.args}
        )

    def _add_points(self, name: str, unit: str, points: Sequence[Point]) -> None:
        """These times are of this host's clock."""
        for point in points:
            time = max(0, point.time - self._began)
            record = {"ph": "C", "name": name, "pid": self._pid, "tid": 0, "ts": time / 1000}
            record["args"] = {unit: point.value}
            self.timed.append((time, 0, next(self._numbers), record))


def _arrows(one: Slice) -> Record:
    # Nothing has both: who is called is drawn apart from who calls.
    if one.out is not None:
        return {"bind_id": hex(one.out), "flow_out": True}
    if one.into is not None:
        return {"bind_id": hex(one.into), "flow_in": True}
    return {}


def _stream_name(stream: StreamFigures) -> str:
    return f"{stream.function} {'to' if stream.side == 'caller' else 'for'} {stream.peer} #{stream.dialog[1]}"
