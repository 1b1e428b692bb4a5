"""A receiver of OTLP over HTTP, which decodes what comes by the protocol's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}
STATUSES = {0: "UNSET", 1: "OK", 2: "ERROR"}


def plain(value: Any) -> Any:
    """The value of an ``AnyValue``."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in pairs}


@dataclass
class GotSpan:
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    status: str
    status_text: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9

    @property
    def actor(self) -> str:
        return str(self.attributes.get("tractor.actor.name"))


@dataclass
class GotPoint:
    attributes: dict[str, Any]
    count: int
    value: float
    """Of a histogram its sum."""
    resource: dict[str, Any]


@dataclass
class GotLog:
    text: str
    trace: str
    span: str
    resource: dict[str, Any]


@dataclass
class Received:
    """What has come so far; each of a metric's points is the last that its sender has told."""

    url: str = ""
    spans: list[GotSpan] = field(default_factory=list)
    metrics: dict[str, list[GotPoint]] = field(default_factory=dict)
    logs: list[GotLog] = field(default_factory=list)
    headers: set[tuple[str, str, str]] = field(default_factory=set)
    """Of the requests: path, name and value."""

    def named(self, name: str, kind: str | None = None, **attributes: Any) -> list[GotSpan]:
        """The spans of a name, in the order of their starts."""
        found = [
            one
            for one in self.spans
            if one.name == name
            and (kind is None or one.kind == kind)
            and all(one.attributes.get(key) == value for key, value in attributes.items())
        ]
        return sorted(found, key=lambda one: one.start)

    def one(self, name: str, kind: str | None = None, **attributes: Any) -> GotSpan:
        found = self.named(name, kind, **attributes)
        assert len(found) == 1, (
            name,
            kind,
            [(one.name, one.kind, one.actor) for one in self.spans],
        )
        return found[0]

    # -- decoding --

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("/traces"):
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        elif path.endswith("/metrics"):
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        elif path.endswith("/logs"):
            self._take_logs(ExportLogsServiceRequest.FromString(body))
        else:
            raise AssertionError(f"nothing is sent to {path}")

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            resource = attributes(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        GotSpan(
                            name=span.name,
                            kind=KINDS[span.kind],
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            start=span.start_time_unix_nano,
                            end=span.end_time_unix_nano,
                            status=STATUSES[span.status.code],
                            status_text=span.status.message,
                            attributes=attributes(span.attributes),
                            events=[(one.name, attributes(one.attributes)) for one in span.events],
                            resource=resource,
                        )
                    )

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for group in request.resource_metrics:
            resource = attributes(group.resource.attributes)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    points = self.metrics.setdefault(metric.name, [])
                    for point in data.data_points:
                        got = self._point(point, resource)
                        points[:] = [
                            one
                            for one in points
                            if (one.attributes, one.resource) != (got.attributes, resource)
                        ]
                        points.append(got)

    def _point(self, point: Any, resource: dict[str, Any]) -> GotPoint:
        told = attributes(point.attributes)
        if hasattr(point, "bucket_counts"):
            return GotPoint(told, point.count, point.sum, resource)
        return GotPoint(told, 1, getattr(point, point.WhichOneof("value")), resource)

    def _take_logs(self, request: ExportLogsServiceRequest) -> None:
        for group in request.resource_logs:
            resource = attributes(group.resource.attributes)
            for scope in group.scope_logs:
                for record in scope.log_records:
                    self.logs.append(
                        GotLog(
                            str(plain(record.body)),
                            record.trace_id.hex(),
                            record.span_id.hex(),
                            resource,
                        )
                    )


@contextmanager
def open_receiver(answers: bool = True) -> Iterator[Received]:
    """Receive on a port of this host for the length of the block.

    Args:
        answers: ``False``: it takes requests and never answers.
    """
    received = Received()
    over = threading.Event()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not answers:
                over.wait()
                self.close_connection = True
                return
            with lock:
                received.headers.update((self.path, *pair) for pair in self.headers.items())
                received.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        # So that closing it waits for the threads.
        daemon_threads = False
        # Connections that are idle end when their process does.

    server = Server(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield received
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
