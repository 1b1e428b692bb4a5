"""The instrument that makes spans of calls and contexts, and of the start, restart and end of subactors.

Theory of operation.  Each record that begins something starts a span, and the one that ends it ends the span; what is
open is kept by its dialog and side, or by the subactor's uuid.  A caller's span is never made current: its block may be
left in another task than it was entered in.  A callee's span is current in the task that serves, which is the record's
own, and so in all that this task starts.

A span that is not recorded is forgotten at once: nothing is sent along for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import trio
from opentelemetry import context as otel_context
from opentelemetry import propagate as otel_propagate
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from tractor.devx.otel._words import (
    OTHER,
    SYSTEM,
    end_of,
    error_type_of,
    is_unknown_function,
    method_of,
    transport_of,
)
from tractor.runtime.seen import _events
from tractor.runtime.seen._instrument import Instrument

Opening: TypeAlias = "_events.CallStarted | _events.ContextOpened"
Closing: TypeAlias = "_events.CallEnded | _events.ContextClosed"

CALLEE = "callee"

RESTART_BEGINS = frozenset({"crashed", "backoff", "restarting"})
RESTART_WORKS = frozenset({"ready"})
RESTART_FAILS = frozenset({"failed", "gave-up", "gaveup"})
RESTART_IS_OFF = frozenset({"stopping", "stopped"})
"""What a supervisor tells of a service: events that begin the span of its restart, or end it in one way or another."""


class Open(NamedTuple):
    """A dialog's span.

    Attributes:
        span: it.
        function: the endpoint, as ``module:name``.
        token: of the callee: what makes the span current no more.
        task: of the callee: in which that has to be done.
    """

    span: Span
    function: str
    token: Any = None
    task: object = None


class Spans(Instrument):
    """Makes spans.

    Args:
        name, uuid, pid: of this actor; they are on every span, since a forked actor has its parent's resource.
        propagate: send the caller's trace and baggage along, and take what has come.
        provider: whose tracer; ``None``: the global one.
    """

    def __init__(
        self,
        name: str,
        uuid: str,
        pid: int,
        *,
        propagate: bool = True,
        provider: TracerProvider | None = None,
    ) -> None:
        self._name = name
        self._own: dict[str, str | int] = {
            "tractor.actor.name": name,
            "tractor.actor.uuid": uuid,
            "process.pid": pid,
        }
        self._propagate = propagate
        self._tracer: Tracer = trace.get_tracer(SYSTEM, tracer_provider=provider)
        self._open: dict[tuple[_events.Dialog, str], Open] = {}
        self._starts: dict[str, Span] = {}
        self._downs: dict[str, Span] = {}
        # Of services that are being started again, by name.
        self._restarts: dict[str, Span] = {}

    # -- dialogs --------------------------------------------------------------------------------------

    def call_started(self, record: _events.CallStarted) -> None:
        self._begin(record, record.kind)

    def context_opened(self, record: _events.ContextOpened) -> None:
        self._begin(record, "context")

    def call_ended(self, record: _events.CallEnded) -> None:
        opened = self._open.pop((record.dialog, record.side), None)
        if opened is not None:
            self._end(record, opened)

    def context_closed(self, record: _events.ContextClosed) -> None:
        opened = self._open.pop((record.dialog, record.side), None)
        if opened is None:
            return
        opened.span.set_attributes(
            {
                "tractor.messages.sent": record.sent,
                "tractor.messages.received": record.received,
                "tractor.messages.discarded": record.discarded,
                "tractor.bytes.sent": record.bytes_out,
                "tractor.bytes.received": record.bytes_in,
            }
        )
        self._end(record, opened)

    def headers(self, record: Opening) -> Mapping[str, str] | None:
        if not self._propagate:
            return None
        opened = self._open.get((record.dialog, record.side))
        if opened is None:
            return None
        carrier: dict[str, str] = {}
        # With the baggage that is current in the caller's task.
        otel_propagate.inject(carrier, trace.set_span_in_context(opened.span))
        return carrier

    def _begin(self, record: Opening, kind: str) -> None:
        method = method_of(record.function)
        attributes: dict[str, Any] = {
            "rpc.system.name": SYSTEM,
            "rpc.method": method,
            "network.transport": transport_of(record.transport),
            "tractor.dialog.kind": kind,
            **self._own,
        }
        if record.side == CALLEE:
            self._begin_serving(record, method, attributes)
            return
        attributes["server.address"] = record.peer_name
        span = self._tracer.start_span(method, kind=SpanKind.CLIENT, attributes=attributes)
        if span.is_recording():
            self._open[record.dialog, record.side] = Open(span, record.function)

    def _begin_serving(self, record: Opening, method: str, attributes: dict[str, Any]) -> None:
        attributes["server.address"] = self._name
        attributes["client.address"] = record.peer_name
        # Never what is current here: that is the runtime's task, started under whatever span the program had then.
        above = Context()
        if record.headers and self._propagate:
            above = otel_propagate.extract(record.headers, above)
        span = self._tracer.start_span(method, above, SpanKind.SERVER, attributes)
        if not (span.is_recording() or above or otel_context.get_current()):
            return
        token = otel_context.attach(trace.set_span_in_context(span, above))
        if span.is_recording():
            opened = Open(span, record.function, token, current_task())
            self._open[record.dialog, record.side] = opened

    def _end(self, record: Closing, opened: Open) -> None:
        span = opened.span
        if record.outcome == "cancelled" and (record.by_us or record.side == CALLEE):
            # Whoever asked for it knows; a function that is told to end has not failed.
            span.set_attribute("tractor.cancelled", True)
        elif record.outcome != "ok":
            span.set_attribute("tractor.outcome", record.outcome)
            self._end_of_error(record, opened)
        span.end()
        if opened.token is not None and opened.task is current_task():
            otel_context.detach(opened.token)

    def _end_of_error(self, record: Closing, opened: Open) -> None:
        span = opened.span
        if is_unknown_function(record.function, record.error, record.traceback):
            span.update_name(OTHER)
            span.set_attribute("rpc.method", OTHER)
            span.set_attribute("rpc.method_original", method_of(opened.function))
        _fail(span, record.error or record.outcome, record.traceback)

    # -- subactors ------------------------------------------------------------------------------------

    def child_starting(self, record: _events.ChildStarting) -> None:
        restart = self._restarts.get(record.name)
        above = None if restart is None else trace.set_span_in_context(restart)
        span = self._tracer.start_span(
            f"start {record.name}", above, attributes=self._of_child(record)
        )
        if span.is_recording():
            self._starts[record.child] = span

    def child_ready(self, record: _events.ChildReady) -> None:
        span = self._starts.pop(record.child, None)
        if span is not None:
            span.set_attributes(
                {
                    "tractor.start.spawn": record.spawn,
                    "tractor.start.connect": record.connect,
                    "tractor.start.boot": record.boot,
                }
            )
            span.end()

    def rung(self, record: _events.Rung) -> None:
        span = self._downs.get(record.child)
        if span is None:
            span = self._tracer.start_span(f"teardown {record.name}")
            if not span.is_recording():
                return
            self._downs[record.child] = span
        span.add_event("rung", {"tractor.rung": record.rung})

    def child_gone(self, record: _events.ChildGone) -> None:
        start = self._starts.pop(record.child, None)
        if start is not None:
            # It was never ready.
            self._end_of_child(start, record)
        span = self._downs.pop(record.child, None)
        if span is None and start is None:
            # It went by itself: all that is left is how.
            span = self._tracer.start_span(f"teardown {record.name}")
        if span is not None and span.is_recording():
            span.set_attributes(self._of_child(record))
            self._end_of_child(span, record)

    def _of_child(self, record: _events.ChildStarting | _events.ChildGone) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "tractor.child.name": record.name,
            "tractor.child.uuid": record.child,
            "tractor.backend": record.backend,
            **self._own,
        }
        if record.host is not None:
            attributes["tractor.host"] = record.host
        return attributes

    def _end_of_child(self, span: Span, record: _events.ChildGone) -> None:
        span.set_attribute("tractor.outcome", record.outcome)
        if record.rung is not None:
            span.set_attribute("tractor.rung", record.rung)
        if record.status is not None:
            span.set_attribute("process.exit.code", record.status)
        if record.outcome == "cancelled":
            span.set_attribute("tractor.cancelled", True)
        elif record.outcome != "ok":
            how = end_of(record.status)
            span.set_attribute("error.type", error_type_of(record.error or record.outcome))
            span.set_status(Status(StatusCode.ERROR, how))
        span.end()

    # -- services -------------------------------------------------------------------------------------

    def service_event(self, record: _events.ServiceEvent) -> None:
        kind = record.kind.lower()
        # One that is started again for another reason than its end is so from its next start on.
        if kind in RESTART_BEGINS or (kind == "starting" and record.restarts):
            self._restart_begins(record)
            return
        if kind not in RESTART_WORKS | RESTART_FAILS | RESTART_IS_OFF:
            return
        span = self._restarts.pop(record.service, None)
        if span is None:
            return
        if record.restarts is not None:
            span.set_attribute("tractor.restarts", record.restarts)
        if kind in RESTART_FAILS:
            _fail(span, record.error or kind, None)
        elif kind in RESTART_IS_OFF:
            span.set_attribute("tractor.cancelled", True)
        span.end()

    def _restart_begins(self, record: _events.ServiceEvent) -> None:
        if record.service in self._restarts:
            return
        span = self._tracer.start_span(
            f"restart {record.service}",
            attributes={"tractor.service.name": record.service, **self._own},
        )
        if span.is_recording():
            if record.error is not None:
                span.add_event("ended", {"exception.type": error_type_of(record.error)})
            self._restarts[record.service] = span

    # -- the end --------------------------------------------------------------------------------------

    def end_all(self) -> None:
        """End what is open: an SDK exports no other spans.  Before the last export."""
        left = [one.span for one in self._open.values()]
        for spans in (self._starts, self._downs, self._restarts):
            left.extend(spans.values())
            spans.clear()
        self._open.clear()
        for span in left:
            span.set_attribute("tractor.outcome", "unknown")
            span.end()


def _fail(span: Span, error: str, traceback: str | None) -> None:
    kind = error_type_of(error)
    span.set_attribute("error.type", kind)
    event = {"exception.type": kind}
    if traceback is not None:
        event["exception.stacktrace"] = traceback
        last = traceback.rstrip().rpartition("\n")[2].strip()
        event["exception.message"] = last.partition(": ")[2] or last
    span.add_event("exception", event)
    span.set_status(Status(StatusCode.ERROR, kind))


def current_task() -> object:
    """The trio task that runs; ``None``: none does."""
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None
