"""What is wrong with actors, by one look at them.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from tractor.control._protocol import Refusal
from tractor.observe._finding import Found
from tractor.observe._naming import called
from tractor.observe._words import lag, plain, span
from tractor.runtime.seen._samples import Sample

FULL = 90.0
"""Per cent of a buffer."""

OFTEN = 3
"""Restarts within :data:`SOON` seconds."""

SOON = 60.0

SLOW = 0.1
"""Seconds of lag."""


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        grave: it keeps the actor from its work.
        actor: whose.
        what: in words.
        hint: a command that says more, or helps.
    """

    grave: bool
    actor: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"  -> {self.hint}" if self.hint else ""
        return plain(f"{'✗' if self.grave else '!'} {self.actor}  {self.what}{hint}")


def diagnose(found: Found, actors: list[Sample]) -> list[Finding]:
    """All that is wrong, the grave first.

    Args:
        found: the look, in which each was asked ``recent``, too.
        actors: those of interest.
    """
    findings = [finding for one in actors for finding in _of(one)]
    findings += _restarts(found, {one.uuid for one in actors})
    findings += _versions(found, {one.uuid for one in actors})
    return sorted(findings, key=lambda one: not one.grave)


def _of(one: Sample) -> Iterator[Finding]:
    who, why = called(one), one.why or ""
    if one.state == "blocked":
        passed = None if one.since is None else one.time - one.since
        long = "" if passed is None or passed < 1 else f" for at least {span(passed)}"
        yield Finding(True, who, f"loop blocked{long}: {why}", f"tractor stacks {who}")
    elif one.state == "stopped":
        yield Finding(False, who, "stopped (SIGSTOP)", f"kill -CONT {one.pid}")
    elif one.state == "zombie":
        yield Finding(True, who, f"zombie: {why}")
    elif one.state == "gone":
        yield Finding(True, who, "its process is gone, and its parent does not know")
    elif one.state == "lost":
        yield Finding(True, who, f"its host is lost: {why}")
    elif one.state == "mute":
        yield Finding(False, who, f"does not answer: {why}", f"tractor stacks --native {who}")
    if one.lag is not None and one.lag >= SLOW:
        yield Finding(
            False,
            who,
            f"its loop took {lag(one.lag)} to answer",
            f"tractor stacks {who} --repeat 100",
        )
    for dialog in one.dialogs or ():
        if dialog.fill is not None and dialog.fill >= FULL:
            stream = f"the stream of {dialog.function} from {dialog.peer}"
            what = f"{stream} is {dialog.fill:.0f} % full: it is read too slowly"
            yield Finding(True, who, what, f"tractor stacks {who}")


def _restarts(found: Found, uuids: set[str]) -> Iterator[Finding]:
    for one in found.answered:
        if one.who.uuid not in uuids or not one.more or isinstance(one.more[0], Refusal):
            continue
        events: list[dict[str, Any]] = one.more[0]["events"]
        late = [
            event
            for event in events
            if event["kind"] == "service_event"
            and event["event"] == "crashed"
            and found.time - event["time"] <= SOON
        ]
        for service, count in Counter(event["service"] for event in late).items():
            if count >= OFTEN:
                last = next(e for e in reversed(late) if e["service"] == service)
                what = f"{count} crashes in {SOON:g} s, the last by {last.get('error', '?')}"
                keeper = f"{one.who.name}@{one.who.pid}"
                yield Finding(False, str(service), what, f"tractor recent {keeper}")


def _versions(found: Found, uuids: set[str]) -> Iterator[Finding]:
    known = [one.who for one in found.answered if one.who.uuid in uuids]
    for what in sorted({name for who in known for name in who.versions}):
        counts = Counter(who.versions.get(what, "?") for who in known)
        if len(counts) > 1:
            told = ", ".join(f"{version} ({count})" for version, count in counts.most_common())
            yield Finding(False, "all", f"versions of {what} differ: {told}")


def all_well(actors: list[Sample]) -> str:
    """How those do that answer."""
    lags = [one.lag for one in actors if one.lag is not None]
    if not lags:
        return "no actor answers"
    return f"✓ {len(lags)} of {len(actors)} actors answer, in {lag(min(lags))} to {lag(max(lags))}"
