"""Two streams of one generator over one connection.

What to learn:

- A portal is one connection that carries any number of dialogs at the same time.
- Each `open_stream_from()` runs a generator of its own: the streams do not share values, and one
  that is read slowly does not hold up the other.
"""

from collections.abc import AsyncIterator

import trio

import tractor

AMOUNT = 100


async def squares(amount: int) -> AsyncIterator[int]:
    """Run in the child, once for each stream."""
    for number in range(amount):
        yield number * number


async def main() -> None:
    """Read two streams at different speeds and compare."""
    received: dict[str, list[int]] = {"fast": [], "slow": []}

    async def read(portal: tractor.Portal, label: str, pause: float) -> None:
        async with portal.open_stream_from(squares, amount=AMOUNT) as stream:
            async for value in stream:
                received[label].append(value)
                await trio.sleep(pause)
        print(f"the {label} reader has {len(received[label])} values")

    async with tractor.open_nursery() as an:
        portal = await an.start_actor("squares", enable_modules=[__name__])
        async with trio.open_nursery() as readers:
            readers.start_soon(read, portal, "fast", 0)
            readers.start_soon(read, portal, "slow", 0.002)
        await portal.cancel_actor()

    assert received["fast"] == received["slow"] == [n * n for n in range(AMOUNT)]
    print("both got the same values")


if __name__ == "__main__":
    trio.run(main)
