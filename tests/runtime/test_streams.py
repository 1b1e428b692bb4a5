"""Streams keep order, never drop silently, and say so when a reader is too slow."""

from __future__ import annotations

from functools import partial
from typing import Any

import ep_matrix
import ep_peer
import ep_streams
import pytest
import trio
import trio.testing
from ep_peer import open_peer, own_uid, peer_uid, run

import tractor
from tractor.trionics import Lagged

pytestmark = pytest.mark.usefixtures("forked_actors")

OVERFLOW = 616


# -- order --


def test_first_in_first_out_in_both_directions(reg_addr: Any) -> None:
    async def main() -> None:
        got: list[int] = []

        async def read(stream: tractor.MsgStream) -> None:
            got.extend([value async for value in stream])

        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.echoes, backpressure=True) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            for n in range(2000):
                await stream.send(n)
                if n % 50 == 49:
                    got.extend([await stream.receive() for _ in range(50)])
        assert got == list(range(2000))
        assert await ctx.wait_for_result() == 2000

    run(main)


def test_full_duplex_by_two_tasks_on_each_side(reg_addr: Any) -> None:
    async def main() -> None:
        got: list[int] = []

        async def read(stream: tractor.MsgStream) -> None:
            for _ in range(1000):
                got.append(await stream.receive())

        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.echoes, backpressure=True) as (ctx, _),
            ctx.open_stream(backpressure=True) as stream,
            trio.open_nursery() as tn,
        ):
            tn.start_soon(read, stream)
            for n in range(1000):
                await stream.send(n)
        assert got == list(range(1000))

    run(main)


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 300_000, 3_000_000])
def test_messages_of_any_size(reg_addr: Any, size: int) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.echoes) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            for value in (b"x" * size, "y" * size, [b"z" * size, 1]):
                await stream.send(value)
                assert await stream.receive() == value

    run(main)


def test_many_streams_at_once(reg_addr: Any) -> None:
    async def main() -> None:
        results: dict[int, list[int]] = {}

        async def one(portal: tractor.Portal, k: int) -> None:
            async with (
                portal.open_context(ep_streams.sends, count=200, backpressure=True) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                results[k] = [value async for value in stream]

        async with open_peer("ep_streams", reg_addr=reg_addr) as portal, trio.open_nursery() as tn:
            for k in range(30):
                tn.start_soon(one, portal, k)
        assert results == {k: list(range(200)) for k in range(30)}

    run(main)


def test_a_stream_nobody_reads_does_not_hold_up_its_siblings(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, count=500, backpressure=True) as (stuck, _),
            stuck.open_stream() as unread,
        ):
            async with (
                portal.open_context(ep_streams.sends, count=500, backpressure=True) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                assert [n async for n in stream] == list(range(500))
            assert await portal.run(ep_peer.ping) == "pong"
            assert [n async for n in unread] == list(range(500))

    run(main)


# -- reading --


def test_receive_nowait() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=2, key="k") as (ctx, _),
            ctx.open_stream() as stream,
        ):
            with pytest.raises(trio.WouldBlock):
                stream.receive_nowait()
            await portal.run(ep_streams.go, key="k")
            await ctx.wait_for_result()
            assert [stream.receive_nowait(), stream.receive_nowait()] == [0, 1]
            with pytest.raises(trio.EndOfChannel):
                stream.receive_nowait()
            await stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                stream.receive_nowait()

    run(main)


def test_aclose_returns_what_was_undelivered(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.closes_with_undelivered, key="k") as (ctx, _),
            ctx.open_stream() as stream,
        ):
            for n in range(5):
                await stream.send(n)
            while (await portal.run(ep_streams.statistics, key="k"))["buffered"] < 4:
                await trio.lowlevel.checkpoint()
            await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == [[1, 2, 3, 4], []]

    run(main)


def test_aclose_is_shielded() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send(1)
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.aclose()
            assert not scope.cancelled_caught
            assert await ctx.wait_for_result() == [1]

    run(main)


def test_messages_that_come_after_the_close_are_counted() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=20, key="k") as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                # While the endpoint has not read this, its sends are not errors.
                await stream.send("unread")
            await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == 20
            assert ctx.statistics().discarded == 20
            assert ctx.statistics().received == 0

    run(main)


def test_a_cancelled_send_sends_nothing() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                await stream.send("before")
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await stream.send("cancelled")
                assert scope.cancelled_caught
                await stream.send("after")
            assert await ctx.wait_for_result() == ["before", "after"]

    run(main)


def test_one_receiver_for_each_message() -> None:
    """Several tasks may read one stream: each message goes to exactly one of them."""

    async def main() -> None:
        got: list[int] = []

        async def read(stream: tractor.MsgStream) -> None:
            async for value in stream:
                got.append(value)
                await trio.lowlevel.checkpoint()

        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=300, backpressure=True) as (ctx, _),
            ctx.open_stream() as stream,
            trio.open_nursery() as tn,
        ):
            for _ in range(3):
                tn.start_soon(read, stream)
        assert sorted(got) == list(range(300))

    run(main)


