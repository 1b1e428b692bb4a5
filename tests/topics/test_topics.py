# ruff: noqa: PT012
# A subscription raises inside of its block, so the block belongs into `pytest.raises()`.
"""Feeds and their subscribers, in processes: who joins late, who leaves, who dies, who is slow."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import ep_topics
import pytest
import trio
import trio.testing
from ep_supervise_tools import run
from ep_topics import Tick, driven, put, runs

import tractor
from tractor import topics
from tractor._proto.pubsub import Line
from tractor.topics._publication import Publication

FORKED = "main_thread_forkserver"


def with_feed(test: Callable[[tractor.Portal], Awaitable[None]]) -> None:
    """Run a test with a portal to the actor of the feeds."""

    async def main() -> None:
        async with tractor.open_nursery(start_method=FORKED) as an:
            portal = await an.start_actor("feed", enable_modules=["ep_topics"])
            await test(portal)
            await portal.cancel_actor()

    run(main)


def ticks(symbol: str, *prices: int) -> list[Tick]:
    return [Tick(symbol, price) for price in prices]


def test_all_subscribers_of_equal_arguments_share_one_run() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with topics.subscribe(portal, driven, "a") as one:
            async with topics.subscribe(portal, driven, side=ep_topics.Side.ASK):
                assert await portal.run(runs) == [2, 0]
            # Whoever has left knows that what ran for it alone has ended.
            assert await portal.run(runs) == [1, 1]
            async with topics.subscribe(portal, functools.partial(driven), "b", "c") as two:
                assert await portal.run(ep_topics.wanted) == ["a", "b", "c"]
                sent = [*ticks("a", 1), *ticks("b", 2), *ticks("z", 3)]
                assert await portal.run(put, sent) == [True, True, False]
                assert await one.receive() == ("a", Tick("a", 1))
                assert await two.receive() == ("b", Tick("b", 2))
                async with topics.subscribe(portal, driven):
                    assert await portal.run(ep_topics.wanted) is None
            assert await portal.run(put, ticks("a", 4)) == [True]
            assert (await one.receive()).value == Tick("a", 4)
        assert await portal.run(runs) == [0, 2]

    with_feed(test)


def test_a_slow_subscriber_loses_what_it_has_said_and_counts_it() -> None:
    async def test(portal: tractor.Portal) -> None:
        subscribe = functools.partial(topics.subscribe, portal, driven)
        async with (
            subscribe(slow="lossless") as lossless,
            subscribe(slow="latest") as latest,
            subscribe(slow="drop_oldest", size=2) as newest,
        ):
            await portal.run(put, [*ticks("a", *range(1, 51)), *ticks("b", 1)])
            assert [(await lossless.receive()).value.price for _ in range(51)] == [*range(1, 51), 1]
            assert lossless.dropped == 0
            # It is chosen when it is asked for.
            assert await latest.receive() == ("a", Tick("a", 50))
            assert latest.dropped == 49
            await portal.run(put, ticks("b", 2))
            assert await latest.receive() == ("b", Tick("b", 2))
            assert latest.dropped == 50
            # Two that were on their way, and the newest two.
            got = [await newest.receive() for _ in range(4)]
            assert got[-1] == ("b", Tick("b", 2))
            assert newest.dropped == 52 - 4
            prices = [tick.price for topic, tick in got if topic == "a"]
            assert prices == sorted(prices)

    with_feed(test)


def test_who_joins_late_gets_the_last_values_where_the_feed_keeps_them() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with topics.subscribe(portal, ep_topics.kept):
            await portal.run(put, [*ticks("a", 1, 2), *ticks("b", 3)])
        # Nobody listens, and it goes on.
        assert await portal.run(runs) == [1, 0]
        await portal.run(put, ticks("a", 4))
        async with topics.subscribe(portal, ep_topics.kept, "a") as late:
            assert await late.receive() == ("a", Tick("a", 4))
            # It is the same run.
            assert await portal.run(runs) == [1, 0]

    with_feed(test)


def test_a_feed_that_lingers_ends_later() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with topics.subscribe(portal, ep_topics.lingering):
            assert await portal.run(runs) == [1, 0]
        with trio.fail_after(30):
            while await portal.run(runs) != [0, 1]:
                await trio.sleep(0.01)

    with_feed(test)


def test_the_end_and_an_error_come_after_what_was_sent() -> None:
    async def test(portal: tractor.Portal) -> None:
        for slow in ("lossless", "drop_oldest"):
            subscribe = topics.subscribe(portal, ep_topics.counts, slow=slow, size=4000, end=3000)
            async with subscribe as sub:
                assert [value async for _, value in sub] == list(range(3000))
                with pytest.raises(trio.EndOfChannel):
                    await sub.receive()
        got: list[int] = []
        with pytest.raises(tractor.RemoteActorError, match="the feed's own") as caught:
            async with topics.subscribe(portal, ep_topics.counts, end=3, fails=True) as sub:
                async for _, value in sub:
                    got.append(value)
        assert got == [0, 1, 2]
        assert caught.value.matches(ValueError)

    with_feed(test)


def test_a_subscriber_whose_process_dies_is_forgotten_and_holds_nobody_up() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with topics.subscribe(portal, driven, "alive") as alive:
            with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
                async with tractor.open_nursery() as an:
                    other = await an.start_actor("listener", enable_modules=["ep_topics"])
                    opening = other.open_context(ep_topics.listens_and_dies, name="feed")
                    async with opening as (ctx, _), ctx.open_stream() as stream:
                        await stream.send("die")
                        await trio.sleep_forever()
            with trio.fail_after(30):
                while await portal.run(ep_topics.wanted) != ["alive"]:
                    await trio.sleep(0.01)
            # More than would fit into its line and its stream.
            await portal.run(put, [*ticks("dead", *range(2000)), *ticks("alive", 1)])
            assert (await alive.receive()).value == Tick("alive", 1)

    with_feed(test)


def test_what_is_refused() -> None:
    async def test(portal: tractor.Portal) -> None:
        async def fails(error: type[Exception], text: str, *args: Any, **kwargs: Any) -> None:
            with pytest.raises(error, match=text):
                async with topics.subscribe(portal, *args, **kwargs) as sub:
                    await sub.receive()

        await fails(TypeError, "is no feed: decorate it", put)
        await fails(TypeError, "a topic is a string, not 7", driven, 7)
        await fails(TypeError, "unexpected keyword argument 'sied'", driven, sied="bid")
        await fails(ValueError, "slow='fast'", driven, slow="fast")
        await fails(ValueError, "size=0", driven, size=0)
        await fails(tractor.RemoteActorError, "ValidationError in feed@", driven, side="none")
        await fails(tractor.MsgTypeError, "int", ep_topics.wrong)
        assert await portal.run(runs) == [0, 0]

    with_feed(test)


def test_what_can_be_a_feed() -> None:
    with pytest.raises(TypeError, match="yields' must be an async function, and none that yields"):

        @topics.publisher
        async def yields(pub: Any) -> Any:
            yield 1

    with pytest.raises(TypeError, match="alone' needs a first parameter"):

        @topics.publisher  # type: ignore[arg-type]
        async def alone() -> None: ...

    with pytest.raises(ValueError, match="linger=-1"):

        @topics.publisher(linger=-1)
        async def soon(pub: topics.Publisher[int]) -> None: ...


def test_what_sends_after_the_end_is_told_so() -> None:
    """Another task of the actor, also one that waits for a slow subscriber."""

    async def main() -> None:
        publication = Publication("key", "name", {})
        line = Line(size=1)
        over = trio.Event()
        subscriber = publication.join(line)
        async with trio.open_nursery() as tn:
            tn.start_soon(publication.run, over.wait)
            assert await publication.publish("a", 1)

            async def waits() -> None:
                with pytest.raises(trio.ClosedResourceError, match="name has ended"):
                    await publication.publish("a", 2)

            tn.start_soon(waits)
            await trio.testing.wait_all_tasks_blocked()
            over.set()
        with pytest.raises(trio.ClosedResourceError):
            await publication.publish("a", 3)
        assert await publication.next(subscriber) == ("a", 1, 0)
        assert await publication.next(subscriber) is None
        await publication.leave(subscriber)

    trio.run(main)
