"""Worker pools side by side: `trionics.open_worker_pool()` and what else there is.

``python -m benches._pool NAME [--smoke]`` prints one sample of each figure of one of them as JSON.  Each runs in a
process of its own, with as many workers, which are warm before anything is timed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import trio

from benches import _pool_data, _pool_tasks
from benches._rows import Options, Series, row
from benches._tree import open_root
from tractor.demo import find_files
from tractor.trionics import open_worker_pool

__all__ = ["CONTENDERS", "ROWS"]

TINY, FILES = 10_000, 120
LONG = 1.0
"""Seconds that a call would still take when another one fails."""

FAILS_AFTER = 0.2

LIMIT = 120
"""Seconds that one contender may take for one sample of each figure."""

ROUNDS = 3
"""Samples of each figure at most: every one is a process of each contender."""

FLOOR = "futures"

IN_SMOKE = ("tractor", FLOOR, "trio-parallel")

HAS_NUMPY = importlib.util.find_spec("numpy") is not None

Figures = dict[str, float]


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _files(options: Options) -> list[str]:
    found = find_files(os.path.dirname(os.__file__), skip=("site-packages", "test", "tests"))
    paths = sorted(found)
    return paths[:: max(1, len(paths) // options.count(FILES))]


def _check(values: list[int], items: int) -> None:
    if len(values) != items or not all(value >= 0 for value in values):
        raise RuntimeError(f"{len(values)} values came of {items} items")


def _to_stop(options: Options) -> list[float]:
    """What calls take: all workers but one compute for long, and then one fails."""
    long = 0.3 if options.smoke else LONG
    return [*[long] * (_workers() - 1), -FAILS_AFTER, *[long] * _workers()]


def _memory() -> float:
    """MiB of all processes below this one, for each worker; shared pages count in proportion."""
    if not Path("/proc/self/smaps_rollup").exists():
        return 0.0
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    total = 0
    for pid in below - {os.getpid()}:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024 / _workers()


def _of_work(
    options: Options,
    tiny: Callable[[range], Iterable[int]],
    index: Callable[[list[str]], Iterable[int]],
) -> Figures:
    """What a pool without async does in a second, warmed up, and the memory that it has then."""
    n, files = options.count(TINY, 20), _files(options)
    figures: Figures = {}
    _check(list(tiny(range(100))), 100)
    began = time.perf_counter()
    _check(list(tiny(range(n))), n)
    figures["pool_tiny"] = n / (time.perf_counter() - began)
    began = time.perf_counter()
    _check(list(index(files)), len(files))
    figures["pool_index"] = len(files) / (time.perf_counter() - began)
    figures["pool_memory"] = _memory()
    return figures


# -- the contenders ----------------------------------------------------------------------------------


async def _tractor(options: Options, method: str, tiny: Callable[..., Any]) -> Figures:
    n, files = options.count(TINY, 20), _files(options)
    figures: Figures = {}
    async with open_root(options, method):
        async with open_worker_pool() as pool:
            _check([v async for v in pool.map(tiny, range(100))], 100)
            began = time.perf_counter()
            _check([v async for v in pool.map(tiny, range(n))], n)
            figures["pool_tiny"] = n / (time.perf_counter() - began)
            began = time.perf_counter()
            _check([v async for v in pool.map(_pool_tasks.index_lines, files, False)], len(files))
            figures["pool_index"] = len(files) / (time.perf_counter() - began)
            figures["pool_memory"] = _memory()
        failed = 0.0
        try:
            async with open_worker_pool() as pool:
                began = time.perf_counter()
                async for _ in pool.map(_pool_tasks.spin_or_fail, _to_stop(options)):
                    pass
        except Exception:
            failed = time.perf_counter() - began - FAILS_AFTER
        figures["pool_stop"] = failed * 1e3
    return figures


def bench_tractor(options: Options, method: str, tiny: Callable[..., Any]) -> Figures:
    """tractor's, on one backend."""
    figures = trio.run(_tractor, options, method, tiny)
    if HAS_NUMPY and method != "trio" and tiny is _pool_tasks.tiny:
        figures |= _pool_data.of_tractor(options, method)
    return figures


