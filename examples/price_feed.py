"""One feed, three subscribers: one must have every value, one the newest, one what it can keep up with.

What to learn:

- `@topics.publisher` makes a feed of an async function. It runs once for all who subscribe with equal arguments:
  from the first one's coming to the last one's leaving, and here a while longer (`linger`).
- A subscriber says what becomes of values that it is too slow for: the feed waits (`lossless`), or it gets
  the newest of each topic (`latest`), or the oldest are lost (`drop_oldest`). `dropped` counts them.
- `keep_last` gives who joins late the last value of each topic first.
"""

import itertools

import msgspec
import trio

import tractor
from tractor import topics


class Quote(msgspec.Struct):
    """What the feed sends."""

    symbol: str
    price: float
    number: int


@topics.publisher(pld_spec=Quote, keep_last=True, linger=10)
async def quotes(pub: topics.Publisher[Quote], exchange: str) -> None:
    """Connect once, whoever listens."""
    print(f"connected to {exchange}")
    try:
        for number in itertools.count(1):
            await pub.send(Quote("ACME", 100.0 + number % 10, number), topic="ACME")
            await pub.send(Quote("BOLT", 7.0, number), topic="BOLT")
            await trio.sleep(0.001)
    finally:
        print(f"disconnected from {exchange}")


async def record(portal: tractor.Portal) -> None:
    """Store all of one symbol: the feed goes no faster than this."""
    stored: list[int] = []
    async with topics.subscribe(portal, quotes, "ACME", exchange="NOWHERE") as sub:
        async for _, quote in sub:
            stored.append(quote.number)
            if len(stored) == 200:
                break
    print("recorder: without a gap?", stored == list(range(stored[0], stored[0] + 200)))


async def show(portal: tractor.Portal) -> None:
    """Draw what is true now."""
    async with topics.subscribe(portal, quotes, "ACME", slow="latest", exchange="NOWHERE") as sub:
        for _ in range(10):
            await sub.receive()
            await trio.sleep(0.02)
        print("screen: has it left some out?", sub.dropped > 0)


async def average(portal: tractor.Portal) -> None:
    """Look at as much as there is time for, and know how much that was."""
    seen: list[int] = []
    slow = topics.subscribe(portal, quotes, slow="drop_oldest", size=20, exchange="NOWHERE")
    async with slow as sub:
        while not sub.dropped:
            _, quote = await sub.receive()
            if quote.symbol == "ACME":
                seen.append(quote.number)
            await trio.sleep(0.005)
    print(f"average: in order? {seen == sorted(seen)}, and it knows what it has lost")


async def main() -> None:
    """A feed in one actor; its subscribers may be in any."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("feed", enable_modules=[__name__])
        async with trio.open_nursery() as listeners:
            for listener in (record, show, average):
                listeners.start_soon(listener, portal)
        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
