"""The life of a context's dialog, as tables.

Both sides of a context are a :class:`Dialog`: a phase, the state of the stream inside it, and how it ended.
Events go in, instructions come out; whoever drives the dialog carries them out.  There is no clock and no I/O
here, so every cell can be tested without a process.

What is true after an illegal event: nothing has changed, and :class:`IllegalEvent` names the phase, the event
and the history.  An event that the *peer* sends out of grammar is answered by :data:`Do.VIOLATION` instead: that
is the peer's fault, it ends this dialog, and it harms no other.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias


# Members are singletons: hashing them by identity, not by name, halves the cost of a table look-up.
class ContextState(enum.StrEnum):
    """The public status of one side of a context; see :attr:`tractor.Context.state`."""

    SYNCING = "syncing-to-child"
    PRE_STARTED = "pre-started"
    STARTED = "started"
    STREAMING = "streaming"
    STREAMING_FINISHED = "streaming-finished"
    DRAINING = "draining"
    CANCELLING = "cancelling"
    RESULT_RETURNED = "result-returned"
    ERRORED = "errored"
    SELF_CANCELLED = "self-cancelled"
    PEER_CANCELLED = "peer-cancelled"
    ACTOR_CANCELLED = "actor-cancelled"
    PEER_LOST = "peer-lost"


class Phase(enum.Enum):
    """Where a dialog stands.  The first group is the parent side's, the second the child side's."""

    __hash__ = object.__hash__

    REQ = "requested"
    RUN = "running"
    DRAIN = "draining"
    CXL = "cancel requested"
    FAIL = "block raised"
    STOP = "block cancelled from outside"

    SCHED = "scheduled"
    SERVE = "serving"
    UNWIND_PEER = "unwinding: the peer asked"
    UNWIND_SELF = "unwinding: the task asked"
    UNWIND_ACTOR = "unwinding: the actor is cancelled"
    UNWIND_ERROR = "unwinding: the peer failed"
    UNWIND_LOST = "unwinding: the peer is lost"

    END = "ended"


class StreamState(enum.Enum):
    """The stream of one side of a context."""

    __hash__ = object.__hash__

    IDLE = "idle"
    OPEN = "open"
    CLOSED_HERE = "closed-here"
    CLOSED_THERE = "closed-there"
    CLOSED = "closed"


class Event(enum.Enum):
    """What can happen to a dialog."""

    __hash__ = object.__hash__

    # From the wire, both sides.
    YIELD = "Yield"
    STOP = "Stop"
    ERROR = "Error"
    LOST = "channel lost"
    # From the wire, parent side.
    ACK = "StartAck(context)"
    ACK_OTHER = "StartAck(other kind)"
    STARTED = "Started"
    RETURN = "Return"
    CTXC_OWN = "ContextCancelled, own request"
    CTXC_OTHER = "ContextCancelled, other request"
    # Local, parent side.
    CANCEL = "cancel()"
    LEFT = "block left"
    RAISED = "block raised"
    INTERRUPTED = "block cancelled from outside"
    SETTLED = "bounded wait over"
    BAD_PAYLOAD = "payload violates the spec"
    OVERRUN = "receive buffer overrun"
    # Child side.
    CANCEL_REQUEST = "peer's cancel request"
    ACTOR_CANCEL = "actor cancelled"
    START = "started()"
    RETURNED = "endpoint returned"
    FAILED = "endpoint raised"
    CANCELLED = "endpoint cancelled"
    # The stream inside, either side.
    OPEN = "open_stream()"
    CLOSE = "stream closed here"


class Do(enum.Enum):
    """What the driver of a dialog must do."""

    __hash__ = object.__hash__

    NOTE = "note it"
    IGNORE = "count and ignore it"
    VIOLATION = "out of grammar: end this dialog with a MessagingError"
    BUFFER = "hand it to the stream"
    DISCARD = "count it as discarded"
    REFUSE = "raise to the local caller"
    ENTER = "enter the block"
    SET_RESULT = "keep the result"
    SET_ERROR = "keep the error"
    CANCEL_BLOCK = "cancel the local scope"
    SEND_CANCEL = "send a cancel request"
    SEND_STARTED = "send Started"
    SEND_RETURN = "send Return"
    SEND_ERROR = "send Error for the endpoint's exception"
    SEND_CTXC = "send Error for the cancellation"
    SEND_STOP = "send Stop"
    WAIT_ACK = "wait, bounded, for the end"
    WAIT_FINAL = "wait for the final message"
    RAISE = "raise the error"
    ABSORB = "the cancellation is absorbed"
    END_OF_STREAM = "wake readers: no more messages"


Cell: TypeAlias = "tuple[Phase, ContextState | None, tuple[Do, ...]]"
"""Next phase, how the dialog ended (only with ``Phase.END``), instructions."""

P, E, C, D, S = Phase, Event, ContextState, Do, StreamState

_VIOLATION: Final = (D.VIOLATION,)


def _parent_table() -> dict[tuple[Phase, Event], Cell]:
    end = P.END
    table: dict[tuple[Phase, Event], Cell] = {
        (P.REQ, E.ACK): (P.REQ, None, (D.NOTE,)),
        (P.REQ, E.ACK_OTHER): (end, C.ERRORED, _VIOLATION),
        (P.REQ, E.STARTED): (P.RUN, None, (D.ENTER,)),
        (P.REQ, E.YIELD): (P.REQ, None, (D.BUFFER,)),
        (P.REQ, E.STOP): (P.REQ, None, (D.BUFFER,)),
        (P.REQ, E.RETURN): (end, C.ERRORED, _VIOLATION),
        (P.REQ, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.RAISE)),
        (P.REQ, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.RAISE)),
        (P.REQ, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.RAISE)),
        (P.REQ, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.SEND_ERROR, D.RAISE)),
        (P.REQ, E.OVERRUN): (P.REQ, None, (D.SEND_ERROR,)),
        (P.REQ, E.CANCEL): (P.CXL, None, (D.SEND_CANCEL,)),
        (P.REQ, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.RUN, E.ACK): (end, C.ERRORED, _VIOLATION),
        (P.RUN, E.ACK_OTHER): (end, C.ERRORED, _VIOLATION),
        (P.RUN, E.STARTED): (end, C.ERRORED, _VIOLATION),
        (P.RUN, E.YIELD): (P.RUN, None, (D.BUFFER,)),
        (P.RUN, E.STOP): (P.RUN, None, (D.BUFFER,)),
        (P.RUN, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT, D.END_OF_STREAM)),
        (P.RUN, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.RUN, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.RUN, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.RUN, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.SEND_ERROR, D.RAISE)),
        (P.RUN, E.OVERRUN): (P.RUN, None, (D.SEND_ERROR,)),
        (P.RUN, E.CANCEL): (P.CXL, None, (D.SEND_CANCEL,)),
        (P.RUN, E.LEFT): (P.DRAIN, None, (D.WAIT_FINAL,)),
        (P.RUN, E.RAISED): (P.FAIL, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        (P.RUN, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.DRAIN, E.ACK): (end, C.ERRORED, _VIOLATION),
        (P.DRAIN, E.ACK_OTHER): (end, C.ERRORED, _VIOLATION),
        (P.DRAIN, E.STARTED): (end, C.ERRORED, _VIOLATION),
        (P.DRAIN, E.YIELD): (P.DRAIN, None, (D.DISCARD,)),
        (P.DRAIN, E.STOP): (P.DRAIN, None, (D.BUFFER,)),
        (P.DRAIN, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT, D.END_OF_STREAM)),
        (P.DRAIN, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.RAISE)),
        (P.DRAIN, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.RAISE)),
        (P.DRAIN, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.RAISE)),
        (P.DRAIN, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.RAISE)),
        (P.DRAIN, E.CANCEL): (P.CXL, None, (D.SEND_CANCEL,)),
        (P.DRAIN, E.LEFT): (P.DRAIN, None, (D.WAIT_FINAL,)),
        (P.DRAIN, E.RAISED): (P.FAIL, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        (P.DRAIN, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.CXL, E.CANCEL): (P.CXL, None, (D.NOTE,)),
        (P.CXL, E.LEFT): (P.CXL, None, (D.WAIT_FINAL,)),
        (P.CXL, E.RAISED): (P.FAIL, None, (D.WAIT_ACK,)),
        (P.CXL, E.INTERRUPTED): (P.STOP, None, (D.WAIT_ACK,)),
        (P.CXL, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT, D.END_OF_STREAM)),
        (P.CXL, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.CXL, E.CTXC_OWN): (end, C.SELF_CANCELLED, (D.SET_ERROR, D.ABSORB)),
        (P.CXL, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.CXL, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.CANCEL_BLOCK, D.RAISE)),
        (P.CXL, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.RAISE)),
        #
        (P.FAIL, E.RETURN): (end, C.ERRORED, (D.SET_RESULT,)),
        (P.FAIL, E.ERROR): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.CTXC_OWN): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.CTXC_OTHER): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.LOST): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.SETTLED): (end, C.ERRORED, ()),
        (P.FAIL, E.CANCEL): (P.FAIL, None, (D.NOTE,)),
        (P.FAIL, E.INTERRUPTED): (P.FAIL, None, (D.WAIT_ACK,)),
        #
        (P.STOP, E.RETURN): (end, C.ACTOR_CANCELLED, (D.SET_RESULT,)),
        (P.STOP, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.RAISE)),
        (P.STOP, E.CTXC_OWN): (end, C.ACTOR_CANCELLED, (D.SET_ERROR,)),
        (P.STOP, E.CTXC_OTHER): (end, C.ACTOR_CANCELLED, (D.SET_ERROR,)),
        (P.STOP, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR,)),
        (P.STOP, E.SETTLED): (end, C.ACTOR_CANCELLED, ()),
        (P.STOP, E.CANCEL): (P.STOP, None, (D.NOTE,)),
        (P.STOP, E.INTERRUPTED): (P.STOP, None, (D.WAIT_ACK,)),
        #
        (end, E.CANCEL): (end, None, (D.NOTE,)),
        (end, E.LEFT): (end, None, (D.RAISE,)),
        (end, E.RAISED): (end, None, (D.SEND_CANCEL,)),
        (end, E.INTERRUPTED): (end, None, (D.NOTE,)),
        (end, E.SETTLED): (end, None, (D.NOTE,)),
        (end, E.BAD_PAYLOAD): (end, None, (D.SET_ERROR, D.RAISE)),
        (end, E.LOST): (end, None, (D.NOTE,)),
    }
    for phase in (P.CXL, P.FAIL, P.STOP):
        table[phase, E.ACK] = (phase, None, (D.NOTE,))
        table[phase, E.ACK_OTHER] = (phase, None, (D.NOTE,))
        table[phase, E.STARTED] = (phase, None, (D.NOTE,))
        table[phase, E.STOP] = (phase, None, (D.BUFFER,))
        table[phase, E.OVERRUN] = (phase, None, (D.DISCARD,))
    table[P.CXL, E.YIELD] = (P.CXL, None, (D.BUFFER,))
    table[P.FAIL, E.YIELD] = (P.FAIL, None, (D.DISCARD,))
    table[P.STOP, E.YIELD] = (P.STOP, None, (D.DISCARD,))
    for phase in (P.FAIL, P.STOP):
        table[phase, E.BAD_PAYLOAD] = (phase, None, (D.NOTE,))
    wire = (
        E.ACK,
        E.ACK_OTHER,
        E.STARTED,
        E.YIELD,
        E.STOP,
        E.RETURN,
        E.ERROR,
        E.CTXC_OWN,
        E.CTXC_OTHER,
    )
    for event in wire:
        table[end, event] = (end, None, (D.IGNORE,))
    return table


UNWINDING: Final = (P.UNWIND_PEER, P.UNWIND_SELF, P.UNWIND_ACTOR, P.UNWIND_ERROR, P.UNWIND_LOST)

_UNWOUND: Final[dict[Phase, tuple[ContextState, tuple[Do, ...]]]] = {
    P.UNWIND_PEER: (C.PEER_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_SELF: (C.SELF_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_ACTOR: (C.ACTOR_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_ERROR: (C.ERRORED, (D.SEND_ERROR,)),
    P.UNWIND_LOST: (C.PEER_LOST, ()),
}


def _child_table() -> dict[tuple[Phase, Event], Cell]:
    end = P.END
    table: dict[tuple[Phase, Event], Cell] = {
        (P.SCHED, E.START): (P.SERVE, None, (D.SEND_STARTED,)),
        (P.SCHED, E.OPEN): (P.SCHED, None, (D.REFUSE,)),
        (P.SCHED, E.RETURNED): (end, C.ERRORED, (D.SEND_ERROR,)),
        (P.SERVE, E.START): (P.SERVE, None, (D.REFUSE,)),
        (P.SERVE, E.OPEN): (P.SERVE, None, (D.NOTE,)),
        (P.SERVE, E.RETURNED): (end, C.RESULT_RETURNED, (D.SEND_RETURN,)),
    }
    for phase in (P.SCHED, P.SERVE):
        table[phase, E.CANCEL_REQUEST] = (P.UNWIND_PEER, None, (D.CANCEL_BLOCK,))
        table[phase, E.CANCEL] = (P.UNWIND_SELF, None, (D.CANCEL_BLOCK,))
        table[phase, E.ACTOR_CANCEL] = (P.UNWIND_ACTOR, None, (D.CANCEL_BLOCK,))
        table[phase, E.YIELD] = (phase, None, (D.BUFFER,))
        table[phase, E.STOP] = (phase, None, (D.BUFFER,))
        table[phase, E.ERROR] = (P.UNWIND_ERROR, None, (D.SET_ERROR, D.CANCEL_BLOCK))
        table[phase, E.LOST] = (P.UNWIND_LOST, None, (D.SET_ERROR, D.CANCEL_BLOCK))
        table[phase, E.FAILED] = (end, C.ERRORED, (D.SEND_ERROR,))
        table[phase, E.CANCELLED] = (end, C.ACTOR_CANCELLED, (D.SEND_CTXC,))
        table[phase, E.OVERRUN] = (phase, None, (D.SEND_ERROR,))
        table[phase, E.BAD_PAYLOAD] = (phase, None, (D.SEND_ERROR, D.RAISE))
    for phase in UNWINDING:
        lost = phase is P.UNWIND_LOST
        state, send = _UNWOUND[phase]
        table[phase, E.START] = (phase, None, (D.REFUSE,))
        table[phase, E.OPEN] = (phase, None, (D.REFUSE,))
        for event in (E.CANCEL_REQUEST, E.CANCEL, E.ACTOR_CANCEL, E.ERROR):
            table[phase, event] = (phase, None, (D.NOTE,))
        table[phase, E.YIELD] = (phase, None, (D.DISCARD,))
        table[phase, E.STOP] = (phase, None, (D.DISCARD,))
        table[phase, E.OVERRUN] = (phase, None, (D.DISCARD,))
        table[phase, E.BAD_PAYLOAD] = (phase, None, (D.RAISE,))
        table[phase, E.LOST] = (P.UNWIND_LOST, None, (D.NOTE,))
        table[phase, E.CANCELLED] = (end, state, send)
        table[phase, E.RETURNED] = (
            (end, C.PEER_LOST, ()) if lost else (end, C.RESULT_RETURNED, (D.SEND_RETURN,))
        )
        table[phase, E.FAILED] = (
            (end, C.PEER_LOST, ()) if lost else (end, C.ERRORED, (D.SEND_ERROR,))
        )
    # What only this side may send: the phase stays, the driver feeds the violation back as Event.ERROR.
    for event in (E.ACK, E.ACK_OTHER, E.STARTED, E.RETURN):
        for phase in (P.SCHED, P.SERVE, *UNWINDING):
            table[phase, event] = (phase, None, _VIOLATION)
        table[end, event] = (end, None, (D.IGNORE,))
    for event in (E.YIELD, E.STOP, E.ERROR, E.CANCEL_REQUEST):
        table[end, event] = (end, None, (D.IGNORE,))
    for event in (E.LOST, E.CANCEL, E.ACTOR_CANCEL):
        table[end, event] = (end, None, (D.NOTE,))
    for event in (E.START, E.OPEN):
        table[end, event] = (end, None, (D.REFUSE,))
    return table


PARENT_TABLE: Final = _parent_table()
CHILD_TABLE: Final = _child_table()

STREAM_TABLE: Final[dict[tuple[StreamState, Event], tuple[StreamState, tuple[Do, ...]]]] = {
    (S.IDLE, E.OPEN): (S.OPEN, (D.NOTE,)),
    (S.IDLE, E.YIELD): (S.IDLE, (D.BUFFER,)),
    (S.IDLE, E.STOP): (S.IDLE, (D.NOTE,)),
    (S.OPEN, E.OPEN): (S.OPEN, (D.REFUSE,)),
    (S.OPEN, E.YIELD): (S.OPEN, (D.BUFFER,)),
    (S.OPEN, E.STOP): (S.CLOSED_THERE, (D.END_OF_STREAM,)),
    (S.OPEN, E.CLOSE): (S.CLOSED_HERE, (D.SEND_STOP,)),
    (S.CLOSED_HERE, E.OPEN): (S.CLOSED_HERE, (D.REFUSE,)),
    (S.CLOSED_HERE, E.YIELD): (S.CLOSED_HERE, (D.DISCARD,)),
    (S.CLOSED_HERE, E.STOP): (S.CLOSED, (D.NOTE,)),
    (S.CLOSED_HERE, E.CLOSE): (S.CLOSED_HERE, (D.NOTE,)),
    (S.CLOSED_THERE, E.OPEN): (S.CLOSED_THERE, (D.REFUSE,)),
    (S.CLOSED_THERE, E.YIELD): (S.CLOSED_THERE, _VIOLATION),
    (S.CLOSED_THERE, E.STOP): (S.CLOSED_THERE, _VIOLATION),
    (S.CLOSED_THERE, E.CLOSE): (S.CLOSED, (D.NOTE,)),
    (S.CLOSED, E.OPEN): (S.CLOSED, (D.REFUSE,)),
    (S.CLOSED, E.YIELD): (S.CLOSED, _VIOLATION),
    (S.CLOSED, E.STOP): (S.CLOSED, _VIOLATION),
    (S.CLOSED, E.CLOSE): (S.CLOSED, (D.NOTE,)),
}
"""The stream inside a context.  A ``Stop`` that comes while idle is kept for the opening (``Dialog.stop_came``);
whatever comes behind it is out of grammar in every state."""

_BUFFERING: Final = frozenset(
    phase
    for table in (PARENT_TABLE, CHILD_TABLE)
    for (phase, event), (_, _, todo) in table.items()
    if event is E.YIELD and todo == (D.BUFFER,) and phase is not P.CXL
)
_TAKING: Final = frozenset(
    stream
    for (stream, event), (_, todo) in STREAM_TABLE.items()
    if event is E.YIELD and todo == (D.BUFFER,)
)

_PARENT_VIEW: Final = {
    P.REQ: C.SYNCING,
    P.DRAIN: C.DRAINING,
    P.CXL: C.CANCELLING,
    P.FAIL: C.CANCELLING,
    P.STOP: C.CANCELLING,
    P.SCHED: C.PRE_STARTED,
}


class IllegalEvent(RuntimeError):
    """The driver fed an event that the dialog's phase does not allow: a bug of the runtime."""

    def __init__(self, dialog: Dialog, event: Event) -> None:
        past = " > ".join(e.value for e in dialog.history) or "(nothing yet)"
        super().__init__(
            f"{event.value!r} can't happen to a {dialog.side}-side dialog that is {dialog.phase.value!r} "
            f"(stream {dialog.stream.value}); its history: {past}"
        )
        self.event = event