def bench_futures(options: Options, chunk: int) -> Figures:
    """`concurrent.futures.ProcessPoolExecutor`."""
    with concurrent.futures.ProcessPoolExecutor(_workers()) as pool:
        # One by one: a chunk would warm one worker alone.
        _check(list(pool.map(_pool_tasks.tiny, range(100))), 100)
        figures = _of_work(
            options,
            lambda items: pool.map(_pool_tasks.tiny, items, chunksize=chunk),
            lambda files: pool.map(_pool_tasks.index_lines, files),
        )
    with concurrent.futures.ProcessPoolExecutor(_workers()) as pool:
        _check(list(pool.map(_pool_tasks.tiny, range(100))), 100)
        began = time.perf_counter()
        waiting = [pool.submit(_pool_tasks.spin_or_fail, s) for s in _to_stop(options)]
        concurrent.futures.wait(waiting, return_when="FIRST_EXCEPTION")
        # The most that it offers: what runs, runs on to its end.
        pool.shutdown(cancel_futures=True)
    figures["pool_stop"] = (time.perf_counter() - began - FAILS_AFTER) * 1e3
    if HAS_NUMPY and chunk == 1:
        figures |= _pool_data.of_futures(options)
    return figures


def bench_multiprocessing(options: Options, chunked: bool) -> Figures:
    """`multiprocessing.Pool`: `map()`, which cuts everything into a few chunks, or `imap()`."""
    with multiprocessing.Pool(_workers()) as pool:
        many: Any = pool.map if chunked else pool.imap
        figures = _of_work(
            options,
            lambda items: many(_pool_tasks.tiny, items),
            lambda files: pool.imap_unordered(_pool_tasks.index_lines, files),
        )
    pool.join()
    with multiprocessing.Pool(_workers()) as pool:
        began = time.perf_counter()
        try:
            list(pool.imap_unordered(_pool_tasks.spin_or_fail, _to_stop(options)))
        except ValueError:
            pool.terminate()
    pool.join()
    figures["pool_stop"] = (time.perf_counter() - began - FAILS_AFTER) * 1e3
    if HAS_NUMPY and not chunked:
        figures |= _pool_data.of_multiprocessing(options)
    return figures


def bench_trio_parallel(options: Options) -> Figures:
    """trio-parallel: a call each, as many at once as there are workers."""
    import trio_parallel

    async def main() -> Figures:
        n, files = options.count(TINY, 20), _files(options)
        figures: Figures = {}
        limiter = trio.CapacityLimiter(_workers())

        async def call(fn: Any, item: Any, values: list[Any]) -> None:
            values.append(
                await trio_parallel.run_sync(fn, item, kill_on_cancel=True, limiter=limiter)
            )

        async def each(fn: Any, items: Any) -> list[Any]:
            values: list[Any] = []
            async with trio.open_nursery() as tn:
                for item in items:
                    tn.start_soon(call, fn, item, values)
            return values

        _check(await each(_pool_tasks.tiny, range(100)), 100)
        began = time.perf_counter()
        _check(await each(_pool_tasks.tiny, range(n)), n)
        figures["pool_tiny"] = n / (time.perf_counter() - began)
        began = time.perf_counter()
        _check(await each(_pool_tasks.index_lines, files), len(files))
        figures["pool_index"] = len(files) / (time.perf_counter() - began)
        figures["pool_memory"] = _memory()
        began = time.perf_counter()
        try:
            await each(_pool_tasks.spin_or_fail, _to_stop(options))
        except* ValueError:
            pass
        figures["pool_stop"] = (time.perf_counter() - began - FAILS_AFTER) * 1e3
        return figures

    return trio.run(main)


