"""A root with two actors, one below the other; prints their pids and waits."""

from __future__ import annotations

import os
import sys

import trio

import tractor


@tractor.context
async def grow(ctx: tractor.Context) -> None:
    async with tractor.open_nursery() as an:
        leaf = await an.start_actor("leaf", enable_modules=[__name__])
        await ctx.started([os.getpid(), await leaf.run(pid)])
        await trio.sleep_forever()


async def pid() -> int:
    return os.getpid()


async def main() -> None:
    async with tractor.open_nursery(
        registry_addrs=[(sys.argv[1], "registry.sock")], enable_transports=["uds"]
    ) as an:
        branch = await an.start_actor("branch", enable_modules=[__name__])
        async with branch.open_context(grow) as (_, pids):
            print(os.getpid(), *pids, flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
