"""Programs whose trees are instrumented, each in a process of its own: an SDK's providers are the process's for good.

Usage: ``python otel_tree.py PROGRAM``, with ``OTEL_EXPORTER_OTLP_ENDPOINT``.  What it prints is a JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "endpoints"))

import otel_acts
from opentelemetry import baggage, context, trace

import tractor
from tractor.devx import otel

ACTS = "otel_acts"
SETUP = "otel_acts:set_up"
FORK = "main_thread_forkserver" if hasattr(os, "fork") else "trio"
"""Quick where the kind of actor does not matter: an interpreter would load the SDK again."""


async def three_levels(said: dict[str, Any]) -> None:
    async with tractor.open_nursery() as an:
        otel.instrument(setup=SETUP)
        middle = await an.start_actor("middle", enable_modules=[ACTS])
        tracer = trace.get_tracer("program")
        with tracer.start_as_current_span("of the program") as span:
            said["trace"] = f"{span.get_span_context().trace_id:032x}"
            await middle.run(otel_acts.relay, seconds=0.4)
            async with middle.open_context(otel_acts.echo, seconds=0.3) as (ctx, _):
                assert trace.get_current_span() is span
                async with ctx.open_stream() as stream:
                    for number in range(3):
                        await stream.send(number)
                        await stream.receive()
            token = context.attach(baggage.set_baggage("customer", "blue"))
            said["baggage"] = await middle.run(otel_acts.carried)
            context.detach(token)
            async with middle.open_stream_from(otel_acts.numbers, count=5) as stream:
                said["numbers"] = [number async for number in stream]
        await middle.cancel_actor()


async def errors(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(start_method=FORK) as an:
        otel.instrument(setup=SETUP)
        other = await an.start_actor("other", enable_modules=[ACTS])
        for call in (
            partial(other.run, otel_acts.fail),
            partial(other.run_from_ns, ACTS, "no_such"),
            partial(other.run_from_ns, "no.such.module", "work"),
        ):
            with contextlib.suppress(tractor.RemoteActorError, AttributeError):
                await call()
        with trio.move_on_after(0.2):
            await other.run(otel_acts.nap, seconds=60)
        async with other.open_context(otel_acts.echo, seconds=60) as (ctx, _):
            await ctx.cancel()
        await other.cancel_actor()


async def killed(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(name="root", start_method=FORK):
        otel.instrument(setup=SETUP)
        try:
            async with tractor.open_nursery() as an:
                victim = await an.start_actor("victim", enable_modules=[ACTS])
                pid: int = await victim.run(otel_acts.nap, seconds=0)
                async with trio.open_nursery() as tn:
                    tn.start_soon(partial(victim.run, otel_acts.nap, seconds=60))
                    await trio.sleep(0.2)
                    os.kill(pid, signal.SIGKILL)
        except (tractor.TransportClosed, tractor.ActorFailure, BaseExceptionGroup) as exc:
            said["raised"] = type(exc).__name__


async def infected(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(start_method=FORK) as an:
        otel.instrument(setup=SETUP)
        other = await an.start_actor("other", enable_modules=[ACTS], infect_asyncio=True)
        said["trace"] = await other.run(otel_acts.in_asyncio)
        await other.cancel_actor()


async def forked(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(start_method=FORK) as an:
        otel.instrument(setup=SETUP)
        with trace.get_tracer("program").start_as_current_span("of the program"):
            other = await an.start_actor("other", enable_modules=[ACTS])
        said["setups"] = await other.run(otel_acts.setups)
        await other.run(otel_acts.nap, seconds=0)
        await other.cancel_actor()


async def silent(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(name="root"):
        otel.instrument(setup=SETUP)
        async with tractor.open_nursery() as an:
            other = await an.start_actor("other", enable_modules=[ACTS])
            await other.run(otel_acts.nap, seconds=0)
            await other.cancel_actor()
            before = time.monotonic()
        said["subactor"] = time.monotonic() - before
        before = time.monotonic()
    said["root"] = time.monotonic() - before


async def unsampled(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(start_method=FORK) as an:
        otel.instrument(setup=SETUP)
        other = await an.start_actor("other", enable_modules=[ACTS])
        token = context.attach(baggage.set_baggage("secret", "x"))
        said["baggage"] = await other.run(otel_acts.carried)
        context.detach(token)
        await other.cancel_actor()


async def late(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(start_method=FORK) as an:
        other = await an.start_actor("other", enable_modules=[ACTS])
        await other.run(otel_acts.keep_leaf)
        otel.instrument(setup=SETUP)
        otel.instrument(setup=SETUP)
        try:
            otel.instrument()
        except tractor.RuntimeFailure as exc:
            said["again"] = str(exc)
        said["leaf"] = await other.run(otel_acts.ask_leaf)
        await other.cancel_actor()


async def restarted(said: dict[str, Any]) -> None:
    async with tractor.open_nursery(name="root", start_method=FORK):
        otel.instrument(setup=SETUP)
        async with tractor.open_supervisor() as sup:
            service = await sup.start_service("answers", enable_modules=[ACTS])
            events = service.events()
            assert service.pid is not None
            os.kill(service.pid, signal.SIGKILL)
            async for event in events:
                if event.kind == "ready":
                    break


async def wrong(said: dict[str, Any]) -> None:
    async with tractor.open_nursery() as an:
        for setup in ("no_such_module:f", "otel_acts:no_such", "otel_acts", 3):
            try:
                otel.instrument(setup=setup)  # type: ignore[arg-type]
            except Exception as exc:
                said[str(setup)] = type(exc).__name__
        otel.instrument(setup="otel_acts:fail_elsewhere")
        other = await an.start_actor("other", enable_modules=[ACTS])
        said["pid"] = await other.run(otel_acts.nap, seconds=0)
        await other.cancel_actor()


PROGRAMS = {
    one.__name__: one
    for one in (
        three_levels,
        errors,
        killed,
        infected,
        forked,
        silent,
        unsampled,
        late,
        restarted,
        wrong,
    )
}

if __name__ == "__main__":
    said: dict[str, Any] = {}
    trio.run(PROGRAMS[sys.argv[1]], said)
    print(json.dumps(said), flush=True)
    # What the SDK would do at the exit is no subject here.
    os._exit(0)
