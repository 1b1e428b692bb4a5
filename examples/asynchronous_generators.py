"""A one-way stream: the values of an async generator that runs in another process.

What to learn:

- Any async generator function of an enabled module can be streamed from with `open_stream_from()`.
- It needs no end of its own: leaving the block cancels it, wherever it is just now, and waits for
  that.
- So its `finally` has run when the block has been left.
"""

from collections.abc import AsyncIterator
from itertools import count

import trio

import tractor

ENOUGH = 50


async def tick(pause: float) -> AsyncIterator[int]:
    """Run in the child: yield numbers until cancelled; `pause` in seconds."""
    try:
        for number in count():
            yield number
            await trio.sleep(pause)
    finally:
        print("stream terminated", flush=True)


async def main() -> None:
    """Take a few values of an endless stream."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("ticker", enable_modules=[__name__])

        async with portal.open_stream_from(tick, pause=0.01) as stream:
            async for number in stream:
                print(number)
                if number + 1 >= ENOUGH:
                    break
        print(f"took {ENOUGH} values of an endless stream", flush=True)

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
