"""The same pool of workers on the standard library's `concurrent.futures`, for comparison.

What to learn: what `concurrent_actors_primes.py` is measured against. The pool's `map()` blocks,
so it runs in a thread here; a worker that is killed breaks the whole pool, and what is queued can
be cancelled, but not what runs.
"""

import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import trio

NUMBERS = [
    112272535095293,
    112582705942171,
    115280095190773,
    115797848077099,
    112272535095299,
    1099726899285419,
]


def is_prime(number: int) -> bool:
    """Run in a worker: by trial division, to keep a core busy."""
    if number < 2 or number % 2 == 0:
        return number == 2
    return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))


def print_verdicts(verdicts: Iterator[bool]) -> None:
    """Wait for each verdict in turn."""
    for number, verdict in zip(NUMBERS, verdicts, strict=True):
        print(f"{number} is {'' if verdict else 'not '}prime")


async def main() -> None:
    """Print each verdict in the order of the numbers."""
    began = time.perf_counter()
    # Fresh processes, as actors are: forking a program that has threads is unsafe.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        verdicts = pool.map(is_prime, NUMBERS)
        await trio.to_thread.run_sync(print_verdicts, verdicts)
        done = time.perf_counter()
    print(f"start and work {done - began:.2f} s", end=", ")
    print(f"total with teardown {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    trio.run(main)
