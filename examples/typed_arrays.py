"""Arrays and paths as declared types.

What to learn:

- `tractor.msg.hooks` has ready hooks for types that msgpack does not know; `combine()` makes one
  record of several, and of your own ones.
- A struct declares what each field must be, down to an array's element type.  What does not fit is
  refused by its reader.
- Nothing is pickled: an array is its description and its bytes, which are held against each other
  before an array is made.
"""

from __future__ import annotations

from pathlib import PurePath

import msgspec
import numpy as np
import trio
from numpy.typing import NDArray

import tractor
from tractor.msg.hooks import combine, ndarray_hooks, path_hooks

HOOKS = combine(path_hooks(), ndarray_hooks())


class Frame(msgspec.Struct):
    """What travels."""

    source: PurePath
    pixels: NDArray[np.float32]


@tractor.context(pld_spec=Frame | None, **HOOKS.as_kwargs())
async def blur(ctx: tractor.Context) -> None:
    """Run in the child: average each pixel with its neighbours in the row."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for frame in stream:
            assert isinstance(frame, Frame)
            left, right = np.roll(frame.pixels, 1, axis=1), np.roll(frame.pixels, -1, axis=1)
            mean = (left + frame.pixels + right) / np.float32(3)
            await stream.send(Frame(frame.source.with_suffix(".blurred"), mean))


async def main() -> None:
    """Have two frames blurred; send one that does not fit."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("darkroom", enable_modules=[__name__])

        async with portal.open_context(blur) as (ctx, _), ctx.open_stream() as stream:
            for number in (1, 2):
                pixels = np.zeros((2, 3), dtype=np.float32)
                pixels[:, number] = 3
                await stream.send(Frame(PurePath(f"frame-{number}.raw"), pixels))
                blurred = await stream.receive()
                assert isinstance(blurred, Frame)
                print(f"{blurred.source}: {blurred.pixels.dtype} {blurred.pixels.tolist()}")

        try:
            async with portal.open_context(blur) as (ctx, _), ctx.open_stream() as stream:
                await stream.send(Frame(PurePath("wrong"), np.zeros((2, 3), dtype=np.int64)))
                await stream.receive()
        except tractor.RemoteActorError as error:
            reason = error.message.rstrip().rpartition("\n")[2]
            print(f"refused by its reader: {error.boxed_type_str}\n{reason}")

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
