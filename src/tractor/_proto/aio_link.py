"""The life of one link between a trio block and an asyncio task, and what each side is told of the other's end.

Events in, instructions out; the driver is `to_asyncio/_link.py`.

===========  ======================  =====================================================  =======
phase        event                   instructions                                           next
===========  ======================  =====================================================  =======
STARTING     started                 enter the block                                        OPEN
STARTING     asyncio ended           end the values, fail the entry                         AIO_DONE
STARTING     trio ended              by the table `TELL`                                    ENDING
OPEN         asyncio ended           end the values; cancel the scope by `UNWINDS`          AIO_DONE
OPEN         trio ended              by the table `TELL`                                    ENDING
OPEN         cancel asked            cancel the task                                        OPEN
ENDING       asyncio ended           –                                                      ENDED
AIO_DONE     trio ended              –                                                      ENDED
===========  ======================  =====================================================  =======

What leaves the block, once both sides have ended, is in the table `VERDICTS`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tractor._proto.machine import IllegalEvent


class AioEnd(enum.Enum):
    """How the asyncio task has ended."""

    RETURNED = "returned"
    RAISED = "raised an error of its own"
    CANCELLED = "was cancelled by itself or some third code"
    CANCELLED_HERE = "was cancelled because the trio side had asked"
    LET_OUT = "ended on what it was told of the trio side"
    GIVEN_UP = "was told and cancelled, and still runs"


class TrioEnd(enum.Enum):
    """How the trio side has ended."""

    WAITING = "was not in its block yet"
    LEFT = "left its block"
    UNWOUND = "was unwound by the link's own scope"
    CANCELLED = "was cancelled from outside the link"
    RAISED = "raised"


class Relation(enum.Enum):
    """Two errors, one of each side."""

    INDEPENDENT = "neither caused the other"
    AIO_FIRST = "the asyncio side's caused the trio side's, or is the same"
    TRIO_FIRST = "the trio side's caused the asyncio side's, or has it and others in its group"


class LinkPhase(enum.Enum):
    """Where a link stands."""

    STARTING = "the task has not said that it has started"
    OPEN = "both sides run"
    ENDING = "the trio side has ended"
    AIO_DONE = "the asyncio task has ended"
    ENDED = "both have ended"


class LinkDo(enum.Enum):
    """What the driver has to do at once."""

    ENTER = "enter the block"
    FAIL_ENTRY = "wake the one who waits for the start"
    END_VALUES = "no further value comes for the trio side"
    CANCEL_SCOPE = "cancel the link's scope"
    CANCEL_TASK = "cancel the asyncio task"
    TELL_EXITED = "raise TrioTaskExited in the asyncio task"
    TELL_CANCELLED = "raise TrioCancelled in the asyncio task"


class Verdict(enum.Enum):
    """What leaves the block on the trio side."""

    NOTHING = "nothing"
    NOTHING_UNLESS_STRICT = "nothing; AsyncioTaskExited without suppress_graceful_exits"
    EXITED_IF_STRICT = "nothing; TrioTaskExited without suppress_graceful_exits"
    TASK_EXITED = "AsyncioTaskExited"
    AIO_CANCELLED = "AsyncioCancelled"
    AIO_ERROR = "the asyncio side's error"
    TRIO_ERROR = "what the trio side raised"
    TRIO_CANCELLED = "trio.Cancelled"
    BY_RELATION = "the causing one alone, or a group of both"
    BOTH = "a group of both"
    GIVEN_UP = "an error that names the task"
    IMPOSSIBLE = "these two ends do not go together"


_ROWS: Final[dict[AioEnd, tuple[Verdict, ...]]] = {
    # The columns: WAITING, LEFT, UNWOUND, CANCELLED, RAISED.
    AioEnd.RETURNED: (
        Verdict.TASK_EXITED,
        Verdict.NOTHING_UNLESS_STRICT,
        Verdict.IMPOSSIBLE,
        Verdict.TRIO_CANCELLED,
        Verdict.TRIO_ERROR,
    ),
    AioEnd.RAISED: (
        Verdict.AIO_ERROR,
        Verdict.AIO_ERROR,
        Verdict.AIO_ERROR,
        Verdict.AIO_ERROR,
        Verdict.BY_RELATION,
    ),
    AioEnd.CANCELLED: (
        Verdict.AIO_CANCELLED,
        Verdict.AIO_CANCELLED,
        Verdict.AIO_CANCELLED,
        Verdict.TRIO_CANCELLED,
        Verdict.TRIO_ERROR,
    ),
    AioEnd.CANCELLED_HERE: (
        Verdict.AIO_CANCELLED,
        Verdict.NOTHING,
        Verdict.IMPOSSIBLE,
        Verdict.TRIO_CANCELLED,
        Verdict.TRIO_ERROR,
    ),
    AioEnd.LET_OUT: (
        Verdict.IMPOSSIBLE,
        Verdict.EXITED_IF_STRICT,
        Verdict.IMPOSSIBLE,
        Verdict.TRIO_CANCELLED,
        Verdict.TRIO_ERROR,
    ),
    AioEnd.GIVEN_UP: (
        Verdict.IMPOSSIBLE,
        Verdict.GIVEN_UP,
        Verdict.IMPOSSIBLE,
        Verdict.GIVEN_UP,
        Verdict.BOTH,
    ),
}

VERDICTS: Final[dict[tuple[AioEnd, TrioEnd], Verdict]] = {
    (aio, trio): verdict
    for aio, row in _ROWS.items()
    for trio, verdict in zip(TrioEnd, row, strict=True)
}

TELL: Final[dict[TrioEnd, LinkDo]] = {
    TrioEnd.LEFT: LinkDo.TELL_EXITED,
    TrioEnd.CANCELLED: LinkDo.TELL_CANCELLED,
    TrioEnd.RAISED: LinkDo.TELL_CANCELLED,
}
"""What the asyncio task is told of the trio side's end; the error of ``RAISED`` is its ``__cause__``."""

