"""One stream, three local subscribers: each of them gets each value.

What to learn:

- Two tasks that read one stream share its values. With `stream.subscribe()` each has a reader of
  its own that gets all of them, while everything crosses the process border once.
- The fastest reader sets the pace. One that falls a whole buffer behind gets `Lagged`, never a gap
  that nobody told it about.
"""

import trio

import tractor

TICKS = 5
SUBSCRIBERS = ("ann", "ben", "cid")


@tractor.context
async def ticker(ctx: tractor.Context, ticks: int) -> None:
    """Run in the child: begin when told to, then send numbers."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        assert await stream.receive() == "go"
        for number in range(ticks):
            await stream.send(number)
            await trio.sleep(0.02)


async def main() -> None:
    """Subscribe three times, then let it tick."""
    lists: dict[str, list[int]] = {}

    async def subscriber(
        name: str,
        stream: tractor.MsgStream,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        lists[name] = []
        async with stream.subscribe() as ticks:
            task_status.started()
            async for number in ticks:
                print(f"{name} sees tick {number}")
                lists[name].append(number)
        print(f"{name} has the complete list {lists[name]}")

    async with tractor.open_nursery() as an:
        portal = await an.start_actor("ticker", enable_modules=[__name__])
        async with (
            portal.open_context(ticker, ticks=TICKS) as (ctx, _),
            ctx.open_stream() as stream,
            trio.open_nursery() as readers,
        ):
            for name in SUBSCRIBERS:
                # Started: subscribed. Who subscribes later sees only what comes later.
                await readers.start(subscriber, name, stream)
            await stream.send("go")
        await portal.cancel_actor()

    assert lists == {name: list(range(TICKS)) for name in SUBSCRIBERS}


if __name__ == "__main__":
    trio.run(main)
