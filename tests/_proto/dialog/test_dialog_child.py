"""The endpoint's side of a dialog: every cell of its table, transcribed from semantics.md §4."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor._proto.dialog.context import (
    CHILD_TABLE,
    PARENT_TABLE,
    ContextState,
    Dialog,
    DialogDo,
    DialogEvent,
    DialogPhase,
    StreamState,
)
from tractor._proto.machine import IllegalEvent

E, P, D, C = DialogEvent, DialogPhase, DialogDo, ContextState

SCHED, SERVE, END = P.SCHED, P.SERVE, P.END
BY_PEER, BY_SELF, BY_ACTOR, BY_ERROR, BY_LOSS = (
    P.UNWIND_PEER,
    P.UNWIND_SELF,
    P.UNWIND_ACTOR,
    P.UNWIND_ERROR,
    P.UNWIND_LOST,
)
# The specification's UNWIND is five phases here, by its first cause; its RUN is SERVE.
UNWIND = (BY_PEER, BY_SELF, BY_ACTOR, BY_ERROR, BY_LOSS)
COLUMNS = (SCHED, SERVE, *UNWIND, END)

Cell: TypeAlias = "tuple[DialogPhase, ContextState | None, tuple[DialogDo, ...]] | None"


def end(state: ContextState | None, *todo: DialogDo) -> Cell:
    return (END, state, todo)


def to(phase: DialogPhase, *todo: DialogDo) -> Cell:
    return (phase, None, todo)


def stay(*todo: DialogDo) -> tuple[Cell, ...]:
    """The same in every unwinding phase: none is left."""
    return tuple(to(phase, *todo) for phase in UNWIND)


def unwound(by_each: Cell) -> tuple[Cell, ...]:
    """The same in every unwinding phase but the one whose peer is lost: there nothing is sent."""
    return (by_each,) * 4 + (end(C.PEER_LOST),)


LATE = end(None, D.IGNORE)
NOTED = end(None)
REFUSED = end(None, D.REFUSE)
# Out of grammar, for the endpoint's side: the phase stays until the driver feeds the error back.
ONLY_FROM_HERE: tuple[Cell, ...] = (
    to(SCHED, D.VIOLATION),
    to(SERVE, D.VIOLATION),
    *stay(D.VIOLATION),
    LATE,
)

EXPECTED: dict[DialogEvent, tuple[Cell, ...]] = {
    # started(v)
    E.START: (
        to(SERVE),
        to(SERVE, D.REFUSE),
        *stay(D.REFUSE),
        REFUSED,
    ),
    # open_stream(); that it is possible once is the stream's own table
    E.OPEN: (to(SCHED, D.REFUSE), to(SERVE), *stay(D.REFUSE), REFUSED),
    E.CANCEL_REQUEST: (
        to(BY_PEER, D.CANCEL_BLOCK),
        to(BY_PEER, D.CANCEL_BLOCK),
        *stay(),
        LATE,
    ),
    E.CANCEL: (
        to(BY_SELF, D.CANCEL_BLOCK),
        to(BY_SELF, D.CANCEL_BLOCK),
        *stay(),
        NOTED,
    ),
    # "first canceller stays"
    E.ACTOR_CANCEL: (
        to(BY_ACTOR, D.CANCEL_BLOCK),
        to(BY_ACTOR, D.CANCEL_BLOCK),
        *stay(),
        NOTED,
    ),
    E.YIELD: (to(SCHED, D.BUFFER), to(SERVE, D.BUFFER), *stay(D.DISCARD), LATE),
    E.STOP: (to(SCHED, D.BUFFER), to(SERVE, D.BUFFER), *stay(D.DISCARD), LATE),
    # "UNWIND with it as remote error; first stays"
    E.ERROR: (
        to(BY_ERROR, D.SET_ERROR, D.CANCEL_BLOCK),
        to(BY_ERROR, D.SET_ERROR, D.CANCEL_BLOCK),
        *stay(),
        LATE,
    ),
    # "UNWIND, END peer-lost; nothing is sent", whatever had begun the unwinding
    E.LOST: (
        to(BY_LOSS, D.SET_ERROR, D.CANCEL_BLOCK),
        to(BY_LOSS, D.SET_ERROR, D.CANCEL_BLOCK),
        *((to(BY_LOSS),) * 5),
        NOTED,
    ),
    E.RETURNED: (
        end(C.ERRORED, D.SEND_ERROR),
        end(C.RESULT_RETURNED),
        *unwound(end(C.RESULT_RETURNED)),
        None,
    ),
    # "a real error wins over the cancel"
    E.FAILED: (
        end(C.ERRORED, D.SEND_ERROR),
        end(C.ERRORED, D.SEND_ERROR),
        *unwound(end(C.ERRORED, D.SEND_ERROR)),
        None,
    ),
    # The specification has "–" before UNWIND: the service nursery can still be cancelled by the end of the runtime,
    # which is reported as a cancellation of the actor.
    E.CANCELLED: (
        end(C.ACTOR_CANCELLED, D.SEND_CTXC),
        end(C.ACTOR_CANCELLED, D.SEND_CTXC),
        end(C.PEER_CANCELLED, D.SEND_CTXC),
        end(C.SELF_CANCELLED, D.SEND_CTXC),
        end(C.ACTOR_CANCELLED, D.SEND_CTXC),
        # "If a remote error had caused the unwinding, that error is relayed."
        end(C.ERRORED, D.SEND_ERROR),
        end(C.PEER_LOST),
        None,
    ),
    # "MsgTypeError in the receiver; the sender gets an Error boxing it"
    E.BAD_PAYLOAD: (
        to(SCHED, D.SEND_ERROR),
        to(SERVE, D.SEND_ERROR),
        *stay(),
        None,
    ),
    E.OVERRUN: (to(SCHED, D.SEND_ERROR), to(SERVE, D.SEND_ERROR), *stay(D.DISCARD), None),
    # "anything out of grammar is a MessagingError for that dialog alone"
    E.ACK: ONLY_FROM_HERE,
    E.ACK_OTHER: ONLY_FROM_HERE,
    E.STARTED: ONLY_FROM_HERE,
    E.RETURN: ONLY_FROM_HERE,
}

ROUTES: dict[DialogPhase, tuple[DialogEvent, ...]] = {
    SCHED: (),
    SERVE: (E.START,),
    BY_PEER: (E.START, E.CANCEL_REQUEST),
    BY_SELF: (E.START, E.CANCEL),
    BY_ACTOR: (E.START, E.ACTOR_CANCEL),
    BY_ERROR: (E.START, E.ERROR),
    BY_LOSS: (E.START, E.LOST),
    END: (E.START, E.RETURNED),
}

WIRE = {
    E.YIELD,
    E.STOP,
    E.ERROR,
    E.LOST,
    E.CANCEL_REQUEST,
    E.ACK,
    E.ACK_OTHER,
    E.STARTED,
    E.RETURN,
}
CELLS = [(phase, event) for phase in COLUMNS for event in DialogEvent]


def at(phase: DialogPhase) -> Dialog:
    dialog = Dialog("child")
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


def test_every_phase_belongs_to_one_side_and_only_the_end_to_both() -> None:
    parents, children = ({phase for phase, _ in t} for t in (PARENT_TABLE, CHILD_TABLE))
    assert parents | children == set(DialogPhase)
    assert parents & children == {END}
    assert children == set(COLUMNS)


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
        assert "child-side" in text
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


@pytest.mark.parametrize("event", [E.ACK, E.ACK_OTHER, E.STARTED, E.RETURN])
@pytest.mark.parametrize("phase", [SCHED, SERVE])
def test_a_violation_fed_back_is_relayed_as_the_end(phase: DialogPhase, event: DialogEvent) -> None:
    dialog = at(phase)
    assert dialog.handle(event) == (D.VIOLATION,)
    assert D.CANCEL_BLOCK in dialog.handle(E.ERROR)
    assert dialog.handle(E.CANCELLED) == (D.SEND_ERROR,)
    assert dialog.state is C.ERRORED


@pytest.mark.parametrize(
    ("cause", "by"),
    [
        (E.CANCEL_REQUEST, BY_PEER),
        (E.CANCEL, BY_SELF),
        (E.ACTOR_CANCEL, BY_ACTOR),
        (E.ERROR, BY_ERROR),
    ],
)
@pytest.mark.parametrize("later", [E.CANCEL_REQUEST, E.CANCEL, E.ACTOR_CANCEL, E.ERROR])
def test_the_first_cause_of_the_unwinding_stays(
    cause: DialogEvent, by: DialogPhase, later: DialogEvent
) -> None:
    dialog = at(SERVE)
    dialog.handle(cause)
    dialog.handle(later)
    assert dialog.phase is by


SHOWN_SERVING = {
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
    if phase is SERVE:
        assert dialog.state is SHOWN_SERVING[stream]
    elif phase in UNWIND:
        assert dialog.state is C.CANCELLING
    else:
        assert dialog.state is {SCHED: C.PRE_STARTED, END: C.RESULT_RETURNED}[phase]


FINALS = {D.SEND_CTXC, D.SEND_ERROR}


@settings(deadline=None)
@given(st.lists(st.sampled_from(DialogEvent), max_size=40))
def test_any_sequence_follows_the_table(events: list[DialogEvent]) -> None:
    dialog = Dialog("child")
    ended_as: ContextState | None = None
    finals = 0
    for event in events:
        before, cell = snapshot(dialog), expected(dialog.phase, event)
        if cell is None:
            with pytest.raises(IllegalEvent):
                dialog.handle(event)
            assert snapshot(dialog) == before
            continue
        todo = dialog.handle(event)
        assert todo == cell[2]
        assert dialog.phase is cell[0]
        assert isinstance(dialog.state, ContextState)
        assert dialog.ended is (dialog.end is not None)
        if event in (E.RETURNED, E.FAILED, E.CANCELLED):
            finals += len(FINALS.intersection(todo)) + (dialog.end is C.RESULT_RETURNED)
        if ended_as is not None:
            assert dialog.state is ended_as
        elif dialog.ended:
            ended_as = dialog.state
    assert finals == (ended_as not in (None, C.PEER_LOST))


@pytest.mark.parametrize("phase", [SCHED, *UNWIND, END])
def test_it_remembers_whether_the_endpoint_has_started(phase: DialogPhase) -> None:
    dialog = Dialog("child")
    for event in ROUTES[phase]:
        if event is not E.START and (dialog.phase, event) in CHILD_TABLE:
            dialog.handle(event)
    assert not dialog.started
    # After its end, or its cancellation, it is too late.
    dialog.handle(E.START)
    assert dialog.started is (phase is SCHED)
    assert at(SERVE).started
