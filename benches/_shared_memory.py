"""Rows about payloads between two processes of one host: what a socket, a ring and shared memory cost beside memcpy."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec

import tractor
from benches import _shm_endpoints as endpoints
from benches._floors import check_sum, open_pipe
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import open_root, run
from tractor.ipc import RingBuffReceiver, open_ringbuf, open_shm_ndarray

__all__ = ["ROWS"]

ENDPOINTS = "benches._shm_endpoints"
MEMCPY = "memcpy of as much, in one process"
PIPE = "multiprocessing.Pipe"
MIB = 1 << 20
LARGE = 100_000_000
RING = 4 * MIB
DTYPE = [("index", "<i8"), ("value", "<f8")]

SIZES = {"1m": (MIB, 200), "100m": (LARGE, 3)}
"""Bytes of a payload and how many make a sample, by the end of a row's name."""


def _memcpy(size: int, n: int) -> Callable[[], Awaitable[float]]:
    # Views: a bytearray would copy the bytes once more on the way.  The first copy pays for the memory.
    source, target = memoryview(bytes(size)), memoryview(bytearray(size))
    target[:] = source

    async def rate() -> float:
        began = time.perf_counter()
        for _ in range(n):
            target[:] = source
        return size * n / (time.perf_counter() - began) / 1e9

    return rate


def _checked(size: int, n: int, came: int) -> None:
    if came != size * n:
        raise AssertionError(f"{came} bytes came of {size * n}")


def _streamed(options: Options, transport: str, size: int, n: int) -> Series:
    """Over a one-way stream of the runtime's."""

    async def main() -> Series:
        async with open_root(replace(options, transport=transport)) as an:
            portal = await an.start_actor("callee", enable_modules=[ENDPOINTS])

            async def rate() -> float:
                began = time.perf_counter()
                came = 0
                async with portal.open_stream_from(endpoints.send_payloads, size=size, n=n) as s:
                    async for payload in s:
                        came += len(payload)
                took = time.perf_counter() - began
                _checked(size, n, came)
                return came / took / 1e9

            series = await alternate(options, rate, _memcpy(size, n))
            await an.cancel()
            return series
        raise AssertionError("not reached")

    return run(main)


@asynccontextmanager
async def _open_ring(
    options: Options, fn: Any, **kwargs: Any
) -> AsyncIterator[tuple[RingBuffReceiver, tractor.MsgStream]]:
    """A ring from another actor, and a stream by which that is asked to send."""
    with open_ringbuf(f"tractor-bench-ring-{os.getpid()}", RING) as token:
        async with open_root(options) as an:
            portal = await an.start_actor(
                "callee", enable_modules=[ENDPOINTS], proc_kwargs={"pass_fds": token.fds}
            )
            opening = portal.open_context(fn, token=token.as_msg(), **kwargs)
            async with (
                RingBuffReceiver(token) as receiver,
                opening as (ctx, _),
                ctx.open_stream() as stream,
            ):
                yield receiver, stream
            await an.cancel()


def _over_ring(options: Options, size: int, n: int) -> Series:
    """Over a raw ring, received into memory at hand."""

    async def main() -> Series:
        async with _open_ring(options, endpoints.ring_payloads, size=size) as (receiver, stream):
            target = memoryview(bytearray(size))
            target[:] = bytes(size)

            async def rate() -> float:
                began = time.perf_counter()
                await stream.send(n)
                for _ in range(n):
                    came = 0
                    while came < size:
                        came += await receiver.receive_into(target[came:])
                return size * n / (time.perf_counter() - began) / 1e9

            return await alternate(options, rate, _memcpy(size, n))
        raise AssertionError("not reached")

    return run(main)


def _by_token(options: Options, size: int, n: int) -> Series:
    """Written into a shared array, whose token is sent; the other actor attaches and looks into it."""
    import numpy as np

    count = size // np.dtype(DTYPE).itemsize

    async def main() -> Series:
        async with open_root(options) as an:
            portal = await an.start_actor("callee", enable_modules=[ENDPOINTS])
            rows = np.zeros(count, dtype=DTYPE)
            rows["value"] = np.arange(count)
            shared = open_shm_ndarray(count, dtype=DTYPE, append_start_index=0)
            shared.push(rows)
            async with (
                portal.open_context(endpoints.take_tokens) as (ctx, _),
                ctx.open_stream() as stream,
            ):

                async def rate() -> float:
                    began = time.perf_counter()
                    for _ in range(n):
                        shared.push(rows, start=0)
                        await stream.send(shared.token)
                        first, last, came = await stream.receive()
                        assert (first, last, came) == (0, count - 1, rows.nbytes)
                    return rows.nbytes * n / (time.perf_counter() - began) / 1e9

                series = await alternate(options, rate, _memcpy(rows.nbytes, n))
            shared.destroy()
            await an.cancel()
            return series
        raise AssertionError("not reached")

    return run(main)


