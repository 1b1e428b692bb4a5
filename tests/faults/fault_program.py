"""A small program as a user would write it, which is run while something of the system runs out.

``python fault_program.py BACKEND [RLIMIT=VALUE]`` prints one JSON line: how it ended.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import trio

import tractor
from tractor import open_nursery
from tractor.ipc import attach_shm_list, attach_shm_ndarray, open_shm_list, open_shm_ndarray


async def add(x: int, y: int) -> int:
    """A call."""
    return x + y


@tractor.context
async def echo(ctx: tractor.Context) -> None:
    """A context with a stream."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)


async def total(token: Any) -> int:
    """The sum of a shared array."""
    return int(attach_shm_ndarray(token).array["value"].sum())


async def total_of_list(key: str) -> int:
    """The sum of a shared list."""
    return sum(attach_shm_list(key))


async def main(backend: str) -> None:
    """Three actors: a call, a stream, and an array that is shared."""
    # Named at the top: where not even the import finds memory, there is nothing of ours to look at.
    async with open_nursery(start_method=backend, loglevel="critical") as an:
        one, two, three = [
            await an.start_actor(f"child{n}", enable_modules=[__name__]) for n in range(3)
        ]
        assert await one.run(add, x=1, y=2) == 3
        async with two.open_context(echo) as (ctx, _), ctx.open_stream() as stream:
            for n in range(10):
                await stream.send(n)
                assert await stream.receive() == n
        if backend == "subint":
            # numpy can't be loaded there.
            shared = open_shm_list(None, [1] * 300)
            assert await three.run(total_of_list, key=shared.key) == 300
        else:
            array = open_shm_ndarray(size=1000, dtype=ONES.dtype)
            array.push(ONES)
            assert await three.run(total, token=array.token) == 300
        await an.cancel()


def leaves(exc: BaseException) -> list[BaseException]:
    """The exceptions within groups."""
    if not isinstance(exc, BaseExceptionGroup):
        return [exc]
    return [leaf for one in exc.exceptions for leaf in leaves(one)]


def told(exc: BaseException) -> dict[str, str]:
    """One error for the judge."""
    kind = type(exc)
    boxed = getattr(exc, "boxed_type_str", None) or ""
    family = next((c.__name__ for c in kind.__mro__ if c in FAMILIES), "")
    return {"type": kind.__name__, "family": family, "boxed": boxed, "text": str(exc)[:2000]}


FAMILIES = (
    tractor.RuntimeFailure,
    tractor.ActorFailure,
    tractor.TransportClosed,
    tractor.RemoteActorError,
    OSError,
    MemoryError,
    RuntimeError,
)


if __name__ == "__main__":
    import numpy as np

    ONES = np.ones(300, dtype=[("index", "i8"), ("value", "i8")])
    for given in sys.argv[2:]:
        name, _, value = given.partition("=")
        which = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(which, (int(value), int(value)))
    try:
        trio.run(main, sys.argv[1])
        end: list[dict[str, str]] = []
    except BaseException as exc:
        end = [told(leaf) for leaf in leaves(exc)]
    # What is written must not need what has run out.
    print(json.dumps(end), flush=True)
