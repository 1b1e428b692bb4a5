"""The teardown ladder: every cell of its table, then the ways down it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.children.ladder import (
    Escalation,
    Ladder,
    LadderDo,
    LadderEvent,
    Progress,
    Rung,
)
from tractor._proto.deadlines import (
    ACK_TIMEOUT,
    BOOT_GRACE,
    EXIT_TIMEOUT,
    NEEDS_LIMIT,
    PROGRESS_TIMEOUT,
    TERM_TIMEOUT,
)
from tractor._proto.machine import IllegalEvent

# How to get to each rung, with a clock that stands at 0 before the first deadline.
ROUTES: dict[Rung, tuple[bool, tuple[LadderEvent, ...]]] = {
    Rung.STARTING: (True, ()),
    Rung.RUNNING: (False, ()),
    Rung.BOOT: (True, (LadderEvent.CANCEL,)),
    Rung.REQUEST: (False, (LadderEvent.CANCEL,)),
    Rung.EXIT: (False, (LadderEvent.CANCEL, LadderEvent.ACK)),
    Rung.TERM: (False, (LadderEvent.HARD_KILL,)),
    Rung.KILL: (False, (LadderEvent.HARD_KILL, LadderEvent.DEADLINE)),
    Rung.GONE: (False, (LadderEvent.CANCEL, LadderEvent.ACK, LadderEvent.EXITED)),
}

B, R, X, T, K, G = Rung.BOOT, Rung.REQUEST, Rung.EXIT, Rung.TERM, Rung.KILL, Rung.GONE
S, U = Rung.STARTING, Rung.RUNNING
COLUMNS = (S, U, B, R, X, T, K, G)

# Written out from the specification, not derived from the code: the rung after each event, None
# for "cannot happen".
EXPECTED: dict[LadderEvent, tuple[Rung | None, ...]] = {
    LadderEvent.BOOTED: (U, None, R, None, None, T, K, G),
    LadderEvent.CANCEL: (B, R, B, R, X, T, K, G),
    LadderEvent.HARD_KILL: (T, T, T, T, T, T, K, G),
    LadderEvent.KILL_AT_ONCE: (K, K, K, K, K, K, K, G),
    LadderEvent.ACK: (None, None, None, X, X, T, K, G),
    LadderEvent.PORTAL_ACKED: (None, X, B, X, X, T, K, G),
    LadderEvent.PORTAL_SILENT: (None, T, B, R, X, T, K, G),
    LadderEvent.PROGRESS: (S, U, B, R, X, T, K, G),
    LadderEvent.ADVANCE: (S, U, B, R, X, T, K, G),
    LadderEvent.DEADLINE: (None, None, T, X, T, K, None, None),
    LadderEvent.REPL_HELD: (S, U, B, R, X, T, K, G),
    LadderEvent.REPL_RELEASED: (S, U, B, R, X, T, K, G),
    LadderEvent.EXITED: (G, G, G, G, G, G, G, None),
}

# The instruction that entering a rung brings.
ENTRY = {R: LadderDo.SEND_CANCEL, T: LadderDo.SIGTERM, K: LadderDo.SIGKILL}


def at(rung: Rung) -> Ladder:
    booting, events = ROUTES[rung]
    ladder = Ladder(booting=booting)
    for event in events:
        ladder.handle(event, ladder.deadline if event is LadderEvent.DEADLINE else 0.0)
    assert ladder.rung is rung
    return ladder


CELLS = [
    (rung, event, EXPECTED[event][i]) for event in LadderEvent for i, rung in enumerate(COLUMNS)
]


def test_the_expectation_covers_every_cell() -> None:
    assert {(rung, event) for rung, event, _ in CELLS} == {
        (r, e) for r in Rung for e in LadderEvent
    }


@pytest.mark.parametrize(("rung", "event", "following"), CELLS)
def test_cell(rung: Rung, event: LadderEvent, following: Rung | None) -> None:
    ladder = at(rung)
    now = 10.0
    if following is None:
        before = (ladder.rung, ladder.deadline, list(ladder.history))
        with pytest.raises(IllegalEvent) as caught:
            ladder.handle(event, now)
        assert (ladder.rung, ladder.deadline, ladder.history) == before
        text = str(caught.value)
        assert event.value in text
        assert rung.value in text
        assert all(past.value in text for past in ladder.history)
        assert caught.value.event == event.value
        return
    done = ladder.handle(event, now)
    assert ladder.rung is following
    assert ladder.acked is (
        event in (LadderEvent.ACK, LadderEvent.PORTAL_ACKED) or LadderEvent.ACK in ROUTES[rung][1]
    )
    assert done == ([ENTRY[following]] if following is not rung and following in ENTRY else [])


def test_the_whole_way_down() -> None:
    ladder = Ladder()
    assert (ladder.start(100.0), ladder.deadline) == ([LadderDo.SEND_CANCEL], 100.0 + ACK_TIMEOUT)
    assert (ladder.tick(101.0), ladder.deadline) == ([], 101.0 + EXIT_TIMEOUT)
    assert (ladder.tick(103.0), ladder.deadline) == ([LadderDo.SIGTERM], 103.0 + TERM_TIMEOUT)
    assert (ladder.tick(104.0), ladder.deadline) == ([LadderDo.SIGKILL], math.inf)
    assert ladder.escalations == [
        Escalation(Rung.REQUEST, Rung.EXIT, 101.0),
        Escalation(Rung.EXIT, Rung.TERM, 103.0),
        Escalation(Rung.TERM, Rung.KILL, 104.0),
    ]
    assert ladder.tick(1e9) == []
    assert ladder.handle(LadderEvent.EXITED, 105.0) == []
    assert ladder.rung is Rung.GONE


def test_a_child_that_obeys_causes_no_escalation() -> None:
    ladder = Ladder()
    ladder.start(0.0)
    assert (ladder.handle(LadderEvent.ACK, 0.1), ladder.deadline) == ([], 0.1 + EXIT_TIMEOUT)
    assert (ladder.handle(LadderEvent.EXITED, 0.2), ladder.deadline) == ([], math.inf)
    assert ladder.escalations == []


def test_hard_kill_starts_at_the_signals() -> None:
    ladder = Ladder(hard_kill=True)
    assert (ladder.start(0.0), ladder.deadline) == ([LadderDo.SIGTERM], TERM_TIMEOUT)
    assert ladder.escalations == []


# -- a service's own grace --


def test_a_grace_is_the_limit_of_all_rungs_before_the_signals() -> None:
    ladder = Ladder(grace=20.0)
    assert (ladder.start(0.0), ladder.deadline) == ([LadderDo.SEND_CANCEL], 20.0)
    ladder.handle(LadderEvent.ACK, 0.1)
    ladder.handle(LadderEvent.ADVANCE, 12.0)
    assert (ladder.rung, ladder.deadline) == (Rung.EXIT, 20.0)
    assert (ladder.tick(20.0), ladder.deadline) == ([LadderDo.SIGTERM], 20.0 + TERM_TIMEOUT)


@pytest.mark.parametrize("booting", [False, True])
def test_a_grace_of_nothing_is_a_signal_at_once(booting: bool) -> None:
    ladder = Ladder(grace=0.0, booting=booting)
    ladder.start(5.0)
    assert ladder.tick(5.0) == [LadderDo.SIGTERM]


def test_a_grace_that_ends_before_any_acknowledgment() -> None:
    ladder = Ladder(grace=0.2)
    ladder.start(0.0)
    assert ladder.tick(0.2) == [LadderDo.SIGTERM]
    assert ladder.escalations == [Escalation(Rung.REQUEST, Rung.TERM, 0.2)]


def test_a_grace_stands_still_while_a_repl_is_held() -> None:
    ladder = Ladder(grace=1.0)
    ladder.start(0.0)
    ladder.handle(LadderEvent.REPL_HELD, 0.5)
    assert ladder.deadline == math.inf
    ladder.handle(LadderEvent.REPL_RELEASED, 100.0)
    assert ladder.deadline == 101.0


def test_a_kill_at_once_waits_for_a_repl_alone() -> None:
    ladder = Ladder()
    assert ladder.start(0.0, LadderEvent.KILL_AT_ONCE) == [LadderDo.SIGKILL]
    held = Ladder()
    held.handle(LadderEvent.REPL_HELD, 0.0)
    assert held.handle(LadderEvent.HARD_KILL, 0.1) == []
    assert held.handle(LadderEvent.KILL_AT_ONCE, 0.2) == []
    assert held.handle(LadderEvent.REPL_RELEASED, 5.0) == [LadderDo.SIGKILL]


def test_a_second_cancel_moves_no_deadline() -> None:
    ladder = at(Rung.REQUEST)
    before = ladder.deadline
    assert ladder.handle(LadderEvent.CANCEL, 0.3) == []
    assert ladder.deadline == before


def test_a_booting_child_is_asked_once_it_can_be() -> None:
    ladder = Ladder(booting=True)
    assert (ladder.start(0.0), ladder.deadline) == ([], BOOT_GRACE)
    assert ladder.handle(LadderEvent.BOOTED, 0.2) == [LadderDo.SEND_CANCEL]
    assert ladder.deadline == 0.2 + ACK_TIMEOUT


def test_a_child_that_never_boots_is_signalled_without_having_been_asked() -> None:
    ladder = Ladder(booting=True)
    ladder.start(0.0)
    assert (ladder.tick(BOOT_GRACE), ladder.deadline) == (
        [LadderDo.SIGTERM],
        BOOT_GRACE + TERM_TIMEOUT,
    )
    assert ladder.handle(LadderEvent.BOOTED, BOOT_GRACE) == []


def test_progress_restarts_the_wait_for_the_exit_only() -> None:
    ladder = at(Rung.EXIT)
    assert (ladder.handle(LadderEvent.PROGRESS, 1.5), ladder.deadline) == ([], 1.5 + EXIT_TIMEOUT)
    # The timer for the old deadline goes off in the meantime.
    assert ladder.tick(EXIT_TIMEOUT) == []
    assert ladder.rung is Rung.EXIT
    for rung in (Rung.BOOT, Rung.REQUEST, Rung.TERM):
        other = at(rung)
        before = other.deadline
        assert other.handle(LadderEvent.PROGRESS, 0.1) == []
        assert other.deadline == before


def test_progress_without_an_advance_keeps_a_child_for_a_limited_time() -> None:
    ladder = at(Rung.EXIT)
    now = 0.0
    while now + 0.5 < PROGRESS_TIMEOUT:
        now += 0.5
        ladder.handle(LadderEvent.PROGRESS, now)
        assert ladder.deadline == min(now + EXIT_TIMEOUT, PROGRESS_TIMEOUT)
    assert ladder.tick(PROGRESS_TIMEOUT) == [LadderDo.SIGTERM]


def test_an_advance_gives_the_whole_time_again() -> None:
    ladder = at(Rung.EXIT)
    for n in range(100):
        now = n * (PROGRESS_TIMEOUT - 0.5)
        ladder.handle(LadderEvent.ADVANCE, now)
        assert ladder.deadline == now + EXIT_TIMEOUT
        ladder.handle(LadderEvent.PROGRESS, now + PROGRESS_TIMEOUT - 1.0)
        assert ladder.deadline == now + PROGRESS_TIMEOUT


def test_an_advance_is_a_process_fewer_or_one_further_down() -> None:
    progress = Progress()
    notes = [(3, 0), (3, 0), (3, 2), (3, 1), (2, 0), (3, 9), (2, 1), (0, 0), (0, 5), (-1, 0)]
    told = [progress.note(*note) for note in notes]
    assert told == [True, False, True, False, True, False, True, True, False, False]


@given(st.lists(st.tuples(st.integers(), st.integers())), st.integers(0, 50))
def test_advances_are_bounded_by_what_there_is(notes: list[tuple[int, int]], known: int) -> None:
    progress = Progress()
    advances = sum(progress.note(min(left, known), rung) for left, rung in notes)
    assert advances <= 1 + sum(1 + left * Rung.GONE.depth for left in range(known + 1))


def test_a_deadline_before_its_time_is_illegal() -> None:
    with pytest.raises(IllegalEvent):
        at(Rung.EXIT).handle(LadderEvent.DEADLINE, EXIT_TIMEOUT / 2)


@pytest.mark.parametrize(
    ("rung", "limit"),
    [
        (Rung.BOOT, BOOT_GRACE),
        (Rung.REQUEST, ACK_TIMEOUT),
        (Rung.EXIT, EXIT_TIMEOUT),
        (Rung.TERM, TERM_TIMEOUT),
    ],
)
def test_a_held_repl_stops_the_limit_and_its_release_restarts_it(rung: Rung, limit: float) -> None:
    ladder = at(rung)
    for now in (0.1, 0.2):
        assert (ladder.handle(LadderEvent.REPL_HELD, now), ladder.deadline) == ([], math.inf)
    assert ladder.tick(1e9) == []
    assert (ladder.handle(LadderEvent.REPL_RELEASED, 500.0), ladder.deadline) == ([], 500.0 + limit)
    assert ladder.escalations == []


def test_a_hard_kill_waits_for_the_repl() -> None:
    for rung in (Rung.STARTING, Rung.RUNNING, Rung.BOOT, Rung.REQUEST, Rung.EXIT):
        ladder = at(rung)
        ladder.handle(LadderEvent.REPL_HELD, 0.1)
        assert ladder.handle(LadderEvent.HARD_KILL, 0.2) == []
        assert ladder.handle(LadderEvent.HARD_KILL, 0.3) == []
        assert ladder.rung is rung
        assert ladder.handle(LadderEvent.REPL_RELEASED, 9.0) == [LadderDo.SIGTERM]
        assert ladder.deadline == 9.0 + TERM_TIMEOUT


def test_a_request_and_an_ack_go_on_while_a_repl_is_held() -> None:
    ladder = Ladder()
    ladder.handle(LadderEvent.REPL_HELD, 0.0)
    assert ladder.start(0.0) == [LadderDo.SEND_CANCEL]
    assert ladder.handle(LadderEvent.ACK, 0.1) == []
    assert (ladder.rung, ladder.deadline) == (Rung.EXIT, math.inf)
    assert ladder.handle(LadderEvent.EXITED, 0.2) == []
    assert ladder.rung is Rung.GONE


def test_a_release_without_a_hold_moves_no_deadline() -> None:
    ladder = at(Rung.EXIT)
    assert ladder.handle(LadderEvent.REPL_RELEASED, 1.0) == []
    assert ladder.deadline == EXIT_TIMEOUT


EVENTS = st.lists(st.tuples(st.sampled_from(LadderEvent), st.floats(0, 1)), max_size=40)


@given(st.booleans(), EVENTS)
def test_no_order_of_events_signals_a_held_child_or_goes_back_up(
    booting: bool, events: list[tuple[LadderEvent, float]]
) -> None:
    ladder, now, order, did = Ladder(booting=booting), 0.0, list(Rung), []
    for event, pause in events:
        now += pause
        before, held = ladder.rung, ladder.held
        try:
            steps = ladder.handle(event, now)
        except IllegalEvent:
            assert ladder.rung is before
            continue
        assert order.index(ladder.rung) >= order.index(before)
        did += steps
        if held and ladder.held:
            assert not {LadderDo.SIGTERM, LadderDo.SIGKILL} & set(steps)
            assert ladder.deadline == math.inf
    assert len(did) == len(set(did))


@given(st.booleans(), st.booleans(), st.floats(0, 1e6))
def test_left_alone_it_always_gets_to_sigkill(booting: bool, hard: bool, now: float) -> None:
    ladder = Ladder(hard_kill=hard, booting=booting)
    begun = now
    steps = ladder.start(now)
    while math.isfinite(ladder.deadline):
        now = ladder.deadline
        steps = ladder.tick(now)
    assert steps == [LadderDo.SIGKILL]
    assert now - begun <= 3.0


def test_a_child_that_states_how_long_it_needs() -> None:
    """Its notes extend the wait for its exit for so long; saying it again and again does not."""
    ladder = Ladder()
    ladder.start(0.0)
    ladder.handle(LadderEvent.ACK, 0.0)
    now = 0.0
    while now < 99.0:
        now += 0.5
        ladder.allow(100.0)
        ladder.handle(LadderEvent.PROGRESS, now)
    assert ladder.deadline == 100.0
    assert ladder.tick(100.0) == [LadderDo.SIGTERM]


@pytest.mark.parametrize("stated", [1e9, float("inf"), float("nan"), -1.0])
def test_no_child_has_more_than_the_most(stated: float) -> None:
    ladder = Ladder()
    ladder.start(0.0)
    ladder.handle(LadderEvent.ACK, 0.0)
    for _ in range(3):
        ladder.allow(stated)
    now = 0.0
    while now < 2000.0 and ladder.rung is Rung.EXIT:
        now += 0.5
        if not ladder.tick(now):
            ladder.handle(LadderEvent.PROGRESS, now)
    assert now == (NEEDS_LIMIT if stated > 0 else PROGRESS_TIMEOUT)