def bench_joblib(options: Options) -> Figures:
    """joblib's default, loky: batches of its own making."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=_workers()) as parallel:
        figures = _of_work(
            options,
            lambda items: parallel(delayed(_pool_tasks.tiny)(item) for item in items),
            lambda files: parallel(delayed(_pool_tasks.index_lines)(path) for path in files),
        )
        began = time.perf_counter()
        with contextlib.suppress(ValueError):
            parallel(delayed(_pool_tasks.spin_or_fail)(s) for s in _to_stop(options))
        figures["pool_stop"] = (time.perf_counter() - began - FAILS_AFTER) * 1e3
    if HAS_NUMPY:
        figures |= _pool_data.of_joblib(options)
    return figures


def bench_ray(options: Options) -> Figures:
    """Ray: a task an item; a cluster of this machine alone, whose own processes count as memory of its workers."""
    import ray

    _pool_data.start_ray(_workers())
    try:
        task: Any = ray.remote(max_retries=0)
        tiny, index_lines = task(_pool_tasks.tiny), task(_pool_tasks.index_lines)
        spin_or_fail = task(_pool_tasks.spin_or_fail)
        figures = _of_work(
            options,
            lambda items: ray.get([tiny.remote(item) for item in items]),
            lambda files: ray.get([index_lines.remote(path) for path in files]),
        )
        began = time.perf_counter()
        waiting = [spin_or_fail.remote(seconds) for seconds in _to_stop(options)]
        try:
            ray.get(waiting)
        except ValueError:
            for one in waiting:
                ray.cancel(one, force=True)
            ray.wait(waiting, num_returns=len(waiting))
        figures["pool_stop"] = (time.perf_counter() - began - FAILS_AFTER) * 1e3
        if HAS_NUMPY:
            figures |= _pool_data.of_ray(options)
    finally:
        ray.shutdown()
    return figures


def _of_tractor(method: str, tiny: Callable[..., Any]) -> Callable[[Options], Figures]:
    return functools.partial(bench_tractor, method=method, tiny=tiny)


CONTENDERS: dict[str, Callable[[Options], Figures]] = {
    "tractor": _of_tractor("main_thread_forkserver", _pool_tasks.tiny),
    "tractor, async functions": _of_tractor("main_thread_forkserver", _pool_tasks.atiny),
    "tractor, 'trio' backend": _of_tractor("trio", _pool_tasks.tiny),
    FLOOR: functools.partial(bench_futures, chunk=1),
    "futures, chunksize=100": functools.partial(bench_futures, chunk=100),
    "multiprocessing.Pool.imap": functools.partial(bench_multiprocessing, chunked=False),
    "multiprocessing.Pool.map": functools.partial(bench_multiprocessing, chunked=True),
    "trio-parallel": bench_trio_parallel,
    "joblib": bench_joblib,
    "Ray": bench_ray,
}

NEEDS = {"trio-parallel": "trio_parallel", "joblib": "joblib", "Ray": "ray"}
"""What must be installed for a contender."""


# -- the rows ----------------------------------------------------------------------------------------

_samples: dict[Options, dict[str, list[Figures] | str]] = {}
"""What was measured, by options: all rows come of one run; a text says why there is nothing."""


def _measured(options: Options) -> dict[str, list[Figures] | str]:
    found = _samples.get(options)
    if found is None:
        found = _samples[options] = {}
        for number in range(min(options.repeat, ROUNDS)):
            names = [name for name in CONTENDERS if not options.smoke or name in IN_SMOKE]
            for name in reversed(names) if number % 2 else names:
                _take(name, options, found)
    return found


def _take(name: str, options: Options, found: dict[str, list[Figures] | str]) -> None:
    """One more sample of each figure of a contender."""
    before = found.setdefault(name, [])
    if isinstance(before, str):
        return
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        found[name] = "not installed"
        return
    smoke = ["--smoke"] if options.smoke else []
    command = [sys.executable, "-m", __name__, name, options.transport, *smoke]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode:
        found[name] = f"failed: {' '.join(done.stderr.strip().splitlines()[-1:])}"
    else:
        before.append(json.loads(done.stdout.splitlines()[-1]))


def _series(options: Options, figure: str, best: Callable[[list[float]], float]) -> Series:
    found = _measured(options)
    ours, floor = found["tractor"], found[FLOOR]
    if isinstance(ours, str) or isinstance(floor, str):
        raise RuntimeError(f"tractor: {ours}; {FLOOR}: {floor}")
    series = Series([s[figure] for s in ours], [s[figure] for s in floor])
    others = (name for name in CONTENDERS if name not in ("tractor", FLOOR))
    told = (
        f"{name} {value if isinstance(value, str) else format(best(_of(value, figure)), ',.0f')}"
        for name, value in ((name, found.get(name, "left out")) for name in others)
        if isinstance(value, str) or figure in value[0]
    )
    series.notes.append(", ".join(told))
    return series


def _of(samples: list[Figures], figure: str) -> list[float]:
    return [sample[figure] for sample in samples]


def _add(name: str, work: str, unit: str, best: Callable[[list[float]], float]) -> str:
    @row(name, work, unit, "concurrent.futures.ProcessPoolExecutor, chunksize=1")
    def take(options: Options) -> Series:
        return _series(options, name, best)

    return name


ROWS: tuple[str, ...] = (
    _add("pool_tiny", f"{TINY:,} tiny calls by a worker pool", "calls/s", max),
    _add("pool_index", f"index {FILES} files by a worker pool", "files/s", max),
    _add("pool_stop", f"after an error: until all is gone ({LONG:g} s calls)", "ms", min),
    _add("pool_memory", "processes of a worker pool, for each worker", "MiB", min),
)
if HAS_NUMPY:
    ROWS += (
        _add("pool_arrays", "200 arrays of 8 MB there and back by a worker pool", "arrays/s", max),
        _add("pool_dies", "values of 100 items of which one kills its worker", "values", max),
        _add("pool_hangs", "100 items of which one hangs, given up after 0.5 s", "s", min),
    )
"""The names of the rows."""


if __name__ == "__main__":
    _name, _transport = sys.argv[1:3]
    print(json.dumps(CONTENDERS[_name](Options(_transport, smoke="--smoke" in sys.argv))))