UNWINDS: Final = frozenset({AioEnd.RAISED, AioEnd.CANCELLED})
"""The ends of the asyncio task that cancel the trio side's block."""


class AioLink:
    """One link.  Fed with what has happened; each method returns what there is to do now.

    Attributes:
        phase: where it stands.
        aio, trio: how the sides have ended; ``None``: not yet.
        told: whether the asyncio task was told of the trio side's end before its own.
        asked: whether the trio side has asked for the task's cancellation.
    """

    def __init__(self) -> None:
        self.phase = LinkPhase.STARTING
        self.aio: AioEnd | None = None
        self.trio: TrioEnd | None = None
        self.told = False
        self.asked = False
        self.history: list[str] = []

    def started(self) -> list[LinkDo]:
        """The asyncio task says that it has started.  Raises IllegalEvent: it is not the first time."""
        if self.phase is LinkPhase.ENDING and "started" not in self.history:
            # Nobody waits for it any more.
            self.history.append("started")
            return []
        self._expect("started", LinkPhase.STARTING)
        self.phase = LinkPhase.OPEN
        return [LinkDo.ENTER]

    def cancel_asked(self) -> list[LinkDo]:
        """The trio side asks for the task's cancellation; nothing where the task has ended or was told to."""
        if self.phase not in (LinkPhase.STARTING, LinkPhase.OPEN):
            return []
        self.history.append("cancel asked")
        self.asked = True
        return [LinkDo.CANCEL_TASK]

    def aio_ended(self, how: AioEnd) -> list[LinkDo]:
        """The asyncio task has ended.  Raises IllegalEvent: not in this phase, or not so."""
        self._expect(f"asyncio {how.value}", LinkPhase.STARTING, LinkPhase.OPEN, LinkPhase.ENDING)
        if not self.told and how in (AioEnd.LET_OUT, AioEnd.GIVEN_UP):
            raise self._illegal(f"asyncio {how.value}")
        before, self.aio = self.phase, how
        if before is LinkPhase.ENDING:
            self.phase = LinkPhase.ENDED
            return [LinkDo.END_VALUES]
        self.phase = LinkPhase.AIO_DONE
        if before is LinkPhase.STARTING:
            return [LinkDo.END_VALUES, LinkDo.FAIL_ENTRY]
        return [LinkDo.END_VALUES, LinkDo.CANCEL_SCOPE] if how in UNWINDS else [LinkDo.END_VALUES]

    def trio_ended(self, how: TrioEnd) -> list[LinkDo]:
        """The trio side has ended.  Raises IllegalEvent: not in this phase, or not so."""
        self._expect(f"trio {how.value}", LinkPhase.STARTING, LinkPhase.OPEN, LinkPhase.AIO_DONE)
        if self.phase is LinkPhase.AIO_DONE:
            assert self.aio is not None
            if VERDICTS[self.aio, how] is Verdict.IMPOSSIBLE:
                raise self._illegal(f"trio {how.value}")
            self.trio, self.phase = how, LinkPhase.ENDED
            return []
        if how not in TELL or (self.phase is LinkPhase.STARTING and how is TrioEnd.LEFT):
            raise self._illegal(f"trio {how.value}")
        self.trio, self.phase, self.told = how, LinkPhase.ENDING, True
        return [TELL[how]]

    def verdict(self, strict: bool, relation: Relation) -> Verdict:
        """What leaves the block, without a choice left open.

        Args:
            strict: graceful exits count as errors (``suppress_graceful_exits=False``).
            relation: how the two sides' errors are related, if there are two.

        Raises:
            IllegalEvent: a side has not ended.
        """
        if self.phase is not LinkPhase.ENDED or self.aio is None or self.trio is None:
            raise self._illegal("verdict")
        verdict = VERDICTS[self.aio, self.trio]
        if verdict is Verdict.NOTHING_UNLESS_STRICT:
            # One that caught what it was told, and returned, has ended as it should.
            return Verdict.TASK_EXITED if strict and not self.told else Verdict.NOTHING
        if verdict is Verdict.EXITED_IF_STRICT:
            return verdict if strict else Verdict.NOTHING
        if verdict is Verdict.BY_RELATION:
            return {
                Relation.INDEPENDENT: Verdict.BOTH,
                Relation.AIO_FIRST: Verdict.AIO_ERROR,
                Relation.TRIO_FIRST: Verdict.TRIO_ERROR,
            }[relation]
        return verdict

    def _expect(self, event: str, *phases: LinkPhase) -> None:
        if self.phase not in phases:
            raise self._illegal(event)
        self.history.append(event)

    def _illegal(self, event: str) -> IllegalEvent:
        return IllegalEvent(event, f"a link while {self.phase.value}", self.history)


