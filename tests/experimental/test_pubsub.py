# ruff: noqa: PT012
# A stream raises inside of its block, so the block belongs into `pytest.raises()`.
"""`msgpub`: one generator, any number of streams."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import ep_pubsub
import pytest
import trio
from ep_supervise_tools import run

import tractor
from tractor.experimental import msgpub

FORKED = "main_thread_forkserver"


@asynccontextmanager
async def publisher(modules: list[str] | None = None) -> AsyncIterator[tractor.Portal]:
    async with tractor.open_nursery(start_method=FORKED) as an:
        portal = await an.start_actor("publisher", enable_modules=modules or ["ep_pubsub"])
        await portal.run(ep_pubsub.begin)
        yield portal
        await portal.cancel_actor()


def with_publisher(test: Callable[[tractor.Portal], Awaitable[None]]) -> None:
    async def main() -> None:
        async with publisher() as portal:
            await test(portal)

    run(main)


async def take(stream: tractor.MsgStream, n: int) -> list[Any]:
    return [await stream.receive() for _ in range(n)]


def test_a_subscriber_gets_its_topics() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with portal.open_stream_from(ep_pubsub.counter, topics=["even"]) as stream:
            assert await take(stream, 4) == [{"even": 0}, {"even": 2}, {"even": 4}, {"even": 6}]
        async with portal.open_stream_from(ep_pubsub.counter, topics="odd") as stream:
            assert await take(stream, 2) == [{"odd": 1}, {"odd": 3}]
        async with portal.open_stream_from(ep_pubsub.counter, topics=["odd", "even"]) as stream:
            assert await take(stream, 3) == [{"even": 0}, {"odd": 1}, {"even": 2}]

    with_publisher(test)


def test_one_task_name_is_one_generator() -> None:
    async def test(portal: tractor.Portal) -> None:
        open_stream = portal.open_stream_from
        named = ep_pubsub.named
        async with open_stream(named, topics="x", task_name="one") as first:
            one = await first.receive()
            async with open_stream(named, topics="x", task_name="one") as second:
                assert await second.receive() == one
                assert await portal.run(ep_pubsub.lives) == [["named"], []]
                async with open_stream(named, topics="x", task_name="two") as other:
                    assert await other.receive() != one
                    assert await portal.run(ep_pubsub.lives) == [["named"] * 2, []]
            # The first goes on when the second leaves.
            assert await take(first, 100) == [one] * 100
        lives = await portal.run(ep_pubsub.lives)
        assert lives == [["named"] * 2, ["named"] * 2]

    with_publisher(test)


def test_other_task_names_are_refused() -> None:
    async def test(portal: tractor.Portal) -> None:
        for name in ("three", None):
            with pytest.raises(tractor.RemoteActorError, match="no task") as info:
                async with portal.open_stream_from(
                    ep_pubsub.named, topics="x", task_name=name
                ) as stream:
                    await stream.receive()
            assert info.value.boxed_type is TypeError
        assert await portal.run(ep_pubsub.lives) == [[], []]

    with_publisher(test)


def test_get_topics_tells_who_listens() -> None:
    async def test(portal: tractor.Portal) -> None:
        open_stream = portal.open_stream_from
        async with open_stream(ep_pubsub.topics_of, topics=["topics", "a"]) as stream:
            assert await stream.receive() == {"topics": ["a", "topics"]}
            async with open_stream(ep_pubsub.topics_of, topics=["b"]):
                assert await stream.receive() == {"topics": ["a", "b", "topics"]}
            assert await stream.receive() == {"topics": ["a", "topics"]}

    with_publisher(test)


def test_the_generator_is_stopped_when_nobody_is_left_and_starts_anew() -> None:
    async def test(portal: tractor.Portal) -> None:
        for times in (1, 2):
            async with portal.open_stream_from(ep_pubsub.counter, topics="all") as stream:
                assert await stream.receive() == {"all": 0}
            # Whoever has left the block knows that it has ended.
            assert await portal.run(ep_pubsub.lives) == [["counter"] * times, ["counter"] * times]

    with_publisher(test)


def test_a_generator_that_ends_ends_the_streams() -> None:
    async def test(portal: tractor.Portal) -> None:
        async with portal.open_stream_from(ep_pubsub.counter, topics="all", limit=200) as stream:
            assert [packet["all"] async for packet in stream] == list(range(200))
        async with portal.open_stream_from(ep_pubsub.counter, topics="none", limit=5) as stream:
            assert [packet async for packet in stream] == []

    with_publisher(test)


def test_an_error_reaches_every_subscriber_after_the_packets() -> None:
    async def test(portal: tractor.Portal) -> None:
        seen: dict[str, list[Any]] = {"a": [], "b": []}

        async def listen(topic: str) -> None:
            with pytest.raises(tractor.RemoteActorError, match="publisher's own") as info:
                async with portal.open_stream_from(
                    ep_pubsub.failing, topics=topic, both=True
                ) as stream:
                    async for packet in stream:
                        seen[topic].append(packet[topic])
            assert info.value.boxed_type is ValueError

        for _ in range(2):
            async with trio.open_nursery() as tn:
                tn.start_soon(listen, "a")
                tn.start_soon(listen, "b")
        # The actor goes on, and so does the next generator.
        assert seen == {"a": [1, 2, 1, 2], "b": [1, 2, 1, 2]}

    with_publisher(test)


def test_what_is_no_dict_is_an_error() -> None:
    async def test(portal: tractor.Portal) -> None:
        with pytest.raises(tractor.RemoteActorError, match="must yield a dict"):
            async with portal.open_stream_from(ep_pubsub.wrong, topics="x") as stream:
                await stream.receive()

    with_publisher(test)


@pytest.mark.parametrize(
    ("packetizer", "error", "text"),
    [
        ("ep_calls:echo", tractor.ModuleNotExposed, "enable_modules"),
        ("ep_pubsub:nothing", AttributeError, "nothing"),
        ("ep_pubsub:NO_FUNCTION", TypeError, "must be a function"),
        ("nonsense", ValueError, "module:name"),
    ],
)
def test_packetizers_that_can_not_be_used(
    packetizer: str, error: type[BaseException], text: str
) -> None:
    async def test(portal: tractor.Portal) -> None:
        with pytest.raises(tractor.RemoteActorError, match=text) as info:
            async with portal.open_stream_from(
                ep_pubsub.counter, topics="all", packetizer=packetizer
            ) as stream:
                await stream.receive()
        assert info.value.boxed_type is error
        assert await portal.run(ep_pubsub.lives) == [[], []]

    with_publisher(test)


def test_a_packetizer_makes_the_packets_of_its_own_subscriber() -> None:
    async def test(portal: tractor.Portal) -> None:
        # Both read all the time: the generator waits for the slower one.
        async def listen(n: int, check: Callable[[list[Any]], None], **how: Any) -> None:
            async with portal.open_stream_from(ep_pubsub.counter, **how) as stream:
                check(await take(stream, n))

        def are_texts(packets: list[Any]) -> None:
            # Whoever came first: each from then on, and none left out.
            begin = int(packets[0].partition("=")[2])
            numbers = range(begin, begin + len(packets))
            assert packets == [f"{'odd' if n % 2 else 'even'}={n}" for n in numbers]

        def are_dicts(packets: list[Any]) -> None:
            assert [list(packet) for packet in packets] == [["all"]] * len(packets)

        async with trio.open_nursery() as tn:
            text = "ep_pubsub:as_text"
            tn.start_soon(
                functools.partial(listen, 500, are_texts, topics=["odd", "even"], packetizer=text)
            )
            tn.start_soon(functools.partial(listen, 100, are_dicts, topics="all"))

    with_publisher(test)


def test_the_generator_waits_for_the_slowest() -> None:
    async def test(portal: tractor.Portal) -> None:
        open_stream = portal.open_stream_from
        async with open_stream(ep_pubsub.counter, topics="all") as slow:
            async with open_stream(ep_pubsub.counter, topics="all") as quick:
                read = 0
                while read < 5000:
                    with trio.move_on_after(0.2) as stalled:
                        await quick.receive()
                        read += 1
                    if stalled.cancelled_caught:
                        break
                # What both sides buffer, and no more.
                assert read < 3000
            # Nothing was lost meanwhile.
            found = [packet["all"] for packet in await take(slow, 5000)]
            assert found == list(range(5000))

    with_publisher(test)


def test_topics_must_be_topics() -> None:
    async def test(portal: tractor.Portal) -> None:
        with pytest.raises(tractor.RemoteActorError, match="topics must be") as info:
            async with portal.open_stream_from(ep_pubsub.counter, topics=3) as stream:
                await stream.receive()
        assert info.value.boxed_type is TypeError

    with_publisher(test)


def test_a_subscriber_whose_actor_dies_is_forgotten() -> None:
    async def test(portal: tractor.Portal) -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            async with tractor.open_nursery() as an:
                await an.run_in_actor(ep_pubsub.listen_and_die, name="listener")
        with trio.fail_after(10):
            while await portal.run(ep_pubsub.lives) != [["counter"], ["counter"]]:
                await trio.sleep(0.01)

    with_publisher(test)


def test_what_can_be_a_publisher() -> None:
    with pytest.raises(TypeError, match="must be an async generator function"):

        @msgpub  # type: ignore[type-var]
        async def no_generator(get_topics: Any) -> None: ...

    with pytest.raises(TypeError, match="must be an async generator function"):
        msgpub(3)  # type: ignore[call-overload]

    with pytest.raises(TypeError, match="get_topics"):

        @msgpub(tasks={"a"})
        async def no_topics() -> AsyncIterator[Any]:
            yield 1


def test_in_the_own_actor_a_packetizer_is_a_function() -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            packets = ep_pubsub.counter(topics="all", limit=2, packetizer=lambda t, d: (t, d))
            assert [packet async for packet in packets] == [("all", 0), ("all", 1)]

    run(main)
