"""A recording, from the first question to the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tractor.observe._naming import called
from tractor.observe._words import size
from tractor.observe.tracing._collecting import Collector
from tractor.observe.tracing._format import Trace
from tractor.observe.tracing._recorded import Recording
from tractor.observe.tracing._writing import TraceFile, Written
from tractor.runtime.seen._samples import Missing, Sample

VIEWER = "https://ui.perfetto.dev"
"""Where a trace can be looked at; the page keeps it in the browser."""


def record_to(path: Path, collector: Collector, seconds: float) -> str:
    """Record for a time, and write that.

    Args:
        path: of the file.
        collector: what records.
        seconds: for how long, unless it is stopped.

    Returns:
        What is in the file, in words.

    Raises:
        OSError: it can't be written.
        LookupError: nobody has told anything.
    """
    file = TraceFile(path)
    try:
        collector.run(seconds)
        recording = collector.finish()
        if not recording.actors:
            whys = [f"{one.what}: {one.why}" for one in recording.missing]
            raise LookupError("; ".join(whys) or "no answer")
    except BaseException:
        file.give_up()
        raise
    written = file.write(Trace(recording))
    return in_words(path, recording, written)


def in_words(path: Path, recording: Recording, written: Written) -> str:
    """What is in a file."""
    events = sum(len(one.events) for one in recording.actors)
    lost = sum(one.lost for one in recording.actors)
    length = (recording.ended - recording.began) / 1e9
    text = f"{path}: {events} events of {len(recording.actors)} actors in {length:.1f} s"
    more = f", {lost} lost" if lost else ""
    cut = f", cut: {written.left_out} records had no room" if written.left_out else ""
    return f"{text}, {size(written.size)}{more}{cut}"


def missing_of(actors: Sequence[Sample], recording: Recording) -> list[Missing]:
    """Who was not recorded, and why: those that were there at the beginning first.

    Args:
        actors: that were there.
        recording: what was recorded.
    """
    recorded = {one.uuid for one in recording.actors}
    known = {one.what: one for one in recording.missing}
    found: list[Missing] = []
    for one in actors:
        if one.uuid not in recorded:
            why = known.pop(called(one), None)
            text = f"{one.state}: {one.why}" if one.why else "no answer"
            found.append(why or Missing(what=called(one), why=text))
    return found + list(known.values())
