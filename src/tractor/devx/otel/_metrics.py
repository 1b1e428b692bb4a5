"""The instrument that makes metrics as well as spans.

Durations and numbers of what ends are recorded as they come.  What grows while nobody tells of it, the messages of a
stream and the bytes of a channel, is looked up at each collection, as are the fill of streams and the lag of the loop:
all by one question to the loop, which the thread of a reader asks and awaits for a short time.

**What a fork does.**  An SDK's instruments live on in a forked actor, with what they have counted for its parent, and
so do the functions that they call.  So counts are kept here, per actor, and looked up by functions that belong to none:
they ask the one that this process has (`_CURRENT`).  Histograms alone can't be told anew.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import trio
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from tractor.control._sampling import dialogs_of
from tractor.devx.otel._spans import CALLEE, Closing, Spans
from tractor.devx.otel._words import (
    OTHER,
    SYSTEM,
    error_type_of,
    is_unknown_function,
    method_of,
    transport_of,
)
from tractor.process._state import ProcessVar
from tractor.runtime._actor import Actor
from tractor.runtime.seen import _events

PROBE_LIMIT = 0.2
"""Seconds that a collection waits for the loop."""

PROBE_IS_GOOD = 0.05
"""Seconds for which the answer serves the other metrics of the same collection."""

DURATIONS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)
"""The conventions' buckets, and three below: a call on one machine takes less than their first."""

SENT = "transmit"
RECEIVED = "receive"
"""``network.io.direction``."""

Totals = Counter[tuple[str, str]]
"""By function or transport, and direction."""


class Look(NamedTuple):
    """What a collection has found.

    Attributes:
        lag: seconds that the loop took; where it did not come at all, those that were waited.
        fill: 0 to 1, of the fullest buffer of each function's streams.
        messages, bytes: of what is open now.
    """

    lag: float
    fill: dict[str, float]
    messages: Totals
    bytes: Totals


