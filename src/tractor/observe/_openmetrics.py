"""Samples as text for a scraper: the OpenMetrics format."""

from __future__ import annotations

from collections.abc import Iterator

from tractor.runtime.seen._samples import Sample, TreeSample

GAUGES: dict[str, str] = {
    "uptime": "Seconds since the actor's start.",
    "rss": "Resident bytes of its process.",
    "pss": "Resident bytes, what is shared counted in parts.",
    "tasks": "Living trio tasks, less the runtime's.",
    "calls": "Calls that are open, on both sides.",
    "contexts": "Contexts that are open, on both sides.",
    "streams": "Streams that are open, on both sides.",
    "lag": "Seconds that the event loop took to answer.",
    "fill": "The fullest buffer of a stream, in per cent.",
}
COUNTERS: dict[str, str] = {
    "cpu_seconds": "CPU time of its process.",
    "calls_total": "Calls begun, made and served.",
    "errors_total": "Dialogs that ended with an error.",
    "messages_in": "Messages received.",
    "messages_out": "Messages sent.",
    "bytes_in": "Bytes read.",
    "bytes_out": "Bytes written.",
    "restarts": "How often a service was started again.",
}


def openmetrics(tree: TreeSample) -> str:
    """The text, with the end that the format asks for; what is unknown is not in it."""
    return "\n".join([*_lines(tree), "# EOF"]) + "\n"


def _lines(tree: TreeSample) -> Iterator[str]:
    for kind, fields in (("gauge", GAUGES), ("counter", COUNTERS)):
        for field, told in fields.items():
            name = f"tractor_{field.removesuffix('_total')}"
            values = [(one, getattr(one, field)) for one in tree.actors]
            known = [(one, value) for one, value in values if value is not None]
            if not known:
                continue
            yield f"# TYPE {name} {kind}"
            yield f"# HELP {name} {told}"
            end = "_total" if kind == "counter" else ""
            for one, value in known:
                yield f"{name}{end}{{{_labels(one)}}} {value}"
    yield "# TYPE tractor_state stateset"
    yield "# HELP tractor_state What an actor is in."
    for one in tree.actors:
        yield f'tractor_state{{{_labels(one)},tractor_state="{_quoted(one.state)}"}} 1'


def _labels(one: Sample) -> str:
    given = {"name": one.name, "uuid": one.uuid, "pid": str(one.pid or ""), "host": one.host}
    return ",".join(f'{key}="{_quoted(value)}"' for key, value in given.items())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
