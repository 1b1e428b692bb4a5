"""What the users of a worker pool fear: large arrays, an item that dies, an item that hangs.

Figures of each pool as it is used: where one has no answer to a case, with what its user has to write by hand.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import trio

from benches._rows import Options
from tractor.trionics import open_worker_pool

__all__ = ["of_futures", "of_joblib", "of_multiprocessing", "of_ray", "of_tractor", "start_ray"]

ARRAYS, MEGABYTES = 200, 8

ITEMS, BAD = 100, 50
"""Items of the other two cases, and which is the bad one."""

HANGS = 0.5
"""Seconds after which an item that hangs is given up."""

Figures = dict[str, float]


def double(array: Any) -> Any:
    """A new array."""
    return array * 2


def maybe_die(n: int) -> int:
    """Work a little; one takes its process down."""
    time.sleep(0.002)
    if n == BAD:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def maybe_hang(n: int) -> int:
    """Work a little; one does not end."""
    time.sleep(100 if n == BAD else 0.002)
    return n


def _arrays(options: Options) -> Iterator[Any]:
    import numpy as np

    array = np.ones(MEGABYTES * 1_000_000 // 8)
    return (array for _ in range(options.count(ARRAYS, 20)))


def _time(figures: Figures, options: Options, read: Callable[[], int]) -> None:
    began = time.perf_counter()
    count = read()
    if count != options.count(ARRAYS, 20):
        raise RuntimeError(f"{count} arrays came back")
    figures["pool_arrays"] = count / (time.perf_counter() - began)


def of_tractor(options: Options, method: str) -> Figures:
    """tractor's pool."""
    figures: Figures = {}

    async def main() -> None:
        async with open_worker_pool(start_method=method) as pool:
            await pool.run(maybe_hang, 0)
            began = time.perf_counter()
            count = 0
            async for _ in pool.map(double, _arrays(options), False):
                count += 1
            figures["pool_arrays"] = count / (time.perf_counter() - began)
            # With one more try for each: without any, what its worker had besides it is lost, too.
            values = pool.map(maybe_die, range(ITEMS), retries=1, return_exceptions=True)
            figures["pool_dies"] = sum([isinstance(value, int) async for value in values])
            began = time.perf_counter()
            values = pool.map(maybe_hang, range(ITEMS), timeout=HANGS, return_exceptions=True)
            count = sum([isinstance(value, int) async for value in values])
        if count != ITEMS - 1:
            raise RuntimeError(f"{count} values came back")
        figures["pool_hangs"] = time.perf_counter() - began

    trio.run(main)
    return figures


def of_futures(options: Options) -> Figures:
    """`concurrent.futures`: a death is the end of the pool, and nobody ends what hangs."""
    figures: Figures = {}
    with concurrent.futures.ProcessPoolExecutor() as pool:
        pool.submit(maybe_hang, 0).result()
        _time(figures, options, lambda: sum(1 for _ in pool.map(double, _arrays(options))))
    with concurrent.futures.ProcessPoolExecutor() as pool:
        waiting = [pool.submit(maybe_die, n) for n in range(ITEMS)]
        concurrent.futures.wait(waiting)
        figures["pool_dies"] = sum(future.exception() is None for future in waiting)
    began = time.perf_counter()
    pool = concurrent.futures.ProcessPoolExecutor()
    waiting = [pool.submit(maybe_hang, n) for n in range(ITEMS)]
    count = 0
    for future in waiting:
        try:
            future.result(timeout=HANGS)
            count += 1
        except TimeoutError:
            pass
    # `shutdown()` alone would wait for the one that hangs.
    for process in pool._processes.values():
        process.kill()
    pool.shutdown()
    figures["pool_hangs"] = time.perf_counter() - began
    return figures


def of_multiprocessing(options: Options) -> Figures:
    """`multiprocessing.Pool`: an item whose worker dies is waited for, for ever."""
    figures: Figures = {}
    with multiprocessing.Pool() as pool:
        pool.apply(maybe_hang, (0,))
        _time(
            figures,
            options,
            lambda: sum(1 for _ in pool.imap_unordered(double, _arrays(options))),
        )
    for name, fn in (("pool_dies", maybe_die), ("pool_hangs", maybe_hang)):
        began = time.perf_counter()
        count = 0
        with multiprocessing.Pool() as pool:
            waiting = [pool.apply_async(fn, (n,)) for n in range(ITEMS)]
            for future in waiting:
                try:
                    future.get(timeout=HANGS)
                    count += 1
                except multiprocessing.TimeoutError:
                    pass
        figures[name] = count if name == "pool_dies" else time.perf_counter() - began
    return figures


def of_joblib(options: Options) -> Figures:
    """joblib: one that dies takes all values with it, and so does one that hangs: of that there is no figure."""
    from joblib import Parallel, delayed

    figures: Figures = {}
    with Parallel(n_jobs=-1) as parallel:
        parallel(delayed(maybe_hang)(n) for n in range(2))
        _time(
            figures,
            options,
            lambda: sum(1 for _ in parallel(delayed(double)(a) for a in _arrays(options))),
        )
        try:
            figures["pool_dies"] = len(parallel(delayed(maybe_die)(n) for n in range(ITEMS)))
        except Exception:
            figures["pool_dies"] = 0
    return figures


def start_ray(workers: int) -> None:
    """A cluster of this process and machine."""
    import ray

    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def of_ray(options: Options) -> Figures:
    """Ray: one that dies costs itself alone; a task has no limit of time, so of one that hangs there is no figure."""
    import ray

    figures: Figures = {}
    task: Any = ray.remote(max_retries=0)
    doubles, dies = task(double), task(maybe_die)
    _time(
        figures,
        options,
        lambda: sum(1 for ref in [doubles.remote(a) for a in _arrays(options)] if _taken(ref)),
    )
    count = 0
    for ref in [dies.remote(n) for n in range(ITEMS)]:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(ref)
            count += 1
    figures["pool_dies"] = count
    return figures


def _taken(ref: Any) -> bool:
    import ray

    return ray.get(ref) is not None
