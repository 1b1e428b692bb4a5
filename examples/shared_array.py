"""A large array that another actor reads where it is: no copy of it travels.

What to learn:

- `open_shm_ndarray()` makes an array in shared memory; it is removed with the actor that made it, however that ends.
- Its `token` is a small payload like any other. Whoever has it attaches, and sees the same memory.
- One actor writes. Rows are published after they were written, so readers see whole rows and need no lock.

Needs numpy: `pip install 'trio-tractor[shm]'`.
"""

from typing import Any

import numpy as np
import trio

import tractor
from tractor.ipc import attach_shm_ndarray, open_shm_ndarray

ROWS = 1_000_000
DTYPE = [("index", "<i8"), ("price", "<f8")]


@tractor.context
async def analyst(ctx: tractor.Context, token: dict[str, Any]) -> None:
    """Run in the child: for each message, the mean of what the array holds by then."""
    shared = attach_shm_ndarray(token)
    assert not shared.array.flags.writeable
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for _ in stream:
            await stream.send(float(shared.array["price"].mean()))


async def main() -> None:
    """The writer."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("analyst", enable_modules=[__name__])
        shared = open_shm_ndarray(2 * ROWS, dtype=DTYPE, append_start_index=ROWS)
        print(f"{shared.size * np.dtype(DTYPE).itemsize / 1e6:.0f} MB are shared")

        prices = np.zeros(ROWS, dtype=[("price", "<f8")])
        async with (
            portal.open_context(analyst, token=shared.token.as_msg()) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            prices["price"] = 10
            shared.push(prices)
            await stream.send(shared.index)
            print(f"after {len(shared.array):,} rows the mean is {await stream.receive():g}")

            prices["price"] = 20
            shared.prepend(prices)
            await stream.send(shared.index)
            print(f"after {len(shared.array):,} rows the mean is {await stream.receive():g}")

        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
