"""asyncio inside: how the two sides of one task end, and what each is told.

What to learn: an error of one side is raised in the other; a cancellation is told as such.
"""

import asyncio

import trio

import tractor
from tractor import to_asyncio


async def aio_side(chan: to_asyncio.LinkedTaskChannel) -> None:
    """On asyncio's loop."""
    chan.started_nowait("ready")
    try:
        await asyncio.sleep(3600)
    except to_asyncio.TrioCancelled:
        print("the trio side was cancelled", flush=True)
        raise
    except to_asyncio.TrioTaskExited:
        print("the trio side has ended", flush=True)
        raise


@tractor.context
async def trio_side(ctx: tractor.Context) -> str:
    """On trio's loop, in the same process."""
    try:
        async with to_asyncio.open_channel_from(aio_side) as (chan, first):
            await ctx.started(first)
            told: to_asyncio.LinkedTaskStatistics = chan.statistics()
            return f"{told.to_trio} wait"
    except to_asyncio.AsyncioCancelled:
        return "the asyncio side was cancelled"
    except to_asyncio.AsyncioTaskExited:
        return "the asyncio side has ended"
    except to_asyncio.AsyncioRuntimeTranslationError:
        return "an error came from the wrong side"


async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("guest", enable_modules=[__name__], infect_asyncio=True)
        async with portal.open_context(trio_side) as (ctx, first):
            print(first)
            print(await ctx.wait_for_result())
        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
