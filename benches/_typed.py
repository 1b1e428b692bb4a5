"""Rows about typed payloads: they may cost no more than msgspec takes to decode them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

import tractor
from benches import _typed_endpoints as endpoints
from benches._placement import on_one_cpu
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import open_root, run
from benches._typed_endpoints import ORDER, PLAIN_ORDER, Order

UNTYPED = "the same as dicts without a type, and one msgspec decode of each"


@asynccontextmanager
async def _open_callee(options: Options, one_cpu: bool) -> AsyncIterator[tractor.Portal]:
    with on_one_cpu(one_cpu and options.placement):
        async with open_root(options) as an:
            yield await an.start_actor("callee", enable_modules=[endpoints.__name__])
            await an.cancel()


def _each(n: int, work: Callable[[Any], object], argument: Any) -> float:
    """µs of one call."""
    began = time.perf_counter()
    for _ in range(n):
        work(argument)
    return (time.perf_counter() - began) / n * 1e6


def _check(expected: type, n: int, came: int, last: Any) -> None:
    if came != n or type(last) is not expected:
        raise RuntimeError(f"{came} messages came instead of {n}, the last a {type(last).__name__}")


def _beside_dicts(
    options: Options,
    n: int,
    decodes: int,
    one_cpu: bool,
    take: Callable[[tractor.Portal, bool], Awaitable[float]],
) -> Series:
    """µs a message typed, beside µs as dicts plus ``decodes`` decodes; what msgspec alone takes is noted."""
    typed_decoder = msgspec.msgpack.Decoder(Order | None)
    plain_decoder = msgspec.msgpack.Decoder()
    encoder = msgspec.msgpack.Encoder()
    encoded = encoder.encode(ORDER)
    costs: dict[str, list[float]] = {"decode": [], "as dict": [], "encode": [], "a dict": []}
    untyped: list[float] = []

    async def main() -> Series:
        async with _open_callee(options, one_cpu) as portal:

            async def floor() -> float:
                costs["decode"].append(_each(n, typed_decoder.decode, encoded))
                costs["as dict"].append(_each(n, plain_decoder.decode, encoded))
                costs["encode"].append(_each(n, encoder.encode, ORDER))
                costs["a dict"].append(_each(n, encoder.encode, PLAIN_ORDER))
                untyped.append(await take(portal, False))
                return untyped[-1] + decodes * costs["decode"][-1]

            return await alternate(options, lambda: take(portal, True), floor)
        raise AssertionError("not reached")

    series = run(main)
    typed, plain = min(series.measured), min(untyped)
    best = {name: min(samples) for name, samples in costs.items()}
    series.notes.append(
        f"typed {typed:.2f} us, as dicts {plain:.2f} us, difference {typed - plain:+.2f} us; msgspec decodes the "
        f"payload in {best['decode']:.2f} us ({best['as dict']:.2f} as a dict), {decodes} times a message, and "
        f"encodes it in {best['encode']:.2f} us ({best['a dict']:.2f} from a dict)"
    )
    return series


@row("typed_one_way", "one-way in a context, a typed struct", "us", UNTYPED, Target(1, True))
def typed_one_way(options: Options) -> Series:
    """With back pressure; count and type are checked."""
    n = options.count(10_000, 20)

    async def take(portal: tractor.Portal, typed: bool) -> float:
        fn = endpoints.send_orders if typed else endpoints.send_dicts
        began = time.perf_counter()
        came, last = 0, None
        async with (
            portal.open_context(fn, n=n) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            async for order in stream:
                came, last = came + 1, order
        took = time.perf_counter() - began
        _check(Order if typed else dict, n, came, last)
        return took / n * 1e6

    return _beside_dicts(options, n, 1, False, take)


@row("typed_ping_pong", "stream ping-pong of a typed struct", "us", UNTYPED, Target(1, True))
def typed_ping_pong(options: Options) -> Series:
    """There and back, so it is decoded twice."""
    n = options.count(1000)

    async def take(portal: tractor.Portal, typed: bool) -> float:
        fn, value = (endpoints.echo_orders, ORDER) if typed else (endpoints.echo_dicts, PLAIN_ORDER)
        last: Any = None
        async with portal.open_context(fn) as (ctx, _), ctx.open_stream() as stream:
            began = time.perf_counter()
            for _ in range(n):
                await stream.send(value)
                last = await stream.receive()
            took = time.perf_counter() - began
        _check(Order if typed else dict, n, n, last)
        return took / n * 1e6

    return _beside_dicts(options, n, 2, True, take)
