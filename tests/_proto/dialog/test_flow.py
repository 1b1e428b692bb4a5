"""Flow control: the limits to the message and the byte, and a model of both ends with every order of events."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor._proto.dialog.flow import (
    OVERFLOW_SIZE,
    STRICT_BUFFER_SIZE,
    WINDOW,
    WINDOW_BYTES,
    Admission,
    ReceiveWindow,
    SendWindow,
)

MIB = 2**20


def test_the_numbers_of_the_specification() -> None:
    assert (WINDOW, WINDOW_BYTES) == (1024, 16 * MIB)
    assert (STRICT_BUFFER_SIZE, OVERFLOW_SIZE) == (64, 616)


# -- the strict mode ---------------------------------------------------------------------------------


def strict_window(size: int | None = None, *, marked: bool = True) -> ReceiveWindow:
    window = ReceiveWindow()
    window.strict, window.marked = True, marked
    if size is not None:
        window.resize(size)
    return window


@pytest.mark.parametrize("size", [1, 2, 64, 300, 2000])
@pytest.mark.parametrize("allow_overruns", [False, True])
def test_overrun_exactly_at_the_limit(size: int, allow_overruns: bool) -> None:
    window = strict_window(size)
    window.allow_overruns = allow_overruns
    limit = size + (616 if allow_overruns else 0)
    answers = [window.admit(held, 1) for held in range(limit + 3)]
    assert answers == [Admission.HOLD] * limit + [Admission.OVERRUN] * 3


def test_the_default_buffer_is_64() -> None:
    window = strict_window()
    assert window.admit(63, 1) is Admission.HOLD
    assert window.admit(64, 1) is Admission.OVERRUN


def test_what_was_sent_before_the_peer_knew_keeps_the_default_window() -> None:
    window = strict_window(10, marked=False)
    assert window.admit(1023, 1) is Admission.HOLD
    assert window.admit(1024, 1) is Admission.OVERRUN
    window.marked = True
    assert window.admit(10, 1) is Admission.OVERRUN


def test_nothing_is_granted_and_everything_may_be_sent() -> None:
    receiver, sender = strict_window(3000), SendWindow()
    sender.strict = True
    assert receiver.due() is None
    for _ in range(3000):
        assert sender.may_send()
        sender.spend(MIB)
        assert receiver.admit(0, MIB) is Admission.HOLD
        assert receiver.read(1, MIB) is None
    assert sender.sent == 3000


# -- the default: credit -----------------------------------------------------------------------------


def test_a_sender_has_a_window_and_waits_at_zero() -> None:
    window = SendWindow()
    for _ in range(1024):
        assert window.may_send()
        window.spend(1)
    assert not window.may_send()
    window.grant(2, 2)
    window.spend(1)
    assert window.may_send()
    window.spend(1)
    assert not window.may_send()
    assert window.sent == 1026


def test_bytes_count_and_may_go_below_zero_by_one_message() -> None:
    window = SendWindow()
    window.spend(16 * MIB - 1)
    assert window.may_send()
    window.spend(100 * MIB)
    assert window.credit_bytes == 1 - 101 * MIB + MIB
    assert not window.may_send()
    window.grant(0, 100 * MIB - 1)
    assert not window.may_send()
    window.grant(0, 1)
    assert window.may_send()


def test_one_message_of_any_size_may_go() -> None:
    sender, receiver = SendWindow(), ReceiveWindow()
    assert sender.may_send()
    sender.spend(2**30)
    assert receiver.admit(0, 2**30) is Admission.HOLD
    assert receiver.read(1, 2**30) == (1, 2**30)


@pytest.mark.parametrize("grant", [(-1, 5), (-2, 0), (3, -1)])
def test_a_negative_credit_is_refused_and_changes_nothing(grant: tuple[int, int]) -> None:
    window = SendWindow()
    with pytest.raises(ValueError, match=str(grant[0])):
        window.grant(*grant)
    assert (window.credit, window.credit_bytes) == (WINDOW, WINDOW_BYTES)


def test_what_is_sent_beyond_the_credit_is_told_from_the_rest() -> None:
    window = ReceiveWindow()
    for held in range(1024):
        assert window.admit(held, 1) is Admission.HOLD
    assert window.admit(1024, 1) is Admission.BEYOND_CREDIT


def test_what_is_sent_beyond_the_bytes_is_told_from_the_rest() -> None:
    window = ReceiveWindow()
    assert window.admit(0, 16 * MIB - 1) is Admission.HOLD
    assert window.admit(1, 5 * MIB) is Admission.HOLD
    assert window.admit(2, 1) is Admission.BEYOND_CREDIT


@pytest.mark.parametrize("size", [1025, 1500, 5000])
def test_a_larger_buffer_is_granted_the_difference_once(size: int) -> None:
    window = ReceiveWindow()
    assert window.due() is None
    window.resize(size)
    assert window.due() == (size - 1024, 0)
    assert window.due() is None


@pytest.mark.parametrize("size", [1, 2, 10, 1023])
def test_a_smaller_buffer_is_granted_nothing_before_the_first_window_has_shrunk_to_it(
    size: int,
) -> None:
    window = ReceiveWindow()
    window.resize(size)
    assert window.due() is None
    reads = 0
    while True:
        reads += 1
        grant = window.read(1, 1)
        if grant is not None:
            break
    # Of what may be on its way or unread at most half of the buffer was left.
    assert 1024 - reads == size // 2
    assert grant[0] == size - size // 2


@pytest.mark.parametrize("size", [1, 2, 7, 1024, 3000])
def test_grants_come_in_batches_of_half_a_window_and_are_what_was_read(size: int) -> None:
    window = ReceiveWindow()
    window.resize(size)
    window.due()
    for _ in range(max(0, 1024 - size)):
        window.read(1, 10)
    granted = [window.read(1, 10) for _ in range(6000)]
    batches = [g[0] for g in granted if g is not None]
    assert len(set(batches[1:])) == 1
    assert 0 <= 6000 - sum(batches) + size < 2 * size + 1


def test_many_messages_are_counted_at_once() -> None:
    window = ReceiveWindow()
    assert window.read(511, 5110) is None
    assert window.read(100, 1000) == (611, 6110)


def test_while_the_result_is_awaited_there_is_room_for_what_will_be_discarded() -> None:
    window = ReceiveWindow()
    window.widen(True)
    assert window.due() == (1024, 16 * MIB)
    window.widen(False)
    assert window.due() is None
    # What was granted stands; from here on the window shrinks to what it was.
    assert window.read(1024, 16 * MIB) is None
    assert window.read(512, 0) == (512, 0)


# -- both ends, as a port drives them ----------------------------------------------------------------


class Port:
    """One side: the windows, what is held unread, and the wire to the peer."""

    def __init__(self, size: int | None) -> None:
        self.recv = ReceiveWindow()
        self.send = SendWindow()
        self.held: deque[tuple[int, int]] = deque()
        self.out: deque[tuple[str, int, int]] = deque()
        self.got: list[int] = []
        self.most_held = 0
        self.said_strict = False
        if size is not None:
            self.recv.resize(size)
        self._grant(self.recv.due())

    def _grant(self, due: tuple[int, int] | None) -> None:
        if due is not None:
            assert due > (0, 0)
            self.out.append(("credit", *due))

    def put(self, size: int) -> bool:
        if not self.send.may_send():
            return False
        self.out.append(("message", self.send.sent, size))
        self.send.spend(size)
        return True

    def take(self, kind: str, n: int, size: int) -> None:
        if kind == "credit":
            self.send.grant(n, size)
            return
        assert self.recv.admit(len(self.held), size) is Admission.HOLD
        self.held.append((n, size))
        self.most_held = max(self.most_held, len(self.held))

    def read(self) -> bool:
        if not self.held:
            return False
        n, size = self.held.popleft()
        self.got.append(n)
        self._grant(self.recv.read(1, size))
        return True


def deliver(source: Port, target: Port) -> bool:
    if not source.out:
        return False
    target.take(*source.out.popleft())
    return True


def transfer(a: Port, b: Port, more: int, size: int) -> None:
    """Send ``more`` messages each way and read everything; fails when nobody can go on."""
    targets = {id(port): port.send.sent + more for port in (a, b)}
    moved = True
    while moved:
        moved = False
        for here, there in ((a, b), (b, a)):
            moved |= here.send.sent < targets[id(here)] and here.put(size)
            moved |= deliver(here, there)
            moved |= here.read()
    for here, there in ((a, b), (b, a)):
        assert here.send.sent == targets[id(here)], "a sender waits for ever"
        assert there.got == list(range(here.send.sent)), "not all, or not in order"


def check_bounds(a: Port, b: Port) -> None:
    for sender, receiver in ((a, b), (b, a)):
        on_the_way = [(n, size) for kind, n, size in sender.out if kind == "message"]
        under_way = [*on_the_way, *receiver.held]
        assert len(under_way) <= max(WINDOW, receiver.recv.size)
        largest = max((size for _, size in under_way), default=0)
        assert sum(size for _, size in under_way) < WINDOW_BYTES + largest + 1


RUNS = st.lists(
    # A run of one action: long runs reach the limits, short ones the races.
    st.tuples(
        st.sampled_from(["send", "deliver", "deliver", "read"]),
        st.booleans(),
        st.sampled_from([1, 2, 31, 100, 600, 1100]),
        st.sampled_from([1, 20_000, 3 * MIB]),
    ),
    max_size=30,
)
SIZES = st.none() | st.integers(min_value=1, max_value=3000)


def perform(action: str, here: Port, there: Port, times: int, size: int) -> None:
    for _ in range(times):
        if action == "send":
            moved = here.put(size)
        elif action == "deliver":
            moved = deliver(here, there)
        else:
            moved = here.read()
        if not moved:
            return


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, RUNS, st.sampled_from([1, 20_000, 5 * MIB]))
def test_nobody_waits_for_ever_and_nothing_is_beyond_the_windows(
    size_a: int | None, size_b: int | None, runs: list[tuple[str, bool, int, int]], last: int
) -> None:
    a, b = Port(size_a), Port(size_b)
    for action, swap, times, size in runs:
        here, there = (b, a) if swap else (a, b)
        perform(action, here, there, times, size)
        check_bounds(a, b)
    transfer(a, b, 1500 if last < MIB else 20, last)
    check_bounds(a, b)


@pytest.mark.parametrize("size", [1, 64, 1024, 1300])
def test_a_whole_window_can_be_held_and_no_more(size: int) -> None:
    sender, receiver = Port(None), Port(size)
    while deliver(receiver, sender):
        pass
    sent = 0
    while sender.put(1):
        sent += 1
    assert sent == max(1024, size)
    while deliver(sender, receiver):
        pass
    assert len(receiver.held) == sent


def test_several_at_once_are_taken_whole_or_not_at_all() -> None:
    window = ReceiveWindow()
    assert window.admit_many(1000, 10_000)
    assert not window.admit_many(25, 10)
    assert window.admit_many(24, 10)
    assert window.admit(1024, 1) is Admission.BEYOND_CREDIT


def test_several_at_once_that_do_not_fit_in_bytes_come_one_by_one() -> None:
    window = ReceiveWindow()
    assert not window.admit_many(2, 16 * MIB + 1)
    assert window.admit(0, 16 * MIB - 1) is Admission.HOLD
    assert window.admit(1, 2) is Admission.HOLD
    assert window.admit(2, 1) is Admission.BEYOND_CREDIT


def test_bytes_are_counted_by_what_was_granted() -> None:
    send, recv = SendWindow(), ReceiveWindow()
    for size in [3, 5] * WINDOW:
        assert send.may_send()
        send.spend(size)
        recv.admit(0, size)
        due = recv.read(1, size)
        if due is not None:
            send.grant(*due)
    assert send.sent_bytes == recv.received_bytes == 8 * WINDOW
