"""A subscription's types.

What to learn: `Item` is a topic with its value; how slow a subscriber may be is a word.
"""

import trio

import tractor
from tractor import topics
from tractor.topics import Item, Slow, Subscription


@topics.publisher(pld_spec=int)
async def numbers(pub: topics.Publisher[int]) -> None:
    for number in range(3):
        await pub.send(number, topic="even" if number % 2 == 0 else "odd")


async def show(subscription: Subscription[int]) -> None:
    first: Item[int] = await subscription.receive()
    print(first.topic, first.value)
    async for topic, value in subscription:
        print(topic, value)
    print("lost:", subscription.dropped)


async def listen(portal: tractor.Portal, slow: Slow) -> None:
    async with topics.subscribe(portal, numbers, slow=slow) as subscription:
        await show(subscription)


async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("feed", enable_modules=[__name__])
        await listen(portal, "lossless")
        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
