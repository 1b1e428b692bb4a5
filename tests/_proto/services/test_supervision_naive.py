"""The rules of supervisors beside a second, naive model that says what is told, in which order, and what is counted.

The model does what supervision.md says, step by step, where the rules ask after each event what is due.  It knows no
time, no replicas and no `after`; what is to stop is gone at once, and a start is at once ready, has failed, or is held
until a later event.
"""

from __future__ import annotations

from typing import Any

from ep_play import Play
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tractor._proto.services.service_life import (
    AutoShutdown,
    RestartKind,
    ServiceEnd,
    Strategy,
)

UP = ("starting", "ready")
ALIVE = (*UP, "waiting")
AGAIN = {"permanent": (True, True), "transient": (False, True), "temporary": (False, False)}
"""Whether a service comes again after a normal end, and after an abnormal one."""


class Naive:
    """One supervisor, as the page tells of it."""

    def __init__(self, strategy: str, limit: int | None, auto: str) -> None:
        self.strategy, self.limit, self.auto = strategy, limit, auto
        self.order: list[str] = []
        self.kinds: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.significant: set[str] = set()
        self.lives: dict[str, int] = {}
        self.own: dict[str, int] = {}
        self.count = 0
        # Whose restart was decided, and has not begun.
        self.planned: set[str] = set()
        self.held: set[str] = set()
        self.fails: dict[str, int] = {}
        self.said: list[str] = []
        self.open = True
        # The members of the round, and those of them that it has started.
        self.in_round = False
        self.members: set[str] = set()
        self.again: set[str] = set()
        self.later: list[tuple[str, str]] = []
        # Temporary ones that were asked to begin anew.
        self.wanted: set[str] = set()

    def say(self, kind: str, name: str) -> None:
        self.said.append(f"{kind} {name}")

    # -- what happens --

    def add(self, name: str, kind: str, apart: bool, significant: bool) -> None:
        self.order.append(name)
        self.kinds[name], self.states[name], self.lives[name] = kind, "waiting", 0
        if apart:
            self.own[name] = 0
        if significant:
            self.significant.add(name)
        if self.in_round:
            self.later.append(("start", name))
        else:
            self.start(name)

    def start(self, name: str) -> bool:
        """Whether it is ready."""
        self.planned.discard(name)
        self.lives[name] += 1
        self.states[name] = "starting"
        self.say("starting", name)
        if self.fails.get(name, 0):
            self.fails[name] -= 1
            self.ends(name, normal=False)
            return False
        if name in self.held:
            return False
        self.states[name] = "ready"
        self.say("ready", name)
        return True

    def up(self, name: str) -> None:
        self.states[name] = "ready"
        self.say("ready", name)
        self.go_on()

    def ends(self, name: str, normal: bool) -> None:
        self.say("ended" if normal else "crashed", name)
        if AGAIN[self.kinds[name]][not normal]:
            self.decide(name)
        else:
            self.states[name] = "ended" if normal else "failed"
            if not normal:
                self.say("failed", name)
            self.drop_if_temporary(name)
            if name in self.significant:
                last = not any(
                    self.states[one] in ALIVE for one in self.significant & {*self.order}
                )
                if self.auto == "any_significant" or last:
                    self.close()
            self.go_on()

    def decide(self, name: str) -> None:
        if name in self.own:
            self.own[name] += 1
            if self.limit is not None and self.own[name] > self.limit:
                self.states[name] = "failed"
                self.say("failed", name)
                self.go_on()
                return
        else:
            self.count += 1
            if self.limit is not None and self.count > self.limit:
                self.states[name] = "failed"
                self.say("gave-up", name)
                self.close()
                return
        self.states[name] = "waiting"
        self.planned.add(name)
        self.restart_with_others(name)

    def drop_if_temporary(self, name: str) -> None:
        if self.kinds[name] == "temporary" and name in self.order:
            self.order.remove(name)
            self.members.discard(name)
            self.later = [(what, one) for what, one in self.later if one != name]

    # -- rounds --

    def takes(self, name: str) -> list[str]:
        at = self.order.index(name)
        of = {"one_for_one": [name], "rest_for_one": self.order[at:]}.get(self.strategy, self.order)
        added = [one for what, one in self.later if what == "start"]
        return [o for o in of if o == name or (self.states[o] in ALIVE and o not in added)]

    def restart_with_others(self, name: str) -> None:
        takes = self.takes(name)
        if len(takes) == 1 and not self.in_round:
            self.start(name)
            return
        if self.strategy == "one_for_one":
            self.start(name)
            return
        self.in_round = True
        self.members |= {*takes}
        self.again -= {*takes}
        self.go_on()

    def go_on(self) -> None:
        """The round: stop what is not restarted yet, in reverse order, then start it in order."""
        if not self.in_round or not self.open:
            return
        mine = [name for name in self.order if name in self.members]
        for name in reversed(mine):
            if name not in self.again and self.states[name] in UP:
                self.say("stopping", name)
                self.say("stopped", name)
                asked = name in self.wanted or ("restart", name) in self.later
                ends = self.kinds[name] == "temporary" and not asked
                self.states[name] = "ended" if ends else "waiting"
                if ends:
                    self.drop_if_temporary(name)
        for name in [name for name in self.order if name in self.members]:
            state = self.states[name]
            if state == "starting":
                return
            if state == "waiting":
                self.again.add(name)
                self.wanted.discard(name)
                if not self.start(name):
                    # A failed start has gone on with the round itself.
                    return
        if not self.in_round:
            return
        self.in_round, self.members, self.again = False, set(), set()
        later, self.later = self.later, []
        for what, name in later:
            if what == "restart":
                self.restart(name)
        for what, name in later:
            if what == "start" and self.states[name] == "waiting":
                if self.in_round:
                    self.later.append((what, name))
                else:
                    self.start(name)

    # -- what is asked for --

    def stop(self, name: str) -> None:
        self.later = [(what, one) for what, one in self.later if one != name]
        if self.states[name] in UP:
            self.say("stopping", name)
            self.say("stopped", name)
        if self.states[name] in ALIVE:
            self.states[name] = "stopped"
            self.drop_if_temporary(name)
        if name in self.planned:
            self.planned.discard(name)
            if name in self.own:
                self.own[name] -= 1
            else:
                self.count -= 1
        self.go_on()

    def restart(self, name: str) -> None:
        if self.in_round:
            if not (name in self.members and self.states[name] == "waiting"):
                self.later.append(("restart", name))
            return
        self.wanted.add(name)
        if len(self.takes(name)) == 1:
            if self.states[name] in UP:
                self.say("stopping", name)
                self.say("stopped", name)
            self.wanted.discard(name)
            self.start(name)
            return
        if self.states[name] not in ALIVE:
            self.states[name] = "waiting"
        self.restart_with_others(name)

    def close(self) -> None:
        self.open, self.in_round, self.members, self.later = False, False, set(), []
        for name in reversed(self.order[:]):
            if self.states[name] in UP:
                self.say("stopping", name)
                self.say("stopped", name)
            if self.states[name] in ALIVE:
                self.states[name] = "stopped"
                self.drop_if_temporary(name)


