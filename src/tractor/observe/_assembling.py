"""Makes of what a look has brought together the list that is shown: each actor once, in its place, with its state.

Pure: no process is looked at here, so that each case has a test without one.
"""

from __future__ import annotations

import msgspec

from tractor.observe._finding import Answered, Found, Silent
from tractor.observe._in_code import of_parents_word
from tractor.observe._processes import Facts
from tractor.process.host._host_id import is_here
from tractor.runtime.seen._samples import ChildSample, Missing, Sample, TreeSample, Who

MAX_ACTORS = 10_000

NO_SOCKET = (
    "no control socket (`TRACTOR_CONTROL=off`, or a runtime directory to give by --runtime-dir)"
)

WHY = {
    "stopped": "by a signal (SIGSTOP); `kill -CONT` lets it go on",
    "zombie": "it has ended, and its parent has not taken note of that",
    "gone": "it has ended",
    "boot": "it is starting",
}
"""What is said of a state that the system tells of."""


def assemble(found: Found) -> TreeSample:
    """The actors of a look, parents before their children, and what is missing."""
    made = _Making(found)
    for one in found.answered:
        made.add_answered(one)
    for sample in found.elsewhere.actors:
        made.add_elsewhere(sample)
    for parent in list(made.samples.values()):
        for child in parent.children:
            made.add_child(parent, child)
    for silent in found.silent:
        made.add_silent(silent)
    for stray in found.strays:
        made.add_stray(stray.name, stray.pid)
    ordered = in_order(made.samples.values())
    return TreeSample(
        time=found.time,
        host=found.host,
        actors=tuple(ordered[:MAX_ACTORS]),
        missing=(*made.missing, *found.elsewhere.missing),
        truncated=found.elsewhere.truncated + max(0, len(ordered) - MAX_ACTORS),
    )


