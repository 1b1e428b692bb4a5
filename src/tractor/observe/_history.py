"""What several looks, one after the other, say together: rates, and the CPU of the last minute.  Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from tractor.runtime.seen._samples import Sample, TreeSample

KEPT = 60.0
"""Seconds of CPU that are kept."""

UNTOLD = frozenset({"blocked", "stopped", "zombie", "mute", "gone", "backoff"})
"""States whose begin the actor itself does not tell, or not in full."""

BARS = "▁▂▃▄▅▆▇█"


class Rates(NamedTuple):
    """Of one actor, or of all, a second; ``None``: unknown."""

    calls: float | None
    messages: float | None


class History:
    """The looks of the last minute.

    Attributes:
        latest: the last one, with CPU over the time since the one before; ``None``: there is none yet.
    """

    def __init__(self) -> None:
        self.latest: TreeSample | None = None
        self._rates: dict[tuple[str, int | None], Rates] = {}
        self._cpu: dict[tuple[str, int | None], deque[tuple[float, float]]] = {}
        self._before: dict[tuple[str, int | None], Sample] = {}

    def add(self, tree: TreeSample) -> None:
        """Take a look."""
        tree = with_times(tree, self.latest)
        passed = tree.time - self.latest.time if self.latest is not None else 0.0
        actors = tuple(self._rated(one, passed) for one in tree.actors)
        self._before = {key_of(one): one for one in tree.actors}
        self._rates = {key: rates for key, rates in self._rates.items() if key in self._before}
        self.latest = msgspec.structs.replace(tree, actors=actors)
        kept: dict[tuple[str, int | None], deque[tuple[float, float]]] = {}
        for one in actors:
            line = kept[key_of(one)] = self._cpu.get(key_of(one), deque())
            if one.cpu is not None:
                line.append((tree.time, one.cpu))
            while line and line[0][0] <= tree.time - KEPT:
                line.popleft()
        self._cpu = kept

    def _rated(self, one: Sample, passed: float) -> Sample:
        before = self._before.get(key_of(one))
        if before is None or passed <= 0:
            self._rates[key_of(one)] = Rates(None, None)
            return one
        self._rates[key_of(one)] = Rates(
            _rate(before.calls_total, one.calls_total, passed),
            _rate(_messages(before), _messages(one), passed),
        )
        used = _rate(before.cpu_seconds, one.cpu_seconds, passed)
        return one if used is None else msgspec.structs.replace(one, cpu=100 * used)

    def rates(self, one: Sample) -> Rates:
        """Those of an actor."""
        return self._rates.get(key_of(one), Rates(None, None))

    def total(self) -> Rates:
        """Those of all actors together."""
        calls = [rates.calls for rates in self._rates.values() if rates.calls is not None]
        messages = [rates.messages for rates in self._rates.values() if rates.messages is not None]
        return Rates(sum(calls) if calls else None, sum(messages) if messages else None)

    def bars(self, one: Sample, count: int = 12) -> str:
        """The CPU of the last minute as bars, the latest last; the highest is a whole core."""
        line = self._cpu.get(key_of(one))
        if not line:
            return ""
        end, step = line[-1][0], KEPT / count
        shown = []
        for i in range(count):
            late = end - (count - 1 - i) * step
            found = [cpu for time, cpu in line if late - step < time <= late]
            if found:
                share = min(1.0, sum(found) / len(found) / 100)
                shown.append(BARS[round(share * (len(BARS) - 1))])
            else:
                shown.append(" ")
        return "".join(shown)


def with_times(tree: TreeSample, before: TreeSample | None) -> TreeSample:
    """With the time since when an actor is in a state that it can't tell itself: the first look that showed it so.

    Args:
        tree: a look.
        before: the one before, with its times; ``None``: there is none, so nothing is known.
    """
    if before is None:
        return tree
    past = {key_of(one): one for one in before.actors}

    def timed(one: Sample) -> Sample:
        then = past.get(key_of(one))
        if then is None or one.state not in UNTOLD:
            return one
        if then.state == one.state:
            # Nobody knows more than what was seen first.
            since = one.since if then.since is None else then.since
        else:
            since = tree.time if one.since is None else one.since
        return one if since == one.since else msgspec.structs.replace(one, since=since)

    return msgspec.structs.replace(tree, actors=tuple(map(timed, tree.actors)))


def key_of(one: Sample) -> tuple[str, int | None]:
    """What an actor is known by from one look to the next."""
    return one.uuid or one.name, one.pid


def _messages(one: Sample) -> int | None:
    if one.messages_in is None or one.messages_out is None:
        return None
    return one.messages_in + one.messages_out


def _rate(before: float | None, after: float | None, passed: float) -> float | None:
    if before is None or after is None:
        return None
    return max(0.0, (after - before) / passed)


def short(number: float | None) -> str:
    """A rate: ``1.2k``."""
    if number is None:
        return "-"
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.1f}{unit}" if unit else f"{number:.0f}"
        number /= 1000
    return f"{number:.1f}G"
