"""The life of a link between a trio block and an asyncio task: every cell of its tables."""

from __future__ import annotations

import itertools

import pytest

from tractor._proto.aio_link import (
    TELL,
    UNWINDS,
    VERDICTS,
    AioEnd,
    AioLink,
    LinkDo,
    LinkPhase,
    Relation,
    TrioEnd,
    Verdict,
    aio_end,
    related,
    without,
)
from tractor._proto.machine import IllegalEvent

X = Verdict.IMPOSSIBLE
V = Verdict
COLUMNS = (TrioEnd.WAITING, TrioEnd.LEFT, TrioEnd.UNWOUND, TrioEnd.CANCELLED, TrioEnd.RAISED)
EXPECTED = {
    AioEnd.RETURNED: (
        V.TASK_EXITED,
        V.NOTHING_UNLESS_STRICT,
        X,
        V.TRIO_CANCELLED,
        V.TRIO_ERROR,
    ),
    AioEnd.RAISED: (V.AIO_ERROR, V.AIO_ERROR, V.AIO_ERROR, V.AIO_ERROR, V.BY_RELATION),
    AioEnd.CANCELLED: (
        V.AIO_CANCELLED,
        V.AIO_CANCELLED,
        V.AIO_CANCELLED,
        V.TRIO_CANCELLED,
        V.TRIO_ERROR,
    ),
    AioEnd.CANCELLED_HERE: (V.AIO_CANCELLED, V.NOTHING, X, V.TRIO_CANCELLED, V.TRIO_ERROR),
    AioEnd.LET_OUT: (X, V.EXITED_IF_STRICT, X, V.TRIO_CANCELLED, V.TRIO_ERROR),
    AioEnd.GIVEN_UP: (X, V.GIVEN_UP, X, V.GIVEN_UP, V.BOTH),
}


def link_in(phase: LinkPhase) -> AioLink:
    """A link that has come to a phase in the shortest way."""
    link = AioLink()
    if phase is LinkPhase.STARTING:
        return link
    link.started()
    if phase is LinkPhase.ENDING:
        link.trio_ended(TrioEnd.LEFT)
    elif phase is LinkPhase.AIO_DONE:
        link.aio_ended(AioEnd.RETURNED)
    elif phase is LinkPhase.ENDED:
        link.trio_ended(TrioEnd.LEFT)
        link.aio_ended(AioEnd.RETURNED)
    assert link.phase is phase
    return link


@pytest.mark.parametrize(("aio", "trio"), list(itertools.product(AioEnd, TrioEnd)))
def test_each_pair_of_ends_has_its_verdict(aio: AioEnd, trio: TrioEnd) -> None:
    assert VERDICTS[aio, trio] is EXPECTED[aio][COLUMNS.index(trio)]


@pytest.mark.parametrize(
    ("aio", "trio", "strict", "told", "relation", "verdict"),
    [
        (AioEnd.RETURNED, TrioEnd.LEFT, False, False, Relation.INDEPENDENT, V.NOTHING),
        (AioEnd.RETURNED, TrioEnd.LEFT, True, False, Relation.INDEPENDENT, V.TASK_EXITED),
        # It caught TrioTaskExited.
        (AioEnd.RETURNED, TrioEnd.LEFT, True, True, Relation.INDEPENDENT, V.NOTHING),
        (AioEnd.LET_OUT, TrioEnd.LEFT, False, True, Relation.INDEPENDENT, V.NOTHING),
        (AioEnd.LET_OUT, TrioEnd.LEFT, True, True, Relation.INDEPENDENT, V.EXITED_IF_STRICT),
        (AioEnd.RAISED, TrioEnd.RAISED, False, True, Relation.INDEPENDENT, V.BOTH),
        (AioEnd.RAISED, TrioEnd.RAISED, False, True, Relation.AIO_FIRST, V.AIO_ERROR),
        (AioEnd.RAISED, TrioEnd.RAISED, False, True, Relation.TRIO_FIRST, V.TRIO_ERROR),
        (AioEnd.RAISED, TrioEnd.CANCELLED, True, True, Relation.TRIO_FIRST, V.AIO_ERROR),
        (AioEnd.CANCELLED, TrioEnd.UNWOUND, False, False, Relation.INDEPENDENT, V.AIO_CANCELLED),
    ],
)
def test_choices_are_made_by_strictness_and_relation(
    aio: AioEnd, trio: TrioEnd, strict: bool, told: bool, relation: Relation, verdict: Verdict
) -> None:
    link = AioLink()
    link.started()
    if told:
        link.trio_ended(trio)
        link.aio_ended(aio)
    else:
        link.aio_ended(aio)
        link.trio_ended(trio)
    assert link.verdict(strict, relation) is verdict


