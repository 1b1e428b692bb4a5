"""What OpenTelemetry costs a call: `python -m benches.otel_cost`.

One actor calls another one again and again, without any instrument, the floor, and with OpenTelemetry's: in the same
two processes, by turns of a few calls, so that what else happens on the machine meets both.  What is measured is CPU
time, of both processes and all of their threads; of the differences of neighbours the median counts.  The exporter
throws the spans away: what a receiver costs is its own.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import trio

import tractor
from tractor.devx import Instrument, add_instrument, otel, remove_instrument

WAYS = ("api alone", "metrics, not sampled", "sampled, no metrics", "sampled")
"""No SDK; an SDK that records no span; one that records both spans of each call, without and with metrics."""


async def echo(value: int) -> int:
    return value


async def used() -> float:
    """Seconds of CPU time of this process."""
    return time.process_time()


def set_up(_attributes: dict[str, Any]) -> None:
    """Providers by `TRACTOR_BENCH_WAY`, whose exporter throws all away."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    sampled = os.environ["TRACTOR_BENCH_WAY"].startswith("sampled")
    provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


_instruments: list[Instrument] = []


async def tell(on: bool) -> None:
    """Have this actor's instruments told, or not."""
    if not _instruments:
        # Made by `otel.instrument()`, which gives it to nobody.
        found = [one for one in gc.get_objects() if issubclass(type(one), Instrument)]
        _instruments.extend(found)
    for one in _instruments:
        add_instrument(one) if on else remove_instrument(one)


async def measure(way: str, calls: int, rounds: int) -> tuple[float, float]:
    """Seconds of CPU time of a call without instruments, and what they add to it: medians of the rounds."""
    # By its name as a module: this file is `__main__` here, and not there.
    from benches import otel_cost as here

    async with tractor.open_nursery() as an:
        os.environ["TRACTOR_BENCH_WAY"] = way
        otel.instrument(
            setup=None if way == "api alone" else "benches.otel_cost:set_up",
            metrics=way not in ("api alone", "sampled, no metrics"),
        )
        other = await an.start_actor("other", enable_modules=["benches.otel_cost"])

        async def one_round(told: bool) -> float:
            for _ in range(3):
                await other.run(here.echo, value=0)
            began = time.process_time() + await other.run(here.used)
            for number in range(calls):
                await other.run(here.echo, value=number)
            spent = time.process_time() + await other.run(here.used) - began
            await here.tell(not told)
            await other.run(here.tell, on=not told)
            return spent / calls

        pairs = [(await one_round(True), await one_round(False)) for _ in range(rounds + 1)][1:]
        await other.cancel_actor()
    floor = statistics.median(plain for _, plain in pairs)
    return floor, statistics.median(told - plain for told, plain in pairs)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.otel_cost", description=__doc__)
    parser.add_argument("--calls", type=int, default=50, help="of a turn")
    parser.add_argument("--rounds", type=int, default=100, help="pairs of turns")
    parser.add_argument("--way", choices=WAYS, help="one alone")
    args = parser.parse_args()
    for way in WAYS:
        if way == args.way or args.way is None:
            report(way, args.calls, args.rounds)


def report(way: str, calls: int, rounds: int) -> None:
    """Print one way's line, by a process of its own: an SDK's providers are the process's for good."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        floor, more = pool.submit(run, way, calls, rounds).result()
    ratio = (floor + more) / floor
    print(f"{way:22} {floor * 1e6:6.0f} µs, and {more * 1e6:6.0f} µs: {ratio:5.2f}", flush=True)


def run(way: str, calls: int, rounds: int) -> tuple[float, float]:
    """As :func:`measure`, in a new process."""
    return trio.run(measure, way, calls, rounds)


if __name__ == "__main__":
    main()
