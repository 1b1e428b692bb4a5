"""Carries out the rules of one supervisor: spawns, stops, tells, and wakes who waits.

The rules are :class:`tractor._proto.services.supervision.Supervision`.  Everything that happens is fed to it at once,
in one turn of the loop, and the instructions that come of it are carried out in order in the same turn; none of them
feeds it again.  So whoever looks at a service between two checkpoints sees it whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, ClassVar

import trio

from tractor import log as _log
from tractor._errors import RestartLimitExceeded, RuntimeFailure, ServiceEnded
from tractor._proto.services.service_life import (
    DOWN,
    EventKind,
    Instruction,
    Member,
    RestartKind,
    ServiceDo,
    ServiceEnd,
    ServiceState,
    SupervisorPhase,
    Told,
    Unit,
    latest_error,
)
from tractor._proto.services.supervision import Supervision
from tractor.runtime.seen import _events
from tractor.runtime.seen._lives import path_of
from tractor.runtime.seen._told import TOLD
from tractor.services._events import Events, ServiceEvent
from tractor.services._incarnation import End, Incarnation
from tractor.services._specification import ServiceSpec
from tractor.services._starts import Starts, hosts_of
from tractor.services._work import Work
from tractor.supervise._arguments import StartOptions
from tractor.supervise._children import Children
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

LEVELS: dict[EventKind, Callable[..., None]] = {
    EventKind.CRASHED: log.warning,
    EventKind.FAILED: log.error,
    EventKind.GAVE_UP: log.warning,
}
"""How loudly an event is logged; others are news for `loglevel="info"`."""

AT_REST = DOWN | {ServiceState.READY}
"""Where a member stays until something happens to it."""


class Restarting:
    """A restart that somebody waits for.

    Args:
        left: the members that have still to be ready again.
    """

    def __init__(self, left: list[Member]) -> None:
        self.left = left
        self.done = trio.Event()
        self.error: BaseException | None = None

    def look(self) -> None:
        """Something has changed: are all ready again?"""
        # Of one whose restart was broken off nothing is wanted.
        self.left = [
            m for m in self.left if not m.wanted or m.is_wanted or m.state is not ServiceState.READY
        ]
        if not self.left:
            self.done.set()

    def fail(self, error: BaseException) -> None:
        """It comes to nothing."""
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Entry:
    """One service, as its supervisor keeps it.

    Args:
        unit: what the rules know of it.
        spec: its specification.
        options: gives what the actor of each member is started with.
        work: what each incarnation does.
    """

    def __init__(
        self,
        unit: Unit,
        spec: ServiceSpec,
        options: dict[Member, Starts],
        work: Work,
    ) -> None:
        self.unit = unit
        self.spec = spec
        self.options = options
        self.work = work
        # The latest incarnation of each member that had one.
        self.lives: dict[Member, Incarnation] = {}
        # What the latest incarnation of each member that was ready gave.
        self.firsts: dict[Member, Any] = {}
        # What the function of each member has returned.
        self.values: dict[Member, Any] = {}
        # Whose turn it is among several that are ready.
        self.turn = 0
        # The restart that is under way.
        self.restarting: Restarting | None = None


@ki_protected
class Carrier:
    """The services of one supervisor.

    Args:
        children: what starts and ends their actors.
        rules: what decides.
    """

    def __init__(self, children: Children, rules: Supervision) -> None:
        self.children = children
        self.rules = rules
        self.entries: dict[Unit, Entry] = {}
        # Wakes who waits for a change of any service.
        self.changed = trio.lowlevel.ParkingLot()
        # Nothing is left, and nothing comes.
        self.closed = trio.Event()
        # Whether services that go at the end have their `drain`.
        self.drains = False
        # Why it gave up.
        self.limit: RestartLimitExceeded | None = None
        # Around the block's body, which is cancelled when it gives up.
        self.body_scope = trio.CancelScope()
        children.needs = self._needed
        self._subscribers: list[Events] = []
        self._rearmed = trio.Event()

    # -- what happens ---------------------------------------------------------------------------------

    def feed(self, todo: list[Instruction]) -> None:
        """Carry out what the rules have decided on."""
        for step in todo:
            self.HANDLERS[step.do](self, step)
        for entry in list(self.entries.values()):
            self._look_at_restart(entry)
        self._rearmed.set()
        self.changed.unpark_all()

    def note_ready(self, life: Incarnation) -> None:
        """An incarnation is ready."""
        if life.member.state is ServiceState.STARTING:
            self.entries[life.member.unit].firsts[life.member] = life.first
        self.feed(self.rules.up(life.member, trio.current_time()))

    def note_gone(self, life: Incarnation, end: End) -> None:
        """Nothing of an incarnation is left."""
        member = life.member
        entry = self.entries[member.unit]
        closing = self.rules.phase is SupervisorPhase.CLOSING
        # The error of a first start is its caller's.
        lasting = member.unit.rules.restart is not RestartKind.TEMPORARY and not member.first
        if end.error is None:
            entry.values[member] = end.value
        elif end.how is ServiceEnd.ABNORMAL and member.state is ServiceState.STARTING:
            self._fail_restart(entry, member, end.error)
        if closing and lasting and end.error is not None and life.child is not None:
            uid = life.child.uid
            self.children.errors[uid], self.children.gone[uid] = end.error, life.child
        now, chance = trio.current_time(), random.random()
        self.feed(self.rules.gone(member, end.how, end.error, now, chance))

    def note_outgrown(self, life: Incarnation) -> None:
        """An incarnation is to be restarted by plan."""
        self.feed(self.rules.recycle(life.member, trio.current_time()))

    def respawn(self, life: Incarnation) -> bool:
        """The debugger's user wants a fresh one."""
        entry = self.entries.get(life.member.unit)
        if entry is None or self.is_closing:
            raise RuntimeFailure(f"service {life.label!r} can't be respawned: its supervisor ends")
        self.restart(entry)
        return life.portal is not None

    async def run_timer(self) -> None:
        """Tell the rules when a delay is over, until the supervisor is closed."""
        with trio.CancelScope(shield=True):
            while not self.closed.is_set():
                self._rearmed = trio.Event()
                with trio.move_on_at(self.rules.deadline):
                    await self._rearmed.wait()
                if trio.current_time() >= self.rules.deadline:
                    self.feed(self.rules.tick(trio.current_time()))

    # -- what is asked for ----------------------------------------------------------------------------

    @property
    def in_order(self) -> list[Entry]:
        """The services, in their order."""
        return [self.entries[unit] for unit in self.rules.units if unit in self.entries]

    def taken_along(self, name: str) -> list[Entry]:
        """The services that a restart of one begins anew, as the strategy says."""
        unit = self.rules.find(name)
        assert unit is not None
        return [self.entries[other] for other in self.rules.takes(unit)]

    @property
    def is_closing(self) -> bool:
        """Whether nothing is started any more."""
        return self.rules.phase in (SupervisorPhase.CLOSING, SupervisorPhase.CLOSED)

    def add(
        self, spec: ServiceSpec, work: Work, options: Callable[..., StartOptions], first: bool
    ) -> Entry:
        """A service more, last in the order.

        Args:
            spec: its specification.
            work: what its incarnations do.
            options: gives what an actor of that name is started with.
            first: its first start is tried once.

        Raises:
            RuntimeFailure: the supervisor is closing.
            ValueError: its name is taken; an `after` is unknown, or waits for it.
        """
        if self.is_closing:
            raise RuntimeFailure(f"service {spec.name!r} can't be started: its supervisor ends")
        self._require_free(spec)
        for name in spec.after:
            if self.rules.find(name) is None:
                raise ValueError(
                    f"service {spec.name!r}: after={name!r}: there is no service of that name"
                )
            if self.rules.leads_to(name, spec.name):
                raise ValueError(
                    f"service {spec.name!r}: after={name!r}: that one waits for {spec.name!r} itself"
                )
        made = [_prepared(options, name, spec) for name in spec.member_names]
        for old in self._namesakes(spec):
            self.feed(self.rules.forget(old))
        todo = self.rules.add(spec.rules(), trio.current_time(), first=first)
        unit = self.rules.find(spec.name)
        assert unit is not None
        entry = self.entries[unit] = Entry(
            unit, spec, dict(zip(unit.members, made, strict=True)), work
        )
        self.feed(todo)
        return entry

    def respecify(
        self, entry: Entry, spec: ServiceSpec, work: Work, options: Callable[..., StartOptions]
    ) -> None:
        """The next incarnations of a service are others; those that are up stay as they are.

        Args:
            entry: the service.
            spec: of the same name, with as many replicas.
            work, options: as of :meth:`add`.
        """
        made = {member: _prepared(options, member.name, spec) for member in entry.unit.members}
        if entry.restarting is not None:
            # Whoever restarts it next wants one of these.
            entry.restarting.fail(ServiceEnded(f"service {spec.name!r} was changed meanwhile"))
            entry.restarting = None
        self.rules.respecify(entry.unit, spec.rules())
        entry.spec, entry.work, entry.options = spec, work, made

    def forget(self, entry: Entry) -> None:
        """A service that is down is no service any more."""
        if entry.unit in self.entries:
            self.feed(self.rules.forget(entry.unit))

    def _require_free(self, spec: ServiceSpec) -> None:
        for unit in self._namesakes(spec):
            if unit.alive or unit.is_up:
                taken = sorted({spec.name, *spec.member_names} & _names_of(unit))
                raise ValueError(
                    f"service {spec.name!r}: the name {taken[0]!r} is taken by a service that is "
                    f"up or to come"
                )

    def _namesakes(self, spec: ServiceSpec) -> list[Unit]:
        """The services that are called alike, or have replicas that are."""
        names = {spec.name, *spec.member_names}
        return [unit for unit in self.rules.units if names & _names_of(unit)]

    def stop(self, entry: Entry) -> None:
        """A service is to go for good."""
        if entry.restarting is not None:
            entry.restarting.fail(ServiceEnded(f"service {entry.spec.name!r} was stopped"))
        self.feed(self.rules.stop(entry.unit, trio.current_time()))

    def abandon(self, entry: Entry) -> None:
        """A first start is to come to nothing."""
        if entry.unit in self.entries:
            self.feed(self.rules.abandon(entry.unit, trio.current_time()))

    def restart(self, entry: Entry) -> Restarting:
        """A service is to begin anew; one that is doing so already does it once.

        Raises:
            RuntimeFailure: the supervisor is closing.
            ServiceEnded: the service was dropped.
        """
        name = entry.spec.name
        if entry.restarting is not None and not entry.restarting.done.is_set():
            return entry.restarting
        if self.is_closing:
            raise RuntimeFailure(f"service {name!r} can't be restarted: its supervisor ends")
        if entry.unit not in self.entries:
            raise ServiceEnded(f"service {name!r} is down, and was dropped")
        entry.restarting = Restarting(list(entry.unit.members))
        self.feed(self.rules.restart(entry.unit, trio.current_time()))
        return entry.restarting

    def close(self, *, drains: bool = False, hard: bool = False) -> None:
        """All services are to go, in reverse order; with ``hard`` all at once, from the signals on."""
        self.drains = drains and not hard
        self.feed(self.rules.close(trio.current_time(), hard=hard))

    def _needed(self) -> float:
        """Seconds that it takes at most to stop all, one after the other."""
        return sum(
            max((life.needs(self.drains) for life in entry.lives.values()), default=0.0)
            for entry in self.entries.values()
        )

    def subscribe(self, concerns: Callable[[ServiceEvent], bool]) -> Events:
        """The events from now on."""
        events = Events(concerns)
        if self.closed.is_set():
            events.end()
        else:
            self._subscribers = [one for one in self._subscribers if not one.ended]
            self._subscribers.append(events)
        return events

    def _look_at_restart(self, entry: Entry) -> None:
        """Somebody may wait for a restart that does not come any more."""
        restarting, rules, unit = entry.restarting, self.rules, entry.unit
        if restarting is None or restarting.done.is_set() or rules.is_put_off(unit):
            return
        name = entry.spec.name
        restarting.look()
        if self.is_closing or not unit.alive:
            restarting.fail(self.ended(entry, f"service {name!r} is down"))
        elif rules.waits_in_vain(unit):
            restarting.fail(self.ended(entry, f"service {name!r} waits for one that is down"))
        elif rules.phase is SupervisorPhase.OPEN and any(
            m.state in AT_REST and m not in unit.rolling for m in restarting.left
        ):
            restarting.fail(self.ended(entry, f"the restart of service {name!r} was broken off"))

    def _fail_restart(self, entry: Entry, member: Member, error: BaseException) -> None:
        """A start has failed: if it is one that somebody waits for, that is what they learn."""
        waits = entry.restarting is not None and member in entry.restarting.left
        if waits and not member.is_wanted and not self.rules.is_put_off(entry.unit):
            assert entry.restarting is not None
            entry.restarting.fail(error)

    def ended(self, entry: Entry, text: str) -> ServiceEnded:
        """An error that says so, with the last error as its cause."""
        error = ServiceEnded(text)
        error.__cause__ = latest_error(entry.unit.members)
        return error

    # -- what the rules have it do --------------------------------------------------------------------

    def _spawn(self, step: Instruction) -> None:
        member = step.member
        assert member is not None
        entry = self.entries[member.unit]
        options = entry.options[member]
        life = Incarnation(self, member, entry.spec, options, entry.work)
        entry.lives[member] = life
        self.children.tn.start_soon(life.run, name=f"service {member.name}, {life.number}")

    def _stop(self, step: Instruction) -> None:
        member = step.member
        assert member is not None
        entry = self.entries[member.unit]
        drain = {"stop": True, "restart": True, "close": self.drains}.get(member.because, False)
        hard = step.do is ServiceDo.STOP_NOW
        entry.lives[member].stop(entry.spec.drain if drain else 0.0, hard)

    def _drop(self, step: Instruction) -> None:
        assert step.member is not None
        entry = self.entries.pop(step.member.unit, None)
        if entry is not None and entry.restarting is not None:
            text = f"service {entry.spec.name!r} is down, and was dropped"
            entry.restarting.fail(self.ended(entry, text))

    def _tell(self, step: Instruction) -> None:
        told = step.event
        assert told is not None
        assert told.member is not None
        event = ServiceEvent(
            told.member.name,
            told.incarnation,
            told.kind.value,
            time.time(),
            told.error,
            told.delay,
            told.because,
        )
        level = LEVELS.get(told.kind, log.info)
        if told.kind is EventKind.STOPPED and told.error is not None:
            level = log.error
        level(
            "service %r, incarnation %s: %s%s",
            event.service,
            event.incarnation,
            event.kind,
            _more(told),
        )
        self.children.actor.recorder.note(
            "service_event",
            event.error,
            service=event.service,
            incarnation=event.incarnation,
            event=event.kind,
            delay=event.delay,
            because=event.because,
        )
        if TOLD.service_event is not None:
            TOLD.service_event(_told_of(event, _more(told)))
        for subscriber in self._subscribers:
            subscriber.put(event)

    def _give_up(self, _step: Instruction) -> None:
        assert self.rules.gave_up is not None
        member, errors = self.rules.gave_up
        count, within = len(errors), self.rules.within
        name = member.unit.rules.name
        self.limit = RestartLimitExceeded(name, count, within, tuple(errors))
        self.limit.__cause__ = errors[-1]
        self.children.cancel_body(self.body_scope)

    def _note_closed(self, _step: Instruction) -> None:
        self.closed.set()
        for subscriber in self._subscribers:
            subscriber.end()

    HANDLERS: ClassVar[dict[ServiceDo, Callable[[Carrier, Instruction], None]]] = {
        ServiceDo.SPAWN: _spawn,
        ServiceDo.STOP: _stop,
        ServiceDo.STOP_NOW: _stop,
        ServiceDo.DROP: _drop,
        ServiceDo.TELL: _tell,
        ServiceDo.GIVE_UP: _give_up,
        ServiceDo.CLOSED: _note_closed,
    }
    """What carries out each instruction."""


def _prepared(options: Callable[..., StartOptions], name: str, spec: ServiceSpec) -> Starts:
    """The starts of a member of that name.  Raises as :class:`Starts`."""
    return Starts(lambda host: options(name, host=host), hosts_of(spec))


def _names_of(unit: Unit) -> set[str]:
    """What a service and its actors are called."""
    return {unit.rules.name, *(member.name for member in unit.members)}


def _told_of(event: ServiceEvent, more: str) -> _events.ServiceEvent:
    """What instruments are told."""
    error = None if event.error is None else path_of(event.error)
    text = f"incarnation {event.incarnation}: {event.kind}{more}"
    restarts = max(event.incarnation - 1, 0)
    return _events.ServiceEvent(
        time.monotonic_ns(), TOLD.actor, event.service, event.kind, text, restarts, error
    )


def _more(told: Told) -> str:
    """What a log line says of an event beside its kind."""
    parts = []
    if told.delay is not None:
        parts.append(f"again in {told.delay:.2f} s")
    if told.because:
        parts.append(f"because of {told.because!r}")
    if told.error is not None:
        parts.append(str(told.error) or repr(told.error))
    return "" if not parts else ": " + ", ".join(parts)
