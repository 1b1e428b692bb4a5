"""A subactor's life: every cell of its two tables, then what no order of events may change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.children.child_life import (
    Cause,
    ChildEvent,
    ChildLife,
    Phase,
)
from tractor._proto.machine import IllegalEvent

E, C, P = ChildEvent, Cause, Phase

# How to get to each phase, and to each cause in a child that runs.
PHASE_ROUTES: dict[Phase, tuple[ChildEvent, ...]] = {
    P.BOOTING: (),
    P.RUNNING: (E.READY,),
    P.DIED_BOOTING: (E.DIED,),
    P.DIED: (E.READY, E.DIED),
    P.GONE: (E.READY, E.DIED, E.CLEANED),
}
CAUSE_ROUTES: dict[Cause, tuple[ChildEvent, ...]] = {
    C.BY_ITSELF: (),
    C.ASKED: (E.ASKED,),
    C.KILLED: (E.ASKED, E.KILLED),
    C.GOODBYE: (E.GOODBYE,),
    C.LOST: (E.LOSS,),
    C.LOST_ASKED: (E.LOSS, E.ASKED),
    C.HOST_LOST: (E.HOST_LOST,),
    C.CRASHED: (E.CRASH,),
    C.CRASHED_ASKED: (E.CRASH, E.ASKED),
}

# Written out, not derived from the code: what follows in each phase, None for "cannot happen".
PHASES: dict[ChildEvent, tuple[Phase | None, ...]] = {
    # BOOTING, RUNNING, DIED_BOOTING, DIED, GONE
    E.READY: (P.RUNNING, P.RUNNING, P.DIED, P.DIED, P.GONE),
    E.DIED: (P.DIED_BOOTING, P.DIED, None, None, None),
    E.CLEANED: (P.GONE, P.GONE, P.GONE, P.GONE, None),
}
K, H, L = C.CRASHED_ASKED, C.HOST_LOST, C.LOST_ASKED
CAUSES: dict[ChildEvent, tuple[Cause | None, ...]] = {
    # BY_ITSELF, ASKED, KILLED, GOODBYE, LOST, LOST_ASKED, HOST_LOST, CRASHED, CRASHED_ASKED
    E.ASKED: (C.ASKED, C.ASKED, C.KILLED, C.ASKED, L, L, L, K, K),
    E.GOODBYE: (C.GOODBYE, C.ASKED, C.KILLED, C.GOODBYE, C.GOODBYE, C.ASKED, H, C.CRASHED, K),
    E.LOSS: (C.LOST, C.ASKED, C.KILLED, C.GOODBYE, C.LOST, L, H, C.CRASHED, K),
    E.CRASH: (C.CRASHED, K, K, C.CRASHED, C.CRASHED, K, C.CRASHED, C.CRASHED, K),
    E.KILLED: (None, C.KILLED, C.KILLED, None, None, L, None, None, K),
    E.HOST_LOST: (H, C.ASKED, C.KILLED, H, H, L, H, C.CRASHED, K),
}


def lived(*events: ChildEvent, status: int = 0) -> ChildLife:
    life = ChildLife()
    for event in events:
        life.handle(event, status if event is E.DIED else None)
    return life


def refuses(life: ChildLife, event: ChildEvent) -> None:
    before = (life.phase, life.cause, life.status, list(life.history))
    with pytest.raises(IllegalEvent) as caught:
        life.handle(event, 5)
    assert (life.phase, life.cause, life.status, life.history) == before
    text = str(caught.value)
    for part in (event, life.phase, life.cause, *life.history):
        assert part.value in text


def test_the_expectation_covers_every_cell() -> None:
    assert PHASES.keys() | CAUSES.keys() == set(E)
    assert list(PHASE_ROUTES) == list(P)
    assert list(CAUSE_ROUTES) == list(C)


@pytest.mark.parametrize("phase", P)
@pytest.mark.parametrize("event", PHASES)
def test_how_far(phase: Phase, event: ChildEvent) -> None:
    life = lived(*PHASE_ROUTES[phase])
    assert life.phase is phase
    following = PHASES[event][list(P).index(phase)]
    if following is None:
        refuses(life, event)
        return
    life.handle(event, 7)
    assert (life.phase, life.cause) == (following, C.BY_ITSELF)
    died_before = phase in (P.DIED_BOOTING, P.DIED, P.GONE)
    assert life.status == (7 if event is E.DIED else 0 if died_before else None)
    assert life.is_ready is (following in (P.RUNNING, P.DIED))


@pytest.mark.parametrize("cause", C)
@pytest.mark.parametrize("event", CAUSES)
def test_why(cause: Cause, event: ChildEvent) -> None:
    life = lived(E.READY, *CAUSE_ROUTES[cause])
    assert life.cause is cause
    following = CAUSES[event][list(C).index(cause)]
    if following is None:
        refuses(life, event)
        return
    life.handle(event)
    assert (life.phase, life.cause) == (P.RUNNING, following)


@pytest.mark.parametrize("phase", P)
@pytest.mark.parametrize("event", [event for event in CAUSES if event is not E.KILLED])
def test_words_count_until_the_child_is_gone(phase: Phase, event: ChildEvent) -> None:
    life = lived(*PHASE_ROUTES[phase])
    life.handle(event)
    counts = phase is not P.GONE and (event is not E.LOSS or phase in (P.RUNNING, P.DIED))
    assert (life.cause is not C.BY_ITSELF) is counts


@pytest.mark.parametrize("status", [0, 1, -9])
@pytest.mark.parametrize("cause", C)
def test_what_is_a_failure(cause: Cause, status: int) -> None:
    life = lived(E.READY, *CAUSE_ROUTES[cause], E.DIED, E.CLEANED, status=status)
    if cause is C.GOODBYE:
        # A signal is how a cancelled one may end; an exit status of its own is not.
        assert life.is_failure is (status > 0)
    else:
        assert life.is_failure is (cause not in (C.ASKED, C.KILLED))
    assert life.is_asked is (E.ASKED in CAUSE_ROUTES[cause])


@given(st.lists(st.sampled_from(E), max_size=30))
def test_no_order_of_events_takes_an_asking_back_or_makes_a_crash_undone(
    events: list[ChildEvent],
) -> None:
    life = ChildLife()
    for event in events:
        asked, cause, phase = life.is_asked, life.cause, life.phase
        try:
            life.handle(event, 0)
        except IllegalEvent:
            continue
        assert life.is_asked >= asked
        assert list(P).index(life.phase) >= list(P).index(phase)
        if phase is P.GONE or (cause in (C.CRASHED_ASKED, C.KILLED) and event is not E.CRASH):
            assert life.cause is cause
        assert life.is_asked == (E.ASKED in life.history)
