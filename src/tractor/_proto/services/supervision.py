"""The rules of a supervisor: which service starts, stops and comes again, in which order.

Theory of operation.  A *unit* is a service with its place in the order; it has one *member* for each replica.  A member
goes through the states of `service_life`; at most one incarnation of it exists, because a next one is spawned
only in `WAITING`, which is left by its spawn and entered again only when the one before is gone.

What an event does at once is a change of one member's state, and maybe a decision: to restart, to give up, to close.
What follows from all states together (whose turn it is, what a round stops or starts next, when all is over) is
worked out by one function, `_advance`, after every event.  It asks what is, and remembers no step that it was in the
middle of; so an event that comes in between, such as a further crash during a round, needs no cell of its own.

A group strategy makes a *round* of its decision: the members of the units that it takes are stopped in reverse order,
each when the one before is gone, then started in order, each when the one before is ready.  Members that the round has
not started yet belong to it: how they end is not counted.  One that has begun anew and fails is one more decision, and
so is the end of a member outside of the round; the round then takes what the strategy takes for that one, too, and
begins again with stopping.

Time and chance are arguments; the driver reports what happened and carries out the instructions in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from tractor._proto.machine import IllegalEvent
from tractor._proto.services.restarts import Intensity, Restart
from tractor._proto.services.service_life import (
    DOWN,
    TO_COME,
    UP,
    AutoShutdown,
    EventKind,
    Instruction,
    Member,
    RestartKind,
    ServiceDo,
    ServiceEnd,
    ServiceRules,
    ServiceState,
    Strategy,
    SupervisorPhase,
    Told,
    Unit,
)


class Supervision:
    """The rules of one supervisor.

    Args:
        strategy: which services a restart takes along.
        max_restarts, within: the intensity; see :class:`~tractor._proto.services.restarts.Intensity`.
        auto_shutdown: whether ends of significant services close it.

    Attributes:
        within: as given.
        units: the services, in their order.
        phase: where the supervisor stands.
        deadline: when :meth:`tick` is due; ``inf`` for never.
        gave_up: the restart that was one too many, with its member, and the errors of all that counted.
        history: the events so far that were fed, in words.
    """

    HISTORY: Final = 50

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int | None = 5,
        within: float = 60.0,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        self.strategy = strategy
        self.auto_shutdown = auto_shutdown
        self.units: list[Unit] = []
        self.phase = SupervisorPhase.OPEN
        self.gave_up: tuple[Member, list[Any]] | None = None
        self.history: list[str] = []
        self.within = within
        self._limit = max_restarts, within
        self._intensity = Intensity(max_restarts, within)
        # What the round takes, in order; empty without one.
        self._taken: list[Unit] = []
        # Whether the round still stops its members.
        self._stops = False
        # Whether the round was asked for, and no end has widened it.
        self._planned = False
        # Units whose first start, or restart by plan, waits for the end of the round.
        self._later: list[tuple[Unit, bool]] = []
        self._hard = False
        self._now = 0.0
        # Of names in some `after` whose units were dropped: whether what waits may start without.
        self._outcomes: dict[str, bool] = {}
        self._todo: list[Instruction] = []

    # -- what it is asked -----------------------------------------------------------------------------

    def find(self, name: str) -> Unit | None:
        """The unit of that name."""
        return next((unit for unit in self.units if unit.rules.name == name), None)

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is due."""
        delays = [m.begins_at for m in self._members() if m.state is ServiceState.BACKOFF]
        return min(delays, default=math.inf)

    def is_blocked(self, unit: Unit) -> bool:
        """Whether it waits for a unit that does not come by itself."""
        for name in unit.rules.after:
            other = self.find(name)
            if other is None:
                if not self._outcomes.get(name, True):
                    return True
            elif not other.serves and (self._is_lost(other) or self.is_blocked(other)):
                return True
        return False

    def waits_in_vain(self, unit: Unit) -> bool:
        """Whether it is blocked, and nothing of it is up: as good as down."""
        return self.is_blocked(unit) and not unit.is_up

    @staticmethod
    def _is_lost(unit: Unit) -> bool:
        """Whether a replica is down other than by a normal end, or is asked to be."""
        return any(
            m.state in (ServiceState.FAILED, ServiceState.STOPPED)
            or (m.state is ServiceState.STOPPING and m.goal is ServiceState.STOPPED)
            for m in unit.members
        )

    def leads_to(self, name: str, goal: str) -> bool:
        """Whether a unit is, or waits by `after` for, another; what would wait for it then waits for itself."""
        if name == goal:
            return True
        unit = self.find(name)
        return unit is not None and any(self.leads_to(other, goal) for other in unit.rules.after)

    def is_put_off(self, unit: Unit) -> bool:
        """Whether a restart by plan waits for the end of the round."""
        return any(other is unit and again for other, again in self._later)

    def _waits_for(self, unit: Unit, units: Sequence[Unit]) -> bool:
        """Whether it can't start before one of ``units`` serves."""
        for name in unit.rules.after:
            other = self.find(name)
            if other is None or other.serves:
                continue
            if other in units or self._waits_for(other, units):
                return True
        return False

    def _may_start(self, unit: Unit) -> bool:
        for name in unit.rules.after:
            other = self.find(name)
            if not (self._outcomes.get(name, True) if other is None else other.serves):
                return False
        return True

    def _members(self) -> Iterator[Member]:
        for unit in self.units:
            yield from unit.members

    # -- what happens ---------------------------------------------------------------------------------

    def add(self, rules: ServiceRules, now: float, *, first: bool = False) -> list[Instruction]:
        """A service is added, last in the order.

        Args:
            rules: its.
            now: the time.
            first: by ``start_service()``: its first start is tried once.

        Raises:
            IllegalEvent: the supervisor is closing.
        """
        self._note("add", rules.name, now)
        if self.phase in (SupervisorPhase.CLOSING, SupervisorPhase.CLOSED):
            raise self._illegal("add", rules.name)
        unit = Unit(rules, self._intensity_for(rules), first)
        self.units.append(unit)
        self._outcomes.pop(rules.name, None)
        if self.phase is SupervisorPhase.ROUND:
            self._later.append((unit, False))
        return self._advance(now)

    def _intensity_for(self, rules: ServiceRules) -> Intensity:
        return Intensity(*self._limit) if rules.own_intensity else self._intensity

    def up(self, member: Member, now: float) -> list[Instruction]:
        """An incarnation is ready.  Raises IllegalEvent: none is starting."""
        self._note("up", member.name, now)
        if member.state is ServiceState.STOPPING:
            # It was asked to go a moment before.
            return []
        if member.state is not ServiceState.STARTING:
            raise self._illegal("up", repr(member))
        member.state = ServiceState.READY
        member.ready_since = now
        member.first = False
        self._tell(member, EventKind.READY)
        return self._advance(now)

    def gone(
        self, member: Member, how: ServiceEnd, error: Any, now: float, chance: float
    ) -> list[Instruction]:
        """An incarnation has ended, and nothing of it is left.

        Args:
            member: whose.
            how: unless it was asked to go.
            error: with which, or ``None``.
            now: the time.
            chance: from 0 up to 1, exclusively, for the delay of a restart.

        Raises:
            IllegalEvent: there is no incarnation.
        """
        self._note("gone", member.name, now)
        if member.state not in UP:
            raise self._illegal("gone", repr(member))
        if error is not None:
            member.error, member.error_at = error, now
        if member.state is ServiceState.STOPPING:
            self._arrive(member, error)
            return self._advance(now)
        # Whatever else ends before it is ready has failed to start.
        normal = how is ServiceEnd.DONE or (
            how is ServiceEnd.NORMAL and member.state is not ServiceState.STARTING
        )
        self._leave_ready(member)
        self._tell(member, EventKind.ENDED if normal else EventKind.CRASHED, error=error)
        if member.state is ServiceState.STARTING and not normal:
            # One that fails ends a restart that rolls.
            self._stop_rolling(member.unit)
        if member.first and not normal:
            self._reject(member)
        elif self.phase is SupervisorPhase.CLOSING:
            self._be_down(member, normal)
        elif self._belongs_to_round(member):
            self._take_end_in_round(member, normal)
        elif self._comes_again(member.unit.rules.restart, normal):
            self._decide(member, normal, error, chance)
        else:
            self._end_for_good(member, normal)
        return self._advance(now)

    def tick(self, now: float) -> list[Instruction]:
        """The time of :attr:`deadline` has come, or may have."""
        self._now = now
        for member in self._members():
            if member.state is ServiceState.BACKOFF and member.begins_at <= now:
                member.state = ServiceState.WAITING
                member.begins_at = math.inf
        return self._advance(now)

    def stop(self, unit: Unit, now: float) -> list[Instruction]:
        """A service is to go for good."""
        self._note("stop", unit.rules.name, now)
        self._stop_rolling(unit)
        self._later = [(other, again) for other, again in self._later if other is not unit]
        for member in unit.members:
            member.wanted = 0
            self._stop_member(member, ServiceState.STOPPED, because="stop")
        return self._advance(now)

    def abandon(self, unit: Unit, now: float) -> list[Instruction]:
        """Nobody wants a first start any more, or its service can't come up: what there is goes, and it is dropped."""
        self._note("abandon", unit.rules.name, now)
        unit.rejected = True
        for member in unit.members:
            self._stop_member(member, ServiceState.STOPPED, because="start failed")
        self._drop_if_rejected(unit)
        return self._advance(now)

    def forget(self, unit: Unit) -> list[Instruction]:
        """A service that is down gives its name to a new one.  Raises IllegalEvent: it is up, or to come."""
        self._note("forget", unit.rules.name, self._now)
        if not self._is_down(unit):
            raise self._illegal("forget", unit.rules.name)
        self._drop(unit)
        todo, self._todo = self._todo, []
        return todo

    def respecify(self, unit: Unit, rules: ServiceRules) -> None:
        """From now on other rules hold for a service; of those that are up nothing changes.

        Args:
            unit: it.
            rules: of the same name, with as many replicas.

        Raises:
            IllegalEvent: they are of another service.
        """
        self._note("respecify", rules.name, self._now)
        if (rules.name, rules.replicas) != (unit.rules.name, unit.rules.replicas):
            raise self._illegal("respecify", rules.name)
        if rules.own_intensity is not unit.rules.own_intensity:
            unit.intensity = self._intensity_for(rules)
        unit.rules = rules

    def reconfigure(
        self,
        strategy: Strategy,
        max_restarts: int | None,
        within: float,
        auto_shutdown: AutoShutdown,
    ) -> None:
        """From now on other settings hold; restarts that were counted go on to count."""
        self._note("reconfigure", strategy.value, self._now)
        self.strategy, self.auto_shutdown, self.within = strategy, auto_shutdown, within
        self._limit = max_restarts, within
        for intensity in {id(u.intensity): u.intensity for u in self.units}.values():
            intensity.max_restarts, intensity.within = self._limit
        self._intensity.max_restarts, self._intensity.within = self._limit

    def reorder(self, names: Sequence[str]) -> None:
        """The order of these services among each other from now on; others stay at their places."""
        self._note("reorder", ", ".join(names), self._now)
        places = {name: place for place, name in enumerate(names)}
        named = [unit for unit in self.units if unit.rules.name in places]
        ordered = iter(sorted(named, key=lambda unit: places[unit.rules.name]))
        self.units = [next(ordered) if unit in named else unit for unit in self.units]

    def restart(self, unit: Unit, now: float) -> list[Instruction]:
        """A service is to begin anew, by plan, with what the strategy takes along; one that is down is started.

        Raises:
            IllegalEvent: the supervisor is closing.
        """
        self._note("restart", unit.rules.name, now)
        if self.phase in (SupervisorPhase.CLOSING, SupervisorPhase.CLOSED):
            raise self._illegal("restart", unit.rules.name)
        if self.phase is not SupervisorPhase.ROUND:
            self._begin_anew(unit)
        elif unit in self._taken and all(m.state in TO_COME for m in unit.members):
            # It is started at its turn.
            self._begin_anew(unit, alone=True)
        elif not self.is_put_off(unit):
            self._later.append((unit, True))
            for member in unit.members:
                if member.state is ServiceState.STOPPING:
                    member.goal = ServiceState.WAITING
        return self._advance(now)

    def recycle(self, member: Member, now: float) -> list[Instruction]:
        """An incarnation has become too old or too large: it begins anew, by plan, when its siblings are ready."""
        self._note("recycle", member.name, now)
        if member.state is ServiceState.READY and member not in member.unit.rolling:
            member.unit.rolling.append(member)
        return self._advance(now)

    def close(self, now: float, *, hard: bool = False) -> list[Instruction]:
        """All services are to go, one by one in reverse order; ``hard``: all at once."""
        self._note("close", "hard" if hard else "in order", now)
        if self.phase is not SupervisorPhase.CLOSED:
            self._begin_closing()
            if hard and not self._hard:
                self._hard = True
                for member in self._members():
                    if member.state is ServiceState.STOPPING:
                        self._do(ServiceDo.STOP_NOW, member)
        return self._advance(now)

    # -- what an end leads to -------------------------------------------------------------------------

    @staticmethod
    def _comes_again(kind: RestartKind, normal: bool) -> bool:
        return kind is RestartKind.PERMANENT or (kind is RestartKind.TRANSIENT and not normal)

    def _belongs_to_round(self, member: Member) -> bool:
        """Whether the round that is under way has still to stop, or to start, it."""
        return (
            self.phase is SupervisorPhase.ROUND and member.unit in self._taken and not member.fresh
        )

    def _take_end_in_round(self, member: Member, normal: bool) -> None:
        if self._comes_again(member.unit.rules.restart, normal):
            member.state = ServiceState.WAITING
        else:
            self._end_for_good(member, normal)

    def _leave_ready(self, member: Member) -> None:
        """It is not ready any more; a long life has the delays begin anew."""
        backoff = member.unit.rules.backoff
        if backoff is not None and self._now - member.ready_since >= backoff.reset_after:
            member.in_a_row = 0
        member.ready_since = math.inf

    def _decide(self, member: Member, normal: bool, error: Any, chance: float) -> None:
        """Have a service started again, or give up."""
        backoff = member.unit.rules.backoff
        delay = 0.0
        if backoff is not None:
            member.in_a_row += not normal
            delay = backoff.delay(0 if normal else member.in_a_row, chance)
        restart = Restart(self._now + delay, error)
        if not member.unit.intensity.decide(restart, self._now):
            self._give_up(member)
            return
        member.planned = restart
        if delay > 0:
            member.state = ServiceState.BACKOFF
            member.begins_at = restart.begin
            self._tell(member, EventKind.BACKOFF, delay=delay)
        else:
            member.state = ServiceState.WAITING
        self._take_along(member.unit, member)

    def _give_up(self, member: Member) -> None:
        errors = [known.error for known in member.unit.intensity.counted]
        member.state = ServiceState.FAILED
        if member.unit.rules.own_intensity:
            self._tell(member, EventKind.FAILED, error=member.error)
            return
        self.gave_up = member, errors
        self._tell(member, EventKind.GAVE_UP, error=member.error)
        self._begin_closing()
        self._do(ServiceDo.GIVE_UP, member)

    def _be_down(self, member: Member, normal: bool) -> None:
        member.state = ServiceState.ENDED if normal else ServiceState.FAILED
        if not normal:
            self._tell(member, EventKind.FAILED, error=member.error)
        self._drop_if_temporary(member)

    def _end_for_good(self, member: Member, normal: bool) -> None:
        """It has ended by itself, and does not come again."""
        self._be_down(member, normal)
        significant = member.unit.rules.significant and not member.unit.alive
        if not significant or self.auto_shutdown is AutoShutdown.NEVER:
            return
        others = any(unit.rules.significant and unit.alive for unit in self.units)
        if self.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not others:
            self._begin_closing()

    def _reject(self, member: Member) -> None:
        """A first start has failed: the whole unit is dropped, its other replicas are taken down."""
        member.state = ServiceState.FAILED
        member.unit.rejected = True
        for other in member.unit.members:
            self._stop_member(other, ServiceState.STOPPED, because="start failed")
        self._drop_if_rejected(member.unit)

    def _drop_if_rejected(self, unit: Unit) -> None:
        if unit.rejected and not unit.is_up:
            self._drop(unit)

    def _drop_if_temporary(self, member: Member) -> None:
        unit = member.unit
        if unit.rules.restart is RestartKind.TEMPORARY and all(
            m.state in DOWN for m in unit.members
        ):
            self._drop(unit)

    def _drop(self, unit: Unit) -> None:
        if unit in self.units:
            self.units.remove(unit)
            name, units = unit.rules.name, self.units
            self._outcomes[name] = unit.serves and not unit.rejected
            self._outcomes = {
                known: outcome
                for known, outcome in self._outcomes.items()
                if any(known in other.rules.after for other in units)
            }
            self._taken = [other for other in self._taken if other is not unit]
            self._later = [(other, again) for other, again in self._later if other is not unit]
            self._do(ServiceDo.DROP, unit.members[0])

    # -- what is asked for ----------------------------------------------------------------------------

    @staticmethod
    def _stop_rolling(unit: Unit) -> None:
        """The replicas that were still to begin anew by plan stay as they are."""
        for member in unit.rolling:
            member.wanted = 0
        unit.rolling.clear()

    def _begin_anew(self, unit: Unit, *, alone: bool = False) -> None:
        """By plan; ``alone``: without what the strategy takes along."""
        is_open = self.phase is not SupervisorPhase.ROUND
        alone = alone or (is_open and len(self.takes(unit)) == 1)
        unit.rolling.clear()
        for member in unit.members:
            member.in_a_row = 0
            member.wanted = member.incarnation + 1
            if member.state in DOWN or member.state is ServiceState.BACKOFF:
                member.state = ServiceState.WAITING
                member.begins_at = math.inf
            elif member.state is ServiceState.STOPPING:
                member.goal = ServiceState.WAITING
            elif alone and len(unit.members) > 1 and member.state is ServiceState.READY:
                unit.rolling.append(member)
            elif alone:
                self._stop_member(member, ServiceState.WAITING, because="restart")
        if not alone:
            self._take_along(unit)

    @staticmethod
    def _is_down(unit: Unit) -> bool:
        return all(m.state in DOWN for m in unit.members)

    def takes(self, unit: Unit) -> list[Unit]:
        """What a restart of ``unit`` takes along, itself included: those that are up or to come."""
        at = self.units.index(unit)
        of: Sequence[Unit] = [unit]
        if self.strategy is Strategy.REST_FOR_ONE:
            of = self.units[at:]
        elif self.strategy is Strategy.ONE_FOR_ALL:
            of = self.units
        waiting = [other for other, again in self._later if not again]
        return [other for other in of if other is unit or (other.alive and other not in waiting)]

    def _take_along(self, unit: Unit, one: Member | None = None, *, planned: bool = False) -> None:
        """Begin a round, or widen the one that is under way, with what the strategy takes for ``unit``.

        Args:
            unit: what is to be restarted.
            one: the member of it that is; ``None``: all of them are.
            planned: nothing has ended.
        """
        takes = self.takes(unit)
        if len(takes) == 1 and self.phase is not SupervisorPhase.ROUND:
            return
        if self.strategy is Strategy.ONE_FOR_ONE:
            return
        self._planned = (planned or one is None) and (self._planned or not self._taken)
        taken = {id(other) for other in (*self._taken, *takes)}
        self._taken = [other for other in self.units if id(other) in taken]
        self.phase = SupervisorPhase.ROUND
        self._stops = True
        for other in takes:
            other.rolling.clear()
            siblings_stay = (
                other is unit and one is not None and self.strategy is Strategy.REST_FOR_ONE
            )
            for member in other.members:
                # As if the round had started them: their own ends count.
                member.fresh = siblings_stay and member is not one and member.state in UP

    def _withdraw(self, member: Member) -> None:
        if member.planned is not None:
            member.unit.intensity.withdraw(member.planned)
            member.planned = None

    def _stop_member(self, member: Member, goal: ServiceState, because: str) -> None:
        """Have a member go; where it is to come or down it is there at once."""
        if member.state in TO_COME:
            if goal is not ServiceState.WAITING:
                self._withdraw(member)
                member.state = goal
                member.begins_at = math.inf
                self._drop_if_temporary(member)
        elif member.state is ServiceState.STOPPING:
            member.goal = goal
        elif member.state in UP:
            self._leave_ready(member)
            member.state = ServiceState.STOPPING
            member.goal = goal
            self._tell(member, EventKind.STOPPING, because=because)
            member.because = because
            self._do(ServiceDo.STOP_NOW if self._hard else ServiceDo.STOP, member)

    def _arrive(self, member: Member, error: Any) -> None:
        """One that was asked to go is gone."""
        member.state = ServiceState.STOPPED if member.unit.rejected else member.goal
        self._tell(member, EventKind.STOPPED, error=error)
        if member.unit.rejected:
            self._drop_if_rejected(member.unit)
        elif member.goal is not ServiceState.WAITING:
            self._drop_if_temporary(member)

    def _begin_closing(self) -> None:
        if self.phase is not SupervisorPhase.CLOSING:
            self.phase = SupervisorPhase.CLOSING
            self._taken, self._later = [], []
            for unit in self.units:
                unit.rolling.clear()
                for member in unit.members:
                    member.goal = ServiceState.STOPPED

    # -- whose turn it is -----------------------------------------------------------------------------

    def _advance(self, now: float) -> list[Instruction]:
        """Do what is due, until nothing is; the instructions, in order."""
        while self._step():
            pass
        todo, self._todo = self._todo, []
        return todo

    def _step(self) -> bool:
        """Do one thing that is due; whether there was one."""
        before = len(self._todo), self.phase, self._stops
        if self.phase is SupervisorPhase.CLOSING:
            self._close_next()
        elif self.phase is SupervisorPhase.ROUND:
            if self._stops:
                self._stop_next()
            else:
                self._start_next()
            if self._taken:
                self._start_all(self.units[: self.units.index(self._taken[0])])
        else:
            self._roll()
            if self.phase is SupervisorPhase.OPEN:
                self._start_all(self.units)
        return (len(self._todo), self.phase, self._stops) != before

    def _close_next(self) -> None:
        for unit in list(reversed(self.units)):
            for member in unit.members:
                if member.state is not ServiceState.STOPPING:
                    self._stop_member(member, ServiceState.STOPPED, because="close")
            if unit.is_up and not self._hard:
                return
        if not any(unit.is_up for unit in self.units):
            self.phase = SupervisorPhase.CLOSED
            self._do(ServiceDo.CLOSED)

    def _stop_next(self) -> None:
        """In a round: stop the last of its units that is up, when those behind it are gone."""
        for unit in list(reversed(self._taken)):
            temporary = unit.rules.restart is RestartKind.TEMPORARY
            for member in list(unit.members):
                if member.state is ServiceState.STOPPING:
                    continue
                if member.fresh and member.state in (ServiceState.STARTING, ServiceState.READY):
                    # Of a widened round only what it takes anew begins again.
                    continue
                # One that was itself asked to begin anew does so.
                ends = temporary and not member.is_wanted and not self.is_put_off(unit)
                goal = ServiceState.ENDED if ends else ServiceState.WAITING
                self._stop_member(member, goal, because="restart" if self._planned else "round")
            if any(m.state is ServiceState.STOPPING for m in unit.members):
                return
        self._stops = False

    def _start_next(self) -> None:
        """In a round: start the next of its units, when the one before is ready, down or passed over."""
        is_over = True
        for at, unit in enumerate(self._taken):
            self._start_all([unit])
            for member in unit.members:
                member.fresh = member.fresh or member.state in UP
            if not self._has_turn(unit):
                continue
            if not self._waits_for(unit, self._taken[at + 1 :]):
                return
            # A name in its `after` was given to a newer service: that one is first.
            is_over = False
        if not is_over:
            return
        self._taken = []
        self.phase = SupervisorPhase.OPEN
        for member in self._members():
            member.fresh = False
        later, self._later = self._later, []
        for unit, again in later:
            if again:
                self._begin_anew(unit)

    def _has_turn(self, unit: Unit) -> bool:
        """Whether the round waits for it: it is to come, or is on its way, and is not passed over."""
        states = {member.state for member in unit.members}
        if states & (UP - {ServiceState.READY}):
            return True
        later = [other for other, _ in self._later if other not in self._taken]
        return bool(states & TO_COME) and not (
            self.is_blocked(unit) or self._waits_for(unit, later)
        )

    def _start_all(self, units: Iterable[Unit]) -> None:
        waiting = [unit for unit, again in self._later if not again or unit not in self._taken]
        for unit in units:
            if unit in waiting or not self._may_start(unit):
                continue
            for member in unit.members:
                if member.state is ServiceState.WAITING:
                    member.state = ServiceState.STARTING
                    # What has begun is not prevented any more.
                    member.planned = None
                    member.incarnation += 1
                    member.restarts += member.incarnation > 1
                    self._tell(member, EventKind.STARTING)
                    self._do(ServiceDo.SPAWN, member)

    def _roll(self) -> None:
        """Of each unit that is restarted by plan: the next replica, when the one before is ready again."""
        for unit in list(self.units):
            if not unit.rolling or any(
                m.state not in (ServiceState.READY, *DOWN) for m in unit.members
            ):
                continue
            member = unit.rolling.pop(0)
            if member.state in DOWN:
                # It has ended for good meanwhile: what was to be recycled stays so, what was to begin anew does.
                member.state = ServiceState.WAITING if member.is_wanted else member.state
                continue
            if len(self.takes(unit)) == 1:
                self._stop_member(member, ServiceState.WAITING, because="restart")
            else:
                member.wanted = member.incarnation + 1
                self._take_along(unit, member, planned=True)
                return

    # -- words ----------------------------------------------------------------------------------------

    def _do(self, do: ServiceDo, member: Member | None = None) -> None:
        self._todo.append(Instruction(do, member))

    def _tell(
        self,
        member: Member,
        kind: EventKind,
        *,
        error: Any = None,
        delay: float | None = None,
        because: str | None = None,
    ) -> None:
        told = Told(member, kind, member.incarnation, error, delay, because)
        self._todo.append(Instruction(ServiceDo.TELL, member, told))

    def _note(self, event: str, what: str, now: float) -> None:
        self._now = now
        self.history.append(f"{event} {what}")
        del self.history[: -self.HISTORY]

    def _illegal(self, event: str, what: str) -> IllegalEvent:
        return IllegalEvent(
            event, f"{what} of a supervisor that is {self.phase.value}", self.history
        )
