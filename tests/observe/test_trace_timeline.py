"""From events to what is drawn: slices that nest, spans, marks, arrows, and clocks that differ."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tractor.observe.tracing._arrows import draw
from tractor.observe.tracing._figures import Figures
from tractor.observe.tracing._format import MAX_STREAMS, MAX_TASKS, Trace
from tractor.observe.tracing._lanes import lanes, nested
from tractor.observe.tracing._recorded import (
    Loss,
    Offset,
    Point,
    Recorded,
    Recording,
    Seen,
    StreamFigures,
    best_offset,
)
from tractor.observe.tracing._timeline import BEGAN_BEFORE, DIED, STILL_OPEN, Slice, Timeline
from tractor.runtime.seen import _events
from tractor.runtime.seen._events import (
    CallEnded,
    CallStarted,
    CancelRequested,
    ChildGone,
    ChildReady,
    ChildStarting,
    ContextClosed,
    ContextOpened,
    ContextStarted,
    Crashed,
    CreditWaited,
    MessageSent,
    Rung,
    ServiceEvent,
    StreamClosed,
    StreamOpened,
)
from tractor.runtime.seen._samples import DialogSample, Missing, Sample

ROOT, CHILD, OTHER = "a" * 32, "b" * 32, "c" * 32


def recorded(uuid: str = ROOT, *events: _events.Event, **more: Any) -> Recorded:
    parent = None if uuid == ROOT else ROOT
    given: dict[str, Any] = {"pid": 7, "host": "h", "began": 0, "ended": 1000, **more}
    return Recorded(name=uuid[0], uuid=uuid, parent=parent, events=list(events), **given)


def started(time: int, actor: str, dialog: int, side: str, task: int, **more: Any) -> CallStarted:
    peer = CHILD if actor == ROOT else ROOT
    return CallStarted(time, actor, (ROOT, dialog), side, peer, peer[0], "m:f", task, "uds", **more)


def ended(time: int, actor: str, dialog: int, side: str, duration: int = 0) -> CallEnded:
    return CallEnded(time, actor, (ROOT, dialog), side, "m:f", "ok", None, duration)


def opened(time: int, actor: str, dialog: int, side: str, task: int) -> ContextOpened:
    peer = CHILD if actor == ROOT else ROOT
    return ContextOpened(time, actor, (ROOT, dialog), side, peer, peer[0], "m:c", task, "uds")


def closed(time: int, actor: str, dialog: int, side: str, outcome: str = "ok") -> ContextClosed:
    return ContextClosed(time, actor, (ROOT, dialog), side, "m:c", outcome, None, 0)


def trace(*actors: Recorded, **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metadata, and the records that are drawn."""
    made = Trace(Recording(1.0, "h", 0, 1000, actors, **more))
    return made.metadata, list(made.records())