def aio_end(*, cancelled: bool, failed: bool, on_told: bool, asked: bool, told: bool) -> AioEnd:
    """How a finished task has ended.

    Args:
        cancelled: by CancelledError.
        failed: by any other exception.
        on_told: that exception is nothing but what the task was told.
        asked: the trio side had asked for its cancellation.
        told: it had been told of the trio side's end, maybe by a cancel that stood for it.
    """
    if cancelled:
        if asked:
            # That came first, also where it was told before it had ended.
            return AioEnd.CANCELLED_HERE
        return AioEnd.LET_OUT if told else AioEnd.CANCELLED
    if failed:
        return AioEnd.LET_OUT if on_told else AioEnd.RAISED
    return AioEnd.RETURNED


class Related(NamedTuple):
    """How two errors are related; where neither caused the other, also what each side has alone."""

    relation: Relation
    aio: BaseException
    trio: BaseException


def related(
    aio: BaseException,
    trio: BaseException,
    stands_for_trio: Callable[[BaseException], bool] = lambda _: False,
) -> Related:
    """Which error of the two, if any, caused the other: by causes and contexts, member by member of groups.

    A group is known by its members: whoever splits one, as a trio cancel scope does, makes it anew.

    Args:
        aio: the asyncio side's.
        trio: the trio side's.
        stands_for_trio: whether an error is what the asyncio side got in the place of ``trio``.
    """
    of_aio = {id(exc) for exc in _members(aio)}
    rest_of_trio = without(trio, lambda exc: any(id(one) in of_aio for one in _sources(exc)))
    if rest_of_trio is None:
        return Related(Relation.AIO_FIRST, aio, trio)

    def without_trios(of: BaseException) -> BaseException | None:
        of_trio = {id(exc) for exc in _members(of)}
        return without(
            aio, lambda exc: any(id(e) in of_trio or stands_for_trio(e) for e in _sources(exc))
        )

    if without_trios(trio) is None:
        return Related(Relation.TRIO_FIRST, aio, trio)
    # What both have is the asyncio side's.
    rest_of_aio = without_trios(rest_of_trio)
    assert rest_of_aio is not None
    return Related(Relation.INDEPENDENT, rest_of_aio, rest_of_trio)


def _members(exc: BaseException) -> Iterator[BaseException]:
    """An error itself, and what is in its groups, at every depth."""
    yield exc
    if isinstance(exc, BaseExceptionGroup):
        for member in exc.exceptions:
            yield from _members(member)


def _sources(exc: BaseException) -> Iterator[BaseException]:
    """An error, without the members of its group, and everything behind it."""
    yield exc
    # A group that was raised while one of its members was handled did not come of that.
    of_group = {id(one) for one in _members(exc)}
    seen: set[int] = set()
    todo = [one for one in (exc.__cause__, exc.__context__) if id(one) not in of_group]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def without(exc: BaseException, is_told: Callable[[BaseException], bool]) -> BaseException | None:
    """What is left of an error when what the task was told is taken out of its groups; ``None``: nothing."""
    if isinstance(exc, BaseExceptionGroup):
        # Before Python 3.13 only plain functions are taken for conditions.
        told, rest = exc.split(lambda one: is_told(one))
        return rest if told is not None else exc
    return None if is_told(exc) else exc
