"""The life of a context's dialog, as tables.

Theory of operation.  Both sides of a context are a :class:`Dialog`: a phase, the state of the stream inside it, how it
ended, and the few facts that outlive a phase.  Events go in, instructions come out; the driver
(``runtime/dialog/_context_core.py`` and its two sides) carries them out.  There is no clock and no I/O here, so every
cell can be tested without a process.

    parent   REQ --Started--> RUN --block left--> DRAIN --Return, Error, loss--> END
             any of them --cancel()--> CXL;   block raised --> FAIL;   block cancelled from outside --> STOP
    child    SCHED --started()--> SERVE --returned, raised--> END
             either --first cause to end it--> UNWIND_(that cause) --the task has ended--> END

Why races are safe.  The two sides see events in different orders, so a message may come in a phase that its sender
did not know of.  Each such cell is in the table:

- *A cancel request crosses the result.*  In CXL a ``Return`` still ends the dialog with the result; the child, which
  has ended, ignores the request.
- *Two causes to unwind the endpoint.*  The first one names the UNWIND phase, later ones change nothing, but for a loss:
  after it nothing can be sent.  A real error of the task wins over all of them.
- *The block ends while the peer's end is under way.*  FAIL and STOP remember what the block brings to the end, so it
  does not matter which came first.  The bounded wait for the peer ends in ``SETTLED``.
- *Stream messages behind an end or a cancel.*  They are discarded, or ignored after END, and never an error: the peer
  had not heard of it.
- *A ``Stop`` before the stream is opened here* is kept in ``stop_came`` for the opening.

After END only the ignored, the refused and the idempotent is left, so the end that is reached first stays.

After an illegal event nothing has changed; it is a bug of the driver, and :class:`IllegalEvent` names the phase, the
event and the history.  An event that the *peer* sends out of grammar is answered by :data:`DialogDo.VIOLATION`
instead: that is the peer's fault, it ends this dialog, and it harms no other.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from tractor._proto.machine import IllegalEvent


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


class DialogPhase(enum.Enum):
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


class DialogEvent(enum.Enum):
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
    CANCEL_BESIDE = "cancel() by another task"
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


class DialogDo(enum.Enum):
    """What the driver of a dialog must do."""

    __hash__ = object.__hash__

    IGNORE = "count and ignore it"
    VIOLATION = "out of grammar: end this dialog with a MessagingError"
    BUFFER = "hand it to the stream"
    DISCARD = "count it as discarded"
    REFUSE = "raise to the local caller"
    SET_RESULT = "keep the result"
    SET_ERROR = "keep the error"
    CANCEL_BLOCK = "cancel the local scope"
    SEND_CANCEL = "send a cancel request"
    SEND_ERROR = "send Error for the endpoint's exception"
    SEND_CTXC = "send Error for the cancellation"
    SEND_STOP = "send Stop"
    WAIT_ACK = "wait, bounded, for the end"


Cell: TypeAlias = "tuple[DialogPhase, ContextState | None, tuple[DialogDo, ...]]"
"""Next phase, how the dialog ended (only with ``DialogPhase.END``), instructions."""

P, E, C, D, S = DialogPhase, DialogEvent, ContextState, DialogDo, StreamState

_VIOLATION: Final = (D.VIOLATION,)
_CANCELS: Final = (E.CANCEL, E.CANCEL_BESIDE)
_FROM_CHILD: Final = (E.ACK, E.ACK_OTHER, E.STARTED, E.RETURN)


def _parent_table() -> dict[tuple[DialogPhase, DialogEvent], Cell]:
    end = P.END
    table: dict[tuple[DialogPhase, DialogEvent], Cell] = {
        (P.REQ, E.ACK): (P.REQ, None, ()),
        (P.REQ, E.ACK_OTHER): (end, C.ERRORED, _VIOLATION),
        (P.REQ, E.STARTED): (P.RUN, None, ()),
        (P.REQ, E.YIELD): (P.REQ, None, (D.BUFFER,)),
        (P.REQ, E.STOP): (P.REQ, None, (D.BUFFER,)),
        (P.REQ, E.RETURN): (end, C.ERRORED, _VIOLATION),
        (P.REQ, E.ERROR): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.REQ, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR,)),
        (P.REQ, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR,)),
        (P.REQ, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.SEND_ERROR)),
        (P.REQ, E.OVERRUN): (P.REQ, None, (D.SEND_ERROR,)),
        (P.REQ, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.RUN, E.YIELD): (P.RUN, None, (D.BUFFER,)),
        (P.RUN, E.STOP): (P.RUN, None, (D.BUFFER,)),
        (P.RUN, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT,)),
        (P.RUN, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.RUN, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.RUN, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.RUN, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR, D.SEND_ERROR)),
        (P.RUN, E.OVERRUN): (P.RUN, None, (D.SEND_ERROR,)),
        (P.RUN, E.LEFT): (P.DRAIN, None, ()),
        (P.RUN, E.RAISED): (P.FAIL, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        (P.RUN, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.DRAIN, E.YIELD): (P.DRAIN, None, (D.DISCARD,)),
        (P.DRAIN, E.STOP): (P.DRAIN, None, (D.BUFFER,)),
        (P.DRAIN, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT,)),
        (P.DRAIN, E.ERROR): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.DRAIN, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR,)),
        (P.DRAIN, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR,)),
        (P.DRAIN, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.DRAIN, E.LEFT): (P.DRAIN, None, ()),
        (P.DRAIN, E.RAISED): (P.FAIL, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        (P.DRAIN, E.INTERRUPTED): (P.STOP, None, (D.SEND_CANCEL, D.WAIT_ACK)),
        #
        (P.CXL, E.LEFT): (P.CXL, None, ()),
        (P.CXL, E.RAISED): (P.FAIL, None, (D.WAIT_ACK,)),
        (P.CXL, E.INTERRUPTED): (P.STOP, None, (D.WAIT_ACK,)),
        (P.CXL, E.RETURN): (end, C.RESULT_RETURNED, (D.SET_RESULT,)),
        (P.CXL, E.ERROR): (end, C.ERRORED, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.CXL, E.CTXC_OWN): (end, C.SELF_CANCELLED, (D.SET_ERROR,)),
        (P.CXL, E.CTXC_OTHER): (end, C.PEER_CANCELLED, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.CXL, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR, D.CANCEL_BLOCK)),
        (P.CXL, E.BAD_PAYLOAD): (end, C.ERRORED, (D.SET_ERROR,)),
        #
        (P.FAIL, E.RETURN): (end, C.ERRORED, (D.SET_RESULT,)),
        (P.FAIL, E.ERROR): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.CTXC_OWN): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.CTXC_OTHER): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.LOST): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.FAIL, E.SETTLED): (end, C.ERRORED, ()),
        (P.FAIL, E.INTERRUPTED): (P.FAIL, None, (D.WAIT_ACK,)),
        #
        (P.STOP, E.RETURN): (end, C.ACTOR_CANCELLED, (D.SET_RESULT,)),
        (P.STOP, E.ERROR): (end, C.ERRORED, (D.SET_ERROR,)),
        (P.STOP, E.CTXC_OWN): (end, C.ACTOR_CANCELLED, (D.SET_ERROR,)),
        (P.STOP, E.CTXC_OTHER): (end, C.ACTOR_CANCELLED, (D.SET_ERROR,)),
        (P.STOP, E.LOST): (end, C.PEER_LOST, (D.SET_ERROR,)),
        (P.STOP, E.SETTLED): (end, C.ACTOR_CANCELLED, ()),
        (P.STOP, E.INTERRUPTED): (P.STOP, None, (D.WAIT_ACK,)),
        #
        (end, E.LEFT): (end, None, ()),
        (end, E.RAISED): (end, None, (D.SEND_CANCEL,)),
        (end, E.INTERRUPTED): (end, None, ()),
        (end, E.SETTLED): (end, None, ()),
        (end, E.BAD_PAYLOAD): (end, None, (D.SET_ERROR,)),
        (end, E.LOST): (end, None, ()),
    }
    for phase in (P.CXL, P.FAIL, P.STOP):
        table[phase, E.ACK] = (phase, None, ())
        table[phase, E.ACK_OTHER] = (phase, None, ())
        table[phase, E.STARTED] = (phase, None, ())
        table[phase, E.STOP] = (phase, None, (D.BUFFER,))
        table[phase, E.OVERRUN] = (phase, None, (D.DISCARD,))
    table[P.CXL, E.YIELD] = (P.CXL, None, (D.BUFFER,))
    table[P.FAIL, E.YIELD] = (P.FAIL, None, (D.DISCARD,))
    table[P.STOP, E.YIELD] = (P.STOP, None, (D.DISCARD,))
    for phase in (P.FAIL, P.STOP):
        table[phase, E.BAD_PAYLOAD] = (phase, None, ())
    for event in _CANCELS:
        for phase in (P.REQ, P.RUN, P.DRAIN):
            table[phase, event] = (P.CXL, None, (D.SEND_CANCEL,))
        for phase in (P.CXL, P.FAIL, P.STOP, end):
            table[phase, event] = (phase, None, ())
    for event in (E.ACK, E.ACK_OTHER, E.STARTED):
        for phase in (P.RUN, P.DRAIN):
            table[phase, event] = (end, C.ERRORED, _VIOLATION)
    for event in (*_FROM_CHILD, E.YIELD, E.STOP, E.ERROR, E.CTXC_OWN, E.CTXC_OTHER):
        table[end, event] = (end, None, (D.IGNORE,))
    return table


UNWINDING: Final = (P.UNWIND_PEER, P.UNWIND_SELF, P.UNWIND_ACTOR, P.UNWIND_ERROR, P.UNWIND_LOST)

_UNWOUND: Final[dict[DialogPhase, tuple[ContextState, tuple[DialogDo, ...]]]] = {
    P.UNWIND_PEER: (C.PEER_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_SELF: (C.SELF_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_ACTOR: (C.ACTOR_CANCELLED, (D.SEND_CTXC,)),
    P.UNWIND_ERROR: (C.ERRORED, (D.SEND_ERROR,)),
    P.UNWIND_LOST: (C.PEER_LOST, ()),
}


def _child_table() -> dict[tuple[DialogPhase, DialogEvent], Cell]:
    end = P.END
    table: dict[tuple[DialogPhase, DialogEvent], Cell] = {
        (P.SCHED, E.START): (P.SERVE, None, ()),
        (P.SCHED, E.OPEN): (P.SCHED, None, (D.REFUSE,)),
        (P.SCHED, E.RETURNED): (end, C.ERRORED, (D.SEND_ERROR,)),
        (P.SERVE, E.START): (P.SERVE, None, (D.REFUSE,)),
        (P.SERVE, E.OPEN): (P.SERVE, None, ()),
        (P.SERVE, E.RETURNED): (end, C.RESULT_RETURNED, ()),
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
        table[phase, E.BAD_PAYLOAD] = (phase, None, (D.SEND_ERROR,))
    for phase in UNWINDING:
        lost = phase is P.UNWIND_LOST
        state, send = _UNWOUND[phase]
        table[phase, E.START] = (phase, None, (D.REFUSE,))
        table[phase, E.OPEN] = (phase, None, (D.REFUSE,))
        for event in (E.CANCEL_REQUEST, E.CANCEL, E.ACTOR_CANCEL, E.ERROR):
            table[phase, event] = (phase, None, ())
        table[phase, E.YIELD] = (phase, None, (D.DISCARD,))
        table[phase, E.STOP] = (phase, None, (D.DISCARD,))
        table[phase, E.OVERRUN] = (phase, None, (D.DISCARD,))
        table[phase, E.BAD_PAYLOAD] = (phase, None, ())
        table[phase, E.LOST] = (P.UNWIND_LOST, None, ())
        table[phase, E.CANCELLED] = (end, state, send)
        table[phase, E.RETURNED] = (end, C.PEER_LOST, ()) if lost else (end, C.RESULT_RETURNED, ())
        table[phase, E.FAILED] = (
            (end, C.PEER_LOST, ()) if lost else (end, C.ERRORED, (D.SEND_ERROR,))
        )
    # What only this side may send: the phase stays, the driver feeds the violation back as DialogEvent.ERROR.
    for event in _FROM_CHILD:
        for phase in (P.SCHED, P.SERVE, *UNWINDING):
            table[phase, event] = (phase, None, _VIOLATION)
        table[end, event] = (end, None, (D.IGNORE,))
    for event in (E.YIELD, E.STOP, E.ERROR, E.CANCEL_REQUEST):
        table[end, event] = (end, None, (D.IGNORE,))
    for event in (E.LOST, E.CANCEL, E.ACTOR_CANCEL):
        table[end, event] = (end, None, ())
    for event in (E.START, E.OPEN):
        table[end, event] = (end, None, (D.REFUSE,))
    return table


PARENT_TABLE: Final = _parent_table()
CHILD_TABLE: Final = _child_table()

STREAM_TABLE: Final[
    dict[tuple[StreamState, DialogEvent], tuple[StreamState, tuple[DialogDo, ...]]]
] = {
    (S.IDLE, E.OPEN): (S.OPEN, ()),
    (S.IDLE, E.YIELD): (S.IDLE, (D.BUFFER,)),
    (S.IDLE, E.STOP): (S.IDLE, ()),
    (S.OPEN, E.OPEN): (S.OPEN, (D.REFUSE,)),
    (S.OPEN, E.YIELD): (S.OPEN, (D.BUFFER,)),
    (S.OPEN, E.STOP): (S.CLOSED_THERE, ()),
    (S.OPEN, E.CLOSE): (S.CLOSED_HERE, (D.SEND_STOP,)),
    (S.CLOSED_HERE, E.OPEN): (S.CLOSED_HERE, (D.REFUSE,)),
    (S.CLOSED_HERE, E.YIELD): (S.CLOSED_HERE, (D.DISCARD,)),
    (S.CLOSED_HERE, E.STOP): (S.CLOSED, ()),
    (S.CLOSED_HERE, E.CLOSE): (S.CLOSED_HERE, ()),
    (S.CLOSED_THERE, E.OPEN): (S.CLOSED_THERE, (D.REFUSE,)),
    (S.CLOSED_THERE, E.YIELD): (S.CLOSED_THERE, _VIOLATION),
    (S.CLOSED_THERE, E.STOP): (S.CLOSED_THERE, _VIOLATION),
    (S.CLOSED_THERE, E.CLOSE): (S.CLOSED, ()),
    (S.CLOSED, E.OPEN): (S.CLOSED, (D.REFUSE,)),
    (S.CLOSED, E.YIELD): (S.CLOSED, _VIOLATION),
    (S.CLOSED, E.STOP): (S.CLOSED, _VIOLATION),
    (S.CLOSED, E.CLOSE): (S.CLOSED, ()),
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

_REMEMBERED: Final = frozenset({E.CTXC_OWN, *_CANCELS, E.RAISED, E.INTERRUPTED})
"""Events that leave more behind than a phase."""

_PARENT_VIEW: Final = {
    P.REQ: C.SYNCING,
    P.DRAIN: C.DRAINING,
    P.CXL: C.CANCELLING,
    P.FAIL: C.CANCELLING,
    P.STOP: C.CANCELLING,
    P.SCHED: C.PRE_STARTED,
}


class Dialog:
    """One side of a context's dialog.  Drivers feed it events, and write none of its attributes but ``owner_waits``.

    Args:
        side: ``'parent'`` (the opener) or ``'child'`` (the endpoint's task).

    Attributes:
        phase: where it stands.
        stream: the stream inside it.
        end: how it ended; ``None`` before.
        history: what has happened to it, but for ``Yield``, in order.
        stop_came: the peer has closed its side of the stream, maybe before it was opened here.
        buffers: a ``Yield`` that comes now is handed to the stream: what the tables say, kept so that a message
            costs no look-up.
        started: the endpoint has called ``started()``.
        cancel_called: this side has asked for the cancellation.
        cancel_acked: and the report of exactly that has come.
        cancelled_beside: another task than the owner has asked: the report unwinds the owner's block.
        owner_waits: the owning task waits for the end.  It is left to receive it, so nothing cancels its block.
    """

    __slots__ = (
        "buffers",
        "cancel_acked",
        "cancel_called",
        "cancelled_beside",
        "end",
        "history",
        "owner_waits",
        "phase",
        "side",
        "started",
        "stop_came",
        "stream",
    )

    def __init__(self, side: str) -> None:
        self.side = side
        self.phase = DialogPhase.REQ if side == "parent" else DialogPhase.SCHED
        self.stream = StreamState.IDLE
        self.stop_came = False
        self.end: ContextState | None = None
        self.history: list[DialogEvent] = []
        self.buffers = True
        self.started = False
        self.cancel_called = False
        self.cancel_acked = False
        self.cancelled_beside = False
        self.owner_waits = False

    def handle(self, event: DialogEvent) -> tuple[DialogDo, ...]:
        """Take an event; return what must be done, in order.

        Raises:
            IllegalEvent: a local event that can't happen now.  Nothing has changed.
        """
        table = PARENT_TABLE if self.side == "parent" else CHILD_TABLE
        cell = table.get((self.phase, event))
        if cell is None:
            raise self._illegal(event)
        if event is not DialogEvent.YIELD:
            self.history.append(event)
        self.phase, end, todo = cell
        if end is not None:
            self.end = end
        elif self.phase is P.SERVE:
            self.started = True
        self._settle()
        if event in _REMEMBERED:
            self._remember(event, todo)
            if self.cancelled_beside and self.end is C.SELF_CANCELLED and D.SET_ERROR in todo:
                todo = (*todo, D.CANCEL_BLOCK)
        if self.owner_waits and D.CANCEL_BLOCK in todo:
            return tuple(do for do in todo if do is not D.CANCEL_BLOCK)
        return todo

    def _remember(self, event: DialogEvent, todo: tuple[DialogDo, ...]) -> None:
        if event is E.CTXC_OWN:
            self.cancel_acked = self.cancel_acked or (self.cancel_called and D.SET_ERROR in todo)
        elif event in _CANCELS or D.SEND_CANCEL in todo:
            self.cancel_called = True
            self.cancelled_beside = self.cancelled_beside or event is E.CANCEL_BESIDE

    def handle_stream(self, event: DialogEvent) -> tuple[DialogDo, ...]:
        """Take an event of the stream inside; return what must be done.

        Raises:
            IllegalEvent: the stream was never opened, so it can't be closed.  Nothing has changed.
        """
        cell = STREAM_TABLE.get((self.stream, event))
        if cell is None:
            raise self._illegal(event)
        if event is not DialogEvent.YIELD:
            self.history.append(event)
        was = self.stream
        self.stream, todo = cell
        if was is StreamState.IDLE:
            if event is DialogEvent.OPEN:
                if self.stop_came:
                    self.stream = StreamState.CLOSED_THERE
            elif self.stop_came:
                return _VIOLATION
            elif event is DialogEvent.STOP:
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

    def _illegal(self, event: DialogEvent) -> IllegalEvent:
        return IllegalEvent(
            event.value,
            f"a {self.side}-side dialog that is {self.phase.value!r} (stream {self.stream.value})",
            (e.value for e in self.history),
        )

    @property
    def ended(self) -> bool:
        """Whether the final message came or went, or never will."""
        return self.phase is DialogPhase.END

    @property
    def state(self) -> ContextState:
        """The public status, worked out from the phase, the stream and how the dialog ended."""
        return self.end if self.end is not None else self.state_in(self.phase)

    def state_in(self, phase: DialogPhase) -> ContextState:
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