class _Making:
    def __init__(self, found: Found) -> None:
        self._found = found
        self._silent = {one.pid: one for one in found.silent}
        self._pids: set[int | None] = set()
        self.samples: dict[str, Sample] = {}
        self.missing: list[Missing] = []

    def add_answered(self, one: Answered) -> None:
        sample = one.sample
        if sample is None:
            sample = self._without_figures(one.who, one.why)
        self._add(self._with_facts(sample))

    def add_elsewhere(self, sample: Sample) -> None:
        """Add one that an actor of this host has asked, unless it has answered here itself."""
        if sample.uuid not in self.samples:
            self.samples[sample.uuid or f"?{sample.pid}{sample.name}{sample.parent}"] = sample

    def _without_figures(self, who: Who, why: str) -> Sample:
        facts = self._found.facts.get(who.pid)
        state = facts.state if facts is not None and facts.state != "run" else "mute"
        return Sample(
            name=who.name,
            uuid=who.uuid,
            pid=who.pid,
            host=who.host,
            parent=who.parent,
            time=self._found.time,
            state=state,
            why=WHY.get(state) or why or "it did not say how it does",
        )

    def add_child(self, parent: Sample, child: ChildSample) -> None:
        if child.state == "backoff":
            down = of_parents_word(child, parent.uuid, f"its delay runs; {child.last_error}")
            self._add(msgspec.structs.replace(down, host=parent.host))
            return
        known = self.samples.get(child.uuid)
        if known is not None:
            self.samples[child.uuid] = msgspec.structs.replace(
                known,
                restarts=child.restarts,
                last_error=child.last_error,
                state="cancel"
                if (child.state, known.state) == ("cancelling", "run")
                else known.state,
            )
            return
        state, why = self._state_of(parent, child)
        sample = msgspec.structs.replace(
            of_parents_word(child, parent.uuid), host=parent.host, state=state, why=why
        )
        if child.host and not is_here(child.host):
            sample = msgspec.structs.replace(sample, host=child.host)
            self._add(sample)
        else:
            self._add(self._with_facts(sample))

    def _state_of(self, parent: Sample, child: ChildSample) -> tuple[str, str | None]:
        """That of a child which has not answered itself."""
        if child.host and not is_here(child.host):
            return "mute", "it is on another host, and nobody there has answered for it"
        if child.pid is not None and child.pid == parent.pid:
            if parent.stale:
                return "blocked", "a sub-interpreter of a process whose loop is blocked"
            return "mute", "a sub-interpreter, for which its parent has not answered"
        facts = self._found.facts.get(child.pid) if child.pid is not None else None
        if facts is None and child.pid is not None and self._found.facts:
            return "gone", WHY["gone"]
        if facts is not None and facts.state != "run":
            return facts.state, WHY[facts.state]
        if child.state == "booting":
            return "boot", WHY["boot"]
        silent = self._silent.get(child.pid) if child.pid is not None else None
        return "mute", silent.why if silent is not None else NO_SOCKET

    def add_silent(self, silent: Silent) -> None:
        if silent.pid in self._pids:
            return
        facts = self._found.facts.get(silent.pid)
        state = facts.state if facts is not None and facts.state != "run" else "mute"
        self._add_unknown(silent.name, silent.pid, state, WHY.get(state) or silent.why)

    def add_stray(self, name: str, pid: int) -> None:
        if pid in self._pids:
            return
        facts = self._found.facts.get(pid)
        if facts is None:
            # It is gone by now.
            return
        state = facts.state if facts.state != "run" else "mute"
        self._add_unknown(name, pid, state, WHY.get(state) or NO_SOCKET)

    def _add_unknown(self, name: str, pid: int, state: str, why: str) -> None:
        """Add one whose uuid nobody tells; its parent is the actor whose process it came from."""
        facts = self._found.facts.get(pid)
        above = [
            one.uuid
            for one in self.samples.values()
            if facts is not None and one.pid == facts.ppid and one.host == self._found.host
        ]
        sample = Sample(
            name=name,
            uuid="",
            pid=pid,
            host=self._found.host,
            parent=above[0] if above else None,
            time=self._found.time,
            state=state,
            why=why,
        )
        self._add(self._with_facts(sample))

    def _add(self, sample: Sample) -> None:
        self.samples[sample.uuid or f"?{sample.pid}{sample.name}{sample.parent}"] = sample
        if sample.pid is not None:
            self._pids.add(sample.pid)
        if sample.state in ("mute", "stopped", "zombie", "gone"):
            self.missing.append(
                Missing(what=f"{sample.name}@{sample.pid}", why=f"{sample.state}: {sample.why}")
            )

    def _with_facts(self, sample: Sample) -> Sample:
        """With what the system says of its process, unless that is of another host."""
        facts = self._found.facts.get(sample.pid) if sample.pid is not None else None
        if facts is None:
            return sample
        return msgspec.structs.replace(
            sample,
            cpu=cpu_since_start(facts),
            cpu_seconds=facts.cpu_seconds,
            rss=facts.rss,
            uptime=facts.age if sample.uptime is None else sample.uptime,
        )


def cpu_since_start(facts: Facts) -> float | None:
    """Per cent of one core."""
    return 100 * facts.cpu_seconds / facts.age if facts.age > 0 else None


def in_order(samples: object) -> list[Sample]:
    """Parents before their children; roots, and children of one parent, by name and pid."""
    given: list[Sample] = list(samples)  # type: ignore[call-overload]
    known = {one.uuid for one in given} - {""}
    below: dict[str | None, list[Sample]] = {}
    for one in sorted(given, key=lambda one: (one.name, one.pid or 0)):
        above = one.parent if one.parent in known and one.parent != one.uuid else None
        below.setdefault(above, []).append(one)
    ordered: list[Sample] = []
    stack = below.get(None, [])[::-1]
    while stack:
        one = stack.pop()
        ordered.append(one)
        stack += below.pop(one.uuid, [])[::-1]
    # A ring of parents is nobody's tree; they are shown all the same.
    return ordered + [one for rest in below.values() for one in rest if one not in ordered]
