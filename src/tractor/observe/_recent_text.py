"""Rare events as text.  Pure: of the answers of the op ``recent``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tractor.observe._words import plain

FIELDS = ("number", "time", "kind", "traceback")


class Happened(NamedTuple):
    """An event, and whose it is.  They sort by time."""

    time: float
    actor: str
    number: int
    event: Mapping[str, Any]


def events_of(actor: str, answer: Mapping[str, Any]) -> list[Happened]:
    """What an actor has told."""
    return [Happened(one["time"], actor, one["number"], one) for one in answer["events"]]


def event_text(one: Happened, tracebacks: bool = True) -> Iterator[str]:
    """An event on a line, and its traceback below it."""
    event = one.event
    clock = time.strftime("%H:%M:%S", time.localtime(one.time))
    words = [_word(name, value) for name, value in event.items() if name not in FIELDS]
    kind = str(event["kind"]).replace("_", " ")
    yield plain(f"{clock}  {one.actor}  {kind}" + "".join(f"  {word}" for word in words))
    if tracebacks and event.get("traceback"):
        for line in str(event["traceback"]).splitlines():
            yield plain(f"    {line}")


def _word(name: str, value: Any) -> str:
    return f"{name}={value:.3f}" if isinstance(value, float) else f"{name}={value}"
