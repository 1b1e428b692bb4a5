"""What OpenTelemetry costs a call: `python -m benches.otel_cost`.

One actor calls another one again and again, over each way to be told of it; the ways take turns, each in a process of
its own, and the best of the rounds counts.  What is measured is CPU time, of both processes and all of their threads:
what else happens on the machine changes it little.  The floor is the call without any instrument, in the same run.  The
SDK's exporter throws the spans away: what a receiver costs is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import trio

import tractor

WAYS = ("plain", "api alone", "metrics, not sampled", "sampled, no metrics", "sampled")
"""Nothing; no SDK; an SDK that records no span; one that records both spans of each call, without and with metrics."""

ROUNDS = 7
"""Of calls in each process, after one that does not count."""


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


async def measure(way: str, calls: int) -> float:
    """Seconds of CPU time of a call, the best of the rounds."""
    async with tractor.open_nursery() as an:
        if way != "plain":
            from tractor.devx import otel

            os.environ["TRACTOR_BENCH_WAY"] = way
            otel.instrument(
                setup=None if way == "api alone" else "benches.otel_cost:set_up",
                metrics=way not in ("api alone", "sampled, no metrics"),
            )
        other = await an.start_actor("other", enable_modules=["benches.otel_cost"])
        best = float("inf")
        # By its name as a module: this file is `__main__` here, and not there.
        from benches.otel_cost import echo, used

        for _ in range(ROUNDS + 1):
            began = time.process_time() + await other.run(used)
            for number in range(calls):
                await other.run(echo, value=number)
            spent = time.process_time() + await other.run(used) - began
            best = min(best, spent / calls)
        await other.cancel_actor()
    return best


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benches.otel_cost", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="of a round")
    parser.add_argument("--repeat", type=int, default=3, help="processes for each way")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(trio.run(measure, args.way, args.calls)))
        return
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(args.repeat):
        for way in WAYS:
            command = [sys.executable, "-m", "benches.otel_cost", "--way", way]
            command += ["--calls", str(args.calls)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            best[way] = min(best[way], json.loads(done.stdout))
    floor = best["plain"]
    for way, seconds in best.items():
        print(f"{way:22} {seconds * 1e6:7.1f} µs  {seconds / floor:5.2f}")


if __name__ == "__main__":
    main()
