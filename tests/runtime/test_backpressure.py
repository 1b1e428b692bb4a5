"""A sender waits for its reader, unless the strict mode is asked for, and nothing is ever an overrun."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import ep_streams
import pytest
import trio
import trio.testing
from ep_peer import open_peer, run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

MANY = 2000
WINDOW = 1024

ASKS = {
    "nobody": ({}, {}),
    "both": ({"backpressure": True}, {"backpressure": True}),
}
"""Who asks: keywords of the parent's `open_stream()`, of the child's."""


async def fill(portal: tractor.Portal, stream: tractor.MsgStream, count: int) -> int:
    """Send until it waits or all is sent; how much that was."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        for n in range(count):
            await stream.send(n)
            sent += 1

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as tn:
            tn.start_soon(send)
            before = -1
            while sent != before or sent == 0:
                before = sent
                # The peer has taken in all that was sent and has answered.
                await portal.run(ep_streams.go, key="unused")
                await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    return sent


@pytest.mark.parametrize("size", [1, 1024, 1300])
@pytest.mark.parametrize("who", ASKS)
def test_child_sends_to_a_parent_that_does_not_read(reg_addr: Any, who: str, size: int) -> None:
    """The sender waits when the window is used up, whoever asked; reading lets it go on."""

    async def main() -> None:
        mine, theirs = ASKS[who]
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, count=MANY, key="k", **theirs) as (ctx, _),
            ctx.open_stream(msg_buffer_size=size, **mine) as stream,
        ):
            # Both streams are open, so that the announcement has been read before anything is sent.
            await portal.run(ep_streams.statistics, key="k")
            await trio.testing.wait_all_tasks_blocked()
            await portal.run(ep_streams.go, key="k")
            stats = {"sent": 0}
            while stats["sent"] < max(size, WINDOW):
                stats = await portal.run(ep_streams.statistics, key="k")
            assert stats["sent"] == max(size, WINDOW)
            assert stats["credit"] == 0
            await trio.testing.wait_all_tasks_blocked()
            assert stream.statistics().buffered == max(size, WINDOW)
            assert [n async for n in stream] == list(range(MANY))
            assert await ctx.wait_for_result() == MANY

    run(main)


@pytest.mark.parametrize("size", [1, 1024, 1300])
@pytest.mark.parametrize("who", ASKS)
def test_parent_sends_to_a_child_that_does_not_read(reg_addr: Any, who: str, size: int) -> None:
    async def main() -> None:
        mine, theirs = ASKS[who]
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.collects, key="k", msg_buffer_size=size, **theirs) as (
                ctx,
                _,
            ),
        ):
            async with ctx.open_stream(**mine) as stream:
                await portal.run(ep_streams.statistics, key="k")
                await trio.testing.wait_all_tasks_blocked()
                sent = await fill(portal, stream, MANY)
                assert sent == max(size, WINDOW)
                assert stream.statistics().credit == 0
                assert stream.statistics().sent == sent
                stats = await portal.run(ep_streams.statistics, key="k")
                assert stats["buffered"] == sent
                await portal.run(ep_streams.go, key="k")
                for n in range(sent, MANY):
                    await stream.send(n)
            assert await ctx.wait_for_result() == list(range(MANY))

    run(main)


def test_in_the_strict_mode_there_is_no_credit(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.collects, key="k") as (ctx, _),
            ctx.open_stream(backpressure=False) as stream,
        ):
            assert stream.statistics().credit is None
            assert stream.statistics().buffer_size == 64
            await stream.send(1)
            # The peer knows, and holds as much.
            assert (await portal.run(ep_streams.statistics, key="k"))["credit"] is None
            await portal.run(ep_streams.go, key="k")

    run(main)


def test_each_message_costs_one() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects, key="k") as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert stream.statistics().credit == WINDOW
            for n in range(3):
                await stream.send(n)
            assert stream.statistics().credit == WINDOW - 3
            await portal.run(ep_streams.go, key="k")

    run(main)


