"""From the errors that a nursery has collected to the one that it raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import trio

from tractor import log as _log
from tractor._errors import ActorFailure, RemoteActorError, TransportClosed
from tractor._proto.children.outcome import ORDER, TABLE, Fact, Part, Verdict
from tractor.msg.types import Uid
from tractor.runtime.dialog._caller import canceller_of, origin_of, told_once
from tractor.supervise._child import Child
from tractor.trionics._groups import is_multi_cancelled, leaves, without

log = _log.get_logger()


def part_of(exc: BaseException) -> Part:
    """What an error, which is not a group, tells of."""
    kind = exc.src_type if isinstance(exc, RemoteActorError) else type(exc)
    if kind is trio.Cancelled:
        return Part.CTXC if isinstance(exc, RemoteActorError) else Part.CANCELLED
    return Part.LOSS if kind is not None and issubclass(kind, TransportClosed) else Part.ERROR


class Collected:
    """The errors of a nursery at its exit.

    Args:
        own: this actor.
        failures: one error for each child that failed.
        children: those that failed, or that the nursery took down.
        taking_down: it was taking its children down before the body ended.
    """

    def __init__(
        self,
        own: Uid,
        failures: Mapping[Uid, BaseException],
        children: Mapping[Uid, Child],
        taking_down: bool,
    ) -> None:
        self._own = own
        self._failures = dict(failures)
        self._children = children
        self._taking_down = taking_down
        self._pids_below = {pid for child in children.values() for pid in child.descendants}
        self._tellers: set[Uid] = set()
        # Actors that a `KeyboardInterrupt` in the block comes from.
        self._interrupted: set[Uid] = set()
        self._losses: dict[Uid, BaseException] = {}

    def resolve(self, body: BaseException | None) -> tuple[list[BaseException], bool]:
        """Decide on all of them.

        Args:
            body: what the nursery's block has raised.

        Returns:
            The errors to raise, one for each actor, the body's under this one; and whether the body is to go on as
            the cancellation that it is, where there are none.
        """
        self._note_tellers(body)
        left = None if body is None else without(body, self._is_dropped)
        errors = {
            uid: exc for uid, exc in self._failures.items() if not self._is_told_elsewhere(uid, exc)
        }
        goes_on = False
        if left is not None:
            if is_multi_cancelled(left):
                goes_on = not errors
            elif (told := told_once(left, errors.values())) is not None:
                errors = {self._own: told, **errors}
        for uid, exc in errors.items():
            self._name_cause(uid, exc)
        ranked = sorted(errors.values(), key=_rank)
        return ranked, goes_on

    def _note_tellers(self, body: BaseException | None) -> None:
        """The actors whose real errors are at hand: a cancellation that one of them asked for is told by that."""
        for uid, exc in self._failures.items():
            if part_of(exc) is Part.ERROR:
                self._tellers |= {uid, *_way_of(exc)}
        for exc in leaves(body) if body is not None else ():
            if part_of(exc) is Part.ERROR:
                self._tellers |= {*_way_of(exc)}
            if (
                isinstance(exc, RemoteActorError)
                and exc.src_type is KeyboardInterrupt
                and exc.src_uid
            ):
                self._interrupted.add(exc.src_uid)

    def _is_dropped(self, exc: BaseException) -> bool:
        """Whether an error of the body's is not told by itself."""
        if any(exc is known for known in self._failures.values()):
            return True
        if isinstance(exc, ActorFailure) and exc.uid in self._children:
            # The start of one that this nursery took down meanwhile.
            return self._taking_down and exc.uid not in self._failures
        part = part_of(exc)
        verdict = TABLE[part, self._fact_of(exc, part)]
        if verdict in (Verdict.RAISE, Verdict.GO_ON):
            return False
        child = self._child_of(exc)
        if verdict is Verdict.CAUSE and child is not None and isinstance(exc, TransportClosed):
            self._losses.setdefault(child.uid, exc)
        log.cancel("the nursery's block ended with %r, which is %s", exc, verdict.value)
        return True

    def _is_told_elsewhere(self, uid: Uid, exc: BaseException) -> bool:
        """Whether a child's error is told by another one's."""
        if uid in self._interrupted and isinstance(exc, ActorFailure):
            # An endpoint's own ctrl-c is relayed, and ends its actor, too.
            return True
        part = part_of(exc)
        if part is Part.CTXC:
            return self._fact_of(exc, part) is Fact.TOLD
        if part is Part.LOSS:
            child = self._child_of(exc)
            return child is not None and child.uid != uid and child.uid in self._failures
        return False

    def _fact_of(self, exc: BaseException, part: Part) -> Fact:
        child = self._child_of(exc)
        below = child is not None or self._is_from_below(exc)
        if part is Part.CTXC:
            assert isinstance(exc, RemoteActorError)
            canceller = canceller_of(exc)
            if canceller in self._tellers:
                return Fact.TOLD
            ours = below or canceller == self._own or canceller in self._children
        else:
            if (child.uid in self._failures) if child is not None else (below and self._failures):
                return Fact.TOLD
            ours = below
        return Fact.OURS if ours and self._taking_down else Fact.NEW

    def _child_of(self, exc: BaseException) -> Child | None:
        return _child_of(exc, self._children)

    def _is_from_below(self, exc: BaseException) -> bool:
        """Whether it is about an actor that is not a child, but below one."""
        origin = origin_of(exc)
        return origin is not None and origin.aid is not None and origin.aid.pid in self._pids_below

    def _name_cause(self, uid: Uid, exc: BaseException) -> None:
        child = self._children.get(uid)
        if isinstance(exc, ActorFailure) and exc.__cause__ is None and child is not None:
            exc.__cause__ = self._losses.get(uid) or child.loss


def note_losses(exc: BaseException, children: Mapping[Uid, Child]) -> None:
    """A nursery has got an error, and is about to take its children down: which of them are gone already?

    Their ends were not asked for, even if this actor has not seen them yet.
    """
    for one in leaves(exc):
        if part_of(one) is Part.LOSS and (child := _child_of(one, children)) is not None:
            child.note_lost()


def _child_of(exc: BaseException, children: Mapping[Uid, Child]) -> Child | None:
    """The child whose loss an error tells of, or whose task's cancellation."""
    if isinstance(exc, RemoteActorError) and part_of(exc) is Part.LOSS:
        # Another actor has lost it. Which one it was is in the text alone, by name, uuid and pid.
        return next((child for child in children.values() if child.label in exc.message), None)
    origin = origin_of(exc)
    uid = origin.aid.uid if origin is not None and origin.aid is not None else None
    return children.get(uid) if uid is not None else None


def _way_of(exc: BaseException) -> Iterator[Uid]:
    """The actors that an error came through."""
    if isinstance(exc, RemoteActorError):
        yield from exc.relay_path
    elif isinstance(exc, ActorFailure) and exc.uid is not None:
        yield exc.uid


def _rank(exc: BaseException) -> int:
    """Groups hold at least one error that nothing else tells of."""
    return min(ORDER.index(part) for one in leaves(exc) if (part := part_of(one)) in ORDER)