class Metrics(Spans):
    """Makes spans and metrics.

    Args:
        name, uuid, pid, spans: as of :class:`Spans`.
        actor: which is looked at; ``None``: nothing is, as in tests.
        is_root: it has no parent.
        meter_provider: whose meter; ``None``: the global one.
    """

    def __init__(
        self,
        name: str,
        uuid: str,
        pid: int,
        *,
        actor: Actor | None = None,
        is_root: bool = False,
        meter_provider: MeterProvider | None = None,
        **spans: Any,
    ) -> None:
        super().__init__(name, uuid, pid, **spans)
        self._actor = actor
        self._token = trio.lowlevel.current_trio_token() if actor is not None else None
        self._loop = threading.get_ident()
        # Of streams that are closed and channels that are lost.
        self._messages: Totals = Counter()
        self._bytes: Totals = Counter()
        # What was told last: a total never shrinks, though what closes while it is counted may be missed once.
        self._told: dict[str, Totals] = {"messages": Counter(), "bytes": Counter()}
        self._look: Look | None = None
        self._looked = 0.0
        # Actors by name and state, those that are down at 0 too; what became of them.
        self.actors: Counter[tuple[str, str]] = Counter()
        self.restarts: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        # The name and state with which each was counted, by uuid.
        self._states: dict[str, tuple[str, str]] = {}
        # Services that were started.
        self._known: set[str] = set()
        self._made = _made_of(meter_provider)
        _CURRENT.value = self
        if is_root:
            # A subactor is counted by its parent, who still can when it was killed.
            self._count(uuid, name, "run")

    # -- calls ----------------------------------------------------------------------------------------

    def call_ended(self, record: _events.CallEnded) -> None:
        super().call_ended(record)
        self._measure(record)

    def context_closed(self, record: _events.ContextClosed) -> None:
        super().context_closed(record)
        self._measure(record)

    def _measure(self, record: Closing) -> None:
        error = record.error or record.outcome
        attributes = {"rpc.system.name": SYSTEM, "rpc.method": method_of(record.function)}
        is_cancel = record.outcome == "cancelled" and (record.by_us or record.side == CALLEE)
        if record.outcome != "ok" and not is_cancel:
            attributes["error.type"] = error_type_of(error)
            if is_unknown_function(record.function, record.error, record.traceback):
                attributes["rpc.method"] = OTHER
        made = self._made.server if record.side == CALLEE else self._made.client
        made.record(record.duration / 1e9, attributes)

    def stream_closed(self, record: _events.StreamClosed) -> None:
        method = method_of(record.function)
        self._messages[method, SENT] += record.sent
        self._messages[method, RECEIVED] += record.received

    def credit_waited(self, record: _events.CreditWaited) -> None:
        attributes = {
            "rpc.method": method_of(record.function),
            "network.io.direction": SENT,
        }
        self._made.credit.record(record.duration / 1e9, attributes)

    def channel_lost(self, record: _events.ChannelLost) -> None:
        transport = transport_of(record.transport)
        self._bytes[transport, SENT] += record.bytes_out
        self._bytes[transport, RECEIVED] += record.bytes_in

    # -- actors ---------------------------------------------------------------------------------------

    def end_all(self) -> None:
        super().end_all()
        for uuid in list(self._states):
            self._count(uuid, "", None)

    def child_starting(self, record: _events.ChildStarting) -> None:
        super().child_starting(record)
        self._count(record.child, record.name, "boot")

    def child_ready(self, record: _events.ChildReady) -> None:
        super().child_ready(record)
        self._count(record.child, record.name, "run")

    def rung(self, record: _events.Rung) -> None:
        super().rung(record)
        self._count(record.child, record.name, "cancel")

    def child_gone(self, record: _events.ChildGone) -> None:
        super().child_gone(record)
        self._count(record.child, record.name, None)
        if record.outcome in ("error", "died"):
            self.failures[record.name, record.outcome] += 1

    def service_event(self, record: _events.ServiceEvent) -> None:
        super().service_event(record)
        if record.kind.lower() != "starting":
            return
        if record.restarts or record.service in self._known:
            self.restarts[record.service] += 1
        self._known.add(record.service)

    def _count(self, uuid: str, name: str, state: str | None) -> None:
        before = self._states.pop(uuid, None)
        if before is not None:
            self.actors[before] -= 1
        if state is not None:
            self._states[uuid] = (name, state)
            self.actors[name, state] += 1

    # -- what is looked up ----------------------------------------------------------------------------

    def look(self) -> Look | None:
        """What is open now, by the loop's word; ``None``: there is no loop to ask.  In any thread but the loop's."""
        now = time.monotonic()
        if self._look is not None and now - self._looked < PROBE_IS_GOOD:
            return self._look
        if self._actor is None or self._token is None or threading.get_ident() == self._loop:
            return None
        answers: list[tuple[float, dict[str, float], Totals, Totals]] = []
        answered = threading.Event()

        def answer() -> None:
            lag = time.monotonic() - now
            try:
                answers.append((lag, *self._open_now()))
            finally:
                answered.set()

        try:
            self._token.run_sync_soon(answer)
        except trio.RunFinishedError:
            return None
        if answered.wait(PROBE_LIMIT) and answers:
            self._look = Look(*answers[0])
        else:
            self._look = Look(time.monotonic() - now, {}, Counter(), Counter())
        self._looked = time.monotonic()
        return self._look

    def _open_now(self) -> tuple[dict[str, float], Totals, Totals]:
        actor = self._actor
        assert actor is not None
        fill: dict[str, float] = {}
        messages: Totals = Counter()
        carried: Totals = Counter()
        for dialog in dialogs_of(actor):
            if dialog.sent is None:
                continue
            method = method_of(dialog.function)
            messages[method, SENT] += dialog.sent
            messages[method, RECEIVED] += dialog.received or 0
            fill[method] = max(fill.get(method, 0.0), (dialog.fill or 0.0) / 100)
        for chan in actor.intakes:
            transport = transport_of(chan.transport.address_type.proto_key)
            carried[transport, SENT] += chan.transport.bytes_out
            carried[transport, RECEIVED] += chan.transport.bytes_in
        return fill, messages, carried

    def totals(self, kind: str) -> Iterable[tuple[tuple[str, str], int]]:
        """The ``messages`` or ``bytes`` of all of the life."""
        look = self.look()
        ended = self._messages if kind == "messages" else self._bytes
        # Copied at once: the loop may count meanwhile.
        total: Totals = Counter(dict(ended))
        if look is not None:
            total.update(look.messages if kind == "messages" else look.bytes)
        told = self._told[kind]
        for key, count in total.items():
            told[key] = max(count, told[key])
        return list(told.items())


