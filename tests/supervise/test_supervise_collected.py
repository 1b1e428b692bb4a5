"""From collected errors to the one that is raised, without a process."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from ep_supervise_tools import run

import tractor
from tractor._exceptions import pack_error, unpack_error
from tractor._proto.children.outcome import Part
from tractor.msg.types import Aid, Error
from tractor.process._stat import ProcessId
from tractor.runtime.dialog import _caller
from tractor.supervise._child import Child
from tractor.supervise._outcome import Collected, part_of
from tractor.trionics._groups import leaves, the_one_error, without

OWN = ("root", "0")
A, B, C = Aid("a", "aaaaaa", 11), Aid("b", "bbbbbb", 22), Aid("c", "cccccc", 33)


def child_of(aid: Aid, below: tuple[int, ...] = ()) -> Child:
    child = Child(SimpleNamespace(), aid, None)  # type: ignore[arg-type]
    child.descendants = {pid: ProcessId.of(pid) for pid in below}
    return child


def channel(aid: Aid) -> Any:
    return SimpleNamespace(aid=aid, peer=aid.reprol(sin_uuid=False), process=None)


def loss(aid: Aid) -> tractor.TransportClosed:
    return _caller.lost(channel(aid), "mod:fn", tractor.TransportClosed("reset"))


def ctxc(of: Aid, canceller: Any) -> BaseException:
    msg = pack_error(trio.Cancelled._create(source="explicit"), 1, of.uid, canceller=canceller)
    return _caller.boxed(msg, channel(of), SimpleNamespace(enabled=(), aid=Aid("root", "0", 1)))


def remote(exc: BaseException, *path: Aid) -> BaseException:
    """An error that came here over these actors, its source first."""
    for aid in path:
        msg = pack_error(exc, 1, aid.uid)
        assert isinstance(msg, Error)
        unpacked = unpack_error(msg)
        assert unpacked is not None
        exc = unpacked
    return exc


def resolve(
    body: BaseException | None,
    failures: dict[Aid, BaseException] | None = None,
    children: tuple[Child, ...] = (),
    taking_down: bool = False,
) -> tuple[list[BaseException], bool]:
    found = Collected(
        OWN,
        {aid.uid: exc for aid, exc in (failures or {}).items()},
        {child.uid: child for child in children},
        taking_down,
    )
    return found.resolve(body)


def in_trio(test: Any) -> Any:
    @functools.wraps(test)
    def wrapped() -> None:
        async def main() -> None:
            test()

        run(main)

    return wrapped


@in_trio
def test_parts() -> None:
    assert part_of(ValueError()) is Part.ERROR
    assert part_of(loss(A)) is Part.LOSS
    assert part_of(remote(loss(A), B)) is Part.LOSS
    assert part_of(ctxc(A, OWN)) is Part.CTXC
    assert part_of(remote(ctxc(A, OWN), B)) is Part.CTXC
    assert part_of(remote(ValueError(), A)) is Part.ERROR
    assert part_of(trio.Cancelled._create(source="explicit")) is Part.CANCELLED


@in_trio
def test_a_loss_is_the_cause_of_the_failure() -> None:
    failure, own = tractor.ActorFailure(A.uid, -9), loss(A)
    group = ExceptionGroup("", [own, ExceptionGroup("", [loss(A)])])
    for body in (own, group):
        assert resolve(body, {A: failure}, (child_of(A),)) == ([failure], False)
    assert failure.__cause__ is own


@in_trio
def test_a_loss_that_was_handled_is_the_cause_too() -> None:
    failure, child = tractor.ActorFailure(A.uid, 0), child_of(A)
    child.note_loss(first := loss(A), "mod:fn")
    child.note_loss(loss(A), "mod:fn")
    assert resolve(None, {A: failure}, (child,)) == ([failure], False)
    assert failure.__cause__ is first


@in_trio
def test_a_loss_of_which_another_actor_tells() -> None:
    failure = tractor.ActorFailure(A.uid, -9)
    children = (child_of(A), child_of(B))
    relayed = remote(loss(A), B)
    assert resolve(relayed, {A: failure}, children) == ([failure], False)
    assert resolve(None, {B: relayed, A: failure}, children) == ([failure], False)
    # Of an actor that has not failed it is the only one to tell.
    strange = remote(loss(C), B)
    assert resolve(strange, {}, children) == ([strange], False)
    assert resolve(strange, {A: failure}, children) == ([failure, strange], False)


@in_trio
def test_a_cancellation_of_which_an_error_tells() -> None:
    direct = ctxc(B, A.uid)
    reason = remote(LookupError("why"), A)
    both = BaseExceptionGroup("", [direct, reason])
    assert resolve(both) == ([reason], False)
    assert resolve(direct, {A: reason}) == ([reason], False)
    assert resolve(direct, {A: tractor.ActorFailure(A.uid, 1)})[0][0].args[0].startswith("subactor")
    relayed = remote(LookupError("why"), C, A)
    assert resolve(direct, {A: relayed}) == ([relayed], False)


@in_trio
def test_a_cancellation_whose_reason_is_not_known_comes_last() -> None:
    direct, other = ctxc(B, ("stranger", "9")), remote(LookupError("why"), A)
    assert resolve(direct) == ([direct], False)
    assert resolve(direct, {A: other}) == ([other, direct], False)


@in_trio
def test_what_the_nursery_brings_about() -> None:
    children = (child_of(A, below=(33,)), child_of(B))
    for exc in (ctxc(A, OWN), ctxc(C, A.uid), loss(A), loss(C), remote(ctxc(A, OWN), B)):
        assert resolve(exc, {}, children, taking_down=True) == ([], False)
        assert resolve(exc, {}, children) == ([exc], False)
    stranger = ctxc(Aid("d", "dddddd", 44), ("stranger", "9"))
    assert resolve(stranger, {}, children, taking_down=True) == ([stranger], False)


@in_trio
def test_a_cancellation_from_outside_goes_on() -> None:
    cancelled = trio.Cancelled._create(source="explicit")
    assert resolve(cancelled) == ([], True)
    assert resolve(BaseExceptionGroup("", [cancelled, ctxc(A, OWN)]), {}, (child_of(A),), True) == (
        [],
        True,
    )
    error = ValueError()
    assert resolve(BaseExceptionGroup("", [cancelled, error])) == ([error], False)
    assert resolve(cancelled, {A: error}) == ([error], False)


@in_trio
def test_one_error_twice_is_one() -> None:
    error = remote(ValueError(), A)
    assert resolve(error, {A: error}) == ([error], False)
    assert (
        resolve(BaseExceptionGroup("", [error, KeyError()]), {A: error})[0][0].__class__ is KeyError
    )


# -- groups --


def test_the_one_error_keeps_what_was_said_of_its_groups() -> None:
    error, why = ValueError("x"), KeyError("why")
    inner = ExceptionGroup("inner", [error])
    inner.add_note("of the inner group")
    inner.__cause__ = why
    outer = ExceptionGroup("outer", [inner])
    outer.add_note("of the outer group")
    assert the_one_error(outer) is error
    assert error.__notes__ == ["of the outer group", "of the inner group"]
    assert error.__cause__ is why
    several = ExceptionGroup("", [error, KeyError()])
    assert the_one_error(several) is several
    assert the_one_error(why) is why


class OwnGroup(ExceptionGroup[Exception]):
    def __new__(cls, excs: list[Exception]) -> OwnGroup:
        return super().__new__(cls, "own", excs)

    def derive(self, excs: Any) -> Any:
        raise RuntimeError("can't be made anew")


@pytest.mark.parametrize("depth", [1, 3])
def test_taking_errors_out_of_a_group(depth: int) -> None:
    kept = KeyError()
    group: Any = OwnGroup([ValueError(), kept, OwnGroup([ValueError()])])
    for _ in range(depth - 1):
        group = OwnGroup([group])
    left = without(group, lambda exc: isinstance(exc, ValueError))
    assert left is not None
    assert the_one_error(left) is kept
    assert without(group, lambda exc: True) is None
    assert without(group, lambda exc: False) is group


# -- several dialogs with one actor tell of one event --


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("what", ["cancelled", "lost"])
def test_of_several_dialogs_that_tell_of_one_event_one_does(n: int, what: str) -> None:
    """How many of them end with it before the rest is cancelled is chance."""
    tells = loss if what == "lost" else functools.partial(ctxc, canceller=B.uid)
    first = tells(A)
    body = BaseExceptionGroup("", [first, BaseExceptionGroup("", [tells(A) for _ in range(n)])])
    assert resolve(body, children=()) == ([first], False)
    other = KeyError("beside it")
    [group], _ = resolve(BaseExceptionGroup("", [body, other]))
    assert isinstance(group, BaseExceptionGroup)
    assert [*leaves(group)] == [first, other]


def test_events_of_different_actors_are_told_each() -> None:
    errors = [ctxc(A, B.uid), ctxc(B, B.uid), ctxc(A, C.uid), loss(A), loss(B)]
    [group], _ = resolve(BaseExceptionGroup("", errors))
    assert isinstance(group, BaseExceptionGroup)
    assert list(group.exceptions) == errors


def test_a_one_shot_tells_of_the_cancellation_that_ends_dialogs_with_it_too() -> None:
    failure = ctxc(A, A.uid)
    body = BaseExceptionGroup("", [ctxc(A, A.uid), ctxc(A, A.uid)])
    assert resolve(body, {A: failure}, (child_of(A),)) == ([failure], False)


def test_a_ctrl_c_of_an_endpoint_tells_of_its_actors_end() -> None:
    interrupt = remote(KeyboardInterrupt(), A)
    died = tractor.ActorFailure(A.uid, 130)
    assert resolve(interrupt, {A: died}, (child_of(A),)) == ([interrupt], False)
    other = tractor.ActorFailure(B.uid, 130)
    raised, _ = resolve(interrupt, {B: other}, (child_of(A), child_of(B)))
    assert raised == [interrupt, other]
