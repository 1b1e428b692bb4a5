"""Publish and subscribe: one async generator of an actor feeds every stream that subscribes.

What to learn:

- `@msgpub` makes a publisher of an async generator function that yields `{topic: data}`.
- Peers subscribe with `portal.open_stream_from()`. All of them share one running generator; each
  gets what is published for its own topics.
- `get_topics()` tells the publisher what anybody listens to right now.
- When the last one leaves, the generator is cancelled, and its clean-up has run.
"""

from collections.abc import AsyncIterator, Callable

import trio

import tractor
from tractor.experimental import msgpub


@msgpub
async def weather(get_topics: Callable[[], set[str]]) -> AsyncIterator[dict[str, int]]:
    """Measure what somebody wants to know."""
    print("the station opens")
    try:
        temperature = 20
        while True:
            yield dict.fromkeys(sorted(get_topics()), temperature)
            temperature += 1
            await trio.sleep(0.02)
    finally:
        print("the station closes")


def as_text(city: str, temperature: int) -> str:
    """What a subscriber may have made of a topic and its data."""
    return f"{temperature} degrees in {city}"


async def listen(portal: tractor.Portal, cities: list[str], packets: int) -> None:
    """Subscribe, show what comes, leave."""
    stream = portal.open_stream_from(weather, topics=cities, packetizer=f"{__name__}:as_text")
    async with stream as reports:
        for _ in range(packets):
            print(f"{' and '.join(cities)}: {await reports.receive()}")


async def main() -> None:
    """Subscribe twice at the same time."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("station", enable_modules=[__name__])
        async with trio.open_nursery() as listeners:
            listeners.start_soon(listen, portal, ["Oslo"], 3)
            listeners.start_soon(listen, portal, ["Oslo", "Rome"], 6)
        print("nobody listens any more")
        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