class Dialog:
    """One side of a context's dialog.

    Args:
        side: ``'parent'`` (the opener) or ``'child'`` (the endpoint's task).

    Attributes:
        buffers: a ``Yield`` that comes now is handed to the stream: what the tables say, kept so that a message
            costs no look-up.
    """

    __slots__ = ("buffers", "end", "history", "phase", "side", "stop_came", "stream")

    def __init__(self, side: str) -> None:
        self.side = side
        self.phase = Phase.REQ if side == "parent" else Phase.SCHED
        self.stream = StreamState.IDLE
        self.stop_came = False
        self.end: ContextState | None = None
        self.history: list[Event] = []
        self.buffers = True

    def handle(self, event: Event) -> tuple[Do, ...]:
        """Take an event; return what must be done, in order.

        Raises:
            IllegalEvent: a local event that can't happen now.  Nothing has changed.
        """
        table = PARENT_TABLE if self.side == "parent" else CHILD_TABLE
        cell = table.get((self.phase, event))
        if cell is None:
            raise IllegalEvent(self, event)
        if event is not Event.YIELD:
            self.history.append(event)
        self.phase, end, todo = cell
        if end is not None:
            self.end = end
        self._settle()
        return todo

    def handle_stream(self, event: Event) -> tuple[Do, ...]:
        """Take an event of the stream inside; return what must be done.

        Raises:
            IllegalEvent: the stream was never opened, so it can't be closed.  Nothing has changed.
        """
        cell = STREAM_TABLE.get((self.stream, event))
        if cell is None:
            raise IllegalEvent(self, event)
        if event is not Event.YIELD:
            self.history.append(event)
        was = self.stream
        self.stream, todo = cell
        if was is StreamState.IDLE:
            if event is Event.OPEN:
                if self.stop_came:
                    self.stream = StreamState.CLOSED_THERE
            elif self.stop_came:
                return _VIOLATION
            elif event is Event.STOP:
                self.stop_came = True
        self._settle()
        return todo

    def break_off(self) -> None:
        """End it as errored, in whatever phase: the peer has violated the protocol."""
        self.phase, self.end = P.END, C.ERRORED
        self._settle()

    def _settle(self) -> None:
        # After a cancel request only an open stream has somebody who may read.
        self.buffers = (
            (self.phase in _BUFFERING or (self.phase is P.CXL and self.stream is S.OPEN))
            and self.stream in _TAKING
            and not self.stop_came
        )

    @property
    def ended(self) -> bool:
        """Whether the final message came or went, or never will."""
        return self.phase is Phase.END

    @property
    def state(self) -> ContextState:
        """The public status, worked out from the phase, the stream and how the dialog ended."""
        return self.end if self.end is not None else self.state_in(self.phase)

    def state_in(self, phase: Phase) -> ContextState:
        """The public status that it has in a phase before its end, or had when it was there."""
        view = _PARENT_VIEW.get(phase)
        if view is not None:
            return view
        if phase in UNWINDING:
            return C.CANCELLING
        if self.stream is StreamState.IDLE:
            return C.STARTED
        if self.stream in (StreamState.OPEN, StreamState.CLOSED_THERE):
            return C.STREAMING
        return C.STREAMING_FINISHED