def test_what_is_sent_before_the_peer_opens_its_stream_waits_like_the_rest(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.collects_late, key="k") as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                sent = await fill(portal, stream, MANY)
                assert sent == WINDOW
                await portal.run(ep_streams.go, key="k")
                for n in range(sent, MANY):
                    await stream.send(n)
            assert await ctx.wait_for_result() == list(range(MANY))

    run(main)


def test_a_smaller_buffer_holds_what_was_sent_before_it_opened(reg_addr: Any) -> None:

    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, count=60) as (ctx, _),
        ):
            while ctx.statistics().buffered < 60:
                await trio.testing.wait_all_tasks_blocked(0.001)
            async with ctx.open_stream(msg_buffer_size=1) as stream:
                assert [n async for n in stream] == list(range(60))

    run(main)


def test_a_cancelled_wait_for_credit_sends_nothing_and_costs_nothing(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.gives_up_sending, key="k") as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert await portal.run(ep_streams.seen, key="k") is True
            got = [n async for n in stream]
            assert got == [*range(WINDOW), "next"]
            assert await ctx.wait_for_result() == got

    run(main)


def test_waiting_for_credit_ends_with_the_dialog(reg_addr: Any) -> None:
    """A sender that waits while the peer's task fails does not go on, and the block raises that error."""

    async def main() -> None:
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.fails_when_let, key="k") as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    inner: list[BaseException] = []

                    async def send() -> None:
                        with trio.CancelScope(shield=True):
                            try:
                                # What the peer gives up with its stream is granted again, before its error comes.
                                for n in itertools.count():
                                    await stream.send(n)
                            except (tractor.RemoteActorError, trio.EndOfChannel) as exc:
                                inner.append(exc)

                    async with trio.open_nursery() as tn:
                        tn.start_soon(send)
                        await portal.run(ep_streams.statistics, key="k")
                        await trio.testing.wait_all_tasks_blocked()
                        await portal.run(ep_streams.go, key="k")
            assert caught.value.boxed_type is ZeroDivisionError
            # On a busy machine the end of the peer's stream can come a moment before its error.
            assert inner == [caught.value] or isinstance(inner[0], trio.EndOfChannel)

    run(main)


def test_waiting_for_credit_ends_with_the_connection(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_streams"])
            with pytest.raises((tractor.TransportClosed, tractor.ContextCancelled)):  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.never_reads, key="k") as (ctx, _),
                    ctx.open_stream() as stream,
                    trio.open_nursery() as tn,
                ):
                    tn.start_soon(fill_up, stream)
                    await portal.run(ep_streams.statistics, key="k")
                    await portal.cancel_actor()
            assert ctx.has_outcome

    run(main)


async def fill_up(stream: tractor.MsgStream) -> None:
    for n in range(MANY):
        await stream.send(n)


@pytest.mark.parametrize("opens", [True, False])
def test_the_opener_leaves_while_the_endpoint_still_sends(reg_addr: Any, opens: bool) -> None:
    """Who drains reads, as far as credit goes: the endpoint ends, and nobody waits for ever."""

    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, count=MANY) as (ctx, _),
        ):
            if opens:
                async with ctx.open_stream() as stream:
                    assert await stream.receive() == 0
        assert ctx.outcome == MANY

    run(main)


def test_closing_the_stream_lets_a_waiting_sender_go(reg_addr: Any) -> None:
    """The reader closes and goes on in its context; the peer does not wait for ever for credit."""

    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, count=MANY) as (ctx, _),
        ):
            async with ctx.open_stream():
                await portal.run(ep_streams.go, key="unused")
            assert await ctx.wait_for_result() == MANY

    run(main)


def test_two_way_with_small_buffers(reg_addr: Any) -> None:
    async def main() -> None:
        got: list[int] = []

        async def read(stream: tractor.MsgStream) -> None:
            while len(got) < MANY:
                got.append(await stream.receive())

        fn = partial(ep_streams.echoes, msg_buffer_size=1)
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(fn) as (ctx, _),
            ctx.open_stream(msg_buffer_size=1) as stream,
            trio.open_nursery() as tn,
        ):
            tn.start_soon(read, stream)
            for n in range(MANY):
                await stream.send(n)
        assert got == list(range(MANY))

    run(main)