class _Made:
    """The instruments of a provider's meter."""

    def __init__(self, provider: MeterProvider | None) -> None:
        # Kept, so that its id is no other's.
        self.provider = provider
        meter: Meter = metrics.get_meter(SYSTEM, meter_provider=provider)
        duration = partial(
            meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=DURATIONS
        )
        self.client = duration("rpc.client.call.duration", description="Calls made.")
        self.server = duration("rpc.server.call.duration", description="Calls served.")
        self.credit = duration(
            "tractor.stream.credit_wait.duration", description="Sends that waited for the receiver."
        )
        observed: list[tuple[Callable[..., Any], str, str, Callable[..., Any], str]] = [
            (
                meter.create_observable_up_down_counter,
                "tractor.actors",
                "{actor}",
                _actors,
                "Actors, as their parents know them.",
            ),
            (
                meter.create_observable_counter,
                "tractor.actor.restarts",
                "{restart}",
                _restarts,
                "Services started again.",
            ),
            (
                meter.create_observable_counter,
                "tractor.actor.failures",
                "{actor}",
                _failures,
                "Actors that failed or died.",
            ),
            (
                meter.create_observable_counter,
                "tractor.stream.messages",
                "{message}",
                _messages,
                "Messages of streams.",
            ),
            (
                meter.create_observable_counter,
                "tractor.channel.io",
                "By",
                _bytes,
                "Bytes of channels.",
            ),
            (
                meter.create_observable_gauge,
                "tractor.stream.fill",
                "1",
                _fill,
                "The fullest buffer of messages that nobody has read.",
            ),
            (
                meter.create_observable_gauge,
                "tractor.loop.lag",
                "s",
                _lag,
                "How long the event loop took to come to a question.",
            ),
        ]
        for make, name, unit, callback, description in observed:
            make(name, callbacks=[callback], unit=unit, description=description)


_CURRENT: ProcessVar[Metrics | None] = ProcessVar(lambda: None)
"""Of the actor that lives in this process."""

_MADE: ProcessVar[dict[int | None, _Made]] = ProcessVar(dict, survives=True)
"""By provider: an SDK warns of an instrument that is made twice."""


def _made_of(provider: MeterProvider | None) -> _Made:
    of = _MADE.value
    key = None if provider is None else id(provider)
    if key not in of:
        of[key] = _Made(provider)
    return of[key]


def _actors(_options: CallbackOptions) -> Iterable[Observation]:
    current = _CURRENT.value
    for (name, state), count in () if current is None else dict(current.actors).items():
        yield Observation(count, {"tractor.actor.name": name, "tractor.actor.state": state})


def _restarts(_options: CallbackOptions) -> Iterable[Observation]:
    current = _CURRENT.value
    for name, count in () if current is None else dict(current.restarts).items():
        yield Observation(count, {"tractor.actor.name": name})


def _failures(_options: CallbackOptions) -> Iterable[Observation]:
    current = _CURRENT.value
    for (name, outcome), count in () if current is None else dict(current.failures).items():
        yield Observation(count, {"tractor.actor.name": name, "tractor.outcome": outcome})


def _observed(kind: str, attribute: str) -> Iterable[Observation]:
    current = _CURRENT.value
    if current is None:
        return
    for (what, direction), count in current.totals(kind):
        yield Observation(count, {attribute: what, "network.io.direction": direction})


def _messages(_options: CallbackOptions) -> Iterable[Observation]:
    return _observed("messages", "rpc.method")


def _bytes(_options: CallbackOptions) -> Iterable[Observation]:
    return _observed("bytes", "network.transport")


def _fill(_options: CallbackOptions) -> Iterable[Observation]:
    look = None if _CURRENT.value is None else _CURRENT.value.look()
    if look is not None:
        for method, fill in look.fill.items():
            yield Observation(fill, {"rpc.method": method})


def _lag(_options: CallbackOptions) -> Iterable[Observation]:
    look = None if _CURRENT.value is None else _CURRENT.value.look()
    if look is not None:
        yield Observation(look.lag)
