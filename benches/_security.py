"""Rows about who may connect: what an attack costs a rightful peer, and what the key costs when."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import tractor
from benches import _attackers as attackers
from benches import _endpoints as endpoints
from benches._placement import on_one_cpu
from benches._rows import Options, Series, alternate, row
from benches._tree import ENDPOINTS, open_root, run
from tractor.discovery import open_portal
from tractor.ipc import Channel, transport_from_addr

if sys.platform != "win32":
    import resource

ATTACKERS = "benches._attackers"

HALF_OPEN = 1000

Address = tuple[str, int]


@asynccontextmanager
async def _open_callee(
    options: Options, one_cpu: bool = False
) -> AsyncIterator[tuple[tractor.ActorNursery, tractor.Portal, Address]]:
    """An actor over TCP, whatever the options say, and where it listens."""
    with on_one_cpu(one_cpu and options.placement):
        async with open_root(replace(options, transport="tcp")) as an:
            portal = await an.start_actor("callee", enable_modules=[ENDPOINTS, ATTACKERS])
            ((host, port),) = await portal.run(attackers.listens_on)
            yield an, portal, (host, port)
            await an.cancel()


async def _call(portal: tractor.Portal, n: int) -> float:
    """Seconds that so many calls take, one after the other."""
    began = time.perf_counter()
    for _ in range(n):
        await portal.run(endpoints.nothing)
    return time.perf_counter() - began


@contextmanager
def _descriptors_for(count: int) -> Iterator[None]:
    """Let this process, and those that it starts, have so many connections half-open: a quarter of all."""
    if sys.platform == "win32":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * count + 200 if hard < 0 else min(hard, 4 * count + 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _attacked(options: Options, attack: Any, **kwargs: Any) -> Series:
    """Calls a second while an actor attacks the callee, beside those in peace."""
    n = options.count(2000)
    refused: list[int] = []
    silent: list[int] = []

    async def main() -> Series:
        async with _open_callee(options) as (an, portal, (host, port)):
            attacker = await an.start_actor("attacker", enable_modules=[ATTACKERS])

            async def in_peace() -> float:
                return n / await _call(portal, n)

            async def measured() -> float:
                before, _ = await portal.run(attackers.server_counts)
                async with attacker.open_context(attack, host=host, port=port, **kwargs) as (
                    ctx,
                    _,
                ):
                    took = await _call(portal, n)
                    after, now = await portal.run(attackers.server_counts)
                    refused.append(round((after - before) / took))
                    silent.append(now)
                    await ctx.cancel()
                while (await portal.run(attackers.server_counts))[1]:
                    pass
                return n / took

            series = await alternate(options, measured, in_peace)
            if attack is attackers.storm:
                series.notes.append(f"{max(refused):,} wrong keys a second were refused meanwhile")
            else:
                series.notes.append(f"{max(silent):,} connections were half-open meanwhile")
            return series
        raise AssertionError("not reached")

    with _descriptors_for(HALF_OPEN):
        return run(main)


@row(
    "attack_flood",
    "calls during 1,000 half-open connections",
    "calls/s",
    "the same calls in peace",
)
def attack_flood(options: Options) -> Series:
    """They say nothing, and stay until their deadline."""
    return _attacked(options, attackers.hold_half_open, count=options.count(HALF_OPEN, 20))


@row("attack_storm", "calls during a storm of wrong keys", "calls/s", "the same calls in peace")
def attack_storm(options: Options) -> Series:
    """From one process, as fast as it can; it takes CPU time as well."""
    return _attacked(options, attackers.storm)


async def _shake_hands(addr: Address, n: int) -> None:
    """Connect, prove, exchange identities, close."""
    for _ in range(n):
        chan = Channel(await transport_from_addr(addr), "connect")
        async with chan:
            await chan.handshake(attackers.own_aid())


@asynccontextmanager
async def _without_key(portal: tractor.Portal) -> AsyncIterator[None]:
    async with portal.open_context(attackers.accept_without_key) as (ctx, _):
        with attackers.without_key():
            yield
        await ctx.cancel()


@row("auth_connect", "connect over TCP and prove the key", "us", "the same without a key")
def auth_connect(options: Options) -> Series:
    """Identities are exchanged in both."""
    n = options.count(200)

    async def main() -> Series:
        async with _open_callee(options, one_cpu=True) as (_, portal, addr):

            async def timed() -> float:
                began = time.perf_counter()
                await _shake_hands(addr, n)
                return (time.perf_counter() - began) / n * 1e6

            async def floor() -> float:
                async with _without_key(portal):
                    return await timed()
                raise AssertionError("not reached")

            return await alternate(options, timed, floor)
        raise AssertionError("not reached")

    return run(main)


def _both_ways(options: Options, figure: Callable[[tractor.Portal], Awaitable[float]]) -> Series:
    """A figure over a connection whose peers have proven the key, beside one over which they have not."""

    async def main() -> Series:
        async with _open_callee(options, one_cpu=True) as (_, portal, addr):
            async with _without_key(portal):
                bare = Channel(await transport_from_addr(addr), "connect")
                await bare.handshake(tractor.current_actor().aid)
            proven = Channel(await transport_from_addr(addr), "connect")
            async with open_portal(bare) as keyless, open_portal(proven) as keyed:
                return await alternate(options, lambda: figure(keyed), lambda: figure(keyless))
        raise AssertionError("not reached")

    return run(main)


@row(
    "auth_call",
    "call over TCP, the key proven when connecting",
    "us",
    "the same where no key was proven",
)
def auth_call(options: Options) -> Series:
    """Two connections between the same two processes: the key is paid for once."""
    n = options.count(1000)

    async def figure(portal: tractor.Portal) -> float:
        return await _call(portal, n) / n * 1e6

    return _both_ways(options, figure)


@row(
    "auth_one_way",
    "one-way stream over TCP, the key proven when connecting",
    "msgs/s",
    "the same where no key was proven",
)
def auth_one_way(options: Options) -> Series:
    """Small integers from an async generator; the count is checked."""
    n = options.count(20_000, 20)

    async def figure(portal: tractor.Portal) -> float:
        began = time.perf_counter()
        came = 0
        async with portal.open_stream_from(endpoints.count, n=n) as stream:
            async for _ in stream:
                came += 1
        assert came == n
        return n / (time.perf_counter() - began)

    return _both_ways(options, figure)


@row(
    "auth_ping_pong",
    "stream ping-pong over TCP, the key proven when connecting",
    "us",
    "the same where no key was proven",
)
def auth_ping_pong(options: Options) -> Series:
    """One integer there and back, over one open stream."""
    n = options.count(1000)

    async def figure(portal: tractor.Portal) -> float:
        async with (
            portal.open_context(endpoints.echo) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            began = time.perf_counter()
            for i in range(n):
                await stream.send(i)
                await stream.receive()
            return (time.perf_counter() - began) / n * 1e6
        raise AssertionError("not reached")

    return _both_ways(options, figure)