@pytest.mark.parametrize("phase", LinkPhase)
def test_started_in_each_phase(phase: LinkPhase) -> None:
    link = link_in(phase)
    if phase is LinkPhase.STARTING:
        assert link.started() == [LinkDo.ENTER]
        assert link.phase is LinkPhase.OPEN
    else:
        with pytest.raises(IllegalEvent, match="started"):
            link.started()
        assert link.phase is phase


def test_a_start_that_comes_after_the_end_of_the_trio_side_enters_nothing() -> None:
    link = AioLink()
    link.trio_ended(TrioEnd.CANCELLED)
    assert link.started() == []
    assert link.phase is LinkPhase.ENDING


@pytest.mark.parametrize(("phase", "how"), list(itertools.product(LinkPhase, AioEnd)))
def test_end_of_the_asyncio_task_in_each_phase(phase: LinkPhase, how: AioEnd) -> None:
    link = link_in(phase)
    needs_word = how in (AioEnd.LET_OUT, AioEnd.GIVEN_UP)
    if phase in (LinkPhase.AIO_DONE, LinkPhase.ENDED) or (
        needs_word and phase is not LinkPhase.ENDING
    ):
        with pytest.raises(IllegalEvent, match="asyncio"):
            link.aio_ended(how)
        return
    todo = link.aio_ended(how)
    assert link.aio is how
    if phase is LinkPhase.STARTING:
        assert todo == [LinkDo.END_VALUES, LinkDo.FAIL_ENTRY]
        assert link.phase is LinkPhase.AIO_DONE
    elif phase is LinkPhase.OPEN:
        expected = (
            [LinkDo.END_VALUES, LinkDo.CANCEL_SCOPE] if how in UNWINDS else [LinkDo.END_VALUES]
        )
        assert todo == expected
        assert link.phase is LinkPhase.AIO_DONE
    else:
        assert todo == [LinkDo.END_VALUES]
        assert link.phase is LinkPhase.ENDED


@pytest.mark.parametrize(("phase", "how"), list(itertools.product(LinkPhase, TrioEnd)))
def test_end_of_the_trio_side_in_each_phase(phase: LinkPhase, how: TrioEnd) -> None:
    link = link_in(phase)
    can_be_told = {
        LinkPhase.STARTING: {TrioEnd.CANCELLED, TrioEnd.RAISED},
        LinkPhase.OPEN: {TrioEnd.LEFT, TrioEnd.CANCELLED, TrioEnd.RAISED},
    }
    if how in can_be_told.get(phase, ()):
        assert link.trio_ended(how) == [TELL[how]]
        assert link.told
        assert link.phase is LinkPhase.ENDING
    elif phase is LinkPhase.AIO_DONE and how is not TrioEnd.UNWOUND:
        assert link.trio_ended(how) == []
        assert not link.told
        assert link.phase is LinkPhase.ENDED
    else:
        # A task that has returned has unwound nothing.
        with pytest.raises(IllegalEvent, match="trio"):
            link.trio_ended(how)


def test_what_the_task_is_told() -> None:
    assert {
        TrioEnd.LEFT: LinkDo.TELL_EXITED,
        TrioEnd.CANCELLED: LinkDo.TELL_CANCELLED,
        TrioEnd.RAISED: LinkDo.TELL_CANCELLED,
    } == TELL


@pytest.mark.parametrize("phase", LinkPhase)
def test_a_cancel_is_passed_on_only_while_the_task_runs_untold(phase: LinkPhase) -> None:
    link = link_in(phase)
    todo = link.cancel_asked()
    runs = phase in (LinkPhase.STARTING, LinkPhase.OPEN)
    assert todo == ([LinkDo.CANCEL_TASK] if runs else [])
    assert link.asked is runs


def test_no_verdict_before_both_have_ended() -> None:
    link = AioLink()
    link.started()
    with pytest.raises(
        IllegalEvent, match=r"'verdict' can't happen to a link while both sides run.*started"
    ):
        link.verdict(False, Relation.INDEPENDENT)


@pytest.mark.parametrize(
    ("cancelled", "failed", "on_told", "asked", "told", "end"),
    [
        (False, False, False, False, False, AioEnd.RETURNED),
        (False, False, False, True, True, AioEnd.RETURNED),
        (False, True, False, False, False, AioEnd.RAISED),
        (False, True, False, True, True, AioEnd.RAISED),
        (False, True, True, False, True, AioEnd.LET_OUT),
        (True, False, False, False, False, AioEnd.CANCELLED),
        (True, False, False, True, False, AioEnd.CANCELLED_HERE),
        # The cancel stood for what it was told.
        (True, False, False, False, True, AioEnd.LET_OUT),
        # It was asked for first.
        (True, False, False, True, True, AioEnd.CANCELLED_HERE),
    ],
)
def test_how_a_task_has_ended(
    cancelled: bool, failed: bool, on_told: bool, asked: bool, told: bool, end: AioEnd
) -> None:
    found = aio_end(cancelled=cancelled, failed=failed, on_told=on_told, asked=asked, told=told)
    assert found is end


