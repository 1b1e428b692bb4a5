"""Rows about actors behind a link to another host, without a network: what the link itself costs."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tractor
from benches import _endpoints as endpoints
from benches._placement import on_one_cpu
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import ENDPOINTS, open_root, run

HERE = {"python": sys.executable, "cwd": ".", "options": {"command": ["env"]}}


@asynccontextmanager
async def _linked(
    options: Options,
) -> AsyncIterator[tuple[tractor.ActorNursery, tractor.hosts.HostHandle]]:
    env = {"PYTHONPATH": ":".join(sys.path)}
    async with open_root(options) as an:
        async with tractor.hosts.open_host("command://here", env=env, **HERE) as host:
            yield an, host
        await an.cancel()


@row(
    "host_start",
    "start an actor over an open link to another host",
    "ms",
    "start one here",
    Target(1.2, times_floor=True),
)
def host_start(options: Options) -> Series:
    """The second and later ones on a link."""

    async def main() -> Series:
        async with _linked(options) as (an, host):

            async def start(where: tractor.hosts.HostHandle | None) -> float:
                began = time.perf_counter()
                portal = await an.start_actor("a", host=where, enable_modules=[ENDPOINTS])
                took = (time.perf_counter() - began) * 1e3
                await portal.cancel_actor()
                return took

            return await alternate(options, lambda: start(host), lambda: start(None))

    return run(main)


@row(
    "host_call",
    "call an actor of another host, by a direct road",
    "us",
    "call an actor of this host",
    Target(2.0, times_floor=True),
)
def host_call(options: Options) -> Series:
    """Another host has no other transport than TCP."""
    n = options.count(500)

    async def main() -> Series:
        async with _linked(options) as (an, host):
            far = await an.start_actor("far", host=host, enable_modules=[ENDPOINTS])
            near = await an.start_actor(
                "near", enable_modules=[ENDPOINTS], enable_transports=["tcp"]
            )

            async def calls(portal: tractor.Portal) -> float:
                began = time.perf_counter()
                for _ in range(n):
                    await portal.run(endpoints.nothing)
                return (time.perf_counter() - began) / n * 1e6

            return await alternate(options, lambda: calls(far), lambda: calls(near))

    with on_one_cpu(options.placement):
        return run(main)
