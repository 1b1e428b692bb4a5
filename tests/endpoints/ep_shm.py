"""What other actors do with shared memory and rings, for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import tractor
from tractor.ipc import (
    RBToken,
    RingBuffReceiver,
    RingBuffSender,
    attach_shm_list,
    attach_shm_ndarray,
    fd_share,
    open_ringbuf,
    open_shm_list,
    open_shm_ndarray,
)
from tractor.shm._record import list_records
from tractor.shm._segment import Segment

PREFIX = f"tractor-test-{os.getpid()}"
"""Of names that this process's tests use: other runs on this machine have others."""


def segments() -> set[str]:
    """What there is of shared memory: names that tests of this process use, and records of this run's."""
    ours = (PREFIX, f"mine_{os.getpid()}_", f"shma_{os.getpid()}_", f"shml_{os.getpid()}_")
    names = os.listdir("/dev/shm") if sys.platform == "linux" else []
    found = {name for name in names if name.startswith(ours)}
    return found | {f"record of {record.key}" for record in list_records()}


# -- lists and arrays --


async def read_list(key: str) -> list[Any]:
    """The elements of a list that another actor has made."""
    found = attach_shm_list(key, readonly=True)
    values = list(found)
    found.close()
    return values


async def attach_often(key: str, times: int) -> int:
    """Attach to a list again and again, and write its first element each time."""
    for number in range(times):
        found = attach_shm_list(key)
        assert found.shm.name == key
        found[0] = number
        found.close()
        await trio.lowlevel.checkpoint()
    return times


@tractor.context
async def follow_list(ctx: tractor.Context, key: str, frame: int) -> None:
    """For each number that comes: the elements before it."""
    found = attach_shm_list(key)
    await ctx.started(found.key)
    async with ctx.open_stream() as stream:
        async for end in stream:
            await stream.send(found[end - frame : end] if frame > 1 else found[end - 1])
    found.close()


async def sum_array(token: Any) -> tuple[float, int, bool]:
    """Sum of the values, rows, and whether the memory can be written to."""
    found = attach_shm_ndarray(token)
    rows = found.array
    answer = (float(rows["value"].sum()), len(rows), bool(rows.flags.writeable))
    del rows
    found.close()
    return answer


@tractor.context
async def watch_rows(ctx: tractor.Context, token: Any, until: int) -> int:
    """Look at an array while it grows until it has that many rows: each is whole.  Gives the number of looks."""
    found = attach_shm_ndarray(token)
    await ctx.started()
    looks = seen = 0
    rows = found.array
    while seen < until:
        rows = found.array
        assert len(rows) >= seen
        # What was published is there: every row says its number twice, and none is zero.
        assert (rows["a"] == rows["b"]).all()
        assert (rows["a"] != 0).all()
        seen = len(rows)
        looks += 1
        await trio.lowlevel.checkpoint()
    del rows
    found.close()
    return looks


@tractor.context
async def own_segments(ctx: tractor.Context, key: str) -> None:
    """Make one of each kind, and hold them."""
    shared_list = open_shm_list(f"{key}_list", size=8)
    kept: list[Any] = [shared_list, Segment.create(f"{key}_plain", 4096)]
    if sys.platform == "linux":
        with open_ringbuf(f"{key}_ring", 4096):
            await ctx.started(os.getpid())
            await trio.sleep_forever()
    await ctx.started(os.getpid())
    await trio.sleep_forever()
    del kept


async def make_array(key: str, size: int) -> dict[str, Any]:
    """Make an array that lives as long as this actor."""
    return open_shm_ndarray(size, key).token.as_msg()


# -- rings --


def pattern(begin: int, size: int) -> bytes:
    """Bytes that tell where in a stream they are."""
    return bytes((begin + i) * 131 % 251 for i in range(size))


async def send_over(sender: RingBuffSender, parts: list[int]) -> None:
    begin = 0
    for size in parts:
        await sender.send_all(pattern(begin, size))
        begin += size


async def receive_all(receiver: RingBuffReceiver) -> int:
    """Check a stream of :func:`pattern` to its end; its length."""
    begin = 0
    async for part in receiver:
        assert part == pattern(begin, len(part))
        begin += len(part)
    return begin


@tractor.context
async def ring_sender(ctx: tractor.Context, token: dict[str, Any], parts: list[int]) -> int:
    """Send over a ring whose descriptors were inherited, then close, or hold it if there was nothing to send."""
    async with RingBuffSender(RBToken.from_msg(token)) as sender:
        await ctx.started(os.getpid())
        await send_over(sender, parts)
        if not parts:
            await trio.sleep_forever()
        return sender.sent


@tractor.context
async def ring_receiver(ctx: tractor.Context, token: dict[str, Any], read: bool) -> int:
    """Receive over a ring whose descriptors were inherited, or hold it without reading."""
    async with RingBuffReceiver(RBToken.from_msg(token)) as receiver:
        await ctx.started(os.getpid())
        if not read:
            await trio.sleep_forever()
        return await receive_all(receiver)


@tractor.context
async def shared_sender(ctx: tractor.Context, name: str, size: int, parts: list[int]) -> int:
    """As :func:`ring_sender`, over a ring of the actor ``'ringd'``."""
    async with fd_share.open_ringbuf(name, size) as token, RingBuffSender(token) as sender:
        await ctx.started(os.getpid())
        await send_over(sender, parts)
        if not parts:
            await trio.sleep_forever()
        return sender.sent


async def say_hello(name: str) -> str:
    """For a call over any transport."""
    return f"hello, {name}"


async def echo(data: bytes) -> bytes:
    """For a large call over any transport."""
    return data


async def count_up(n: int) -> Any:
    """For a one-way stream over any transport."""
    for i in range(n):
        yield i


async def my_pid() -> int:
    """For tests that kill."""
    return os.getpid()


# -- for tests/shm/shm_storm.py --


@tractor.context
async def storm_send(ctx: tractor.Context, name: str, size: int, token: Any = None) -> None:
    """Send parts of many sizes for ever."""
    async with _open_token(name, size, token) as ring, RingBuffSender(ring) as sender:
        await ctx.started(os.getpid())
        number = 0
        while True:
            number += 1
            part = number * 7919 % (3 * size) + 1
            await sender.send_all(pattern(sender.sent, part))


@tractor.context
async def storm_receive(ctx: tractor.Context, name: str, size: int, token: Any = None) -> int:
    """Check what comes until it ends."""
    async with _open_token(name, size, token) as ring, RingBuffReceiver(ring) as receiver:
        await ctx.started(os.getpid())
        return await receive_all(receiver)


@asynccontextmanager
async def _open_token(name: str, size: int, token: Any) -> AsyncIterator[RBToken]:
    if token is not None:
        yield RBToken.from_msg(token)
        return
    async with fd_share.open_ringbuf(name, size) as shared:
        yield shared


@tractor.context
async def storm_write(ctx: tractor.Context, key: str, size: int) -> None:
    """Make an array, and fill it row by row."""
    found = open_shm_ndarray(
        size, key, [("index", "<i8"), ("a", "<i8"), ("b", "<i8")], append_start_index=0
    )
    rows = found.last(0).copy()
    rows.resize(3)
    await ctx.started([os.getpid(), found.token.as_msg()])
    for number in range(1, size // 3):
        rows["a"] = rows["b"] = number
        found.push(rows)
        await trio.lowlevel.checkpoint()
    await trio.sleep_forever()


def add_one(array):  # type: ignore[no-untyped-def]
    """In place; the sum of it all."""
    array += 1
    return float(array.sum())
