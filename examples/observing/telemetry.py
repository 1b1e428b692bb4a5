"""A tree whose spans, metrics and logs go to a collector, or any other receiver of OTLP over HTTP.

Where that is says the environment, by OpenTelemetry's own variables:

    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python examples/observing/telemetry.py

Needs `pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http` beside the extra `otel`.
"""

import os
import sys
from typing import Any

import trio
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import tractor
from tractor.devx import otel


def set_up(attributes: dict[str, Any]) -> None:
    """Called once in each process; `attributes` say which actor it is."""
    resource = Resource.create({"service.name": "kitchen", **attributes})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader], resource=resource))


async def chop(what: str) -> str:
    # A span of the program's own: a child of the one of the call.
    with trace.get_tracer("kitchen").start_as_current_span("sharpen the knife"):
        await trio.sleep(0.1)
    return f"chopped {what}"


async def cook(what: str) -> str:
    async with tractor.open_nursery() as an:
        helper = await an.start_actor("helper", enable_modules=[__name__])
        done: str = await helper.run(chop, what=what)
        await helper.cancel_actor()
    return f"{done}, cooked"


async def main() -> None:
    async with tractor.open_nursery() as an:
        otel.instrument(setup="__main__:set_up")
        chef = await an.start_actor("chef", enable_modules=[__name__])
        print(await chef.run(cook, what="leek"))
        await chef.cancel_actor()


if __name__ == "__main__":
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ:
        sys.exit("set OTEL_EXPORTER_OTLP_ENDPOINT: where is the receiver?")
    trio.run(main)
