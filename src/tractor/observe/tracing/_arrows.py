"""The arrows of a trace, and what clocks of several hosts do to them.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tractor.observe.tracing._recorded import Offset
from tractor.observe.tracing._timeline import Slice, Timeline
from tractor.runtime.seen._events import Dialog


class Cancelled(NamedTuple):
    """Where the arrow of a cancellation ends.

    Attributes:
        mark: a slice without length, at the end of what was cancelled.
        task: in which it was; ``None``: the actor itself.
    """

    mark: Slice
    task: int | None


@dataclass
class Arrows:
    """The arrows of a trace.

    Attributes:
        shifts: nanoseconds to add to the times of each actor, by uuid.
        moved: arrows that were moved, within the error of the clocks, so as not to go back.
        back: those that go back all the same, as who asks and who was asked.
        cancelled: by actor, what cancellations have ended there.
        count: all that are drawn.
    """

    shifts: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    back: list[tuple[tuple[str, Slice], tuple[str, Slice]]] = field(default_factory=list)
    cancelled: dict[str, list[Cancelled]] = field(default_factory=dict)
    count: int = 0


def draw(timelines: Sequence[Timeline]) -> Arrows:
    """Connect what belongs together: the slices get the numbers of their arrows."""
    arrows = Arrows()
    by_uuid = {one.recorded.uuid: one for one in timelines}
    pairs = list(_pairs(timelines))
    arrows.shifts = _shifts(by_uuid, pairs)
    for caller, out, callee, into in pairs:
        # Where each is by the plain offset, without what its error allows.
        plain = by_uuid[caller].recorded.clock.ns, by_uuid[callee].recorded.clock.ns
        if into.start + arrows.shifts[callee] < out.start + arrows.shifts[caller]:
            arrows.back.append(((caller, out), (callee, into)))
            continue
        arrows.moved += into.start + plain[1] < out.start + plain[0]
        arrows.count += 1
        out.out = into.into = arrows.count
    for timeline in timelines:
        for mark, event in timeline.cancels:
            target = by_uuid.get(event.target)
            # Who is cancelled tells of it, too: the arrow comes from who asks, where that one was recorded.
            is_echo = event.target == timeline.recorded.uuid and event.canceller[1] in by_uuid
            if target is not None and (not is_echo or event.canceller[1] == event.target):
                _cancel(arrows, timeline, mark, target, event.dialog)
    return arrows


def _pairs(timelines: Sequence[Timeline]) -> Iterator[tuple[str, Slice, str, Slice]]:
    """Both ends of each dialog that has two."""
    made: dict[Dialog, tuple[str, Slice]] = {}
    for timeline in timelines:
        for (dialog, side), one in timeline.dialogs.items():
            if side == "caller":
                made[dialog] = timeline.recorded.uuid, one
    for timeline in timelines:
        for (dialog, side), one in timeline.dialogs.items():
            if side == "callee" and dialog in made:
                yield *made[dialog], timeline.recorded.uuid, one


def _shifts(
    by_uuid: Mapping[str, Timeline], pairs: Sequence[tuple[str, Slice, str, Slice]]
) -> dict[str, int]:
    """The offset of each actor, changed within its error so that as few arrows as can be go back."""
    clocks: dict[str, Offset] = {uuid: one.recorded.clock for uuid, one in by_uuid.items()}
    hosts = {uuid: one.recorded.host for uuid, one in by_uuid.items()}
    # By host: what must be added at least, for arrows that come, and may be at most, for those that go.
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for caller, out, callee, into in pairs:
        gap = (into.start + clocks[callee].ns) - (out.start + clocks[caller].ns)
        if hosts[caller] == hosts[callee]:
            continue
        least[hosts[callee]] = max(least.get(hosts[callee], -gap), -gap)
        most[hosts[caller]] = min(most.get(hosts[caller], gap), gap)
    shifts = {}
    for uuid, clock in clocks.items():
        change = 0
        if clock.error:
            change = max(change, least.get(hosts[uuid], 0))
            change = min(change, max(0, most.get(hosts[uuid], change)))
            if (top := most.get(hosts[uuid], 0)) < 0:
                change = max(top, least.get(hosts[uuid], top))
            change = max(-clock.error, min(clock.error, change))
        shifts[uuid] = clock.ns + change
    return shifts


def _cancel(
    arrows: Arrows, timeline: Timeline, mark: Slice, target: Timeline, dialog: Dialog | None
) -> None:
    """From who asks to the end of what was cancelled, if that has ended since."""
    uuid = target.recorded.uuid
    task: int | None = None
    if dialog is not None:
        ended = target.dialogs.get((dialog, "callee"))
        if ended is None or "outcome" not in ended.args:
            return
        end, task = ended.end, ended.task
    elif uuid == timeline.recorded.uuid or target.recorded.how == "open":
        return
    else:
        end = target.recorded.ended
    if end + arrows.shifts[uuid] < mark.start + arrows.shifts[timeline.recorded.uuid]:
        return
    arrows.count += 1
    mark.out = arrows.count
    args = {"by": mark.args["by"]}
    point = Slice("cancelled", "cancel", end, end, args, task)
    point.into = arrows.count
    arrows.cancelled.setdefault(uuid, []).append(Cancelled(point, task))
