"""A program: kill the worker of a `multiprocessing.Pool`.

Prints the seconds until there is another, and whether that one answers within so many seconds: ``pool_death.py 3.0``.
A worker that waits for work holds the lock of the queue: killed there, it takes that along.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Any


def main(limit: float) -> None:
    pool = multiprocessing.get_context("spawn").Pool(1)
    workers: list[Any] = pool._pool  # type: ignore[attr-defined]
    old: int = pool.apply(os.getpid)
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    while [worker.pid for worker in workers] in ([], [old]):
        time.sleep(0.001)
    took, answered = time.monotonic() - began, True
    try:
        pool.apply_async(os.getpid).get(limit)
    except multiprocessing.TimeoutError:
        answered = False
    print(took, answered, flush=True)
    for worker in workers:
        worker.kill()
    # Its own end would wait for that lock.
    os._exit(0)


if __name__ == "__main__":
    main(float(sys.argv[1]))
