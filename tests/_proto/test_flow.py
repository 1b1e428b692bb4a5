"""Flow control: the limits to the message, and a model of both ends with every interleaving of a wire."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor._proto.flow import (
    BUFFER_SIZE,
    INITIAL_CREDIT,
    OVERFLOW_SIZE,
    Admission,
    ReceiveWindow,
    SendWindow,
)


def test_the_numbers_of_the_specification() -> None:
    assert (BUFFER_SIZE, OVERFLOW_SIZE, INITIAL_CREDIT) == (64, 616, 64)


# -- without back pressure ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 64, 300])
@pytest.mark.parametrize("allow_overruns", [False, True])
def test_overrun_exactly_at_the_limit(size: int, allow_overruns: bool) -> None:
    window = ReceiveWindow(size)
    window.allow_overruns = allow_overruns
    limit = size + (616 if allow_overruns else 0)
    answers = [window.admit(held) for held in range(limit + 3)]
    assert answers == [Admission.HOLD] * limit + [Admission.OVERRUN] * 3


def test_the_default_buffer_is_64() -> None:
    window = ReceiveWindow()
    assert window.admit(63) is Admission.HOLD
    assert window.admit(64) is Admission.OVERRUN


def test_resizing_moves_the_limit() -> None:
    window = ReceiveWindow(10)
    window.resize(3)
    assert window.admit(2) is Admission.HOLD
    assert window.admit(3) is Admission.OVERRUN


def test_an_unlimited_sender_is_never_held_up() -> None:
    window = SendWindow()
    for _ in range(1000):
        assert window.may_send()
        window.spend()
    assert window.sent == 1000


def test_reads_are_granted_only_once_back_pressure_is_on() -> None:
    window = ReceiveWindow(300)
    assert [window.read() for _ in range(200)] == [0] * 200
    assert window.opening_grant() == 0
    window.limit()
    # 236 for the larger buffer, 200 for what was read.
    assert window.opening_grant() == 436
    assert window.opening_grant() == 0


# -- with back pressure ------------------------------------------------------------------------------


def test_a_sender_has_64_credits_and_waits_at_zero() -> None:
    window = SendWindow(limited=True)
    for _ in range(64):
        assert window.may_send()
        window.spend()
    assert not window.may_send()
    window.grant(2)
    assert window.may_send()
    window.spend()
    window.spend()
    assert not window.may_send()


def test_what_was_sent_before_counts_against_the_window() -> None:
    window = SendWindow()
    for _ in range(100):
        window.spend()
    window.limit()
    assert window.credit == -36
    window.grant(36)
    assert not window.may_send()
    window.grant(1)
    assert window.may_send()


def test_a_credit_of_nothing_only_switches_back_pressure_on() -> None:
    window = SendWindow()
    window.grant(0)
    assert window.limited
    assert window.credit == 64


def test_a_negative_credit_is_refused_and_changes_nothing() -> None:
    window = SendWindow()
    with pytest.raises(ValueError, match="-1"):
        window.grant(-1)
    assert not window.limited
    assert window.credit == 64


@pytest.mark.parametrize("size", [1, 63, 64])
def test_a_buffer_no_larger_than_the_first_window_brings_no_extra_credit(size: int) -> None:
    assert ReceiveWindow(size, limited=True).opening_grant() == 0


def test_a_larger_buffer_is_granted_once_and_its_growth_again() -> None:
    window = ReceiveWindow(100, limited=True)
    assert window.opening_grant() == 36
    assert window.opening_grant() == 0
    window.resize(150)
    assert window.opening_grant() == 50
    window.resize(10)
    assert window.opening_grant() == 0


@pytest.mark.parametrize("size", [1, 64, 65, 300])
def test_one_credit_for_each_message_read_in_batches_of_at_most_half_a_window(size: int) -> None:
    window = ReceiveWindow(size, limited=True)
    window.opening_grant()
    grants = [window.read() for _ in range(3000)]
    batches = {grant for grant in grants if grant}
    half = -(-max(64, size) // 2)
    assert batches == {half}
    assert sum(grants) == 3000 // half * half


@pytest.mark.parametrize("held", [0, 63, 64, 679, 680, 10_000])
def test_on_granted_credit_nothing_is_an_overrun(held: int) -> None:
    assert ReceiveWindow(1, limited=True).admit(held) is Admission.HOLD


# -- both ends, as a port drives them ----------------------------------------------------------------


class Overrun(Exception):
    pass


class Port:
    """One side: the windows, what is held unread, and the wire to the peer (``None``: a message, else a credit)."""

    def __init__(self, size: int, limited: bool) -> None:
        self.recv = ReceiveWindow(size, limited)
        self.send = SendWindow(limited)
        self.held: deque[int] = deque()
        self.out: deque[tuple[str, int]] = deque()
        self.got: list[int] = []
        self.most_held = 0
        # Messages that left before this side knew of back pressure.
        self.unaware = 0
        self.announce()

    def announce(self) -> None:
        extra = self.recv.opening_grant()
        if extra:
            self.out.append(("credit", extra))

    def switch_on(self) -> None:
        if not self.recv.limited:
            self.recv.limit()
            self.send.limit()
            self.out.append(("credit", 0))
        self.announce()

    def put(self) -> bool:
        if not self.send.may_send():
            return False
        self.out.append(("message", self.send.sent))
        self.send.spend()
        if not self.send.limited:
            self.unaware += 1
        return True

    def take(self, kind: str, n: int) -> None:
        if kind == "message":
            if self.recv.admit(len(self.held)) is Admission.OVERRUN:
                assert not self.recv.limited
                assert len(self.held) == self.recv.size
                raise Overrun
            self.held.append(n)
            self.most_held = max(self.most_held, len(self.held))
            return
        first = not self.recv.limited
        self.recv.limit()
        self.send.grant(n)
        if first:
            self.announce()

    def read(self) -> bool:
        if not self.held:
            return False
        self.got.append(self.held.popleft())
        grant = self.recv.read()
        if grant:
            self.out.append(("credit", grant))
        return True


def deliver(source: Port, target: Port) -> bool:
    if not source.out:
        return False
    target.take(*source.out.popleft())
    return True


def transfer(a: Port, b: Port, more: int) -> None:
    """Send ``more`` messages each way and read everything; fails when nobody can go on."""
    targets = {id(port): port.send.sent + more for port in (a, b)}
    moved = True
    while moved:
        moved = False
        for here, there in ((a, b), (b, a)):
            moved |= here.send.sent < targets[id(here)] and here.put()
            moved |= deliver(here, there)
            moved |= here.read()
    for here, there in ((a, b), (b, a)):
        assert here.send.sent == targets[id(here)], "a sender waits for ever"
        assert there.got == list(range(here.send.sent)), "not all, or not in order"


def check_bounds(a: Port, b: Port) -> None:
    for sender, receiver in ((a, b), (b, a)):
        window = max(INITIAL_CREDIT, receiver.recv.size)
        assert receiver.most_held <= max(window, sender.unaware)
        if receiver.recv.limited and sender.send.limited:
            flying = sum(kind == "message" for kind, _ in sender.out)
            assert flying + len(receiver.held) <= max(window, sender.unaware)


SIZES = st.integers(min_value=1, max_value=300)
# A run of one action: long runs reach the limits, short ones the races.
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["send", "deliver", "deliver", "read"]),
        st.booleans(),
        st.sampled_from([1, 2, 31, 64, 100, 400]),
    ),
    max_size=40,
)


def perform(action: str, here: Port, there: Port, times: int) -> None:
    for _ in range(times):
        if action == "send":
            here.put()
        elif action == "deliver":
            deliver(here, there)
        else:
            here.read()


@settings(deadline=None)
@given(SIZES, SIZES, RUNS)
def test_with_back_pressure_from_the_start(
    size_a: int, size_b: int, runs: list[tuple[str, bool, int]]
) -> None:
    a, b = Port(size_a, True), Port(size_b, True)
    for action, swap, times in runs:
        here, there = (b, a) if swap else (a, b)
        perform(action, here, there, times)
        check_bounds(a, b)
    assert a.unaware == b.unaware == 0
    transfer(a, b, 700)
    check_bounds(a, b)


@settings(max_examples=200, deadline=None)
@given(SIZES, SIZES, RUNS, RUNS, RUNS, st.sampled_from(["a", "b", "both"]))
def test_switched_on_in_the_middle(
    size_a: int,
    size_b: int,
    before: list[tuple[str, bool, int]],
    between: list[tuple[str, bool, int]],
    after: list[tuple[str, bool, int]],
    who: str,
) -> None:
    a, b = Port(size_a, False), Port(size_b, False)
    first, second = (b, a) if who == "b" else (a, b)

    def run(runs: list[tuple[str, bool, int]]) -> None:
        for action, swap, times in runs:
            here, there = (second, first) if swap else (first, second)
            perform(action, here, there, times)
            check_bounds(a, b)

    try:
        run(before)
        first.switch_on()
        run(between)
        if who == "both":
            second.switch_on()
        run(after)
        transfer(a, b, 700)
    except Overrun:
        # Only before the receiver knew; the assertions are in `take()`. The dialog is over.
        return
    check_bounds(a, b)
    assert a.send.limited
    assert b.send.limited


@pytest.mark.parametrize("read_before", [1, 31, 32, 63, 64, 65, 200])
@pytest.mark.parametrize("asked_by", ["sender", "receiver"])
def test_what_was_read_before_the_switch_is_granted_by_it(read_before: int, asked_by: str) -> None:
    sender, receiver = Port(64, False), Port(64, False)
    for _ in range(read_before):
        sender.put()
        deliver(sender, receiver)
        receiver.read()
    (sender if asked_by == "sender" else receiver).switch_on()
    transfer(sender, receiver, 300)


def test_what_was_sent_before_the_sender_knew_is_held() -> None:
    sender, receiver = Port(4, False), Port(4, False)
    receiver.switch_on()
    for _ in range(1000):
        assert sender.put()
    while deliver(sender, receiver):
        pass
    assert len(receiver.held) == 1000
    deliver(receiver, sender)
    assert not sender.put()
    transfer(sender, receiver, 300)
    assert receiver.most_held == 1000


@pytest.mark.parametrize("size", [1, 64, 65, 128, 300])
def test_a_whole_window_can_be_held_and_no_more(size: int) -> None:
    sender, receiver = Port(64, True), Port(size, True)
    while deliver(receiver, sender):
        pass
    sent = 0
    while sender.put():
        sent += 1
    assert sent == max(64, size)
    while deliver(sender, receiver):
        pass
    assert len(receiver.held) == sent
