"""The opener's side of a dialog: every cell of its table, transcribed from semantics.md §4."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor._proto.dialog.context import (
    ContextState,
    Dialog,
    DialogDo,
    DialogEvent,
    DialogPhase,
    StreamState,
)
from tractor._proto.machine import IllegalEvent

E, P, D, C = DialogEvent, DialogPhase, DialogDo, ContextState

REQ, RUN, DRAIN, CXL, FAIL, STOP, END = (
    P.REQ,
    P.RUN,
    P.DRAIN,
    P.CXL,
    P.FAIL,
    P.STOP,
    P.END,
)
# The specification's CXL is three phases here, by what the opener's block brings to the end: nothing (CXL), its
# own error (FAIL), or a cancellation from outside (STOP).
COLUMNS = (REQ, RUN, DRAIN, CXL, FAIL, STOP, END)

Cell: TypeAlias = "tuple[DialogPhase, ContextState | None, tuple[DialogDo, ...]] | None"


def end(state: ContextState | None, *todo: DialogDo) -> Cell:
    return (END, state, todo)


def to(phase: DialogPhase, *todo: DialogDo) -> Cell:
    return (phase, None, todo)


# Out of grammar: the dialog ends with a MessagingError.
BAD = end(C.ERRORED, D.VIOLATION)
# For a dialog that has ended: counted and ignored.
LATE = end(None, D.IGNORE)
NOTED = end(None)

ENDED_BY_PEER = (D.SET_ERROR, D.CANCEL_BLOCK)
RAISED_AT_ONCE = (D.SET_ERROR,)
STOPPING = (D.SEND_CANCEL, D.WAIT_ACK)

# One row for each row of the specification's table, in its order; ``None`` is its "–".
#
# Rows that it only has in its prose: a second block exit while draining stands for `wait_for_result()` within the
# block, which drains too, so that "block left" and "block raises" can follow in DRAIN.
EXPECTED: dict[DialogEvent, tuple[Cell, ...]] = {
    E.ACK: (to(REQ), BAD, BAD, *(to(p) for p in (CXL, FAIL, STOP)), LATE),
    E.ACK_OTHER: (BAD, BAD, BAD, *(to(p) for p in (CXL, FAIL, STOP)), LATE),
    E.STARTED: (to(RUN), BAD, BAD, *(to(p) for p in (CXL, FAIL, STOP)), LATE),
    E.YIELD: (
        to(REQ, D.BUFFER),
        to(RUN, D.BUFFER),
        to(DRAIN, D.DISCARD),
        to(CXL, D.BUFFER),
        to(FAIL, D.DISCARD),
        to(STOP, D.DISCARD),
        LATE,
    ),
    E.STOP: (*(to(p, D.BUFFER) for p in (REQ, RUN, DRAIN, CXL, FAIL, STOP)), LATE),
    E.RETURN: (
        BAD,
        end(C.RESULT_RETURNED, D.SET_RESULT),
        end(C.RESULT_RETURNED, D.SET_RESULT),
        end(C.RESULT_RETURNED, D.SET_RESULT),
        end(C.ERRORED, D.SET_RESULT),
        end(C.ACTOR_CANCELLED, D.SET_RESULT),
        LATE,
    ),
    E.ERROR: (
        end(C.ERRORED, *RAISED_AT_ONCE),
        end(C.ERRORED, *ENDED_BY_PEER),
        end(C.ERRORED, *RAISED_AT_ONCE),
        end(C.ERRORED, *ENDED_BY_PEER),
        end(C.ERRORED, D.SET_ERROR),
        end(C.ERRORED, *RAISED_AT_ONCE),
        LATE,
    ),
    E.CTXC_OWN: (
        None,
        None,
        None,
        end(C.SELF_CANCELLED, D.SET_ERROR),
        end(C.ERRORED, D.SET_ERROR),
        end(C.ACTOR_CANCELLED, D.SET_ERROR),
        LATE,
    ),
    E.CTXC_OTHER: (
        end(C.PEER_CANCELLED, *RAISED_AT_ONCE),
        end(C.PEER_CANCELLED, *ENDED_BY_PEER),
        end(C.PEER_CANCELLED, *RAISED_AT_ONCE),
        end(C.PEER_CANCELLED, *ENDED_BY_PEER),
        end(C.ERRORED, D.SET_ERROR),
        end(C.ACTOR_CANCELLED, D.SET_ERROR),
        LATE,
    ),
    E.LOST: (
        end(C.PEER_LOST, *RAISED_AT_ONCE),
        end(C.PEER_LOST, *ENDED_BY_PEER),
        end(C.PEER_LOST, *RAISED_AT_ONCE),
        end(C.PEER_LOST, *ENDED_BY_PEER),
        end(C.ERRORED, D.SET_ERROR),
        end(C.PEER_LOST, D.SET_ERROR),
        NOTED,
    ),
    E.CANCEL: (
        to(CXL, D.SEND_CANCEL),
        to(CXL, D.SEND_CANCEL),
        to(CXL, D.SEND_CANCEL),
        to(CXL),
        to(FAIL),
        to(STOP),
        NOTED,
    ),
    E.CANCEL_BESIDE: (
        to(CXL, D.SEND_CANCEL),
        to(CXL, D.SEND_CANCEL),
        to(CXL, D.SEND_CANCEL),
        to(CXL),
        to(FAIL),
        to(STOP),
        NOTED,
    ),
    E.LEFT: (
        None,
        to(DRAIN),
        to(DRAIN),
        to(CXL),
        None,
        None,
        end(None),
    ),
    E.RAISED: (
        None,
        to(FAIL, *STOPPING),
        to(FAIL, *STOPPING),
        to(FAIL, D.WAIT_ACK),
        None,
        None,
        # After a foreign ctxc was handled: "the cancel is still sent to live peers" (§5).
        end(None, D.SEND_CANCEL),
    ),
    E.INTERRUPTED: (
        to(STOP, *STOPPING),
        to(STOP, *STOPPING),
        to(STOP, *STOPPING),
        to(STOP, D.WAIT_ACK),
        to(FAIL, D.WAIT_ACK),
        to(STOP, D.WAIT_ACK),
        NOTED,
    ),
    # "Bounded wait: [...] afterwards the dialog is forgotten locally."
    E.SETTLED: (None, None, None, None, end(C.ERRORED), end(C.ACTOR_CANCELLED), NOTED),
    # "MsgTypeError in the receiver; the sender gets an Error boxing it"; a sender that was told to cancel, or
    # that has ended, needs no other word.
    E.BAD_PAYLOAD: (
        end(C.ERRORED, D.SET_ERROR, D.SEND_ERROR),
        end(C.ERRORED, D.SET_ERROR, D.SEND_ERROR),
        end(C.ERRORED, *RAISED_AT_ONCE),
        end(C.ERRORED, *RAISED_AT_ONCE),
        to(FAIL),
        to(STOP),
        end(None, *RAISED_AT_ONCE),
    ),
    # "The receiver sends Error for StreamOverrun"; the end comes back as an Error. Nothing is buffered in DRAIN.
    E.OVERRUN: (
        to(REQ, D.SEND_ERROR),
        to(RUN, D.SEND_ERROR),
        None,
        *(to(p, D.DISCARD) for p in (CXL, FAIL, STOP)),
        None,
    ),
}

ROUTES: dict[DialogPhase, tuple[DialogEvent, ...]] = {
    REQ: (),
    RUN: (E.ACK, E.STARTED),
    DRAIN: (E.ACK, E.STARTED, E.LEFT),
    CXL: (E.ACK, E.STARTED, E.CANCEL),
    FAIL: (E.ACK, E.STARTED, E.RAISED),
    STOP: (E.ACK, E.STARTED, E.INTERRUPTED),
    END: (E.ACK, E.STARTED, E.LEFT, E.RETURN),
}

# Every way to an end, and what `state` shows there.
ENDINGS: list[tuple[tuple[DialogEvent, ...], ContextState]] = [
    ((E.STARTED, E.RETURN), C.RESULT_RETURNED),
    ((E.STARTED, E.CANCEL, E.RETURN), C.RESULT_RETURNED),
    ((E.ERROR,), C.ERRORED),
    ((E.ACK_OTHER,), C.ERRORED),
    ((E.STARTED, E.RAISED, E.CTXC_OWN), C.ERRORED),
    ((E.STARTED, E.CANCEL, E.ERROR), C.ERRORED),
    ((E.STARTED, E.CANCEL, E.CTXC_OWN), C.SELF_CANCELLED),
    ((E.STARTED, E.CTXC_OTHER), C.PEER_CANCELLED),
    ((E.INTERRUPTED, E.SETTLED), C.ACTOR_CANCELLED),
    ((E.STARTED, E.LOST), C.PEER_LOST),
]

WIRE = {
    E.ACK,
    E.ACK_OTHER,
    E.STARTED,
    E.YIELD,
    E.STOP,
    E.RETURN,
    E.ERROR,
    E.CTXC_OTHER,
    E.LOST,
}
CELLS = [(phase, event) for phase in COLUMNS for event in DialogEvent]


def at(phase: DialogPhase) -> Dialog:
    dialog = Dialog("parent")
    for event in ROUTES[phase]:
        dialog.handle(event)
    assert dialog.phase is phase
    return dialog


def snapshot(dialog: Dialog) -> tuple[object, ...]:
    return (
        dialog.phase,
        dialog.end,
        dialog.stream,
        dialog.stop_came,
        tuple(dialog.history),
        dialog.state,
    )


def expected(phase: DialogPhase, event: DialogEvent) -> Cell:
    row = EXPECTED.get(event)
    return None if row is None else row[COLUMNS.index(phase)]


def test_the_expected_table_is_whole() -> None:
    assert all(len(row) == len(COLUMNS) for row in EXPECTED.values())


@pytest.mark.parametrize(
    ("phase", "event"), CELLS, ids=[f"{phase.name}-{event.name}" for phase, event in CELLS]
)
def test_cell(phase: DialogPhase, event: DialogEvent) -> None:
    dialog = at(phase)
    cell = expected(phase, event)
    before = snapshot(dialog)
    if cell is None:
        with pytest.raises(IllegalEvent) as caught:
            dialog.handle(event)
        assert snapshot(dialog) == before
        assert caught.value.event == event.value
        text = str(caught.value)
        assert repr(event.value) in text
        assert repr(phase.value) in text
        assert "parent-side" in text
        assert (" > ".join(e.value for e in ROUTES[phase]) or "(nothing yet)") in text
        return
    then, state, todo = cell
    assert dialog.handle(event) == todo
    assert dialog.phase is then
    assert dialog.ended is (then is END)
    if then is END:
        assert dialog.state is (state or before[-1])


@pytest.mark.parametrize("phase", COLUMNS)
def test_no_message_of_the_peer_is_an_error_of_the_driver(phase: DialogPhase) -> None:
    for event in WIRE:
        at(phase).handle(event)


# What `state` shows, by phase and by the stream inside.
SHOWN = {
    REQ: C.SYNCING,
    DRAIN: C.DRAINING,
    CXL: C.CANCELLING,
    FAIL: C.CANCELLING,
    STOP: C.CANCELLING,
    END: C.RESULT_RETURNED,
}
SHOWN_RUNNING = {
    StreamState.IDLE: C.STARTED,
    StreamState.OPEN: C.STREAMING,
    StreamState.CLOSED_THERE: C.STREAMING,
    StreamState.CLOSED_HERE: C.STREAMING_FINISHED,
    StreamState.CLOSED: C.STREAMING_FINISHED,
}


@pytest.mark.parametrize("phase", COLUMNS)
@pytest.mark.parametrize("stream", list(StreamState))
def test_state_shown(phase: DialogPhase, stream: StreamState) -> None:
    dialog = at(phase)
    dialog.stream = stream
    assert dialog.state is (SHOWN_RUNNING[stream] if phase is RUN else SHOWN[phase])


def test_the_states_are_printed_as_the_specification_spells_them() -> None:
    assert [str(state) for state in ContextState] == [
        "syncing-to-child",
        "pre-started",
        "started",
        "streaming",
        "streaming-finished",
        "draining",
        "cancelling",
        "result-returned",
        "errored",
        "self-cancelled",
        "peer-cancelled",
        "actor-cancelled",
        "peer-lost",
    ]


@pytest.mark.parametrize(
    ("route", "state"), ENDINGS, ids=[">".join(e.name for e in r) for r, _ in ENDINGS]
)
def test_an_end_is_for_good(route: tuple[DialogEvent, ...], state: ContextState) -> None:
    dialog = Dialog("parent")
    for event in route:
        assert not dialog.ended
        dialog.handle(event)
    assert dialog.ended
    assert dialog.state is state
    for event in DialogEvent:
        if expected(END, event) is None:
            with pytest.raises(IllegalEvent):
                dialog.handle(event)
        else:
            dialog.handle(event)
        assert (dialog.phase, dialog.state) == (END, state)


def test_history_keeps_everything_but_the_messages_of_the_stream() -> None:
    dialog = Dialog("parent")
    for event in (E.ACK, E.STARTED, E.YIELD, E.YIELD, E.LEFT):
        dialog.handle(event)
    assert dialog.history == [E.ACK, E.STARTED, E.LEFT]


@settings(deadline=None)
@given(st.lists(st.sampled_from(DialogEvent), max_size=40))
def test_any_sequence_follows_the_table(events: list[DialogEvent]) -> None:
    dialog = Dialog("parent")
    ended_as: ContextState | None = None
    for event in events:
        before, cell = snapshot(dialog), expected(dialog.phase, event)
        if cell is None:
            with pytest.raises(IllegalEvent):
                dialog.handle(event)
            assert snapshot(dialog) == before
            continue
        beside = dialog.cancelled_beside and (dialog.phase, event) == (CXL, E.CTXC_OWN)
        assert dialog.handle(event) == (*cell[2], *((D.CANCEL_BLOCK,) if beside else ()))
        assert dialog.phase is cell[0]
        assert isinstance(dialog.state, ContextState)
        assert dialog.ended is (dialog.end is not None)
        if ended_as is not None:
            assert dialog.state is ended_as
        elif dialog.ended:
            ended_as = dialog.state


def test_the_report_of_the_own_request_unwinds_the_block_that_another_task_has_cancelled() -> None:
    by_owner, beside, waits = Dialog("parent"), Dialog("parent"), Dialog("parent")
    waits.owner_waits = True
    for dialog, event in (
        (by_owner, E.CANCEL),
        (beside, E.CANCEL_BESIDE),
        (waits, E.CANCEL_BESIDE),
    ):
        dialog.handle(E.STARTED)
        assert dialog.handle(event) == (D.SEND_CANCEL,)
    assert by_owner.handle(E.CTXC_OWN) == (D.SET_ERROR,)
    assert beside.handle(E.CTXC_OWN) == (D.SET_ERROR, D.CANCEL_BLOCK)
    assert waits.handle(E.CTXC_OWN) == (D.SET_ERROR,)
    assert all(dialog.state is C.SELF_CANCELLED for dialog in (by_owner, beside, waits))


@pytest.mark.parametrize("event", [E.ERROR, E.CTXC_OTHER, E.LOST])
def test_nothing_cancels_the_block_of_an_owner_that_waits_for_the_end(event: DialogEvent) -> None:
    dialog = at(RUN)
    dialog.owner_waits = True
    assert D.CANCEL_BLOCK not in dialog.handle(event)
    assert dialog.ended


@pytest.mark.parametrize(
    ("events", "called", "acked"),
    [
        ((E.STARTED,), False, False),
        ((E.STARTED, E.CANCEL), True, False),
        ((E.STARTED, E.CANCEL, E.CTXC_OWN), True, True),
        ((E.STARTED, E.CANCEL, E.CTXC_OTHER), True, False),
        ((E.STARTED, E.RAISED, E.CTXC_OWN), True, True),
        ((E.STARTED, E.INTERRUPTED, E.CTXC_OTHER), True, False),
        ((E.STARTED, E.RETURN, E.CANCEL), True, False),
        ((E.STARTED, E.ERROR, E.RAISED), True, False),
        ((E.STARTED, E.ERROR, E.INTERRUPTED), False, False),
    ],
)
def test_it_remembers_whether_this_side_has_asked_and_was_answered(
    events: tuple[DialogEvent, ...], called: bool, acked: bool
) -> None:
    dialog = Dialog("parent")
    for event in events:
        dialog.handle(event)
    assert (dialog.cancel_called, dialog.cancel_acked) == (called, acked)
