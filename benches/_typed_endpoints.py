"""Endpoints that send one payload as a declared struct, and the same as plain dicts."""

from __future__ import annotations

import msgspec

import tractor

__all__ = [
    "ORDER",
    "PLAIN_ORDER",
    "Order",
    "echo_dicts",
    "echo_orders",
    "send_dicts",
    "send_orders",
]


class Order(msgspec.Struct):
    """A payload of common size and depth: about 100 bytes."""

    number: int
    symbol: str
    price: float
    sizes: list[int]
    tags: dict[str, str]
    note: str | None = None


ORDER = Order(123456, "ACME", 42.25, [100, 250, 75], {"side": "buy", "venue": "XETR"}, "as agreed")
PLAIN_ORDER = msgspec.to_builtins(ORDER)


@tractor.context(pld_spec=Order | None)
async def echo_orders(ctx: tractor.Context) -> None:
    """Send back each order."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for order in stream:
            await stream.send(order)


@tractor.context
async def echo_dicts(ctx: tractor.Context) -> None:
    """Send back each dict."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for order in stream:
            await stream.send(order)


@tractor.context(pld_spec=Order | None)
async def send_orders(ctx: tractor.Context, n: int) -> None:
    """One-way: ``n`` orders, with back pressure."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for _ in range(n):
            await stream.send(ORDER)


@tractor.context
async def send_dicts(ctx: tractor.Context, n: int) -> None:
    """One-way: ``n`` dicts, with back pressure."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for _ in range(n):
            await stream.send(PLAIN_ORDER)
