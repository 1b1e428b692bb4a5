"""The lease: what the agent and the link know of it, over cuts, flaps, pauses, and clocks that are apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tractor._proto.deadlines import TEARDOWN_TIME
from tractor._proto.lease import KEPT, LONGEST_INTERVAL, Answered, Lease

# -- the agent's side --


def test_before_any_answer_it_runs_from_the_start() -> None:
    lease = Lease(10.0, 100.0)
    lease.ping(104.0)
    assert lease.ends_at() == 110.0
    assert not lease.is_over(109.9)
    assert lease.is_over(110.0)


def test_it_ends_a_deadline_after_the_sending_of_the_last_answered_ping() -> None:
    lease = Lease(10.0, 100.0)
    first, second, third = (lease.ping(t) for t in (101.0, 102.0, 103.0))
    assert lease.pong(second)
    assert lease.ends_at() == 112.0
    assert not lease.pong(first), "an old one"
    assert lease.ends_at() == 112.0
    assert lease.pong(third)
    assert lease.ends_at() == 113.0


@pytest.mark.parametrize("number", [0, -1, 3, 10**30])
def test_a_number_that_was_never_sent_changes_nothing(number: int) -> None:
    lease = Lease(10.0, 100.0)
    lease.ping(101.0)
    lease.ping(102.0)
    assert not lease.pong(number)
    assert lease.ends_at() == 110.0


def test_an_answer_that_comes_twice_counts_once() -> None:
    lease = Lease(10.0, 100.0)
    number = lease.ping(101.0)
    assert lease.pong(number)
    assert not lease.pong(number)
    assert lease.ends_at() == 111.0


def test_what_was_found_to_be_over_stays_over() -> None:
    lease = Lease(10.0, 100.0)
    number = lease.ping(109.0)
    assert lease.is_over(110.0)
    assert not lease.pong(number)
    assert lease.is_over(110.5)


def test_a_late_answer_counts_if_nobody_has_looked() -> None:
    """An agent that was stopped reads first: the link has noted that ping, and waits for it."""
    lease = Lease(10.0, 100.0)
    number = lease.ping(109.0)
    assert lease.pong(number)
    assert not lease.is_over(115.0)


def test_pings_are_due_at_once_and_then_at_intervals() -> None:
    lease = Lease(4.0, 100.0)
    assert lease.next_ping_at() == 100.0
    lease.ping(100.25)
    assert lease.next_ping_at() == 100.75
    assert Lease(3600.0, 0.0).interval == LONGEST_INTERVAL


def test_pings_without_an_answer_are_forgotten_one_day() -> None:
    lease = Lease(10.0, 100.0)
    numbers = [lease.ping(100.0) for _ in range(KEPT + 1)]
    assert not lease.pong(numbers[0])
    assert lease.oldest_unanswered() == 100.0


def test_the_oldest_unanswered_ping_is_known() -> None:
    lease = Lease(10.0, 100.0)
    assert lease.oldest_unanswered() is None
    first, _ = lease.ping(101.0), lease.ping(102.0)
    assert lease.oldest_unanswered() == 101.0
    lease.pong(first)
    assert lease.oldest_unanswered() == 102.0


# -- the link's side --


def test_the_link_counts_from_the_receipt_of_the_last_ping_that_it_answered() -> None:
    answered = Answered(10.0, 500.0)
    assert answered.must_have_ended_at() == 510.0 + TEARDOWN_TIME
    answered.ping(503.0)
    answered.ping(502.0)
    assert answered.last_sign == 503.0
    assert answered.must_have_ended_at() == 513.0 + TEARDOWN_TIME
    assert answered.silent_from() == 508.0


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan")])
def test_a_deadline_is_above_zero(deadline: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Lease(deadline, 0.0)
    with pytest.raises(ValueError, match="must be above 0"):
        Answered(deadline, 0.0)


# -- both, and what may happen between them --


class TwoSides(RuleBasedStateMachine):
    """The agent and the link with a network that delays, drops, repeats and reorders, and stops on either side.

    What must hold at all times: the link never says that the lease must have ended while it runs, and what it held
    may be there for :data:`TEARDOWN_TIME` more.
    """

    @initialize(
        deadline=st.floats(2.0, 60.0),
        agent_offset=st.floats(-1e6, 1e6),
        link_offset=st.floats(-1e6, 1e6),
        way=st.floats(0.0, 100.0),
    )
    def begin(self, deadline: float, agent_offset: float, link_offset: float, way: float) -> None:
        self.now = 0.0
        self.agent_offset, self.link_offset = agent_offset, link_offset
        self.lease = Lease(deadline, self.agent_clock())
        self.to_link: list[int] = []
        self.to_agent: list[int] = []
        self.all_pings: list[int] = []
        self.agent_stopped = self.link_stopped = False
        self.now += way
        self.link = Answered(deadline, self.link_clock())

    def agent_clock(self) -> float:
        return self.now + self.agent_offset

    def link_clock(self) -> float:
        return self.now + self.link_offset

    @rule(seconds=st.one_of(st.floats(0.0, 2.0), st.floats(0.0, 100.0)))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.agent_stopped)
    @rule()
    def agent_looks(self) -> None:
        clock = self.agent_clock()
        if not self.lease.is_over(clock) and clock >= self.lease.next_ping_at():
            number = self.lease.ping(clock)
            self.to_link.append(number)
            self.all_pings.append(number)

    @precondition(lambda self: not self.link_stopped and self.to_link)
    @rule(data=st.data(), repeat=st.booleans())
    def link_gets_a_ping(self, data: st.DataObject, repeat: bool) -> None:
        number = data.draw(st.sampled_from(self.to_link))
        if not repeat:
            self.to_link.remove(number)
        self.link.ping(self.link_clock())
        self.to_agent.append(number)

    @precondition(lambda self: not self.agent_stopped and self.to_agent)
    @rule(data=st.data(), repeat=st.booleans())
    def agent_gets_a_pong(self, data: st.DataObject, repeat: bool) -> None:
        number = data.draw(st.sampled_from(self.to_agent))
        if not repeat:
            self.to_agent.remove(number)
        self.lease.pong(number)

    @rule()
    def the_network_loses_all(self) -> None:
        self.to_link.clear()
        self.to_agent.clear()

    @rule(which=st.sampled_from(["agent", "link"]))
    def one_is_stopped_or_continued(self, which: str) -> None:
        name = f"{which}_stopped"
        setattr(self, name, not getattr(self, name))

    @precondition(lambda self: not self.agent_stopped)
    @rule(number=st.integers(-5, 10**9))
    def agent_gets_nonsense(self, number: int) -> None:
        if number not in self.all_pings:
            before = self.lease.ends_at()
            assert not self.lease.pong(number)
            assert self.lease.ends_at() == before

    @invariant()
    def the_link_is_never_early(self) -> None:
        if hasattr(self, "link"):
            over_there = self.lease.ends_at() - self.agent_offset
            told_here = self.link.must_have_ended_at() - self.link_offset
            # Offsets of a million seconds leave a float some nanoseconds.
            assert told_here >= over_there + TEARDOWN_TIME - 1e-6


TestTwoSides = TwoSides.TestCase


def survives(
    deadline: float, way: float, phase: float, cuts: list[tuple[float, float]], until: float
) -> bool:
    """Whether a lease runs to the end, with pings at their times and each lost that is under way in a cut."""
    lease = Lease(deadline, 0.0)
    answers: list[tuple[float, int]] = []
    now = phase
    while now < until:
        for at, number in [answer for answer in answers if answer[0] <= now]:
            answers.remove((at, number))
            lease.pong(number)
        if lease.is_over(now):
            return False
        if now >= lease.next_ping_at():
            number = lease.ping(now)
            if not any(now <= end and now + 2 * way >= begin for begin, end in cuts):
                answers.append((now + 2 * way, number))
        coming = [at for at, _ in answers]
        now = max(now, min([lease.next_ping_at(), lease.ends_at(), *coming]))
    return True


@given(
    deadline=st.floats(2.0, 60.0),
    way=st.floats(0.0, 1 / 64),
    phase=st.floats(0.0, 0.1),
    begins=st.lists(st.floats(1.0, 1.5), max_size=5),
)
def test_cuts_of_half_the_deadline_lose_nobody(
    deadline: float, way: float, phase: float, begins: list[float]
) -> None:
    """The way there and back takes up to 1/32 of the deadline, and the link is up again for half of it at least."""
    cuts, at = [], 0.0
    for begin in begins:
        at += begin * deadline
        cuts.append((at, at + deadline / 2))
    assert survives(deadline, way * deadline, phase, cuts, at + 3 * deadline)


@given(
    deadline=st.floats(2.0, 60.0),
    flaps=st.lists(st.tuples(st.floats(0.0, 0.2), st.floats(0.3, 0.6)), max_size=20),
)
def test_a_link_that_flaps_loses_nobody(deadline: float, flaps: list[tuple[float, float]]) -> None:
    cuts, at = [], deadline
    for down, up in flaps:
        cuts.append((at, at + down * deadline))
        at += (down + up) * deadline
    assert survives(deadline, deadline / 100, 0.0, cuts, at + deadline)


@given(deadline=st.floats(2.0, 60.0), begin=st.floats(1.0, 3.0))
def test_a_cut_of_more_than_the_deadline_ends_it(deadline: float, begin: float) -> None:
    cuts = [(begin * deadline, (begin + 1.01) * deadline)]
    assert not survives(deadline, 0.0, 0.0, cuts, (begin + 5) * deadline)
