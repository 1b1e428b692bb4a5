"""The far end of the row about arrays, which needs numpy."""

from __future__ import annotations

import numpy as np

import tractor
from tractor.msg.hooks import ndarray_hooks

__all__ = ["SIZE", "send_arrays"]

SIZE = 8_000_000
"""Bytes of an array."""


@tractor.context(pld_spec=np.ndarray | None | int, **ndarray_hooks(readonly=True).as_kwargs())
async def send_arrays(ctx: tractor.Context) -> None:
    """As many arrays as each message asks for; the first number of one counts them."""
    array = np.arange(SIZE // 8)
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for n in stream:
            for number in range(n):
                array[0] = number
                await stream.send(array)
