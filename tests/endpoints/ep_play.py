"""A supervisor's rules, played without processes; not imported by children.

A :class:`Play` carries instructions out at once: what is spawned is ready, what is stopped is gone, unless the test
holds it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from tractor._proto.services.restarts import Backoff
from tractor._proto.services.service_life import (
    Member,
    ServiceDo,
    ServiceEnd,
    ServiceRules,
    ServiceState,
    Strategy,
    Unit,
)
from tractor._proto.services.supervision import Supervision

NORMAL, ABNORMAL = ServiceEnd.NORMAL, ServiceEnd.ABNORMAL
SLOW = Backoff(initial=1.0, factor=2, maximum=30, jitter=0, reset_after=10)


class Play:
    """A supervisor, its clock, and processes that do as they are told."""

    def __init__(self, strategy: Strategy = Strategy.ONE_FOR_ONE, **kwargs: Any) -> None:
        self.machine = Supervision(strategy, **kwargs)
        self.now = 0.0
        self.events: list[str] = []
        self.dropped: list[str] = []
        self.gave_up = 0
        self.closed = 0
        self.stopped_now: list[str] = []
        self.slow_to_start: set[str] = set()
        self.slow_to_stop: set[str] = set()
        self.fails_to_start: dict[str, int] = {}
        self.errors = 0
        self.alive: set[str] = set()

    # -- the services --

    def add(self, *names: str, first: bool = False, **rules: Any) -> None:
        for name in names:
            known = ServiceRules(name=name, **rules)
            self.do(self.machine.add(known, self.now, first=first))

    def unit(self, name: str) -> Unit:
        unit = self.machine.find(name)
        assert unit is not None
        return unit

    def __getitem__(self, name: str) -> Member:
        return next(m for unit in self.machine.units for m in unit.members if m.name == name)

    def state(self, name: str) -> ServiceState:
        return self[name].state

    # -- what happens --

    def do(self, todo: list[Any]) -> None:
        queue = deque(todo)
        while queue:
            step = queue.popleft()
            member = step.member
            if step.do is ServiceDo.TELL:
                self.events.append(f"{step.event.kind.value} {member.name}")
            elif step.do is ServiceDo.SPAWN:
                assert member.name not in self.alive, "two incarnations"
                self.alive.add(member.name)
                if self.fails_to_start.get(member.name, 0) > 0:
                    self.fails_to_start[member.name] -= 1
                    queue.extend(self._gone(member, ABNORMAL))
                elif member.name not in self.slow_to_start:
                    queue.extend(self.machine.up(member, self.now))
            elif step.do in (ServiceDo.STOP, ServiceDo.STOP_NOW):
                if step.do is ServiceDo.STOP_NOW:
                    self.stopped_now.append(member.name)
                if member.name not in self.slow_to_stop:
                    queue.extend(self._gone(member, NORMAL))
            elif step.do is ServiceDo.DROP:
                self.dropped.append(member.unit.rules.name)
            elif step.do is ServiceDo.GIVE_UP:
                self.gave_up += 1
            else:
                assert step.do is ServiceDo.CLOSED
                assert not self.alive
                self.closed += 1

    def _gone(self, member: Member, how: ServiceEnd) -> list[Any]:
        self.errors += 1
        self.alive.discard(member.name)
        error = None if how is NORMAL else f"error {self.errors}"
        return self.machine.gone(member, how, error, self.now, 0.5)

    def end(self, name: str, how: ServiceEnd = ABNORMAL) -> None:
        self.do(self._gone(self[name], how))

    def up(self, name: str) -> None:
        self.do(self.machine.up(self[name], self.now))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.machine.deadline <= end:
            self.now = self.machine.deadline
            self.do(self.machine.tick(self.now))
        self.now = end

    def stop(self, name: str) -> None:
        self.do(self.machine.stop(self.unit(name), self.now))

    def restart(self, name: str) -> None:
        self.do(self.machine.restart(self.unit(name), self.now))

    def close(self, *, hard: bool = False) -> None:
        self.do(self.machine.close(self.now, hard=hard))

    def heard(self) -> list[str]:
        """What was told since the last time."""
        heard, self.events = self.events, []
        return heard
