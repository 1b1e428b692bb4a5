"""Pauses inside a generator inside an endpoint, and then the connection breaks.

What to learn:

- `pause()` works at any depth of the code; `bt` shows who called, without the runtime's frames.
- A connection that is lost is not a crash: no REPL opens for it. Both ends of the context learn that
  their peer is gone, and the tree ends.
- That is so, too, if you `q` (quit) at the second pause: there is no connection left on which the
  `BdbQuit` could travel.
"""

from collections.abc import AsyncIterator

import trio

import tractor
from tractor.testing import break_ipc


async def numbers() -> AsyncIterator[int]:
    """Pause before each number."""
    for number in range(2):
        await tractor.pause()
        yield number


@tractor.context
async def count(ctx: tractor.Context) -> None:
    """Run in the child: send the numbers, then break the connection below the stream."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        try:
            async for number in numbers():
                await stream.send(number)
        finally:
            await break_ipc(stream)


async def main() -> None:
    """Read from a child that hangs up."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.start_actor("counter", enable_modules=[__name__])
        async with (
            portal.open_context(count) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            async for number in stream:
                print("number", number, flush=True)


if __name__ == "__main__":
    trio.run(main)