# -- fan-out --


def test_subscribers_get_every_message() -> None:
    async def main() -> None:
        got: dict[int, list[int]] = {}

        async def read(stream: tractor.MsgStream, k: int, ready: trio.Event) -> None:
            async with stream.subscribe() as receiver:
                ready.set()
                got[k] = [value async for value in receiver]

        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=200, key="k", backpressure=True) as (
                ctx,
                _,
            ),
            ctx.open_stream() as stream,
            trio.open_nursery() as tn,
        ):
            events = [trio.Event() for _ in range(3)]
            for k, ready in enumerate(events):
                tn.start_soon(read, stream, k, ready)
            for ready in events:
                await ready.wait()
            await portal.run(ep_streams.go, key="k")
        assert got == {k: list(range(200)) for k in range(3)}

    run(main)


def test_a_subscriber_can_send_too() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.echoes) as (ctx, _),
            ctx.open_stream() as stream,
            stream.subscribe() as receiver,
        ):
            await receiver.send("hello")  # type: ignore[attr-defined]
            assert await receiver.receive() == "hello"

    run(main)


def test_a_subscriber_that_falls_behind_is_told_how_far() -> None:
    async def main() -> None:
        size, count = 10, 25
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=count, key="k", backpressure=True) as (
                ctx,
                _,
            ),
            ctx.open_stream(msg_buffer_size=size) as stream,
            stream.subscribe() as slow,
            stream.subscribe() as fast,
        ):
            assert fast.statistics().max_buffer_size == size
            await portal.run(ep_streams.go, key="k")
            for n in range(count):
                assert await fast.receive() == n
            with pytest.raises(Lagged, match=str(count - size)) as caught:
                await slow.receive()
            assert isinstance(caught.value, trio.TooSlowError)
            # Next comes the oldest that is still held.
            assert [await slow.receive() for _ in range(size)] == list(range(count - size, count))

    run(main)


# -- overruns, in the strict mode --


def test_as_many_as_the_buffer_holds_are_no_overrun(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.collects, key="k") as (ctx, _),
        ):
            async with ctx.open_stream(backpressure=False) as stream:
                for n in range(64):
                    await stream.send(n)
                while (await portal.run(ep_streams.statistics, key="k"))["buffered"] < 64:
                    await trio.lowlevel.checkpoint()
                await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == list(range(64))

    run(main)


async def flood(stream: tractor.MsgStream, count: int) -> None:
    """Send more than the peer takes, then wait for its report."""
    for n in range(count):
        await stream.send(n)
    await stream.receive()


@pytest.mark.parametrize(("size", "count"), [(None, 65), (1, 2), (300, 301)])
def test_parent_overruns_child(reg_addr: Any, size: int | None, count: int) -> None:
    """The sending side raises `StreamOverrun`; the receiver unwinds; the actors live on."""

    async def main() -> None:
        kwargs: dict[str, Any] = {} if size is None else {"msg_buffer_size": size}
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.StreamOverrun) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.never_reads, key="k", **kwargs) as (ctx, _),
                    ctx.open_stream(backpressure=False) as stream,
                ):
                    # The peer's stream is open, and its buffer is of the size that is wanted.
                    await portal.run(ep_streams.statistics, key="k")
                    await flood(stream, count)
            error = caught.value
            assert isinstance(error, trio.TooSlowError)
            assert error.sender == own_uid()
            assert error.boxed_type is tractor.StreamOverrun
            assert error.src_uid == peer_uid(portal)
            assert "no stream was open" not in error.message
            assert str(ctx.state) == "errored"
            await portal.run(ep_streams.seen, key="k")
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_parent_overruns_child_that_has_no_stream_open(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.StreamOverrun, match="no stream was open") as caught:
                async with (
                    portal.open_context(ep_streams.never_reads, key="k", opens=False) as (ctx, _),
                    ctx.open_stream(backpressure=False) as stream,
                ):
                    await flood(stream, 65)
            assert caught.value.sender == own_uid()
            await portal.run(ep_streams.seen, key="k")

    run(main)


