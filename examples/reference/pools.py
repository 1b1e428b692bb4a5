"""A worker pool, its map, its counts, and what takes an executor.

What to learn: the types of these, for functions of your own that are given a pool.
"""

from concurrent.futures import Executor

import trio

from tractor.trionics import (
    PoolExecutor,
    PoolMap,
    WorkerPool,
    WorkerPoolStatistics,
    open_worker_pool,
)


async def squares(pool: WorkerPool) -> None:
    """A map is iterated, and knows its length where its items do."""
    values: PoolMap[int] = pool.map(square, range(4))
    print(len(values), "to come:", [value async for value in values])


def square(n: int) -> int:
    return n * n


def library(executor: Executor) -> int:
    """Any code that takes an executor, in a thread."""
    return executor.submit(square, 12).result()


async def facade(pool: WorkerPool) -> None:
    executor: PoolExecutor = pool.as_executor()
    print("by a library:", await trio.to_thread.run_sync(library, executor))


def counts(pool: WorkerPool) -> None:
    told: WorkerPoolStatistics = pool.statistics()
    print("done:", told.done, "failed:", told.failed)


async def main() -> None:
    async with open_worker_pool(1) as pool:
        await squares(pool)
        await facade(pool)
        counts(pool)


if __name__ == "__main__":
    trio.run(main)