def drawn(records: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [one for one in records if one["ph"] == phase]


# -- slices -------------------------------------------------------------------------------------------


def test_each_start_has_its_end() -> None:
    line = Timeline(
        recorded(
            ROOT,
            started(10, ROOT, 1, "caller", 5),
            started(20, ROOT, 2, "caller", 6),
            ended(30, ROOT, 1, "caller"),
            ended(40, ROOT, 2, "caller"),
        )
    )
    assert {
        task: [(one.start, one.end, one.cat) for one in slices]
        for task, slices in line.tasks.items()
    } == {5: [(10, 30, "call.made")], 6: [(20, 40, "call.made")]}
    (one,) = line.tasks[5]
    assert one.args == {
        "dialog": "aaaaaa#1",
        "peer": "b[bbbbbb]",
        "transport": "uds",
        "outcome": "ok",
    }


@pytest.mark.parametrize(("how", "why"), [("died", DIED), ("open", STILL_OPEN)])
def test_what_is_open_ends_with_its_actor(how: str, why: str) -> None:
    line = Timeline(recorded(ROOT, started(10, ROOT, 1, "caller", 5), ended=77, how=how))
    ((one,),) = line.tasks.values()
    assert (one.start, one.end, one.args["cut"]) == (10, 77, why)
    assert "outcome" not in one.args


def test_what_began_before_is_cut() -> None:
    line = Timeline(recorded(ROOT, ended(500, ROOT, 1, "caller", 5000), began=100))
    (one,) = line.stray
    assert (one.start, one.end) == (100, 500)
    assert one.args["seconds"] == 5e-6


def test_contexts_and_streams() -> None:
    line = Timeline(
        recorded(
            ROOT,
            opened(10, ROOT, 1, "caller", 5),
            ContextStarted(15, ROOT, (ROOT, 1), "caller", "m:c"),
            StreamOpened(20, ROOT, (ROOT, 1), "caller", CHILD, "m:c"),
            MessageSent(25, ROOT, (ROOT, 1), 99),
            CreditWaited(28, ROOT, (ROOT, 1), 2, "m:c"),
            StreamClosed(30, ROOT, (ROOT, 1), "caller", CHILD, "m:c", 1, 2, 3),
            closed(40, ROOT, 1, "caller"),
            started(50, ROOT, 2, "caller", 5, kind="stream"),
            ended(60, ROOT, 2, "caller"),
        )
    )
    assert [(one.name, one.start, one.end) for one in line.spans] == [
        ("m:c", 10, 40),
        ("stream of m:c", 20, 30),
        ("no credit for m:c", 26, 28),
        ("m:f", 50, 60),
    ]
    assert line.spans[0].marks == [(15, "started", {})]
    assert line.spans[1].marks == [(25, "sent", {"bytes": 99})]
    assert line.spans[1].args | {"sent": 1, "received": 2, "discarded": 3} == line.spans[1].args


def test_with_a_dialog_ends_its_stream() -> None:
    line = Timeline(
        recorded(
            ROOT,
            opened(10, ROOT, 1, "caller", 5),
            StreamOpened(20, ROOT, (ROOT, 1), "caller", CHILD, "m:c"),
            closed(40, ROOT, 1, "caller"),
            started(50, ROOT, 2, "caller", 5, kind="stream"),
            StreamOpened(55, ROOT, (ROOT, 2), "caller", CHILD, "m:f"),
            ended(60, ROOT, 2, "caller"),
        )
    )
    assert [(one.name, one.start, one.end) for one in line.spans] == [
        ("m:c", 10, 40),
        ("stream of m:c", 20, 40),
        ("m:f", 50, 60),
    ]


def test_what_was_open_all_the_while_is_known_by_looks() -> None:
    second = 10**9
    one = recorded(ROOT, opened(5 * second, ROOT, 9, "caller", 5), began=0, ended=10 * second)
    one.seen = {
        # All the while; until something between; begun meanwhile, so that its events are lost; and known by events.
        ((ROOT, 1), "callee"): Seen("call", "m:stuck", "b@7", 1000, 10 * second),
        ((ROOT, 2), "caller"): Seen("context", "m:c", "b@7", 1000, 4 * second),
        ((ROOT, 3), "caller"): Seen("call", "m:f", "b@7", 2 * second, 4 * second),
        ((ROOT, 9), "caller"): Seen("context", "m:c", "b@7", 5 * second, 6 * second),
    }
    line = Timeline(one)
    assert [(one.name, one.cat, one.start, one.end) for one in (*line.stray, *line.spans)] == [
        ("m:stuck", "call.served", 0, 10 * second),
        ("m:c", "context.made", 5 * second, 10 * second),
        ("m:c", "context.made", 0, 4 * second),
    ]
    assert line.stray[0].args["cut"] == BEGAN_BEFORE


def test_the_way_of_a_subactor() -> None:
    ready = ChildReady(1000, ROOT, CHILD, "b", "trio", None, 100e-9, 200e-9, 600e-9)
    line = Timeline(
        recorded(
            ROOT,
            ChildStarting(100, ROOT, CHILD, "b", "trio"),
            ready,
            Rung(2000, ROOT, CHILD, "b", 1),
            Rung(2100, ROOT, CHILD, "b", 4),
            ChildGone(2200, ROOT, CHILD, "b", "trio", None, -9, 4, "died"),
            ServiceEvent(2300, ROOT, "b", "Restarting", "b is restarted", 3),
            Crashed(2400, ROOT, "builtins:ValueError", "no", "Traceback"),
        )
    )
    assert [(one.name, one.start, one.end) for one in line.runtime] == [
        ("start b", 100, 1000),
        ("spawn", 100, 200),
        ("connect", 200, 400),
        ("boot", 400, 1000),
        ("end b", 2000, 2200),
        ("rung 1: cancel requested", 2000, 2100),
        ("rung 4: SIGKILL", 2100, 2200),
    ]
    assert [(one.name, one.wide) for one in line.marks] == [
        ("b died", True),
        ("Restarting b", False),
        ("crash: builtins:ValueError", True),
    ]


def test_every_kind_of_event_is_drawn_or_counted() -> None:
    """None is forgotten: each has a method, in an object whose table is made from these names."""
    kinds = {
        one.event
        for one in vars(_events).values()
        if isinstance(one, type) and issubclass(one, _events.Event) and one.event
    }
    assert kinds == {name[4:] for name in dir(Timeline) if name.startswith("_on_")}


# -- lines --------------------------------------------------------------------------------------------


def slices(*times: tuple[int, int], task: int | None = None) -> list[Slice]:
    return [Slice("s", "c", start, end, {}, task) for start, end in times]


def nests(line: list[Slice]) -> bool:
    return not any(one.start < other.start < one.end < other.end for one in line for other in line)


def test_those_that_nest() -> None:
    fits, rest = nested(slices((0, 10), (2, 5), (5, 10), (6, 12), (10, 20), (10, 10)))
    assert [(one.start, one.end) for one in fits] == [(0, 10), (2, 5), (5, 10), (10, 20), (10, 10)]
    assert [(one.start, one.end) for one in rest] == [(6, 12)]


def test_lines_hold_all_and_on_each_they_nest() -> None:
    rng = random.Random(7)
    many = []
    for task in range(40):
        start = rng.randrange(1000)
        end = start + rng.randrange(1, 300)
        many += slices((start, end), task=task)
        many += slices((start + (end - start) // 3, start + (end - start) // 2), task=task)
        many += slices((start + 5, end + 5), task=task)
    made = lanes(many)
    assert sorted(map(id, many)) == sorted(id(one) for line in made for one in line)
    for line in made:
        assert nests(line)
        for one in line:
            for other in line:
                if one is not other and one.start < other.start and other.end <= one.end:
                    assert one.task == other.task


def test_lines_are_used_again() -> None:
    made = lanes([*slices((0, 10), task=1), *slices((5, 15), task=2), *slices((10, 20), task=3)])
    assert [[(one.start, one.end) for one in line] for line in made] == [
        [(0, 10), (10, 20)],
        [(5, 15)],
    ]


def test_most_tasks_have_no_thread_of_their_own() -> None:
    events: list[_events.Event] = []
    for number in range(MAX_TASKS + 20):
        events.append(started(number, ROOT, number, "caller", number))
        events.append(ended(number + 5, ROOT, number, "caller"))
    _, records = trace(recorded(ROOT, *events))
    names = [one["args"]["name"] for one in records if one["name"] == "thread_name"]
    assert sum(name.startswith("task ") for name in names) == MAX_TASKS
    # As many lines as overlap at a time.
    assert names.count("other tasks") == 5
    assert len(drawn(records, "X")) == MAX_TASKS + 20


# -- arrows -------------------------------------------------------------------------------------------


def pair(gap: int, **callee: Any) -> tuple[Recorded, Recorded]:
    """A call that comes to the other ``gap`` ns after it was made."""
    return (
        recorded(ROOT, started(500, ROOT, 1, "caller", 5), ended(900, ROOT, 1, "caller")),
        recorded(
            CHILD,
            started(500 + gap, CHILD, 1, "callee", 6),
            ended(800, CHILD, 1, "callee"),
            **callee,
        ),
    )


def test_an_arrow_from_who_calls_to_who_serves() -> None:
    metadata, records = trace(*pair(100))
    made, served = drawn(records, "X")
    assert made["flow_out"]
    assert served["flow_in"]
    assert made["bind_id"] == served["bind_id"]
    assert (made["pid"], served["pid"]) == (1, 2)
    assert (metadata["arrows"], metadata["arrows-moved"], metadata["arrows-back"]) == (1, 0, 0)


def test_an_arrow_that_would_go_back_is_moved_within_the_error() -> None:
    metadata, records = trace(*pair(-30, host="h2", clock=Offset(0, 50)))
    made, served = drawn(records, "X")
    assert served["ts"] == made["ts"] == 0.5
    assert (metadata["arrows"], metadata["arrows-moved"], metadata["arrows-back"]) == (1, 1, 0)
    assert metadata["actors"][1]["clock-error-us"] == 0.05
    assert metadata["actors"][1]["clock-offset-us"] == 0.03


def test_one_that_goes_further_back_is_drawn_as_it_is_and_counted() -> None:
    metadata, records = trace(*pair(-80, host="h2", clock=Offset(0, 50)))
    served, made = drawn(records, "X")
    # As near as the error allows.
    assert (made["ts"], served["ts"]) == (0.5, 0.47)
    assert (metadata["arrows"], metadata["arrows-moved"], metadata["arrows-back"]) == (0, 0, 1)
    assert [one["ts"] for one in (*drawn(records, "s"), *drawn(records, "f"))] == [0.5, 0.47]


def test_clocks_of_one_host_are_left_alone() -> None:
    _, records = trace(*pair(100))
    assert [one["ts"] for one in drawn(records, "X")] == [0.5, 0.6]


def test_an_arrow_from_a_cancel_to_what_it_ended() -> None:
    cancel = CancelRequested(600, ROOT, "task", CHILD, ("a", ROOT), (ROOT, 1))
    arrows_before = draw([Timeline(recorded(ROOT, cancel))])
    assert arrows_before.count == 0
    _, records = trace(
        recorded(ROOT, opened(500, ROOT, 1, "caller", 5), cancel, closed(900, ROOT, 1, "caller")),
        recorded(
            CHILD, opened(550, CHILD, 1, "callee", 6), closed(700, CHILD, 1, "callee", "cancelled")
        ),
    )
    out = next(one for one in drawn(records, "X") if one["name"] == "cancel task")
    into = next(one for one in drawn(records, "X") if one["name"] == "cancelled")
    assert out["bind_id"] == into["bind_id"]
    assert (out["ts"], into["ts"]) == (0.6, 0.7)
    # In the task that served it.
    names = {one["tid"]: one["args"]["name"] for one in records if one["name"] == "thread_name"}
    assert names[into["tid"]] == "task 6"
    # And of the context itself.
    begins = drawn(records, "b")
    assert [one.get("flow_out") for one in begins] == [True, None]
    assert begins[1]["flow_in"]


def test_who_is_cancelled_tells_of_it_too_which_is_no_second_arrow() -> None:
    asks = CancelRequested(600, ROOT, "task", CHILD, ("a", ROOT), (ROOT, 1))
    hears = CancelRequested(650, CHILD, "task", CHILD, ("a", ROOT), (ROOT, 1))
    served = (opened(550, CHILD, 1, "callee", 6), hears, closed(700, CHILD, 1, "callee"))
    _, records = trace(recorded(ROOT, asks), recorded(CHILD, *served))
    assert sum(one["name"] == "cancelled" for one in drawn(records, "X")) == 1
    # Unless who has asked is not recorded.
    _, records = trace(recorded(CHILD, *served))
    assert sum(one["name"] == "cancelled" for one in drawn(records, "X")) == 1


def test_an_arrow_from_a_cancel_to_the_end_of_an_actor() -> None:
    cancel = CancelRequested(600, ROOT, "actor", CHILD, ("a", ROOT))
    _, records = trace(recorded(ROOT, cancel), recorded(CHILD, ended=800, how="ended"))
    assert [(one["name"], one["ts"]) for one in drawn(records, "X")] == [
        ("cancel actor", 0.6),
        ("cancelled", 0.8),
    ]


# -- the rest -----------------------------------------------------------------------------------------


def test_processes_are_numbered_by_their_place_in_the_tree() -> None:
    _, records = trace(recorded(ROOT), recorded(CHILD))
    names = [one for one in records if one["name"] == "process_name"]
    assert [(one["pid"], one["args"]["name"]) for one in names] == [
        (1, "a[aaaaaa]@7"),
        (2, "b[bbbbbb]@7"),
    ]
    labels = [one["args"]["labels"] for one in records if one["name"] == "process_labels"]
    assert labels == ["h", "h"]


def test_what_is_lost_is_said() -> None:
    metadata, records = trace(
        recorded(ROOT, losses=[Loss(400, 3), Loss(500, 4)]), missing=[Missing(what="x", why="y")]
    )
    assert metadata["lost"] == 7
    assert metadata["missing"] == [{"what": "x", "why": "y"}]
    assert [(one["name"], one["ts"]) for one in drawn(records, "i")] == [
        ("3 events lost", 0.4),
        ("4 events lost", 0.5),
    ]


def test_the_busiest_streams_have_counters() -> None:
    streams: dict[tuple[_events.Dialog, str], StreamFigures] = {}
    for number in range(40):
        dialog = (ROOT, number)
        points = [Point(100, number)]
        figures = StreamFigures(dialog, "caller", "m:c", "b@7", points, points, points, number)
        streams[dialog, "caller"] = figures
    _, records = trace(recorded(ROOT, streams=streams, figures={"CPU %": [Point(5, 1.5)]}))
    counters = drawn(records, "C")
    assert counters[0]["args"] == {"%": 1.5}
    names = {one["name"] for one in counters[1:]}
    assert names == {f"m:c to b@7 #{number}" for number in range(40 - MAX_STREAMS, 40)}
    assert {key for one in counters[1:] for key in one["args"]} == {
        "buffered",
        "credit",
        "messages/s",
    }


def test_records_come_by_time_and_the_outer_first() -> None:
    events: list[_events.Event] = []
    for number in range(50):
        events.append(started(number * 7, ROOT, number, "caller", number % 5))
        events.append(ended(number * 7 + 3, ROOT, number, "caller"))
    _, records = trace(recorded(ROOT, *events), recorded(CHILD, *events))
    times = [one["ts"] for one in records if "ts" in one]
    assert len(times) == 100
    assert times == sorted(times)
    msgspec.json.encode(records)


def test_the_best_of_several_exchanges() -> None:
    assert best_offset([]) == Offset()
    # The same clock.
    assert best_offset([(100, 130, 150), (200, 204, 210)]) == Offset()
    assert best_offset([(100, 1130, 150), (200, 1204, 210)]) == Offset(205 - 1204, 5)


def test_figures_of_looks() -> None:
    one = recorded(ROOT)
    figures = Figures(one)

    def look(time: int, state: str, cpu: float, sent: int) -> None:
        dialog = DialogSample(
            kind="context",
            side="caller",
            function="m:c",
            peer="b@7",
            sent=sent,
            received=1,
            dialog=(ROOT, 1),
            buffered=4,
        )
        sample = Sample(
            name="a",
            uuid=ROOT,
            pid=7,
            host="h",
            parent=None,
            time=0.0,
            state=state,
            cpu_seconds=cpu,
            lag=None if state == "blocked" else 0.002,
            dialogs=(dialog,),
        )
        figures.add(sample, time - 10, time)

    look(10**9, "run", 1.0, 10)
    look(2 * 10**9, "blocked", 1.5, 30)
    look(3 * 10**9, "blocked", 2.5, 30)
    look(4 * 10**9, "repl", 2.5, 30)
    assert [point.value for point in one.figures["CPU %"]] == [50.0, 100.0, 0.0]
    assert [point.value for point in one.figures["lag ms"]] == [2.0, 2.0]
    assert "RSS MiB" not in one.figures
    assert [(phase.name, phase.start, phase.end) for phase in one.phases] == [
        ("blocked", 2 * 10**9 - 10, 3 * 10**9),
        ("REPL", 4 * 10**9 - 10, 4 * 10**9),
    ]
    (stream,) = one.streams.values()
    assert [point.value for point in stream.rate] == [20.0, 0.0, 0.0]
    assert stream.messages == 20
    assert not stream.credit