def test_child_overruns_parent(reg_addr: Any) -> None:
    """The sending endpoint raises `StreamOverrun`, which comes back relayed: an inception."""

    async def main() -> None:
        got: list[int] = []
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.sends_until_refused, key="k", count=65) as (
                        ctx,
                        _,
                    ),
                    ctx.open_stream(backpressure=False) as stream,
                ):
                    with trio.CancelScope(shield=True):
                        await portal.run(ep_streams.go, key="k")
                        noted = await portal.run(ep_streams.seen, key="k")
                        async for n in stream:
                            got.append(n)
            assert got == list(range(64))
            assert noted == ["StreamOverrun", list(peer_uid(portal))]
            error = caught.value
            assert error.is_inception()
            assert error.src_type is tractor.StreamOverrun
            assert error.src_uid == own_uid()
            assert error.relay_path == [own_uid(), peer_uid(portal)]
            assert str(ctx.state) == "errored"
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_child_overruns_parent_that_reads_on_late(reg_addr: Any) -> None:
    """What was buffered at the overrun can be read; then comes the error."""

    async def main() -> None:
        got: list[int] = []
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.sends_until_refused, key="k", count=65) as (
                        ctx,
                        _,
                    ),
                    ctx.open_stream(backpressure=False) as stream,
                ):
                    await portal.run(ep_streams.go, key="k")
                    await portal.run(ep_streams.seen, key="k")
                    async for n in stream:
                        got.append(n)
            assert got == list(range(64))
            assert caught.value.src_type is tractor.StreamOverrun

    run(main)


def test_child_that_was_overrun_reads_what_is_buffered(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.StreamOverrun):
                async with (
                    portal.open_context(ep_streams.reads_after_overrun, key="k") as (ctx, _),
                    ctx.open_stream(backpressure=False) as stream,
                ):
                    await flood(stream, 65)
            await portal.run(ep_streams.go, key="k")
            got, error = await portal.run(ep_streams.seen, key="k")
            assert got == list(range(64))
            assert error in ("StreamOverrun", "RemoteActorError", "ContextCancelled")

    run(main)


@pytest.mark.parametrize("where", ["context", "stream"])
def test_parent_that_allows_overruns(reg_addr: Any, where: str) -> None:
    async def main() -> None:
        at_context = {"allow_overruns": True} if where == "context" else {}
        at_stream = {"allow_overruns": True} if where == "stream" else {}
        count = 64 + OVERFLOW
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.sends, **at_context, count=count, key="k") as (ctx, _),
            ctx.open_stream(**at_stream) as stream,
        ):
            await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == count
            assert stream.statistics().buffered == count
            assert stream.statistics().overflowed == OVERFLOW
            assert [n async for n in stream] == list(range(count))

    run(main)


def test_child_that_allows_overruns(reg_addr: Any) -> None:
    async def main() -> None:
        count = 64 + OVERFLOW
        fn = partial(ep_streams.collects, allow_overruns=True)
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(fn, key="k") as (ctx, _),
        ):
            async with ctx.open_stream(backpressure=False) as stream:
                await portal.run(ep_streams.statistics, key="k")
                for n in range(count):
                    await stream.send(n)
                while (await portal.run(ep_streams.statistics, key="k"))["buffered"] < count:
                    await trio.lowlevel.checkpoint()
                await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == list(range(count))

    run(main)


def test_beyond_the_overflow_is_an_overrun_after_all(reg_addr: Any) -> None:
    async def main() -> None:
        got: list[int] = []
        count = 64 + OVERFLOW + 1
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.sends_until_refused, key="k", count=count) as (
                        ctx,
                        _,
                    ),
                    ctx.open_stream(allow_overruns=True) as stream,
                ):
                    await portal.run(ep_streams.go, key="k")
                    await portal.run(ep_streams.seen, key="k")
                    async for n in stream:
                        got.append(n)
            assert got == list(range(count - 1))
            assert caught.value.src_type is tractor.StreamOverrun

    run(main)


def test_buffer_size_must_be_positive() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
        ):
            with pytest.raises(ValueError, match="0"):
                async with ctx.open_stream(msg_buffer_size=0):
                    pass
            async with ctx.open_stream():
                pass

    run(main)


# -- control never waits behind data --


def test_cancel_is_handled_while_streams_are_full(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", "ep_matrix", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.never_reads, key="k") as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                # 100,005 bytes each, encoded; the last one may go below zero.
                window = 16 * 2**20 // 100_005 + 1

                async def fill(stream: tractor.MsgStream) -> None:
                    with pytest.raises((tractor.ContextCancelled, trio.ClosedResourceError)):  # noqa: PT012
                        while True:
                            await stream.send(b"x" * 100_000)

                async with trio.open_nursery() as tn:
                    tn.start_soon(fill, stream)
                    stats = {"buffered": 0}
                    while stats["buffered"] < window:
                        stats = await portal.run(ep_streams.statistics, key="k")
                    assert stats["buffered"] == window
                    await ctx.cancel()
                    assert ctx.cancel_acked
            assert str(ctx.state) == "self-cancelled"

    run(main)


def test_actor_cancel_is_handled_while_streams_are_full(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.ContextCancelled) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_matrix.blocks, key="k", how="send") as (ctx, _),
                    ctx.open_stream(),
                ):
                    await portal.run(ep_peer.settle)
                    assert await portal.cancel_actor()
                    await trio.sleep_forever()
            assert caught.value.canceller == own_uid()

    run(main)