class Both(RuleBasedStateMachine):
    """The rules and the model, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.play: Play | None = None
        self.model = Naive("one_for_one", None, "never")
        self.names = 0

    @rule()
    def nothing(self) -> None:
        """What is closed has no other rule."""

    @initialize(
        strategy=st.sampled_from(Strategy),
        limit=st.sampled_from([None, 2, 8]),
        auto=st.sampled_from(AutoShutdown),
    )
    def begin(self, strategy: Strategy, limit: int | None, auto: AutoShutdown) -> None:
        self.play = Play(strategy, max_restarts=limit, auto_shutdown=auto)
        self.model = Naive(strategy.value, limit, auto.value)

    def is_open(self) -> bool:
        return self.play is not None and self.model.open

    def may_ask(self) -> bool:
        """What is put off to a round's end goes side by side then: one at a time is enough."""
        return self.is_open() and not self.model.later

    @precondition(lambda self: self.may_ask() and len(self.model.order) < 6)
    @rule(
        kind=st.sampled_from(RestartKind),
        apart=st.booleans(),
        significant=st.booleans(),
        held=st.booleans(),
        fails=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def add(
        self, kind: RestartKind, apart: bool, significant: bool, held: bool, fails: int
    ) -> None:
        play, model = self.play, self.model
        assert play is not None
        self.names += 1
        name = f"s{self.names}"
        significant = significant and kind is not RestartKind.PERMANENT and model.auto != "never"
        play.fails_to_start[name] = model.fails[name] = fails
        if held:
            play.slow_to_start.add(name)
            model.held.add(name)
        play.add(name, restart=kind, own_intensity=apart, significant=significant)
        model.add(name, kind.value, apart, significant)

    def pick(self, data: st.DataObject, *states: str) -> str | None:
        found = [name for name in self.model.order if self.model.states[name] in states]
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(is_open)
    @rule(data=st.data(), normal=st.booleans())
    def ends(self, data: st.DataObject, normal: bool) -> None:
        assert self.play is not None
        if (name := self.pick(data, "ready")) is not None:
            self.play.end(name, ServiceEnd.NORMAL if normal else ServiceEnd.ABNORMAL)
            self.model.ends(name, normal)

    @precondition(is_open)
    @rule(data=st.data(), how=st.sampled_from(["up", "up", "fails"]))
    def is_let_go(self, data: st.DataObject, how: str) -> None:
        """One whose start was held."""
        play = self.play
        assert play is not None
        if (name := self.pick(data, "starting")) is None:
            return
        if how == "up":
            play.up(name)
            self.model.up(name)
        else:
            play.end(name)
            self.model.ends(name, normal=False)

    @precondition(is_open)
    @rule(data=st.data(), held=st.booleans(), fails=st.sampled_from([0, 1]))
    def next_starts(self, data: st.DataObject, held: bool, fails: int) -> None:
        play, model = self.play, self.model
        assert play is not None
        if (name := self.pick(data, "ready")) is not None:
            play.fails_to_start[name] = model.fails[name] = fails
            for slow in (play.slow_to_start, model.held):
                (slow.add if held else slow.discard)(name)

    @precondition(is_open)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        assert self.play is not None
        if (name := self.pick(data, *ALIVE, "stopped", "ended", "failed")) is not None:
            self.play.stop(name)
            self.model.stop(name)

    @precondition(may_ask)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        assert self.play is not None
        if (name := self.pick(data, *ALIVE, "stopped", "ended", "failed")) is not None:
            self.play.restart(name)
            self.model.restart(name)

    @precondition(lambda self: self.is_open() and self.names > 4)
    @rule()
    def close(self) -> None:
        assert self.play is not None
        self.play.close()
        self.model.close()

    @invariant()
    def they_agree(self) -> None:
        play, model = self.play, self.model
        if play is None:
            return
        said, model.said = model.said, []
        assert play.heard() == said, list(play.machine.history)
        found: dict[str, Any] = {m.name: m for u in play.machine.units for m in u.members}
        assert list(found) == model.order
        assert {name: m.state.value for name, m in found.items()} == {
            name: model.states[name] for name in model.order
        }
        assert {name: m.incarnation for name, m in found.items()} == {
            name: model.lives[name] for name in model.order
        }
        intensity = play.machine._intensity
        if model.limit is not None and model.open:
            assert len(intensity.planned) == model.count
        assert (play.closed == 1) is not model.open


def test_the_rules_and_the_naive_model() -> None:
    run_state_machine_as_test(
        Both, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )
