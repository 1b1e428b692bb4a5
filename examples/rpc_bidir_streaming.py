"""Ping-pong on a context's two-way stream.

What to learn:

- `@tractor.context` marks a function that peers open with `open_context()`. It says
  `started(value)` once; the opener's block begins with that value.
- Both sides open the stream; both may send and receive at any time.
- Leaving the stream's block says "no more from me". The other side's `async for` ends then. What
  it still sends is drained: nothing of one dialog turns up in another.
- The endpoint's return value is the context's result.
"""

import trio

import tractor

PINGS = 10


@tractor.context
async def pong(ctx: tractor.Context, data: int) -> int:
    """Run in the child: answer each ping; return how many there were."""
    await ctx.started(data + 1)
    pings = 0
    async with ctx.open_stream() as stream:
        async for message in stream:
            assert message == "ping"
            pings += 1
            await stream.send("pong")
    return pings


async def main() -> None:
    """Play ten rounds, and leave the last reply unread."""
    data = 10
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("player", enable_modules=[__name__])

        async with portal.open_context(pong, data=data) as (ctx, first):
            assert first == data + 1

            async with ctx.open_stream() as stream:
                await stream.send("ping")
                sent = 1
                async for reply in stream:
                    assert reply == "pong"
                    await stream.send("ping")
                    sent += 1
                    if sent == PINGS:
                        break  # the reply to this last ping is drained

            pings = await ctx.wait_for_result()
            assert pings == PINGS
            print(f"{first = }, {pings = }")

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
