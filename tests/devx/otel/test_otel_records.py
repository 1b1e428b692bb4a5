"""What OpenTelemetry is told of records that are fed in: no actor, no exporter."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import tractor

pytest.importorskip("opentelemetry.sdk", reason="needs the SDK of OpenTelemetry")

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from tractor.devx import otel
from tractor.devx.otel._logs import carry_ids
from tractor.devx.otel._metrics import Metrics
from tractor.devx.otel._spans import Spans
from tractor.devx.otel._words import end_of, error_type_of, is_unknown_function
from tractor.runtime.seen import _events as ev

OWN = "11111111-uuid"
PEER = "22222222-uuid"
DIALOG = (OWN, 1)
FUNCTION = "pkg.module:work"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "x.py", line 1, in work\nValueError: too: bad'
)


class Bed:
    """An instrument, and what it has told."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=options.pop("sampler", None), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.spans = Metrics(
            "me",
            OWN,
            7,
            is_root=True,
            provider=self.provider,
            meter_provider=self.meters,
            **options,
        )

    def told(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def one(self) -> ReadableSpan:
        (span,) = self.told()
        return span

    def metrics(self) -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
        """By name: the values, or the sums of histograms, by attributes."""
        data = self.reader.get_metrics_data()
        found: dict[str, dict[tuple[tuple[str, Any], ...], Any]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = found.setdefault(metric.name, {})
                    for point in metric.data.data_points:
                        key = tuple(sorted((point.attributes or {}).items()))
                        points[key] = getattr(point, "value", getattr(point, "sum", None))
        return found


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.provider.shutdown()
    made.meters.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def call(
    side: str = "caller", headers: dict[str, str] | None = None, **more: Any
) -> ev.CallStarted:
    values = {"function": FUNCTION, "dialog": DIALOG, **more}
    return ev.CallStarted(
        0,
        OWN,
        side=side,
        peer=PEER,
        peer_name="other",
        task=1,
        transport="uds",
        headers=headers,
        **values,
    )


def ended(
    side: str = "caller", outcome: str = "ok", error: str | None = None, **more: Any
) -> ev.CallEnded:
    values = {"function": FUNCTION, "dialog": DIALOG, "duration": 250_000_000, **more}
    return ev.CallEnded(0, OWN, side=side, outcome=outcome, error=error, **values)


# -- calls --------------------------------------------------------------------------------------------


def test_a_call_is_a_client_span_with_the_conventions_attributes(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended())
    span = bed.one()
    assert span.name == "pkg.module/work"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "rpc.system.name": "tractor",
        "rpc.method": "pkg.module/work",
        "server.address": "other",
        "network.transport": "unix",
        "tractor.dialog.kind": "call",
        "tractor.actor.name": "me",
        "tractor.actor.uuid": OWN,
        "process.pid": 7,
    }


def test_a_caller_is_a_child_of_the_current_span_and_is_never_current_itself(bed: Bed) -> None:
    with bed.provider.get_tracer("t").start_as_current_span("above") as above:
        bed.spans.call_started(call())
        assert trace.get_current_span() is above
        bed.spans.call_ended(ended())
    inner = next(one for one in bed.told() if one.name != "above")
    assert inner.parent is not None
    assert inner.parent.span_id == above.get_span_context().span_id


def test_headers_lead_the_callees_span_and_baggage(bed: Bed) -> None:
    token = context.attach(baggage.set_baggage("customer", "blue"))
    try:
        bed.spans.call_started(call())
        headers = bed.spans.headers(call())
    finally:
        context.detach(token)
    assert headers is not None
    assert set(headers) == {"traceparent", "baggage"}
    bed.spans.call_started(call("callee", dict(headers)))
    current = trace.get_current_span().get_span_context()
    assert baggage.get_baggage("customer") == "blue"
    bed.spans.call_ended(ended("callee"))
    assert not trace.get_current_span().get_span_context().is_valid
    bed.spans.call_ended(ended())
    server, client = bed.told()
    assert (server.kind, client.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert server.parent is not None
    assert client.context is not None
    assert server.parent.span_id == client.context.span_id
    assert server.context is not None
    assert current.span_id == server.context.span_id
    assert attributes(server)["server.address"] == "me"
    assert attributes(server)["client.address"] == "other"


def test_a_callee_without_headers_begins_a_trace_whatever_is_current(bed: Bed) -> None:
    with bed.provider.get_tracer("t").start_as_current_span("of the program"):
        bed.spans.call_started(call("callee"))
        bed.spans.call_ended(ended("callee"))
    server = next(one for one in bed.told() if one.kind is SpanKind.SERVER)
    assert server.parent is None


def test_both_sides_in_one_actor_are_told_apart(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_started(call("callee"))
    bed.spans.call_ended(ended("callee"))
    bed.spans.call_ended(ended())
    assert [one.kind for one in bed.told()] == [SpanKind.SERVER, SpanKind.CLIENT]


def test_without_propagation_nothing_is_sent_and_nothing_taken() -> None:
    bed = Bed(propagate=False)
    sending = Bed()
    sending.spans.call_started(call())
    headers = sending.spans.headers(call())
    assert headers is not None
    bed.spans.call_started(call())
    assert bed.spans.headers(call()) is None
    bed.spans.call_started(call("callee", dict(headers)))
    bed.spans.call_ended(ended("callee"))
    assert bed.one().parent is None


def test_what_is_not_sampled_sends_nothing_and_is_forgotten() -> None:
    bed = Bed(sampler=ALWAYS_OFF)
    bed.spans.call_started(call())
    assert bed.spans.headers(call()) is None
    bed.spans.call_started(call("callee"))
    assert bed.spans._open == {}
    bed.spans.call_ended(ended("callee"))
    bed.spans.call_ended(ended())
    assert bed.told() == []


def test_an_error_has_its_type_status_and_boxed_traceback(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended(outcome="error", error="pkg.errors:Bad", traceback=TRACEBACK))
    span = bed.one()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "pkg.errors.Bad"
    (event,) = span.events
    assert event.name == "exception"
    assert dict(event.attributes or {}) == {
        "exception.type": "pkg.errors.Bad",
        "exception.message": "too: bad",
        "exception.stacktrace": TRACEBACK,
    }


def test_a_lost_peer_is_an_error(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended(outcome="died", error="tractor:TransportClosed"))
    span = bed.one()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "tractor.TransportClosed"
    assert attributes(span)["tractor.outcome"] == "died"


@pytest.mark.parametrize(
    ("side", "by_us", "is_error"),
    [
        ("caller", True, False),
        ("callee", True, False),
        ("callee", False, False),
        ("caller", False, True),
    ],
)
def test_a_cancel_is_an_error_only_for_a_caller_that_did_not_ask(
    bed: Bed, side: str, by_us: bool, is_error: bool
) -> None:
    bed.spans.call_started(call(side))
    bed.spans.call_ended(ended(side, "cancelled", "tractor:ContextCancelled", by_us=by_us))
    span = bed.one()
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert attributes(span).get("tractor.cancelled", False) is not is_error
    assert ("error.type" in attributes(span)) is is_error


def test_an_unknown_function_is_other(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended(outcome="error", error="tractor._exceptions:ModuleNotExposed"))
    span = bed.one()
    assert span.name == "_OTHER"
    assert attributes(span)["rpc.method"] == "_OTHER"
    assert attributes(span)["rpc.method_original"] == "pkg.module/work"
    (key,) = bed.metrics()["rpc.client.call.duration"]
    assert dict(key)["rpc.method"] == "_OTHER"


def test_a_missing_name_and_an_attribute_error_of_the_function_are_told_apart() -> None:
    def is_unknown(error: str | None, text: str | None) -> bool:
        return is_unknown_function("m:f", error, text)

    missing = "AttributeError: m:f: this module has no attribute 'f'\n"
    framed = f'Traceback (most recent call last):\n  File "a.py", line 3, in f\n{missing}'
    assert is_unknown("builtins:AttributeError", missing)
    assert is_unknown("AttributeError", missing)
    assert is_unknown("builtins:TypeError", "TypeError: m:f must be an async function, and is")
    assert not is_unknown("builtins:AttributeError", framed)
    assert not is_unknown("builtins:AttributeError", None)
    assert not is_unknown("builtins:ValueError", missing)
    assert not is_unknown(None, None)


def test_a_context_tells_its_messages_and_bytes(bed: Bed) -> None:
    bed.spans.context_opened(
        ev.ContextOpened(
            0,
            OWN,
            DIALOG,
            side="caller",
            peer=PEER,
            peer_name="other",
            function=FUNCTION,
            task=1,
            transport="tcp",
        )
    )
    bed.spans.context_closed(
        ev.ContextClosed(
            0,
            OWN,
            DIALOG,
            side="caller",
            function=FUNCTION,
            outcome="ok",
            error=None,
            duration=1_000_000_000,
            sent=3,
            received=4,
            discarded=1,
            bytes_out=30,
            bytes_in=40,
        )
    )
    span = bed.one()
    told = attributes(span)
    assert told["tractor.dialog.kind"] == "context"
    assert told["network.transport"] == "tcp"
    assert [told[f"tractor.messages.{one}"] for one in ("sent", "received", "discarded")] == [
        3,
        4,
        1,
    ]
    assert [told[f"tractor.bytes.{one}"] for one in ("sent", "received")] == [30, 40]


def test_what_is_open_at_the_actors_end_is_exported(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.end_all()
    assert attributes(bed.one())["tractor.outcome"] == "unknown"


# -- subactors ----------------------------------------------------------------------------------------


def gone(
    status: int | None, rung: int | None, outcome: str, error: str | None = None
) -> ev.ChildGone:
    return ev.ChildGone(0, OWN, PEER, "worker", "trio", None, status, rung, outcome, error)


def test_a_start_is_a_span_with_what_it_took(bed: Bed) -> None:
    bed.spans.child_starting(ev.ChildStarting(0, OWN, PEER, "worker", "trio", "there"))
    bed.spans.child_ready(ev.ChildReady(0, OWN, PEER, "worker", "trio", "there", 0.1, 0.2, 0.3))
    span = bed.one()
    assert span.name == "start worker"
    assert span.kind is SpanKind.INTERNAL
    told = attributes(span)
    assert told["tractor.backend"] == "trio"
    assert told["tractor.host"] == "there"
    assert [told[f"tractor.start.{one}"] for one in ("spawn", "connect", "boot")] == [0.1, 0.2, 0.3]


def test_a_start_that_fails_is_one_span_with_an_error(bed: Bed) -> None:
    bed.spans.child_starting(ev.ChildStarting(0, OWN, PEER, "worker", "trio"))
    bed.spans.child_gone(gone(1, None, "error", "builtins:ImportError"))
    span = bed.one()
    assert span.name == "start worker"
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ImportError"
    assert attributes(span)["process.exit.code"] == 1


def test_a_teardown_has_its_rungs_and_no_error(bed: Bed) -> None:
    for rung in (1, 2):
        bed.spans.rung(ev.Rung(0, OWN, PEER, "worker", rung))
    bed.spans.child_gone(gone(0, 2, "cancelled"))
    span = bed.one()
    assert span.name == "teardown worker"
    assert [dict(one.attributes or {})["tractor.rung"] for one in span.events] == [1, 2]
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["tractor.rung"] == 2
    assert attributes(span)["tractor.cancelled"] is True


def test_a_child_that_was_killed_has_its_end_and_status_at_its_parent(bed: Bed) -> None:
    bed.spans.child_gone(gone(-9, None, "died"))
    span = bed.one()
    assert span.name == "teardown worker"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "killed by SIGKILL"
    assert attributes(span)["process.exit.code"] == -9


def service(kind: str, **more: Any) -> ev.ServiceEvent:
    return ev.ServiceEvent(0, OWN, "worker", kind, kind, **more)


def test_a_restart_holds_the_start_and_ends_when_the_service_is_ready(bed: Bed) -> None:
    bed.spans.service_event(service("starting"))
    bed.spans.service_event(service("ready"))
    bed.spans.service_event(service("crashed", error="builtins:ValueError"))
    bed.spans.service_event(service("backoff"))
    bed.spans.service_event(service("starting", restarts=1))
    bed.spans.child_starting(ev.ChildStarting(0, OWN, PEER, "worker", "trio"))
    bed.spans.child_ready(ev.ChildReady(0, OWN, PEER, "worker", "trio", None, 0.1, 0.2, 0.3))
    bed.spans.service_event(service("ready", restarts=1))
    start, restart = bed.told()
    assert restart.name == "restart worker"
    assert restart.status.status_code is StatusCode.UNSET
    assert attributes(restart)["tractor.restarts"] == 1
    assert start.parent is not None
    assert restart.context is not None
    assert start.parent.span_id == restart.context.span_id
    assert list(bed.metrics()["tractor.actor.restarts"].values()) == [1]


def test_a_restart_that_is_given_up_is_an_error(bed: Bed) -> None:
    bed.spans.service_event(service("crashed", error="builtins:ValueError"))
    bed.spans.service_event(service("gave-up", error="builtins:ValueError"))
    assert bed.one().status.status_code is StatusCode.ERROR


# -- metrics ------------------------------------------------------------------------------------------


def test_durations_are_in_seconds_by_method_and_error(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended())
    bed.spans.call_started(call("callee"))
    bed.spans.call_ended(ended("callee", "error", "builtins:ValueError"))
    found = bed.metrics()
    plain = {"rpc.system.name": "tractor", "rpc.method": "pkg.module/work"}
    assert found["rpc.client.call.duration"] == {tuple(sorted(plain.items())): 0.25}
    failed = {**plain, "error.type": "ValueError"}
    assert found["rpc.server.call.duration"] == {tuple(sorted(failed.items())): 0.25}


def test_metrics_count_what_is_not_sampled_too() -> None:
    bed = Bed(sampler=ALWAYS_OFF)
    bed.spans.call_started(call())
    bed.spans.call_ended(ended())
    assert list(bed.metrics()["rpc.client.call.duration"].values()) == [0.25]


def test_actors_are_counted_by_state_and_failures_by_outcome(bed: Bed) -> None:
    def now() -> dict[tuple[str, str], int]:
        found = bed.metrics()["tractor.actors"]
        return {
            (dict(key)["tractor.actor.name"], dict(key)["tractor.actor.state"]): value
            for key, value in found.items()
            if value
        }

    bed.spans.child_starting(ev.ChildStarting(0, OWN, PEER, "worker", "trio"))
    assert now() == {("me", "run"): 1, ("worker", "boot"): 1}
    bed.spans.child_ready(ev.ChildReady(0, OWN, PEER, "worker", "trio", None, 0.1, 0.2, 0.3))
    assert now() == {("me", "run"): 1, ("worker", "run"): 1}
    bed.spans.child_gone(gone(-9, None, "died"))
    assert now() == {("me", "run"): 1}
    failures = bed.metrics()["tractor.actor.failures"]
    assert failures == {(("tractor.actor.name", "worker"), ("tractor.outcome", "died")): 1}
    bed.spans.end_all()
    assert now() == {}


def test_streams_and_channels_are_summed_when_they_end(bed: Bed) -> None:
    for _ in range(2):
        bed.spans.stream_closed(ev.StreamClosed(0, OWN, DIALOG, "caller", PEER, FUNCTION, 5, 7, 0))
        bed.spans.channel_lost(ev.ChannelLost(0, OWN, PEER, "other", "tcp", 100, 200))
    bed.spans.credit_waited(ev.CreditWaited(0, OWN, DIALOG, 500_000_000, FUNCTION))
    found = bed.metrics()
    assert found["tractor.stream.messages"] == {
        (("network.io.direction", "transmit"), ("rpc.method", "pkg.module/work")): 10,
        (("network.io.direction", "receive"), ("rpc.method", "pkg.module/work")): 14,
    }
    assert found["tractor.channel.io"] == {
        (("network.io.direction", "transmit"), ("network.transport", "tcp")): 400,
        (("network.io.direction", "receive"), ("network.transport", "tcp")): 200,
    }
    assert list(found["tractor.stream.credit_wait.duration"].values()) == [0.5]


def test_no_metric_names_a_process_or_a_dialog(bed: Bed) -> None:
    bed.spans.call_started(call())
    bed.spans.call_ended(ended())
    bed.spans.child_gone(gone(-9, None, "died"))
    bed.spans.stream_closed(ev.StreamClosed(0, OWN, DIALOG, "caller", PEER, FUNCTION, 5, 7, 0))
    keys = {key for points in bed.metrics().values() for point in points for key, _ in point}
    assert keys == {
        "rpc.system.name", "rpc.method", "tractor.actor.name", "tractor.actor.state", "tractor.outcome",
        "network.io.direction",
    }  # fmt: skip


# -- logs, words --------------------------------------------------------------------------------------


def test_log_records_carry_the_current_span(bed: Bed) -> None:
    undo = carry_ids()
    try:
        make = logging.getLogRecordFactory()
        none: Any = make("x", 20, "f", 1, "m", (), None)
        with bed.provider.get_tracer("t").start_as_current_span("above") as above:
            record: Any = make("x", 20, "f", 1, "m", (), None)
        # A second time, as in an actor that is forked off.
        carry_ids()()
        assert logging.getLogRecordFactory() is make
    finally:
        undo()
    assert logging.getLogRecordFactory() is logging.LogRecord
    ids = above.get_span_context()
    assert record.otelTraceID == f"{ids.trace_id:032x}"
    assert record.otelSpanID == f"{ids.span_id:016x}"
    assert record.otelTraceSampled is True
    assert (none.otelTraceID, none.otelSpanID, none.otelTraceSampled) == ("0", "0", False)


def test_without_an_sdk_nothing_is_kept() -> None:
    spans = Spans("me", OWN, 7, provider=trace.NoOpTracerProvider())
    spans.call_started(call())
    assert spans.headers(call()) is None
    assert spans._open == {}


def test_ends_and_errors_in_words() -> None:
    assert end_of(-9) == "killed by SIGKILL"
    assert end_of(-250) == "killed by signal 250"
    assert end_of(3) == "exit status 3"
    assert end_of(None) == "its exit status is unknown"
    assert error_type_of("builtins:ValueError") == "ValueError"
    assert error_type_of("a.b:C.D") == "a.b.C.D"


def test_without_the_api_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("tractor.devx.otel._")]:
        if name.rpartition(".")[2] != "_arming":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    async def main() -> None:
        async with tractor.open_root_actor():
            with pytest.raises(ImportError, match=r"pip install 'trio-tractor\[otel\]'"):
                otel.instrument()

    trio.run(main)


def test_outside_of_an_actor_there_is_nothing_to_instrument() -> None:
    with pytest.raises(tractor.NoRuntime):
        otel.instrument()
