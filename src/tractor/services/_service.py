"""What a program holds of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

import msgspec
import trio

from tractor._errors import ActorBusy, RuntimeFailure, ServiceEnded
from tractor._proto.services.service_life import TO_COME, UP, Member, ServiceState, latest_error
from tractor.msg.types import Aid
from tractor.runtime._portal import Portal
from tractor.services._carrier import Carrier, Entry
from tractor.services._events import Events
from tractor.services._incarnation import Incarnation
from tractor.services._specification import ServiceSpec
from tractor.trionics._groups import raise_as_it_was
from tractor.trionics._ki import ki_protected, ki_protected_manager

P = ParamSpec("P")
ValueT = TypeVar("ValueT")

SHOWN = (
    ServiceState.STOPPING,
    ServiceState.STARTING,
    ServiceState.BACKOFF,
    ServiceState.WAITING,
    ServiceState.FAILED,
    ServiceState.STOPPED,
    ServiceState.ENDED,
    ServiceState.READY,
)
"""Of replicas in several states the first of these is shown: a service is ready while all of them are."""


class ServiceStatistics(msgspec.Struct, frozen=True):
    """A service in plain values.

    Attributes:
        name: its name.
        state: as of :attr:`Service.state`.
        incarnation: the latest, or one for each replica.
        restarts: how often it was spawned again, all replicas together.
        uptime: seconds since it was ready; ``None``: it is not.
        pid: its process, or one for each replica; ``None``: there is none.
    """

    name: str
    state: str
    incarnation: int | tuple[int, ...]
    restarts: int
    uptime: float | None
    pid: int | tuple[int | None, ...] | None


@ki_protected
class Service:
    """A service of a supervisor, over all of its incarnations.

    Not built by users: see :meth:`Supervisor.start_service`.
    """

    def __init__(self, carrier: Carrier, entry: Entry, replica: Member | None = None) -> None:
        self._carrier = carrier
        self._entry = entry
        self._replica = replica
        self._members = entry.unit.members if replica is None else [replica]

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name; of a replica, that one's."""
        return self._entry.spec.name if self._replica is None else self._replica.name

    @property
    def spec(self) -> ServiceSpec:
        """How it is started, restarted and stopped."""
        return self._entry.spec

    @property
    def state(self) -> str:
        """``'waiting'``, ``'starting'``, ``'ready'``, ``'backoff'``, ``'stopping'``, ``'stopped'``, ``'ended'`` or
        ``'failed'``.
        """
        states = {member.state for member in self._members}
        return next(state for state in SHOWN if state in states).value

    @property
    def incarnation(self) -> Any:
        """The number of the latest incarnation, from 1; 0 before the first.  A tuple with replicas."""
        return self._each(lambda member: member.incarnation)

    @property
    def restarts(self) -> int:
        """How often it was spawned after the first time, all replicas together."""
        return sum(member.restarts for member in self._members)

    @property
    def aid(self) -> Any:
        """The identity of the actor that is up; ``None``: none is.  A tuple with replicas."""
        return self._each(self._aid_of)

    @property
    def pid(self) -> Any:
        """The process of the actor that is up; ``None``: none is.  A tuple with replicas."""
        return self._each(self._pid_of)

    @property
    def first(self) -> Any:
        """What the latest incarnation that was ready gave ``started()``.  A tuple with replicas."""
        return self._each(self._first_of)

    @property
    def uptime(self) -> float | None:
        """Seconds since it was ready; ``None``: it is not.  With replicas: since the youngest was."""
        lives = [self._ready_life(member) for member in self._members]
        ready = [life.ready_at for life in lives if life is not None and life.ready_at is not None]
        return trio.current_time() - max(ready) if len(ready) == len(self._members) else None

    @property
    def last_error(self) -> BaseException | None:
        """The latest error that an incarnation ended with."""
        error: BaseException | None = latest_error(self._members)
        return error

    @property
    def replicas(self) -> tuple[Service, ...]:
        """A handle for each replica, in their order; of a replica itself, it."""
        if self._replica is not None:
            return (self,)
        return tuple(Service(self._carrier, self._entry, member) for member in self._members)

    def statistics(self) -> ServiceStatistics:
        """A frozen record of plain values."""
        return ServiceStatistics(
            self.name, self.state, self.incarnation, self.restarts, self.uptime, self.pid
        )

    def __repr__(self) -> str:
        return f"<Service {self.name!r} {self.state}, incarnation {self.incarnation}>"

    def _each(self, of: Callable[[Member], Any]) -> Any:
        values = tuple(of(member) for member in self._members)
        return values[0] if self._replica is not None or self.spec.replicas == 1 else values

    def _life(self, member: Member) -> Incarnation | None:
        return self._entry.lives.get(member)

    def _ready_life(self, member: Member) -> Incarnation | None:
        life = self._life(member)
        if life is None or member.state is not ServiceState.READY or not life.is_ready:
            return None
        return life

    def _aid_of(self, member: Member) -> Aid | None:
        life = self._life(member)
        return life.child.aid if life is not None and life.child and member.state in UP else None

    def _pid_of(self, member: Member) -> int | None:
        aid = self._aid_of(member)
        return None if aid is None else aid.pid

    def _first_of(self, member: Member) -> Any:
        return self._entry.firsts.get(member)

    # -- calling into it ------------------------------------------------------------------------------

    @property
    def _is_down(self) -> bool:
        """Nothing of it is up or to come by itself."""
        if self._carrier.is_closing:
            return True
        return not any(m.alive for m in self._members) or self._is_blocked

    @property
    def _is_blocked(self) -> bool:
        blocked = self._carrier.rules.is_blocked(self._entry.unit)
        return blocked and all(m.state not in UP for m in self._members)

    async def _next_life(self, passed: set[Incarnation]) -> Incarnation:
        """One that is ready, but for those that are passed over; waits while there is none."""
        await trio.lowlevel.checkpoint()
        while True:
            lives = [self._ready_life(member) for member in self._members]
            ready = [life for life in lives if life is not None and life not in passed]
            if ready:
                self._entry.turn += 1
                return ready[self._entry.turn % len(ready)]
            if self._is_down:
                raise self._carrier.ended(self._entry, f"service {self.name!r} is {self._why_down}")
            await self._carrier.changed.park()

    @property
    def _why_down(self) -> str:
        if self._carrier.is_closing:
            return "ended by its supervisor"
        return (
            f"{self.state}, as one that it comes after is down" if self._is_blocked else self.state
        )

    async def portal(self) -> Portal:
        """A portal to the incarnation that is ready; waits while one is to come.

        With replicas: to the next of those that are ready, in turn.

        Raises:
            ServiceEnded: it is down, waits for one that is, or the supervisor ends; ``__cause__`` is its last error.
        """
        life = await self._next_life(set())
        assert life.portal is not None
        return life.portal

    def portals(self) -> Portals:
        """Portals to its incarnations, one for each that is ready when it is asked for; ends when it is down."""
        return Portals(self._entry, self._next_life)

    @overload
    async def run(
        self, fn: Callable[P, Awaitable[ValueT]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ValueT: ...
    @overload
    async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any: ...
    async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run an async function in the incarnation that is ready; see :meth:`Portal.run`.

        One that refuses it, as it is about to go, is passed over: nothing has run there.  Nothing is ever run twice.

        Raises:
            ServiceEnded: as :meth:`portal`.
            ActorBusy: those that are ready serve as much as they may.
            RemoteActorError, ContextCancelled, TransportClosed, TypeError and others: as :meth:`Portal.run`.
        """
        refused: set[Incarnation] = set()
        while True:
            life = await self._next_life(refused)
            assert life.portal is not None
            try:
                return await life.portal.run(fn, *args, **kwargs)
            except ActorBusy as exc:
                self._pass_over(life, refused, exc)

    def _pass_over(self, life: Incarnation, refused: set[Incarnation], exc: ActorBusy) -> None:
        """It has refused a request; raises that again where no other one can be tried, or is to come."""
        refused.add(life)
        lives = [self._ready_life(member) for member in self._members]
        others = any(one is not None and one not in refused for one in lives)
        if not others and all(one is not None for one in lives):
            raise exc

    @ki_protected_manager
    async def open_context(self, fn: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Open a context in the incarnation that is ready; see :meth:`Portal.open_context`.

        Raises:
            ServiceEnded: as :meth:`portal`.
            ActorBusy, RemoteActorError, ContextCancelled, TransportClosed and others: as
                :meth:`Portal.open_context`; it ends with its incarnation.
        """
        refused: set[Incarnation] = set()
        while True:
            life = await self._next_life(refused)
            assert life.portal is not None
            opened = False
            try:
                async with life.portal.open_context(fn, *args, **kwargs) as both:
                    opened = True
                    yield both
                return
            except ActorBusy as exc:
                if opened:
                    raise
                self._pass_over(life, refused, exc)

    # -- its life -------------------------------------------------------------------------------------

    async def restart(self) -> None:
        """Begin anew, by plan, with what the strategy takes along; returns when it is ready.

        One that is down is started.  With replicas: one after the other.  Two at a time are one.

        Raises:
            ServiceEnded: it was stopped meanwhile, or waits for one that is down.
            RuntimeFailure: the supervisor is closing.
            Exception: what the start has failed with; it goes on as any failed start does.
        """
        if self._replica is not None:
            raise RuntimeFailure(f"{self.name!r} is a replica: restart the service as a whole")
        restarting = self._carrier.restart(self._entry)
        await restarting.done.wait()
        if restarting.error is not None:
            raise_as_it_was(restarting.error)

    async def stop(self) -> None:
        """Go for good; returns when nothing of it is left.

        Raises:
            ServiceEnded: somebody has restarted it meanwhile.
            RuntimeFailure: this is a replica.
        """
        if self._replica is not None:
            raise RuntimeFailure(f"{self.name!r} is a replica: stop the service as a whole")
        self._carrier.stop(self._entry)
        await trio.lowlevel.checkpoint()
        while any(m.state in UP and not m.alive for m in self._members):
            await self._carrier.changed.park()
        if self._entry.unit.alive:
            raise ServiceEnded(f"the stop of service {self.name!r} was overtaken by a restart")

    async def wait(self) -> Any:
        """Wait until it is down for good.

        Returns:
            What its function has returned; a list with replicas.

        Raises:
            ServiceEnded: it was stopped, waits for one that is down, or the supervisor has ended it.
            BaseException: the error that it has failed with.
        """
        await trio.lowlevel.checkpoint()
        while any(m.state in UP or m.state in TO_COME for m in self._members) and not (
            self._is_blocked
        ):
            await self._carrier.changed.park()
        for member in self._members:
            if member.state is ServiceState.FAILED and member.error is not None:
                raise_as_it_was(member.error)
        if any(m.state is not ServiceState.ENDED for m in self._members):
            raise self._carrier.ended(self._entry, f"service {self.name!r} is {self._why_down}")
        return self._each_value()

    def _each_value(self) -> Any:
        values = [self._entry.values.get(member) for member in self._members]
        return values[0] if self._replica is not None or self.spec.replicas == 1 else values

    def events(self) -> Events:
        """Its events from now on; see :class:`~tractor.services._events.Events`."""
        names = {member.name for member in self._members}
        return self._carrier.subscribe(lambda event: event.service in names)


@ki_protected
class Portals:
    """Portals to the incarnations of a service: an async iterator, which may be left at any time.

    Args:
        entry: the service.
        next_life: gives an incarnation that is ready, but for those that are passed over.
    """

    def __init__(
        self, entry: Entry, next_life: Callable[[set[Incarnation]], Awaitable[Incarnation]]
    ) -> None:
        self._entry = entry
        self._next_life = next_life
        self._seen: set[Incarnation] = set()

    def __aiter__(self) -> Portals:
        return self

    async def __anext__(self) -> Portal:
        """The next one that is ready; waits while one is to come.  Raises StopAsyncIteration: the service is down."""
        # The old ones can't come back.
        self._seen.intersection_update(self._entry.lives.values())
        try:
            life = await self._next_life(self._seen)
        except ServiceEnded:
            raise StopAsyncIteration from None
        self._seen.add(life)
        assert life.portal is not None
        return life.portal