def _over_pipe(options: Options, size: int, n: int) -> Series:
    """Bytes, which are not even pickled."""

    async def main() -> Series:
        with open_pipe() as pipe:

            async def rate() -> float:
                return pipe.payloads(n, size)

            return await alternate(options, rate, _memcpy(size, n))

    return run(main)


def _without_numpy() -> bool:
    return importlib.util.find_spec("numpy") is None


def _register(name: str, size: int, n: int) -> None:
    what = "1 MiB" if size == MIB else "100 MB"
    here = sys.platform == "linux"
    ways: dict[str, tuple[str, Callable[[Options, int, int], Series], bool]] = {
        "stream": (
            "one-way stream over a Unix socket",
            lambda options, s, k: _streamed(options, "uds", s, k),
            True,
        ),
        "shm": (
            "one-way stream over transport 'shm'",
            lambda options, s, k: _streamed(options, "shm", s, k),
            here,
        ),
        "ring": ("raw ring", _over_ring, here),
        "token": ("shared array and its token", _by_token, not _without_numpy()),
        "pipe": ("multiprocessing.Pipe", _over_pipe, True),
    }
    for way, (text, take, is_there) in ways.items():
        if is_there:
            _add(f"move_{way}_{name}", f"{what} by a {text}", take, size, n)


ROWS: list[str] = []
"""The names of those rows that can be measured here."""


def _add(
    name: str, work: str, take: Callable[[Options, int, int], Series], size: int, n: int
) -> None:
    ROWS.append(name)

    @row(name, work, "GB/s", MEMCPY)
    def measure(options: Options) -> Series:
        # A smoke run has neither the time nor the memory.
        return take(options, min(size, 4 * MIB) if options.smoke else size, options.count(n))


for _name, (_size, _n) in SIZES.items():
    _register(_name, _size, _n)


if not _without_numpy():
    ROWS.append("one_way_arrays")

    @row(
        "one_way_arrays",
        "one-way in a context, arrays of 8 MB, unasked",
        "GB/s",
        MEMCPY,
        Target(0.5, times_floor=True),
    )
    def one_way_arrays(options: Options) -> Series:
        """They arrive as read-only views; the first and the last number of each are looked at."""
        n = options.count(50)

        async def main() -> Series:
            arrays = importlib.import_module("benches._array_endpoints")
            async with open_root(options) as an:
                portal = await an.start_actor("callee", enable_modules=[arrays.__name__])
                async with (
                    portal.open_context(arrays.send_arrays) as (ctx, _),
                    ctx.open_stream() as stream,
                ):

                    async def rate() -> float:
                        came = 0
                        began = time.perf_counter()
                        await stream.send(n)
                        for number in range(n):
                            array = await stream.receive()
                            assert (array[0], array[-1]) == (number, len(array) - 1)
                            came += array.nbytes
                        took = time.perf_counter() - began
                        _checked(arrays.SIZE, n, came)
                        return came / took / 1e9

                    series = await alternate(options, rate, _memcpy(arrays.SIZE, n))
                await an.cancel()
                return series
            raise AssertionError("not reached")

        return run(main)


if sys.platform == "linux":
    ROWS.append("ring_one_way")

    @row(
        "ring_one_way",
        "one-way ring, small ints in frames",
        "msgs/s",
        PIPE,
        Target(1, times_floor=True),
    )
    def ring_one_way(options: Options) -> Series:
        """Each integer is sent by a call of its own, and decoded by itself; count and sum are checked."""
        n = options.count(100_000, 20)
        decode = msgspec.msgpack.Decoder(int).decode

        async def main() -> Series:
            async with _open_ring(options, endpoints.ring_ints) as (receiver, stream):
                with open_pipe() as pipe:

                    async def rate() -> float:
                        came = total = 0
                        left = b""
                        began = time.perf_counter()
                        await stream.send(n)
                        while came < n:
                            data = left + await receiver.receive_some()
                            place, end = 0, len(data)
                            while place < end:
                                stop = place + 1 + data[place]
                                if stop > end:
                                    break
                                total += decode(data[place + 1 : stop])
                                came += 1
                                place = stop
                            left = data[place:]
                        took = time.perf_counter() - began
                        check_sum(n, came, total)
                        return n / took

                    async def floor() -> float:
                        return pipe.ints(n)

                    return await alternate(options, rate, floor)
            raise AssertionError("not reached")

        return run(main)
