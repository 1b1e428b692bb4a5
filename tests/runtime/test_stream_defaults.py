"""Streams with defaults: what is sent has left, nobody overruns, a reader that leaves ends the feed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import ep_bulk
import ep_streams
import msgspec
import pytest
import trio
import trio.testing
from ep_peer import open_peer, run

import tractor
from tractor.msg.types import Yield
from tractor.runtime.dialog import _context_parent, _port

pytestmark = pytest.mark.usefixtures("forked_actors")

WINDOW = 1024


# -- what returns to the user's code has been written --


@pytest.mark.parametrize("how", ["send", "send_many", "generator", "large"])
def test_what_is_sent_arrives_while_its_sender_computes(
    reg_addr: Any, how: str, tmp_path: Path
) -> None:
    async def main() -> None:
        signs = str(tmp_path)
        async with (
            open_peer("ep_bulk", reg_addr=reg_addr) as portal,
            portal.open_context(ep_bulk.computes, how=how, steps=4, signs=signs) as (ctx, first),
        ):
            assert first == how
            (tmp_path / "started").touch()
            async with ctx.open_stream() as stream:
                n = 0
                async for value in stream:
                    assert value == n or len(value) == 2_000_000
                    (tmp_path / str(n)).touch()
                    n += 1
            assert n == 4
            (tmp_path / "left").touch()
            assert await ctx.wait_for_result() == [True] * 6

    run(main, limit=30)


def test_what_is_yielded_arrives_while_the_generator_computes(
    reg_addr: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk", reg_addr=reg_addr) as portal,
            portal.open_stream_from(
                ep_bulk.counts_and_computes, steps=5, signs=str(tmp_path)
            ) as stream,
        ):
            async for n in stream:
                (tmp_path / str(n)).touch()

    run(main, limit=30)


def test_a_reader_that_computes_has_granted_what_it_read(tmp_path: Path) -> None:
    """With a buffer of one the peer can send the next message while the reader is at the one before."""

    async def main() -> None:
        last = WINDOW + 20
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(
                ep_bulk.signs_its_sends, count=last, first=WINDOW, signs=str(tmp_path)
            ) as (ctx, _),
            ctx.open_stream(msg_buffer_size=1) as stream,
        ):
            for n in range(last):
                assert await stream.receive() == n
                if WINDOW <= n < last - 1:
                    assert ep_bulk.block_until(f"{tmp_path}/{n + 1}")

    run(main, limit=30)


def test_a_reply_does_not_wait_for_another_endpoint_that_computes(tmp_path: Path) -> None:
    async def main() -> None:
        replies = 0

        async def call() -> None:
            nonlocal replies
            assert await portal.run(ep_bulk.third_waits_for_the_others, signs=str(tmp_path))
            replies += 1
            if replies == 2:
                (tmp_path / "two").touch()

        async with open_peer("ep_bulk") as portal, trio.open_nursery() as tn:
            for _ in range(3):
                tn.start_soon(call)

    run(main, limit=30)


# -- one turn --


def test_a_send_gives_way_to_a_task_that_was_just_started() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            for _ in range(50):
                ran: list[str] = []
                async with trio.open_nursery() as tn:
                    tn.start_soon(_note, ran)
                    await stream.send("x")
                    assert ran == ["ran"]

    run(main)


def test_a_receive_gives_way_to_a_task_that_was_just_started() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=200) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            while ctx.statistics().buffered < 100:
                await trio.testing.wait_all_tasks_blocked(0.001)
            for _ in range(50):
                ran: list[str] = []
                async with trio.open_nursery() as tn:
                    tn.start_soon(_note, ran)
                    await stream.receive()
                    assert ran == ["ran"]
            assert len([n async for n in stream]) == 150

    run(main)


async def _note(ran: list[str]) -> None:
    ran.append("ran")


def test_a_task_that_was_ready_before_waits_for_few_messages() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            async with trio.open_nursery() as tn:
                tn.start_soon(other)
                for n in range(2000):
                    await stream.send(n)
                assert turns >= 2000 / 33 - 1
                tn.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("step", ["send", "receive", "send_many", "receive_many"])
def test_each_step_is_a_cancellation_point(step: str) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.echoes) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send(0)
            while ctx.statistics().buffered < 1:
                await trio.testing.wait_all_tasks_blocked(0.001)
            steps: Any = {
                "send": lambda: stream.send(1),
                "send_many": lambda: stream.send_many([1]),
                "receive": stream.receive,
                "receive_many": lambda: stream.receive_many(5),
            }
            with trio.CancelScope() as scope:
                scope.cancel()
                await steps[step]()
            assert scope.cancelled_caught
            assert (ctx.statistics().sent, ctx.statistics().buffered) == (1, 1)

    run(main)


# -- a reader that leaves --


@pytest.mark.parametrize("how", ["send", "send_many", "nursery"])
def test_a_reader_that_leaves_ends_the_feed(reg_addr: Any, how: str) -> None:
    async def main() -> None:
        async with open_peer("ep_bulk", reg_addr=reg_addr) as portal:
            async with (
                portal.open_context(ep_bulk.feeds_for_ever, key="k", how=how) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                got = 0
                async for _value in stream:
                    got += 1
                    if got == 5:
                        break
            assert ctx.outcome == "ended by its reader"
            assert str(ctx.state) == "result-returned"

    run(main)


@pytest.mark.parametrize("by", ["deadline", "error"])
@pytest.mark.parametrize("then", ["leave", "result"])
def test_a_stream_given_up_inside_of_its_context_ends_the_feed(by: str, then: str) -> None:
    """What ended the stream's block was handled before the context's, so no error of the dialog tells the peer."""

    async def main() -> None:
        async with open_peer("ep_bulk") as portal:
            async with portal.open_context(ep_bulk.feeds_for_ever, key="k") as (ctx, _):
                with trio.CancelScope() as scope, contextlib.suppress(KeyError):
                    async with ctx.open_stream() as stream:
                        async for value in stream:
                            if value == 5:
                                if by == "error":
                                    raise KeyError(value)
                                scope.cancel()
                if then == "result":
                    assert await ctx.wait_for_result() == "ended by its reader"
            assert ctx.outcome == "ended by its reader"
            assert not ctx.cancel_called

    run(main)


def test_while_something_is_unread_sends_to_a_reader_that_left_go_nowhere() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=3000, key="k") as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                await stream.send("unread")
            await portal.run(ep_streams.go, key="k")
            # More than a window: a peer that reads nothing any more grants nothing.
            assert await ctx.wait_for_result() == 3000
            assert ctx.statistics().discarded == 3000

    run(main)


def test_after_the_peers_stop_and_with_nothing_unread_a_send_is_an_end_of_channel() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.sends, count=2) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            while ctx.statistics().buffered < 2 or str(ctx.state) != "result-returned":
                await trio.testing.wait_all_tasks_blocked(0.001)
            await stream.send("discarded there")
            assert await stream.receive_many(5) == [0, 1]
            with pytest.raises(trio.EndOfChannel):
                await stream.send("too late")
            with pytest.raises(trio.EndOfChannel):
                await stream.send_many(["too late"])

    run(main)


def test_a_block_that_waits_for_long_says_for_what(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_context_parent, "PATIENCE", 0.05)

    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            trio.open_nursery() as tn,
        ):
            tn.start_soon(_go_after_the_word, portal, caplog)
            async with portal.open_context(ep_streams.never_reads_until, key="k"):
                pass
        assert len(_warnings(caplog, "was left")) == 1

    with caplog.at_level(logging.WARNING, logger="tractor"):
        run(main)


async def _go_after_the_word(portal: tractor.Portal, caplog: Any) -> None:
    while not _warnings(caplog, "was left"):
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert "never_reads_until" in _warnings(caplog, "was left")[0]
    await portal.run(ep_streams.go, key="k")


# -- in bulk --


@pytest.mark.parametrize("batch", [1, 7, 1000, 5000])
def test_messages_in_bulk_arrive_in_order(reg_addr: Any, batch: int) -> None:
    async def main() -> None:
        count = 5000 if batch > 1 else 300
        got: list[int] = []
        async with (
            open_peer("ep_bulk", reg_addr=reg_addr) as portal,
            portal.open_context(ep_bulk.sends_in_bulk, count=count, batch=batch) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            async for values in stream.batches(100):
                assert 1 <= len(values) <= 100
                got += values
            assert await ctx.wait_for_result() == count
            assert stream.statistics().received == count
        assert got == list(range(count))

    run(main)


def test_a_bulk_that_is_cancelled_has_sent_what_it_counts(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk", reg_addr=reg_addr) as portal,
            portal.open_context(ep_bulk.sends_more_than_a_window, key="k", count=5000) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert await portal.run(ep_bulk.seen, key="k") == WINDOW
            assert [n async for n in stream] == [*range(WINDOW), "next"]

    run(main)


@pytest.mark.parametrize("bad_at", [0, 1, 3])
def test_a_bad_payload_in_a_bulk_comes_after_the_good_ones(bad_at: int) -> None:
    async def main() -> None:
        values: list[Any] = list(range(5))
        values[bad_at] = "bad"
        got: list[int] = []
        async with open_peer("ep_bulk") as portal:
            with pytest.raises(tractor.MsgTypeError, match="bad"):  # noqa: PT012
                async with (
                    portal.open_context(ep_bulk.sends_what, values=values) as (ctx, _),
                    tractor.msg.maybe_limit_plds(ctx, spec=int | None),
                    ctx.open_stream() as stream,
                ):
                    while ctx.statistics().buffered < 5:
                        await trio.testing.wait_all_tasks_blocked(0.001)
                    while True:
                        got += await stream.receive_many(10)
        assert got == values[:bad_at]

    run(main)


class Slow(Exception):
    """What a hook makes of a number; to be one takes longer than a turn of the loop may."""


def _slow(wanted: type, value: Any) -> Slow:
    time.sleep(0.01)
    if value == "bad":
        raise ValueError("bad")
    return Slow(value)


@contextlib.asynccontextmanager
async def slow_values(values: list[Any], hook: Any = _slow) -> AsyncIterator[tractor.MsgStream]:
    """A stream of them, all at hand, which its reader decodes with the hook."""
    async with (
        open_peer("ep_bulk") as portal,
        portal.open_context(ep_bulk.sends_what, values=values) as (ctx, _),
        tractor.msg.maybe_limit_plds(ctx, spec=Slow, dec_hook=hook, ext_types=[Slow]),
        ctx.open_stream() as stream,
    ):
        while ctx.statistics().buffered < len(values):
            await trio.testing.wait_all_tasks_blocked(0.001)
        yield stream


def test_a_bulk_ends_where_it_takes_long() -> None:
    async def main() -> None:
        async with slow_values([1, 2, 3]) as stream:
            for number in (1, 2, 3):
                (value,) = await stream.receive_many(10)
                assert value.args == (number,)
                assert stream.statistics().buffered == 3 - number

    run(main)


def test_a_bulk_of_subscribers_ends_where_it_takes_long() -> None:
    async def main() -> None:
        async with slow_values([1, 2, 3]) as stream, stream.subscribe():
            assert [len(await stream.receive_many(10)) for _ in range(3)] == [1, 1, 1]

    run(main)


@pytest.mark.parametrize("nowait", [True, False])
def test_a_bad_payload_behind_a_bulk_is_decoded_once(nowait: bool) -> None:
    async def main() -> None:
        decoded: list[Any] = []

        def hook(wanted: type, value: Any) -> Slow:
            decoded.append(value)
            if value == "bad":
                raise ValueError("bad")
            return Slow(value)

        with pytest.raises(tractor.MsgTypeError, match="bad"):  # noqa: PT012
            async with slow_values([1, 2, "bad", 3], hook) as stream:
                assert [one.args for one in await stream.receive_many(10)] == [(1,), (2,)]
                assert decoded == [1, 2, "bad"]
                stream.receive_nowait() if nowait else await stream.receive()
        assert decoded == [1, 2, "bad"]

    run(main)


def test_to_close_what_takes_long_lets_others_run() -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with slow_values([1, "bad", 3]) as stream, trio.open_nursery() as tn:
            tn.start_soon(count)
            await trio.lowlevel.checkpoint()
            turns = 0
            one, bad, three = await stream.aclose()
            assert turns >= 3
            assert (one.args, bytes(bad), three.args) == ((1,), b"\xa3bad", (3,))
            assert await stream.aclose() == []
            tn.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            with pytest.raises(ValueError, match=str(limit)):
                await stream.receive_many(limit)
            with pytest.raises(ValueError, match=str(limit)):
                stream.batches(limit)

    run(main)


# -- the strict mode --


@pytest.mark.parametrize("count", [65, 100, 700])
def test_a_burst_never_overruns_a_reader_that_waits(reg_addr: Any, count: int) -> None:
    """Nothing is an overrun that one chunk of the connection brought before the reader had its turn."""

    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.collects, backpressure=False) as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                await stream.send_many(range(count))
            assert await ctx.wait_for_result() == list(range(count))

    run(main)


@pytest.mark.parametrize("who", ["context", "stream", "peer"])
@pytest.mark.parametrize("value", [True, False])
def test_who_says_allow_overruns_has_chosen_the_strict_mode(who: str, value: bool) -> None:
    async def main() -> None:
        at_context = {"allow_overruns": value} if who == "context" else {}
        at_stream = {"allow_overruns": value} if who == "stream" else {}
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(
                _with_overruns(value) if who == "peer" else ep_streams.collects,
                key="k",
                **at_context,
            ) as (ctx, _),
            ctx.open_stream(**at_stream) as stream,
        ):
            theirs = await portal.run(ep_streams.statistics, key="k")
            assert stream.statistics().credit is None
            assert theirs["credit"] is None
            await portal.run(ep_streams.go, key="k")

    run(main)


def _with_overruns(value: bool) -> Any:
    return partial(ep_streams.collects, allow_overruns=value)


@pytest.mark.parametrize("value", [True, False])
def test_overruns_and_back_pressure_are_two_modes(value: bool) -> None:
    async def main() -> None:
        async with open_peer("ep_streams") as portal:
            async with portal.open_context(ep_streams.collects) as (ctx, _):
                with pytest.raises(ValueError, match="two modes"):
                    ctx.open_stream(allow_overruns=value, backpressure=True)
                async with ctx.open_stream():
                    pass
            async with portal.open_context(ep_streams.collects, allow_overruns=value) as (ctx, _):
                with pytest.raises(ValueError, match="two modes"):
                    ctx.open_stream(backpressure=True)
                async with ctx.open_stream():
                    pass

    run(main)


# -- the result without the stream --


def test_a_result_that_is_awaited_without_a_stream_comes_past_any_number_of_messages() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=5000) as (ctx, _),
        ):
            assert await ctx.wait_for_result() == 5000
            stats = ctx.statistics()
            assert stats.buffered == WINDOW
            assert stats.discarded == 5000 - WINDOW
            got = []
            with pytest.raises(tractor.MessagingError, match="discarded"):  # noqa: PT012
                async with ctx.open_stream() as stream:
                    while True:
                        got.append(await stream.receive())
            assert got == list(range(WINDOW))

    run(main)


def test_what_fits_the_window_is_still_there_after_the_result() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=WINDOW) as (ctx, _),
        ):
            assert await ctx.wait_for_result() == WINDOW
            async with ctx.open_stream() as stream:
                assert [n async for n in stream] == list(range(WINDOW))

    run(main)


def test_a_stream_opened_while_another_task_waits_for_the_result_loses_nothing() -> None:
    async def main() -> None:
        got: list[int] = []

        async def reads() -> None:
            async with ctx.open_stream() as stream:
                # The wait has let the peer send two windows, one of them to be discarded.
                while stream.statistics().received + stream.statistics().discarded < 2 * WINDOW:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                got.extend([n async for n in stream])

        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=5000) as (ctx, _),
            trio.open_nursery() as tn,
        ):
            tn.start_soon(reads)
            assert await ctx.wait_for_result() == 5000
        assert got == list(range(5000))

    run(main)


def test_a_wait_for_the_result_that_is_given_up_loses_nothing_afterwards() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=3000) as (ctx, _),
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await ctx.wait_for_result()
            async with ctx.open_stream() as stream:
                assert [n async for n in stream] == list(range(3000))
            assert await ctx.wait_for_result() == 3000

    run(main)


# -- beyond the rules --


@pytest.mark.parametrize("size", [1, 2**20])
def test_who_sends_beyond_its_credit_ends_that_dialog(reg_addr: Any, size: int) -> None:
    async def main() -> None:
        async with open_peer("ep_streams", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError, match="beyond its credit") as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_streams.never_reads, key="k") as (ctx, _),
                    ctx.open_stream(),
                ):
                    for _ in range(WINDOW + 1 if size == 1 else 18):
                        await ctx.chan.transport.send(
                            Yield(ctx.cid, msgspec.Raw(msgspec.msgpack.encode(bytes(size))))
                        )
                    await trio.sleep_forever()
            assert caught.value.boxed_type is tractor.MessagingError
            # The others live on.
            await portal.run(ep_streams.seen, key="k")
            async with portal.open_context(ep_streams.collects) as (other, _):
                async with other.open_stream() as stream:
                    await stream.send(1)
                assert await other.wait_for_result() == [1]

    run(main)


def test_a_sender_that_nobody_reads_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_port, "QUIET_TIMEOUT", 0.05)

    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.collects_late, key="k") as (ctx, _),
        ):
            async with ctx.open_stream() as stream, trio.open_nursery() as tn:
                tn.start_soon(stream.send_many, range(3000))
                while not _warnings(caplog, "has waited"):
                    await trio.testing.wait_all_tasks_blocked(0.01)
                await trio.testing.wait_all_tasks_blocked(0.2)
                assert len(_warnings(caplog, "has waited")) == 1
                await portal.run(ep_streams.go, key="k")
            assert await ctx.wait_for_result() == list(range(3000))

    with caplog.at_level(logging.WARNING, logger="tractor"):
        run(main)


def _warnings(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if text in r.getMessage()]


# -- subscribers --


@pytest.mark.parametrize("reader_waits", [True, False])
def test_a_subscriber_that_was_started_before_a_send_gets_that_message(reader_waits: bool) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams") as portal,
            portal.open_context(ep_streams.echoes) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            theirs: list[int] = []
            own: list[int] = []

            async def subscriber() -> None:
                async with stream.subscribe() as receiver:
                    theirs.extend([await receiver.receive() for _ in range(5)])

            async def reader() -> None:
                own.extend([await stream.receive() for _ in range(5)])

            async with trio.open_nursery() as tn:
                if reader_waits:
                    tn.start_soon(reader)
                    await trio.testing.wait_all_tasks_blocked()
                tn.start_soon(subscriber)
                for n in range(5):
                    await stream.send(n)
                if not reader_waits:
                    await reader()
            assert theirs == own == list(range(5))

    run(main)


def test_a_lossless_subscriber_sets_the_pace() -> None:
    async def main() -> None:
        count = 300
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=count) as (ctx, _),
            ctx.open_stream(msg_buffer_size=10) as stream,
        ):
            got: dict[str, list[int]] = {"slow": [], "fast": []}

            async def read(name: str, receiver: Any) -> None:
                async for n in receiver:
                    got[name].append(n)
                    if name == "slow":
                        await trio.testing.wait_all_tasks_blocked()
                        assert len(got["fast"]) - len(got["slow"]) <= 10

            async with (
                stream.subscribe(lossless=True) as slow,
                stream.subscribe() as fast,
                trio.open_nursery() as tn,
            ):
                tn.start_soon(read, "slow", slow)
                tn.start_soon(read, "fast", fast)
            assert got == {"slow": list(range(count)), "fast": list(range(count))}

    run(main)


def test_bulk_through_a_subscription() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_bulk") as portal,
            portal.open_context(ep_bulk.floods, count=50) as (ctx, _),
            ctx.open_stream() as stream,
            stream.subscribe(lossless=True) as receiver,
        ):
            got: list[int] = []
            async for values in stream.batches(7):
                assert len(values) <= 7
                got += values
            assert got == list(range(50))
            assert [n async for n in receiver] == got

    run(main)
