"""A pool of worker processes: maps with back pressure, errors and cancellation as in a nursery.

What to learn:

- `open_worker_pool()` starts a worker for each CPU. Sync functions run in a thread of their own
  there, so they may compute; async ones run as tasks.
- `pool.map()` is an async iterator: it takes items as you read values, in order or as they come.
- An item that fails cancels the rest of its map and tells which it was.
- A call that is cancelled does not run on: a worker that can't stop computing is replaced.
- A worker that dies is an error of the call that it had, and the pool goes on.
"""

import itertools
import math
import os
import signal

import trio

import tractor
from tractor.trionics import WorkerDied, open_worker_pool


def is_prime(n: int) -> bool:
    """Compute for a while."""
    return n > 1 and all(n % divisor for divisor in range(2, math.isqrt(n) + 1))


def reciprocal(n: int) -> float:
    """Fail for 0."""
    return 1 / n


def compute_for_ever() -> None:
    """What nobody can cancel from inside."""
    while True:
        pass


def die() -> None:
    """Take the whole process down."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Use one pool for everything."""
    async with open_worker_pool(start_method="main_thread_forkserver") as pool:
        verdicts = [verdict async for verdict in pool.map(is_prime, range(20))]
        print("primes:", [n for n, verdict in enumerate(verdicts) if verdict])

        # Without end: items are taken only as values are read.
        async for value in pool.map(math.factorial, itertools.count(), in_flight=8):
            if value > 1_000_000:
                print("the first factorial over a million:", value)
                break

        try:
            async for _ in pool.map(reciprocal, [3, 2, 1, 0, -1]):
                pass
        except tractor.RemoteActorError as exc:
            print(exc.boxed_type_str, *exc.__notes__)

        with trio.move_on_after(0.2):
            await pool.run(compute_for_ever)
        print("cancelled; it does not run on:", pool.statistics().handed_out, "jobs are out")

        try:
            await pool.run(die)
        except WorkerDied as exc:
            print(f"a worker died with {exc.what}")
        print("and the pool goes on:", await pool.run(is_prime, n=2**31 - 1))


if __name__ == "__main__":
    trio.run(main)