def caused(exc: Exception, by: BaseException) -> Exception:
    exc.__cause__ = by
    return exc


def relation(aio: BaseException, trio: BaseException) -> Relation:
    return related(aio, trio).relation


def test_relation_of_two_errors() -> None:
    first, second = ValueError("1"), KeyError("2")
    assert related(first, second) == (Relation.INDEPENDENT, first, second)
    assert relation(first, first) is Relation.AIO_FIRST
    middle = caused(TypeError(), by=first)
    assert relation(first, caused(RuntimeError(), by=middle)) is Relation.AIO_FIRST
    assert relation(caused(RuntimeError(), by=middle), first) is Relation.TRIO_FIRST
    context = RuntimeError()
    context.__context__ = second
    assert relation(context, second) is Relation.TRIO_FIRST


def test_a_group_is_known_by_its_members() -> None:
    one, two, other = ValueError("1"), KeyError("2"), TypeError("3")
    group = ExceptionGroup("tasks", [one, ExceptionGroup("inner", [two])])
    made_anew = group.derive(group.exceptions)
    assert made_anew is not group
    for trios in (
        made_anew,
        ExceptionGroup("a nursery's", [made_anew]),
        ExceptionGroup("a part", [two]),
        two,
        caused(RuntimeError(), by=made_anew),
        caused(ExceptionGroup("", [RuntimeError()]), by=two),
        ExceptionGroup("", [caused(RuntimeError(), by=one), two]),
    ):
        assert relation(group, trios) is Relation.AIO_FIRST, trios
    # Nothing is lost of a group that has more; and nothing is told twice.
    assert relation(two, ExceptionGroup("", [other, two])) is Relation.TRIO_FIRST
    assert relation(group, ExceptionGroup("", [other, made_anew])) is Relation.TRIO_FIRST
    found = related(group, ExceptionGroup("", [other, two]))
    assert found.relation is Relation.INDEPENDENT
    assert found.aio is group
    assert found.trio.exceptions == (other,)  # type: ignore[attr-defined]


def test_a_group_of_asyncios_part_of_which_comes_from_trios() -> None:
    trios, own = ValueError("trio"), KeyError("own")
    after = caused(RuntimeError(), by=trios)
    assert relation(ExceptionGroup("", [after]), trios) is Relation.TRIO_FIRST
    assert relation(ExceptionGroup("", [after, trios]), trios) is Relation.AIO_FIRST, "the same"
    found = related(ExceptionGroup("", [after, own]), trios)
    assert found.relation is Relation.INDEPENDENT
    assert found.trio is trios
    assert found.aio.exceptions == (own,)  # type: ignore[attr-defined]


def test_a_group_raised_while_a_member_was_handled_is_not_of_that_alone() -> None:
    aio, other = ValueError("aio"), KeyError("other")
    group = ExceptionGroup("", [aio, other])
    group.__context__ = aio
    assert relation(aio, group) is Relation.TRIO_FIRST
    behind = ExceptionGroup("", [other])
    behind.__context__ = aio
    assert relation(aio, behind) is Relation.AIO_FIRST


def test_relation_in_a_circle_of_contexts() -> None:
    one, two = ValueError(), KeyError()
    one.__context__, two.__context__ = two, one
    assert relation(TypeError(), one) is Relation.INDEPENDENT


def test_an_error_that_stands_for_trios_causes_as_that_does() -> None:
    stand_in, trios = RuntimeError(), KeyError()
    caused_by_it = caused(ValueError(), by=stand_in)
    assert relation(caused_by_it, trios) is Relation.INDEPENDENT
    found = related(caused_by_it, trios, lambda exc: exc is stand_in)
    assert found.relation is Relation.TRIO_FIRST


def test_what_is_left_of_an_error_without_what_was_told() -> None:
    told, own = ValueError(), KeyError()

    def is_told(exc: BaseException) -> bool:
        return exc is told

    assert without(told, is_told) is None
    assert without(own, is_told) is own
    assert without(ExceptionGroup("", [told]), is_told) is None
    rest = without(ExceptionGroup("", [told, own]), is_told)
    assert isinstance(rest, ExceptionGroup)
    assert rest.exceptions == (own,)
    group = ExceptionGroup("", [own])
    assert without(group, is_told) is group
