"""What an instrument is told: one record an event.

A record is small and flat, so that it can be kept, sent and written as it is.  On the wire it is a list that begins
with the name of its event; fields are only ever added, at the end.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import msgspec

Dialog: TypeAlias = tuple[str, int]
"""The uuid of the actor that opened a dialog, and a number which that actor gives to no other; equal at both ends."""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What every record has.

    Attributes:
        time: when, in nanoseconds of the monotonic clock of the actor's host.
        actor: uuid of the actor in which it happened.
    """

    event: ClassVar[str] = ""

    time: int
    actor: str


class ActorStarted(Event, frozen=True, array_like=True, gc=False, tag="actor_started"):
    """An actor's runtime is up; its program's code has not begun.

    Attributes:
        name, pid: of the actor.
        parent: uuid of its parent; ``None``: it is a root.
        host: the name of its host.
    """

    event: ClassVar[str] = "actor_started"

    name: str
    pid: int
    parent: str | None
    host: str


class ActorEnded(Event, frozen=True, array_like=True, gc=False, tag="actor_ended"):
    """An actor's runtime is about to go; the last event that it tells.

    Attributes:
        name: of the actor.
        outcome: ``'ok'``, ``'error'`` or ``'cancelled'``.
        error: the type of the error; ``None``: there is none.
        duration: nanoseconds since it was started.
    """

    event: ClassVar[str] = "actor_ended"

    name: str
    outcome: str
    error: str | None
    duration: int


class ChildStarting(Event, frozen=True, array_like=True, gc=False, tag="child_starting"):
    """A subactor's process is about to be started.

    Attributes:
        child, name: uuid and name of the subactor.
        backend: the key of its spawn backend.
        host: on which it starts; ``None``: this one.
    """

    event: ClassVar[str] = "child_starting"

    child: str
    name: str
    backend: str
    host: str | None = None


class ChildReady(Event, frozen=True, array_like=True, gc=False, tag="child_ready"):
    """A subactor is up: its portal is about to be returned.

    Attributes:
        child, name, backend, host: as of :class:`ChildStarting`.
        spawn: seconds until its process was there.
        connect: seconds from then until it had connected.
        boot: seconds from then until it was ready.
    """

    event: ClassVar[str] = "child_ready"

    child: str
    name: str
    backend: str
    host: str | None
    spawn: float
    connect: float
    boot: float


class ChildGone(Event, frozen=True, array_like=True, gc=False, tag="child_gone"):
    """A subactor's process has ended, or is given up.

    Attributes:
        child, name, backend, host: as of :class:`ChildStarting`.
        status: its exit status, negative: killed by that signal; ``None``: unknown.
        rung: the last rung of its way down, 0 to 4; ``None``: it went by itself.
        outcome: ``'ok'``, ``'error'``, ``'cancelled'`` or ``'died'``.
        error: the type of the error that it ended with; ``None``: there is none.
    """

    event: ClassVar[str] = "child_gone"

    child: str
    name: str
    backend: str
    host: str | None
    status: int | None
    rung: int | None
    outcome: str
    error: str | None = None


class Rung(Event, frozen=True, array_like=True, gc=False, tag="rung"):
    """A rung of a subactor's way down begins.

    Attributes:
        child, name: uuid and name of the subactor.
        rung: 0 to 4.
    """

    event: ClassVar[str] = "rung"

    child: str
    name: str
    rung: int


class CallStarted(Event, frozen=True, array_like=True, gc=False, tag="call_started"):
    """A call begins.

    Of the caller: told in its task, before the request is sent.  Of the callee: told in the task that serves, before
    the function runs.

    Attributes:
        dialog: of the call.
        side: ``'caller'`` or ``'callee'``.
        peer, peer_name: uuid and name of the other actor.
        function: the endpoint, as ``module:name``.
        task: the id of the trio task here, as ``tractor stacks`` shows it.
        transport: the key of the transport, as ``'uds'``.
        kind: ``'call'``, or ``'stream'``: a one-way stream.
        headers: of the callee: what the caller's instruments have sent along; ``None``: nothing.
    """

    event: ClassVar[str] = "call_started"

    dialog: Dialog
    side: str
    peer: str
    peer_name: str
    function: str
    task: int
    transport: str
    kind: str = "call"
    headers: dict[str, str] | None = None


class CallEnded(Event, frozen=True, array_like=True, gc=False, tag="call_ended"):
    """A call has ended, on the side that tells it; in the same task as its start.

    Attributes:
        dialog, side, function: as of :class:`CallStarted`.
        outcome: ``'ok'``, ``'error'``, ``'cancelled'`` or ``'died'``: the peer was lost.
        error: the type of the error, as ``module:name``; ``None``: there is none.
        duration: nanoseconds since its start.
        traceback: the boxed traceback of the error, at most 16 KiB.
        by_us: it was cancelled because the side that tells it asked for that.
    """

    event: ClassVar[str] = "call_ended"

    dialog: Dialog
    side: str
    function: str
    outcome: str
    error: str | None
    duration: int
    traceback: str | None = None
    by_us: bool = False


class ContextOpened(Event, frozen=True, array_like=True, gc=False, tag="context_opened"):
    """A context begins; told in the same tasks as :class:`CallStarted`, whose attributes it has."""

    event: ClassVar[str] = "context_opened"

    dialog: Dialog
    side: str
    peer: str
    peer_name: str
    function: str
    task: int
    transport: str
    headers: dict[str, str] | None = None


