"""Rows about starting actors on each spawn backend, beside what `multiprocessing` takes for a bare process."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import trio

import tractor
from benches._floors import IMPORTS
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import ENDPOINTS, open_root, run
from tractor.spawn import usable_start_methods

__all__ = ["ROWS"]

AT_ONCE, IN_A_ROW = 8, 100

BESIDE = {
    "trio": "spawn",
    "mp_spawn": "spawn",
    "mp_forkserver": "forkserver",
    "main_thread_forkserver": "forkserver",
    "zygote": "forkserver",
}
"""The start method of multiprocessing that is nearest to each backend; none for a sub-interpreter."""

READY = {"main_thread_forkserver": Target(15), "zygote": Target(0.3, times_floor=True)}


async def _serving(an: tractor.ActorNursery, n: int, in_a_row: bool) -> float:
    """ms until ``n`` actors serve; of each of them, if they are started one after the other."""

    async def start(number: int) -> None:
        await an.start_actor(f"a{number}", enable_modules=[ENDPOINTS])

    began = time.perf_counter()
    if in_a_row:
        for number in range(n):
            await start(number)
    else:
        async with trio.open_nursery() as tn:
            for number in range(n):
                tn.start_soon(start, number)
    took = (time.perf_counter() - began) * 1e3
    return took / n if in_a_row else took


def _say_ready(conn: Connection) -> None:
    for name in IMPORTS.removeprefix("import ").split(", "):
        importlib.import_module(name)
    conn.send(True)
    conn.recv()


class _Floor:
    """Processes of multiprocessing that import what every actor has to, and say so through a pipe."""

    def __init__(self, method: str) -> None:
        self._context = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(IMPORTS.removeprefix("import ").split(", "))

    def start(self, n: int, in_a_row: bool) -> float:
        """ms until ``n`` of them have said so; of each, if in a row."""
        started = []
        began = time.perf_counter()
        for _ in range(n):
            near, far = self._context.Pipe()
            process = self._context.Process(target=_say_ready, args=(far,))  # type: ignore[attr-defined]
            process.start()
            far.close()
            if in_a_row:
                near.recv()
            started.append((near, process))
        if not in_a_row:
            for near, _ in started:
                near.recv()
        took = (time.perf_counter() - began) * 1e3
        for near, process in started:
            near.send(None)
            process.join()
            near.close()
        return took / n if in_a_row else took


def _starts(options: Options, key: str, n: int, in_a_row: bool = False) -> Series:
    warm = 0 if key in ("trio", "mp_spawn") else 1
    ends: list[float] = []

    async def measured() -> float:
        async with open_root(options, key) as an:
            # Fork servers, and what is loaded at the first fork, are there from then on.
            await _serving(an, warm, in_a_row=False)
            took = await _serving(an, n, in_a_row)
            began = time.perf_counter()
            await an.cancel()
            ends.append((time.perf_counter() - began) * 1e3)
        return took

    def noted(series: Series) -> Series:
        series.notes.append(f"cancelled and reaped in {min(ends):.0f} ms (best)")
        return series

    async def main() -> Series:
        if key not in BESIDE:
            return await alternate(options, measured)
        floor = _Floor(BESIDE[key])
        if warm:
            floor.start(1, in_a_row)

        async def beside() -> float:
            return floor.start(n, in_a_row)

        return await alternate(options, measured, beside)

    return noted(run(main))


def _add_rows(key: str) -> list[str]:
    floor = f"a Pipe-only process of multiprocessing, {BESIDE[key]!r}" if key in BESIDE else None
    one, eight, hundred = (f"start_{key}", f"start_{key}_8", f"start_{key}_100")

    @row(one, f"start one actor, ready to serve ({key})", "ms", floor, READY.get(key))
    def start_one(options: Options) -> Series:
        return _starts(options, key, 1)

    @row(eight, f"start {AT_ONCE} at once ({key})", "ms", floor)
    def start_some(options: Options) -> Series:
        return _starts(options, key, options.count(AT_ONCE))

    @row(hundred, f"start {IN_A_ROW} in a row, each ({key})", "ms", floor)
    def start_many(options: Options) -> Series:
        # A hundred are samples enough.
        once = replace(options, repeat=1)
        return _starts(once, key, options.count(IN_A_ROW), in_a_row=True)

    return [one, eight, hundred]


ROWS = tuple(name for key in usable_start_methods() for name in _add_rows(key))
"""The names of the rows: three for each backend that this Python can run."""
