"""An echo task in asyncio, behind a trio endpoint, in an actor of its own.

What to learn:

- `infect_asyncio=True` starts an actor that runs an asyncio loop, with trio as its guest. To the
  rest of the tree it is an actor like any other.
- `to_asyncio.open_channel_from()` starts an asyncio task that is linked with the block: neither
  side outlives the other. Values go both ways over one channel, in order.
- When the block is left the asyncio task gets `TrioTaskExited` at what it awaits. It may let that
  out, or tidy up and return.
"""

import time

import trio

import tractor
from tractor import to_asyncio

ROUNDS = 1000


async def echo(chan: to_asyncio.LinkedTaskChannel) -> int:
    """Run in the child, as an asyncio task: send back what comes, count it."""
    chan.started_nowait("the echo task runs")
    count = 0
    try:
        while True:
            value = await chan.get()
            await chan.send(value)
            count += 1
    except to_asyncio.TrioTaskExited:
        return count


@tractor.context
async def serve_echo(ctx: tractor.Context) -> int:
    """Run in the child, as a trio task: relay between the parent's stream and the echo task."""
    async with to_asyncio.open_channel_from(echo) as (chan, first):
        await ctx.started(first)
        async with ctx.open_stream() as stream:
            async for value in stream:
                await chan.send(value)
                await stream.send(await chan.receive())
    count: int = await chan.wait_for_result()
    return count


async def main() -> None:
    """Ask a thousand times, and check each answer."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("echo_server", enable_modules=[__name__], infect_asyncio=True)
        async with portal.open_context(serve_echo) as (ctx, first):
            print(first)
            async with ctx.open_stream() as stream:
                began = time.perf_counter()
                for value in range(ROUNDS):
                    await stream.send(value)
                    assert await stream.receive() == value
                seconds = time.perf_counter() - began
        count = await ctx.wait_for_result()
        assert count == ROUNDS
        print(f"{count} checked round trips, {count / seconds:,.0f} a second")
        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
