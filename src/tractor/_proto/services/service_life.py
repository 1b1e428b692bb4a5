"""A service as its supervisor sees it: the words for its states, ends and steps, and the record of each replica.

The table is `MOVES`: no other step from one state to another is possible.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tractor._proto.machine import IllegalEvent
from tractor._proto.services.restarts import Backoff, Intensity, Restart


class Strategy(enum.StrEnum):
    """Which services a restart takes along."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"
    ONE_FOR_ALL = "one_for_all"


class RestartKind(enum.StrEnum):
    """After which ends a service is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class AutoShutdown(enum.StrEnum):
    """Whether ends of significant services close the supervisor."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class ServiceState(enum.StrEnum):
    """Where a member stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ENDED = "ended"
    FAILED = "failed"


class ServiceEnd(enum.Enum):
    """How an incarnation has ended."""

    DONE = "returned, which is all that those who come after it have waited for"
    NORMAL = "returned, or was cancelled by somebody else and said goodbye"
    ABNORMAL = "raised, died, failed to start, was stuck, or its host was lost"


class SupervisorPhase(enum.Enum):
    """Where the supervisor stands."""

    OPEN = "open"
    ROUND = "in a round"
    CLOSING = "closing"
    CLOSED = "closed"


class ServiceDo(enum.Enum):
    """What the driver has to do."""

    SPAWN = "spawn the next incarnation"
    STOP = "drain it and take it down"
    STOP_NOW = "take it down at once"
    DROP = "forget it: a temporary one is down, or a first start has come to nothing"
    TELL = "tell whoever subscribes"
    GIVE_UP = "raise that there were too many restarts"
    CLOSED = "nothing is left"


class EventKind(enum.StrEnum):
    """What subscribers are told."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"
    CRASHED = "crashed"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    GAVE_UP = "gave-up"


UP: Final = frozenset({ServiceState.STARTING, ServiceState.READY, ServiceState.STOPPING})
"""An incarnation exists."""
TO_COME: Final = frozenset({ServiceState.WAITING, ServiceState.BACKOFF})
DOWN: Final = frozenset({ServiceState.STOPPED, ServiceState.ENDED, ServiceState.FAILED})

MOVES: Final[dict[ServiceState, dict[ServiceState, str]]] = {
    ServiceState.WAITING: {
        ServiceState.STARTING: "its turn, and all of `after` are ready or have ended normally",
        ServiceState.STOPPED: "stop, close",
        ServiceState.ENDED: "a round, where it is temporary",
    },
    ServiceState.STARTING: {
        ServiceState.READY: "it is ready",
        ServiceState.BACKOFF: "it ends, and comes again after a delay",
        ServiceState.WAITING: "it ends, and comes again without one",
        ServiceState.ENDED: "it has returned, where what comes after it waits for that",
        ServiceState.FAILED: "it ends for good; one end too many",
        ServiceState.STOPPING: "stop, close, round, restart",
    },
    ServiceState.READY: {
        ServiceState.BACKOFF: "it ends, and comes again after a delay",
        ServiceState.WAITING: "it ends, and comes again without one",
        ServiceState.ENDED: "it ends normally, for good",
        ServiceState.FAILED: "it ends otherwise, for good; one end too many",
        ServiceState.STOPPING: "stop, close, round, restart, recycling",
    },
    ServiceState.BACKOFF: {
        ServiceState.WAITING: "the delay is over; restart",
        ServiceState.STOPPED: "stop, close",
    },
    ServiceState.STOPPING: {
        ServiceState.STOPPED: "gone, after stop or close",
        ServiceState.WAITING: "gone, after a round, restart or recycling",
        ServiceState.ENDED: "gone, after a round, where it is temporary",
    },
    ServiceState.STOPPED: {ServiceState.WAITING: "restart"},
    ServiceState.ENDED: {ServiceState.WAITING: "restart"},
    ServiceState.FAILED: {ServiceState.WAITING: "restart"},
}
"""The steps of a service from one state to another, and what for."""


class ServiceRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the table has to know of a service.

    Attributes:
        name: of the unit.
        restart: after which ends it comes again.
        backoff: the delays; ``None``: none.
        own_intensity: its restarts are counted apart, and one too many makes it `FAILED` alone.
        significant: its end may close the supervisor.
        after: the units that it waits for at each start.
        replicas: how many members it has.
    """

    name: str
    restart: RestartKind = RestartKind.PERMANENT
    backoff: Backoff | None = None
    own_intensity: bool = False
    significant: bool = False
    after: tuple[str, ...] = ()
    replicas: int = 1


def member_names(name: str, replicas: int) -> list[str]:
    """What the actors of a service are called: as it is, or with a number behind."""
    return [name] if replicas == 1 else [f"{name}.{number}" for number in range(replicas)]


class Instruction(NamedTuple):
    """One thing to do.

    Attributes:
        do: what.
        member: with whom; ``None``: with the supervisor as a whole.
        event: what subscribers are told, with `TELL`.
    """

    do: ServiceDo
    member: Member | None = None
    event: Told | None = None


class Told(NamedTuple):
    """What subscribers are told of one step of a member."""

    member: Member | None
    kind: EventKind
    incarnation: int
    error: Any
    delay: float | None
    because: str | None


class Member:
    """One replica of a service, over all of its incarnations.

    Attributes:
        unit: whose it is.
        index: which of the unit's replicas, from 0.
        state: where it stands; a step that is not in `MOVES` raises IllegalEvent.
        goal: what a member that is `STOPPING` becomes when it is gone.
        incarnation: the number of the latest one; 0: none was spawned.
        restarts: how many were spawned after the first.
        first: its start by ``start_service()`` is not over: if that fails the member is dropped.
        in_a_row: the restarts after abnormal ends since it was last ready for long.
        ready_since: when it became `READY`.
        begins_at: when a member in `BACKOFF` may start.
        error: the latest that an incarnation ended with, and when.
        planned: the decision to restart it, until that begins.
        fresh: the round that is under way has started it.
        because: why it was asked to go, the last time.
        wanted: the incarnation that the latest restart by plan is to bring; 0: there was none.
    """

    __slots__ = (
        "_state",
        "because",
        "begins_at",
        "error",
        "error_at",
        "first",
        "fresh",
        "goal",
        "in_a_row",
        "incarnation",
        "index",
        "planned",
        "ready_since",
        "restarts",
        "unit",
        "wanted",
    )

    def __init__(self, unit: Unit, index: int, first: bool) -> None:
        self.unit = unit
        self.index = index
        self._state = ServiceState.WAITING
        self.goal = ServiceState.STOPPED
        self.incarnation = 0
        self.restarts = 0
        self.first = first
        self.in_a_row = 0
        self.ready_since = math.inf
        self.begins_at = math.inf
        self.error: Any = None
        self.error_at = -math.inf
        self.planned: Restart | None = None
        self.fresh = False
        self.because = ""
        self.wanted = 0

    @property
    def state(self) -> ServiceState:
        """Where it stands."""
        return self._state

    @state.setter
    def state(self, state: ServiceState) -> None:
        if state is not self._state and state not in MOVES[self._state]:
            raise IllegalEvent(state.value, repr(self), [])
        self._state = state

    @property
    def is_wanted(self) -> bool:
        """Whether a restart by plan has still to bring an incarnation."""
        return self.wanted > self.incarnation

    @property
    def name(self) -> str:
        """The actor's name: the unit's, or with a number behind it."""
        rules = self.unit.rules
        return member_names(rules.name, rules.replicas)[self.index]

    @property
    def alive(self) -> bool:
        """Whether it is up or to come."""
        return self.state in TO_COME or (
            self.state in UP
            and not (self.state is ServiceState.STOPPING and self.goal is not ServiceState.WAITING)
        )

    def __repr__(self) -> str:
        return f"<{self.name} {self.state.value}>"


def latest_error(members: Iterable[Member]) -> Any:
    """The error of the latest end with one; ``None``: there was none."""
    return max(members, key=lambda member: member.error_at).error


class Unit:
    """One service.

    Attributes:
        rules: as it was added.
        members: its replicas.
        intensity: the count that its restarts go to: its own, or the supervisor's.
        rolling: members that a restart by plan has still to begin anew, one after the other.
        rejected: its first start has failed, or nobody wants it any more; it is dropped when nothing of it is up.
    """

    __slots__ = ("intensity", "members", "rejected", "rolling", "rules")

    def __init__(self, rules: ServiceRules, intensity: Intensity, first: bool) -> None:
        self.rules = rules
        self.members = [Member(self, index, first) for index in range(rules.replicas)]
        self.intensity = intensity
        self.rolling: list[Member] = []
        self.rejected = False

    @property
    def alive(self) -> bool:
        """Whether a replica is up or to come."""
        return any(m.alive for m in self.members)

    @property
    def is_up(self) -> bool:
        """Whether a replica has an incarnation."""
        return any(m.state in UP for m in self.members)

    @property
    def serves(self) -> bool:
        """Whether what comes after it may start: each replica is ready, or has ended normally."""
        return all(m.state in (ServiceState.READY, ServiceState.ENDED) for m in self.members)
