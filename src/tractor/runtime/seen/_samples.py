"""What is told of an actor to those who look at it: the records of ``statistics()``, of ``tractor ps --json``, and of
the control socket.

Nothing that runs an actor loads this; what fills the records is :mod:`tractor.control._sampling`.  Within version 1
fields are only ever added.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers.

    Attributes:
        name, uuid, pid: the actor.
        start_time: of its process, in seconds since the boot, as the kernel tells it; ``None``: unknown.
        host: the host's name.
        host_id: its id, within which ``pid`` and ``start_time`` mean something; ``None``: unknown.
        parent: uuid of its parent; ``None``: it is a root.
        root: uuid of its tree's root; ``None``: unknown.
        versions: of Python and this package.
        addrs: where peers reach it.
        ops: what it may be asked.
        clock: nanoseconds of the monotonic clock of its host, when it answered.
    """

    name: str
    uuid: str
    pid: int
    start_time: float | None
    host: str
    parent: str | None
    root: str | None
    versions: dict[str, str]
    addrs: list[Any]
    ops: list[str]
    host_id: str | None = None
    clock: int | None = None


class ChildSample(msgspec.Struct, frozen=True, kw_only=True):
    """A subactor, as its parent knows it.

    Attributes:
        name, uuid: it; of a service in ``'backoff'`` there is no uuid.
        pid: of its process; ``None``: it has none yet.
        host: id of the host on which ``pid`` is one.
        state: ``'booting'``, ``'running'``, ``'cancelling'``, or ``'backoff'``: it is started again after a delay.
        start_method: the key of its spawn backend.
        socket: where its control socket is, if it is on this host and has one.
        restarts: of a service: how often it was started again.
        last_error: of a service: the latest error that it ended with, in words.
    """

    name: str
    uuid: str
    pid: int | None
    host: str
    state: str
    start_method: str = ""
    socket: str | None = None
    restarts: int | None = None
    last_error: str | None = None


class DialogSample(msgspec.Struct, frozen=True, kw_only=True):
    """A call, context or one-way stream that is open.

    Attributes:
        kind: ``'call'``, ``'context'`` or ``'stream'``.
        side: ``'caller'``, the actor that opened it, or ``'callee'``.
        function: the endpoint, as ``module:name``.
        peer: the other actor.
        state: of a context.
        sent, received, discarded: messages of its stream; ``None``: it has none.
        fill: of its buffer of messages that nobody has read yet, in per cent.
        dialog: the uuid of the actor that opened it, and a number; equal at both ends.
        buffered: messages that nobody has read yet.
        credit: messages that may be sent before the other side has read one; ``None``: that does not count.
    """

    kind: str
    side: str
    function: str
    peer: str
    state: str | None = None
    sent: int | None = None
    received: int | None = None
    discarded: int | None = None
    fill: float | None = None
    dialog: tuple[str, int] | None = None
    buffered: int | None = None
    credit: int | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at an actor.  What is not known is ``None``.

    Attributes:
        name, uuid, pid: the actor.
        host: the name of its host.
        parent: uuid of its parent; ``None``: it is a root, or that is not known.
        time: when it was looked at, in seconds since 1970.
        state: ``'boot'``, ``'run'``, ``'blocked'``, ``'repl'``, ``'cancel'``, ``'stopped'``, ``'zombie'``, ``'mute'``,
            ``'lost'``, ``'gone'`` or ``'backoff'``.
        why: of a state other than ``'run'``, in words.
        since: when that state began, in seconds since 1970; of ``'blocked'``, ``'stopped'`` and what else it can't tell
            itself: when it was seen first.
        stale: the event loop did not come to the question, so that a thread has answered.
        uptime: seconds since the actor's start.
        cpu: per cent of one core: over the time since the look before, else since the start of the process.
        cpu_seconds: CPU time of its process.
        rss: bytes of its process that are resident.
        pss: the same, what several processes share counted in parts.
        tasks: trio tasks that live, less the runtime's.
        calls, contexts, streams: open now, on both sides.
        calls_total: calls begun over the life, those made and those served.
        errors_total: dialogs, of both sides, that ended with an error that is no cancellation and no lost peer.
        messages_in, messages_out: over the life, of all channels, the runtime's own included.
        bytes_in, bytes_out: the same.
        lag: seconds that the event loop took to come to the question.
        fill: of the fullest buffer of a stream, in per cent.
        restarts: of a service: how often it was started again.
        last_error: of a service: the latest error that it ended with, in words.
        peers: actors that are connected.
        serving: requests that are served.
        children: its subactors, as it knows them.
        start_method: the key of the backend that starts them.
        limits_reached: how often each limit was reached; see ``tractor.Limits``.  ``'headers'``: those of its
            instruments that were dropped, over a limit or no text.
        dialogs: those that are open, busiest first, where they were asked for.
        truncated: children and dialogs that were left out.
    """

    name: str
    uuid: str
    pid: int | None
    host: str
    parent: str | None
    time: float
    state: str
    why: str | None = None
    since: float | None = None
    stale: bool = False
    uptime: float | None = None
    cpu: float | None = None
    cpu_seconds: float | None = None
    rss: int | None = None
    pss: int | None = None
    tasks: int | None = None
    calls: int | None = None
    contexts: int | None = None
    streams: int | None = None
    calls_total: int | None = None
    errors_total: int | None = None
    messages_in: int | None = None
    messages_out: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    lag: float | None = None
    fill: float | None = None
    restarts: int | None = None
    last_error: str | None = None
    peers: int | None = None
    serving: int | None = None
    children: tuple[ChildSample, ...] = ()
    start_method: str = ""
    limits_reached: dict[str, int] = {}
    dialogs: tuple[DialogSample, ...] | None = None
    truncated: int = 0


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What a look did not get.

    Attributes:
        what: an actor, or a part of a list.
        why: in words.
    """

    what: str
    why: str


class TreeSample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at several actors.

    Attributes:
        v: the version of these records.
        time: when, in seconds since 1970.
        host: the name of the host from which they were looked at.
        actors: parents before their children.
        missing: what could not be had, and why.
        truncated: actors that were left out.
    """

    v: int = 1
    time: float
    host: str
    actors: tuple[Sample, ...]
    missing: tuple[Missing, ...] = ()
    truncated: int = 0
