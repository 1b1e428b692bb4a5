"""An actor that runs asyncio: pauses on both of its sides, and an error that climbs to the root.

What to learn:

- `breakpoint()` works in an asyncio task that was started through `tractor.to_asyncio`, and `await
  tractor.pause()` on the trio side of the same actor, as it does in the root. It needs `greenback`.
- An asyncio task's error leaves through the trio task that it is linked to. That is where the REPL
  opens, with asyncio's traceback; then come the parents, as always.
"""

import asyncio

import trio

import tractor
from tractor import to_asyncio


async def aio_task(chan: to_asyncio.LinkedTaskChannel) -> None:
    """The asyncio side: echo, pause, fail."""
    chan.started_nowait("hello")
    while True:
        number = await chan.get()
        breakpoint()
        chan.send_nowait(number)
        await asyncio.sleep(0)
        if number == 1:
            raise ValueError("asyncio has failed")


@tractor.context
async def trio_side(ctx: tractor.Context) -> None:
    """The trio side of the same actor: pass numbers on to the asyncio task and back."""
    async with to_asyncio.open_channel_from(aio_task) as (chan, first):
        await ctx.started(first)
        await tractor.pause()
        async with ctx.open_stream() as stream:
            async for number in stream:
                await chan.send(number)
                await stream.send(await chan.receive())
                if number == 1:
                    await trio.sleep_forever()


async def main() -> None:
    """The root pauses between the two numbers."""
    async with tractor.open_nursery(debug_mode=True, maybe_enable_greenback=True) as an:
        portal = await an.start_actor("aio", enable_modules=[__name__], infect_asyncio=True)
        async with (
            portal.open_context(trio_side) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            for number in (0, 1):
                await stream.send(number)
                print("echoed:", await stream.receive(), flush=True)
                if number == 0:
                    await tractor.pause()
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
