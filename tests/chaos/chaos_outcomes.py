"""How operations may end, and what was seen of it."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

import tractor

__all__ = [
    "UNTOUCHED",
    "Figures",
    "NotThereError",
    "PlannedError",
    "WrongAnswerError",
    "describe",
    "end_of_branch",
    "expect",
    "outcome_of",
]

SETTLED = ("ActorFailure", "TransportClosed", "RuntimeFailure", "ContextCancelled", "Cancelled")
"""What actors may fail with here, so that it may arrive in a `RemoteActorError`."""

GROUPS = ("ExceptionGroup", "BaseExceptionGroup")

BUGS = ("InternalError", "AssertionError")
"""What no disaster excuses, also deep within a remote traceback."""

UNTOUCHED = ("value", "cancelled by us", "RemoteActorError[ValueError]", "planned error")
"""How operations on branches end that nothing bad was planned for."""


class PlannedError(Exception):
    """The body of a branch's nursery fails, because the plan says so."""


class NotThereError(Exception):
    """Whom an operation or a fault was meant for is gone already: it does not take place."""


class WrongAnswerError(Exception):
    """A value arrived that is not the one that was sent."""


def expect(got: object, wanted: object) -> None:
    """Raise WrongAnswerError unless both are the same."""
    if got != wanted:
        raise WrongAnswerError(f"{str(got)[:200]!r} arrived instead of {str(wanted)[:200]!r}")


@dataclass
class Figures:
    """What was seen, in one round or in many."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    actors: int = 0
    hangs: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")
    shapes: dict[str, Counter[str]] = field(default_factory=dict)
    """For each kind of event how often it has had which shape of outcome."""
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    """Where a shape was seen first."""

    def add(self, other: Figures) -> None:
        """Count another round in."""
        self.operations.update(other.operations)
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.rounds += other.rounds
        self.actors += other.actors
        self.hangs += other.hangs
        self.wrong += other.wrong
        self.leaks += other.leaks
        self.slowest = max(self.slowest, other.slowest)
        for event, counted in other.shapes.items():
            self.shapes.setdefault(event, Counter()).update(counted)
        self.examples = {**other.examples, **self.examples}

    def note_shape(self, event: str, shape: str, where: str) -> None:
        """Count the outcome of one event."""
        self.shapes.setdefault(event, Counter())[shape] += 1
        self.examples.setdefault((event, shape), where)

    @property
    def ambiguous(self) -> list[str]:
        """The events that have had more than one shape."""
        return [event for event, counted in self.shapes.items() if len(counted) > 1]

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.hangs or self.wrong or self.leaks or self.ambiguous)


def outcome_of(exc: BaseException) -> str | None:
    """The class of G3's outcomes that an operation's exception is of; ``None``: of none."""
    if isinstance(exc, tractor.ContextCancelled):
        return "ContextCancelled"
    if isinstance(exc, tractor.RemoteActorError):
        if type(exc) is not tractor.RemoteActorError:
            return None
        if any(name in exc.tb_str for name in BUGS):
            return None
        source = exc.src_type_str
        return f"RemoteActorError[{source}]" if source in (*SETTLED, *GROUPS) else None
    if isinstance(exc, tractor.TransportClosed):
        return "TransportClosed"
    return "ActorFailure" if isinstance(exc, tractor.ActorFailure) else None


def end_of_branch(exc: BaseException) -> str | None:
    """The same for a branch's nursery, which may end with several errors at once."""
    if isinstance(exc, PlannedError):
        return "planned error"
    if isinstance(exc, BaseExceptionGroup):
        known = all(end_of_branch(one) for one in exc.exceptions)
        return "several of these" if known else None
    return outcome_of(exc)


def describe(exc: BaseException) -> str:
    """An exception that should not have come, with where it came from."""
    return "".join(traceback.format_exception(exc))[-4000:]
