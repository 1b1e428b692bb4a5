"""Endpoints of the tests of OpenTelemetry, and the setup that each of their processes calls."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import AsyncIterator
from typing import Any

import trio
from opentelemetry import _logs, baggage, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import tractor
from tractor import to_asyncio

log = logging.getLogger(__name__)

calls_of_setup = 0


def set_up(attributes: dict[str, Any]) -> None:
    """Providers that export to ``OTEL_EXPORTER_OTLP_ENDPOINT``, seldom: what comes was flushed."""
    global calls_of_setup
    calls_of_setup += 1
    resource = Resource.create({"service.name": "tests", **attributes})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(spans)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=600_000)
    metrics.set_meter_provider(MeterProvider([reader], resource=resource))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(logs)
    with warnings.catch_warnings():
        # What takes its place is another distribution.
        warnings.simplefilter("ignore", DeprecationWarning)
        logging.getLogger().addHandler(LoggingHandler(logging.INFO, logs))
    log.setLevel(logging.INFO)


def fail_elsewhere(attributes: dict[str, Any]) -> None:
    if attributes["tractor.actor.name"] != "root":
        raise OSError("no setup here")


async def keep_leaf() -> None:
    """Start an actor that stays."""

    async def keep(task_status: trio.TaskStatus[tractor.Portal]) -> None:
        async with tractor.open_nursery() as an:
            task_status.started(await an.start_actor("leaf", enable_modules=[__name__]))
            await trio.sleep_forever()

    global leaf
    leaf = await tractor.current_actor().background.start(keep)


leaf: tractor.Portal | None = None


async def ask_leaf() -> int:
    assert leaf is not None
    return int(await leaf.run(nap, seconds=0))


async def setups() -> int:
    return calls_of_setup


async def carried() -> dict[str, object]:
    """The baggage that has come."""
    return dict(baggage.get_all())


async def nap(seconds: float) -> int:
    log.info("nap")
    await trio.sleep(seconds)
    return os.getpid()


async def relay(seconds: float) -> int:
    """Has a subactor of its own nap, and sleeps as long itself."""
    async with tractor.open_nursery() as an:
        leaf = await an.start_actor("leaf", enable_modules=[__name__])
        pid: int = await leaf.run(nap, seconds=seconds)
        async with trio.open_nursery() as tn:
            # In another task than the one that serves.
            tn.start_soon(_ask_again, leaf)
        await leaf.cancel_actor()
    await trio.sleep(seconds)
    return pid


async def _ask_again(leaf: tractor.Portal) -> None:
    await leaf.run(setups)


async def fail() -> None:
    raise ValueError("as it should")


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@tractor.context
async def echo(ctx: tractor.Context, seconds: float) -> None:
    await ctx.started(None)
    await trio.sleep(seconds)
    async with ctx.open_stream() as stream:
        async for message in stream:
            await stream.send(message)


async def in_asyncio() -> str:
    """The trace that is current in an asyncio task."""
    return str(await to_asyncio.run_task(_aio))


async def _aio() -> str:
    await asyncio.sleep(0)
    with trace.get_tracer("program").start_as_current_span("in asyncio"):
        return f"{trace.get_current_span().get_span_context().trace_id:032x}"
