"""What a type checker knows of calls and their arguments; it is checked, and never run.

A line that must be refused has a comment for each checker, which is an error itself where nothing is refused.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any, assert_type

import tractor
from tractor.trionics import open_worker_pool


async def add(x: int, y: int = 1) -> int:
    return x + y


def join(parts: list[str], by: str = ",") -> str:
    return by.join(parts)


def add_up(x: int, y: str) -> float:
    return x + float(y)


async def aadd_up(x: int, y: str) -> float:
    return x + float(y)


async def numbers(n: int) -> AsyncIterator[int]:
    yield n


@tractor.stream
async def legacy(stream: tractor.MsgStream[int, Any], n: int) -> None:
    await stream.send(n)


@tractor.context
async def bare(ctx: tractor.Context, n: int, by: set[int] | None = None) -> float:
    return 1.0


@tractor.context
async def typed(ctx: tractor.Context[str, bytes, int], n: int = 0) -> None: ...


@tractor.context
async def open_ended(ctx: tractor.Context, n: int, **rest: str) -> float:
    return 1.0


async def runs(portal: tractor.Portal) -> None:
    assert_type(await portal.run(add, 1), int)
    assert_type(await portal.run(add, 1, y=2), int)
    assert_type(await portal.run(add, x=1, y=2), int)
    assert_type(await portal.run(functools.partial(add, y=2), 1), int)
    assert_type(await portal.run_from_ns("mod", "fn", n=1), Any)
    await portal.run(add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await portal.run(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await portal.run(add, 1, 2, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await portal.run(add, 1, z=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await portal.run(add, 1, x=2)  # type: ignore[misc]  # pyright: ignore[reportCallIssue]
    await portal.run(join, ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def opens_contexts(portal: tractor.Portal) -> None:
    async with portal.open_context(bare, 1, by={2}) as (ctx, first):
        assert_type(first, Any)
        assert_type(await ctx.wait_for_result(), float)
    async with portal.open_context(bare, n=1, allow_overruns=True) as (ctx, _):
        assert_type(await ctx.wait_for_result(), float)
    async with portal.open_context(typed, 1, hide_tb=False) as (sends_ints, text):
        assert_type(text, str)
        assert_type(sends_ints, tractor.Context[str, int, bytes, None])
    async with portal.open_context(functools.partial(bare, n=1)) as (ctx, _):
        assert_type(await ctx.wait_for_result(), float)
    async with portal.open_context(open_ended, 1, other="a") as (ctx, _):
        assert_type(await ctx.wait_for_result(), float)
    portal.open_context(open_ended, 1, other=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    portal.open_context(open_ended)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    portal.open_context(bare)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    portal.open_context(bare, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    portal.open_context(bare, 1, z=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    portal.open_context(bare, ctx=None, n=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    portal.open_context(typed, n="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    portal.open_context(add, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def opens_streams(portal: tractor.Portal) -> None:
    async with portal.open_stream_from(numbers, 1) as stream:
        assert_type(stream, tractor.MsgStream[Any, int])
    async with portal.open_stream_from(legacy, n=1) as untyped:
        assert_type(await untyped.receive(), Any)
    portal.open_stream_from(numbers)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    portal.open_stream_from(numbers, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    portal.open_stream_from(legacy, m=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    portal.open_stream_from(7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def one_shots(an: tractor.ActorNursery) -> None:
    assert_type(await an.run_in_actor(add, 1, y=2), tractor.Portal)
    await an.run_in_actor(add, 1, name="adder", loglevel="info")
    await an.run_in_actor(add, 1, infect_asyncio=True)
    await an.run_in_actor(functools.partial(add, y=2), 1)
    await an.run_in_actor(add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await an.run_in_actor(add, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await an.run_in_actor(add, 1, z=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await an.run_in_actor(join, ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def scripts() -> None:
    assert_type(tractor.run_pool(add, [1], retries=1, workers=2), list[int])
    assert_type(tractor.run_pool(join, [["a"]], on_value=len), list[str])
    assert_type(tractor.run_pool(join, [["a"]], return_exceptions=True), list[str | Exception])
    tractor.run_pool(add, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    tractor.run_pool(join, [["a"]], on_value=abs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def pools() -> None:
    async with open_worker_pool() as pool:
        assert_type(await pool.run(add, 1), int)
        assert_type(await pool.run(join, ["a"], by=";"), str)
        await pool.run(add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        await pool.run(join, "a", by=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        await pool.run(join, ["a"], z=1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
        async for text in pool.map(join, [["a"]]):
            assert_type(text, str)
        async for number in pool.map(add, numbers(3), False, retries=2, timeout=1, key=str):
            assert_type(number, int)
        async for either in pool.map(add, [1], return_exceptions=True):
            assert_type(either, int | Exception)
        async for total in pool.starmap(add_up, [(1, "a")], retries=1):
            assert_type(total, float)
        async for failed in pool.starmap(aadd_up, [(1, "a")], return_exceptions=True):
            assert_type(failed, float | Exception)
        executor = pool.as_executor()
        assert_type(executor.submit(join, ["a"], by=";").result(), str)
        executor.submit(join, [1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
        pool.map(add, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        pool.map(add, [1], retry=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        pool.starmap(add_up, [(1,)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
