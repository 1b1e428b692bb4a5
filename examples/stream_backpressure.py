"""A slow reader and a fast sender: the sender waits.

What to learn:

- `send()` waits while the reader is 1,024 messages (or 16 MiB) behind, and goes on as they are read.
  Memory stays bounded, nothing is dropped, and nobody has to ask for it.
- `open_stream(msg_buffer_size=...)` sets another number of messages for what comes to this side.
- In the strict mode, `open_stream(backpressure=False)`, a slow reader is an error instead:
  `StreamOverrun`.
- `stream.statistics()` tells how a stream is doing.
"""

import trio

import tractor

AMOUNT = 3000
CREDIT = 1024

sent = 0
"""In the child: messages that `send()` has taken."""


@tractor.context
async def firehose(ctx: tractor.Context, amount: int) -> None:
    """Run in the child: send as fast as the reader allows."""
    global sent
    await ctx.started()
    async with ctx.open_stream() as stream:
        for number in range(amount):
            await stream.send(number)
            sent += 1


async def how_far() -> int:
    """Run in the child, beside the firehose."""
    return sent


async def main() -> None:
    """Do not read for a while; then read slowly."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("firehose", enable_modules=[__name__])

        async with (
            portal.open_context(firehose, amount=AMOUNT) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            while await portal.run(how_far) < CREDIT:
                await trio.sleep(0.01)
            await trio.sleep(0.2)
            ahead = await portal.run(how_far)
            assert ahead == CREDIT
            print(f"nobody reads: the sender waits after {ahead} of {AMOUNT} messages")
            print(f"  {stream.statistics()}")

            received = []
            async for number in stream:
                received.append(number)
                if number % 10 == 0:
                    await trio.sleep(0.001)

            assert received == list(range(AMOUNT))
            print(f"all {len(received)} values arrived in order, none was dropped")
            print(f"  {stream.statistics()}")

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