class ContextStarted(Event, frozen=True, array_like=True, gc=False, tag="context_started"):
    """A context's first value was sent by the callee, or has come to the caller.

    Attributes:
        dialog, side, function: of the context.
    """

    event: ClassVar[str] = "context_started"

    dialog: Dialog
    side: str
    function: str


class ContextClosed(Event, frozen=True, array_like=True, gc=False, tag="context_closed"):
    """A context has ended, on the side that tells it.

    Attributes:
        dialog, side, function, outcome, error, duration, traceback, by_us: as of :class:`CallEnded`.
        sent, received, discarded: messages of its stream; 0: there was none.
        bytes_out, bytes_in: of those messages.
    """

    event: ClassVar[str] = "context_closed"

    dialog: Dialog
    side: str
    function: str
    outcome: str
    error: str | None
    duration: int
    traceback: str | None = None
    by_us: bool = False
    sent: int = 0
    received: int = 0
    discarded: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class StreamOpened(Event, frozen=True, array_like=True, gc=False, tag="stream_opened"):
    """A stream is opened, on the side that tells it.

    Attributes:
        dialog: of the context, or of the one-way stream.
        side: ``'caller'`` or ``'callee'``.
        peer: uuid of the other actor.
        function: the endpoint, as ``module:name``.
    """

    event: ClassVar[str] = "stream_opened"

    dialog: Dialog
    side: str
    peer: str
    function: str


class StreamClosed(Event, frozen=True, array_like=True, gc=False, tag="stream_closed"):
    """A stream is closed, on the side that tells it.

    Attributes:
        dialog, side, peer, function: as of :class:`StreamOpened`.
        sent, received, discarded: messages.
    """

    event: ClassVar[str] = "stream_closed"

    dialog: Dialog
    side: str
    peer: str
    function: str
    sent: int
    received: int
    discarded: int


class MessageSent(Event, frozen=True, array_like=True, gc=False, tag="message_sent"):
    """A message of a stream was put on its way.

    Attributes:
        dialog: of the stream.
        bytes: of its payload.
    """

    event: ClassVar[str] = "message_sent"

    dialog: Dialog
    bytes: int


class MessageReceived(Event, frozen=True, array_like=True, gc=False, tag="message_received"):
    """A message of a stream has come and is queued; nobody needs to have read it.

    Attributes:
        dialog: of the stream.
        bytes: of its payload.
    """

    event: ClassVar[str] = "message_received"

    dialog: Dialog
    bytes: int


class CreditWaited(Event, frozen=True, array_like=True, gc=False, tag="credit_waited"):
    """A ``send()`` has waited until the receiver had room.

    Attributes:
        dialog: of the stream.
        duration: nanoseconds.
        function: the endpoint, as ``module:name``.
    """

    event: ClassVar[str] = "credit_waited"

    dialog: Dialog
    duration: int
    function: str


class CancelRequested(Event, frozen=True, array_like=True, gc=False, tag="cancel_requested"):
    """Somebody asks for a cancellation; told in the actor that asks, and in the one where that arrives.

    Attributes:
        kind: ``'task'``, ``'actor'`` or ``'nursery'``.
        target: uuid of the actor whose task or which itself is to be cancelled.
        canceller: name and uuid of who asks.
        dialog: of a task.
    """

    event: ClassVar[str] = "cancel_requested"

    kind: str
    target: str
    canceller: tuple[str, str]
    dialog: Dialog | None = None


class ChannelOpened(Event, frozen=True, array_like=True, gc=False, tag="channel_opened"):
    """A peer is connected.

    Attributes:
        peer, peer_name: uuid and name of the other actor.
        transport: the key of the transport.
    """

    event: ClassVar[str] = "channel_opened"

    peer: str
    peer_name: str
    transport: str


class ChannelLost(Event, frozen=True, array_like=True, gc=False, tag="channel_lost"):
    """A peer is no longer connected.

    Attributes:
        peer, peer_name, transport: as of :class:`ChannelOpened`.
        bytes_in, bytes_out: of its life.
    """

    event: ClassVar[str] = "channel_lost"

    peer: str
    peer_name: str
    transport: str
    bytes_in: int = 0
    bytes_out: int = 0


class ServiceEvent(Event, frozen=True, array_like=True, gc=False, tag="service_event"):
    """What a supervisor tells of a service.

    Attributes:
        service: its name.
        kind: of the supervisor's event, as ``'crashed'`` or ``'backoff'``.
        text: the event in words.
        restarts: how often it was started again.
        error: the type of the error that it ended with; ``None``: there is none.
    """

    event: ClassVar[str] = "service_event"

    service: str
    kind: str
    text: str
    restarts: int | None = None
    error: str | None = None


class Crashed(Event, frozen=True, array_like=True, gc=False, tag="crashed"):
    """An actor fails with an error of its own or of its program.

    Attributes:
        error: its type, as ``module:name``.
        message: its text, at most 1,000 characters.
        traceback: boxed, at most 16 KiB.
    """

    event: ClassVar[str] = "crashed"

    error: str
    message: str
    traceback: str


AnyEvent: TypeAlias = (
    ActorStarted
    | ActorEnded
    | ChildStarting
    | ChildReady
    | ChildGone
    | Rung
    | CallStarted
    | CallEnded
    | ContextOpened
    | ContextStarted
    | ContextClosed
    | StreamOpened
    | StreamClosed
    | MessageSent
    | MessageReceived
    | CreditWaited
    | CancelRequested
    | ChannelOpened
    | ChannelLost
    | ServiceEvent
    | Crashed
)
"""Any record; a decoder of it takes what another actor has sent."""
