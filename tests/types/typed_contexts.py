"""What a type checker knows of contexts and their streams; it is checked, and never run.

A line that must be refused has a comment for each checker, which is an error itself where nothing is refused.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any, assert_type

import msgspec

import tractor
from tractor import msg
from tractor.trionics import BroadcastReceiver


class Ask(msgspec.Struct):
    number: int


class Answer(msgspec.Struct):
    square: int


@tractor.context(pld_spec=str | Ask | Answer | None)
async def squares(ctx: tractor.Context[str, Answer, Ask], n: int) -> float:
    """The endpoint's side: it starts with text, sends answers, receives questions."""
    assert_type(ctx, tractor.Context[str, Answer, Ask, str])
    await ctx.started("ready")
    await ctx.started("ready", strict_pld_parity=True)
    await ctx.started(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with ctx.open_stream() as stream:
        assert_type(stream, tractor.MsgStream[Answer, Ask])
        assert_type(await stream.receive(), Ask)
        assert_type(stream.receive_nowait(), Ask)
        await stream.send(Answer(4))
        await stream.send(Ask(2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        async for ask in stream:
            assert_type(ask, Ask)
            ask.square = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        async with stream.subscribe() as subscriber:
            assert_type(subscriber, BroadcastReceiver[Ask])
            assert_type(await subscriber.receive(), Ask)
        assert_type(stream.ctx, tractor.Context[Any, Answer, Ask, Any])
    return 1.0


async def opens(portal: tractor.Portal) -> None:
    """The opener's side: send and receive are swapped, and the result is the endpoint's."""
    async with portal.open_context(squares, n=1) as (ctx, first):
        assert_type(first, str)
        assert_type(ctx, tractor.Context[str, Ask, Answer, float])
        async with ctx.open_stream(backpressure=True, msg_buffer_size=8) as stream:
            assert_type(stream, tractor.MsgStream[Ask, Answer])
            await stream.send(Ask(2))
            await stream.send(Answer(4))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            assert_type(await stream.receive(), Answer)
            assert_type(stream.receive_nowait(), Answer)
            async for answer in stream:
                assert_type(answer, Answer)
            async with stream.subscribe() as subscriber:
                assert_type(await subscriber.receive(), Answer)
            assert_type(await stream.aclose(), list[Any])
        assert_type(await ctx.wait_for_result(), float)
        wrong: str = await ctx.wait_for_result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        print(wrong)


# -- parameters that are left out --


@tractor.context(pld_spec=int)
async def of_one_type(ctx: tractor.Context[int]) -> int:
    assert_type(ctx, tractor.Context[int, int, int, int])
    async with ctx.open_stream() as stream:
        assert_type(stream, tractor.MsgStream[int, int])
    return 1


@tractor.context
async def of_two_types(ctx: tractor.Context[int, str]) -> None:
    assert_type(ctx, tractor.Context[int, str, str, int])


@tractor.context
async def bare(ctx: tractor.Context) -> float:
    assert_type(ctx, tractor.Context[Any, Any, Any, Any])
    await ctx.started()
    await ctx.started(object())
    async with ctx.open_stream() as stream:
        assert_type(stream, tractor.MsgStream[Any, Any])
        assert_type(await stream.receive(), Any)
    return 1.0


async def opens_with_parameters_left_out(portal: tractor.Portal) -> None:
    async with portal.open_context(of_one_type) as (ctx, first):
        assert_type(first, int)
        assert_type(ctx, tractor.Context[int, int, int, int])
    async with portal.open_context(of_two_types) as (two, first):
        assert_type(first, int)
        assert_type(two, tractor.Context[int, str, str, None])
    async with portal.open_context(bare) as (untyped, anything):
        assert_type(anything, Any)
        assert_type(await untyped.wait_for_result(), float)
        async with untyped.open_stream() as stream:
            assert_type(await stream.receive(), Any)
            await stream.send(object())


# -- other context parameters --


@tractor.context
async def later(n: int, ctx: tractor.Context[int, str, bytes]) -> str:
    return ""


@tractor.context
async def optional(ctx: tractor.Context[int, str, bytes] | None, n: int = 0) -> bool:
    return True


async def opens_the_others(portal: tractor.Portal) -> None:
    # Works, but what it takes can't be told: type checkers want the context parameter first.
    portal.open_context(later, n=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with portal.open_context(functools.partial(squares, n=2)) as (partial, _):
        assert_type(await partial.wait_for_result(), float)


async def opens_one_with_an_optional_parameter(portal: tractor.Portal) -> None:
    async with portal.open_context(optional, n=1) as (ctx, _):
        assert_type(await ctx.wait_for_result(), bool)


# -- calls and one-way streams --


async def numbers(n: int) -> AsyncIterator[int]:
    yield n


async def doubled(n: int) -> list[int]:
    return [n, n]


@tractor.stream
async def legacy(stream: tractor.MsgStream[int, Any], n: int) -> None:
    await stream.send(n)
    await stream.send("")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def calls(portal: tractor.Portal) -> None:
    assert_type(await portal.run(doubled, n=1), list[int])
    assert_type(await portal.run(doubled, 1), list[int])
    await portal.run(7)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    (await portal.run(doubled, n=1)).upper()  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    async with portal.open_stream_from(numbers, n=1) as stream:
        assert_type(stream, tractor.MsgStream[Any, int])
        assert_type(await stream.receive(), int)
        async for number in stream:
            assert_type(number, int)
        async with stream.subscribe() as subscriber:
            assert_type(await subscriber.receive(), int)
    async with portal.open_stream_from(legacy, n=1) as untyped:
        assert_type(await untyped.receive(), Any)


# -- what decodes, and what is drained --


def to_complex(kind: type, obj: Any) -> Any:
    return kind(obj)


async def limits(ctx: tractor.Context[int]) -> None:
    with msg.limit_plds(int | None) as decoder:
        assert_type(decoder, msg.MsgDec)
    with msg.limit_plds(None, ext_types=[complex], dec_hook=to_complex):
        pass
    async with msg.maybe_limit_plds(ctx, spec=int) as maybe:
        assert_type(maybe, msg.MsgDec | None)
    with msg.apply_codec(msg.mk_codec(int), ctx) as codec:
        assert_type(codec, msg.MsgCodec)
    with msg.limit_msg_spec(int) as codec:
        assert_type(codec, msg.MsgCodec)
    assert_type(ctx.pld_rx, msg.PldRx)
    msg.apply_codec(msg.mk_codec(int), 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def drains(ctx: tractor.Context[int, str, bytes]) -> None:
    final, drained = await msg.drain_to_final_msg(ctx, msg_limit=3)
    assert_type(final, msg.Return[Any] | msg.Error | None)
    assert_type(drained, list[msg.Yield[Any]])
    await msg.drain_to_final_msg(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def validates(ctx: tractor.Context[int]) -> None:
    for ipc in (ctx, ctx.pld_rx.pld_dec):
        found = msg.validate_payload_msg(msg.Yield(ctx.cid, 1), 1, ipc, raise_mte=False)
        assert_type(found, tractor.MsgTypeError | None)
    msg.validate_payload_msg(msg.Stop(1), 1, ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- what is not an endpoint --


def not_async(ctx: tractor.Context) -> int:
    return 1


async def refused(portal: tractor.Portal) -> None:
    portal.open_context(not_async)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tractor.context(pld_spec=int, unknown=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
