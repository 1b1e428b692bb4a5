"""A pool of workers in a few lines of structured concurrency.

What to learn: a pool is a cluster of actors and one task for each of them; there is no pool class
to learn, and ctrl-c, errors and teardown work as everywhere else. `concurrent_futures_primes.py`
does the same with the standard library.
"""

import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

import tractor

NUMBERS = [
    112272535095293,
    112582705942171,
    115280095190773,
    115797848077099,
    112272535095299,
    1099726899285419,
]


async def is_prime(number: int) -> bool:
    """Run in a worker: by trial division, to keep a core busy."""
    if number < 2 or number % 2 == 0:
        return number == 2
    return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))


@asynccontextmanager
async def pooled_primes(
    numbers: Iterable[int],
) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[int, bool]]]:
    """A worker for each core; gives (number, verdict) pairs as they are found."""
    results, verdicts = trio.open_memory_channel[tuple[int, bool]](0)
    remaining = iter(numbers)

    async def drive(worker: tractor.Portal, out: trio.MemorySendChannel[tuple[int, bool]]) -> None:
        async with out:
            for number in remaining:
                await out.send((number, await worker.run(is_prime, number=number)))

    async with (
        tractor.open_actor_cluster(modules=[__name__]) as workers,
        trio.open_nursery() as tasks,
    ):
        async with results:
            for worker in workers.values():
                tasks.start_soon(drive, worker, results.clone())
        yield verdicts


async def main() -> None:
    """Print each verdict as it comes."""
    began = time.perf_counter()
    async with pooled_primes(NUMBERS) as verdicts:
        ready = time.perf_counter()
        async for number, verdict in verdicts:
            print(f"{number} is {'' if verdict else 'not '}prime")
        done = time.perf_counter()
    print(f"start {ready - began:.2f} s, work {done - ready:.2f} s", end=", ")
    print(f"total with teardown {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    trio.run(main)
