"""The far ends of the rows about shared memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

import tractor
from tractor.ipc import RBToken, RingBuffSender, ShmArray, attach_shm_ndarray

__all__ = ["ring_ints", "ring_payloads", "send_payloads", "take_tokens"]


async def send_payloads(size: int, n: int) -> AsyncIterator[bytes]:
    """One payload, again and again."""
    payload = bytes(size)
    for _ in range(n):
        yield payload


@tractor.context
async def ring_payloads(ctx: tractor.Context, token: dict[str, Any], size: int) -> None:
    """Over a ring: as many payloads as a message asks for."""
    payload = bytes(size)
    async with RingBuffSender(RBToken.from_msg(token)) as sender:
        await ctx.started()
        async with ctx.open_stream() as stream:
            async for n in stream:
                for _ in range(n):
                    await sender.send_all(payload)


@tractor.context
async def ring_ints(ctx: tractor.Context, token: dict[str, Any]) -> None:
    """Over a ring: small integers, each behind a byte that says its length, as many as a message asks for."""
    encode = msgspec.msgpack.Encoder().encode
    async with RingBuffSender(RBToken.from_msg(token)) as sender:
        await ctx.started()
        async with ctx.open_stream() as stream:
            async for n in stream:
                for i in range(n):
                    body = encode(i)
                    await sender.send_all(bytes((len(body),)) + body)


@tractor.context
async def take_tokens(ctx: tractor.Context) -> None:
    """For each token: attach, if it is a new one; look at the first and the last value, and say them."""
    await ctx.started()
    known: dict[str, ShmArray] = {}
    async with ctx.open_stream() as stream:
        async for token in stream:
            found = known.get(token["shm_name"])
            if found is None:
                found = known[token["shm_name"]] = attach_shm_ndarray(token)
            rows = found.array
            await stream.send([float(rows["value"][0]), float(rows["value"][-1]), rows.nbytes])
