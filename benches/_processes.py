"""Rows about processes: imports, starts, the end of a tree, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import trio

import tractor
from benches import _endpoints as endpoints
from benches._floors import IMPORTS, imported_time, process_time, start_at_once
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import ENDPOINTS, open_root, run

FLOOR = f"python -c '{IMPORTS}'"

DEPTH, WIDTH = 3, 2
SETTLE = 0.3
"""Seconds that a process is left alone before its memory is read."""


def _beside_imports(options: Options, code: str) -> Series:
    async def measured() -> float:
        return process_time(code)

    async def floor() -> float:
        return process_time(IMPORTS)

    async def main() -> Series:
        return await alternate(options, measured, floor)

    return run(main)


@row("import", "python -c 'import tractor'", "ms", FLOOR, Target(1.25, times_floor=True))
def import_alone(options: Options) -> Series:
    """The package alone, whose names are loaded when they are first used."""
    return _beside_imports(options, "import tractor")


@row(
    "import_all",
    "the same, and all that starts actors used",
    "ms",
    FLOOR,
    Target(1.25, times_floor=True),
)
def import_all(options: Options) -> Series:
    """Nothing is put off: what a program that starts actors has to load."""
    use = "tractor.open_nursery, tractor.context, tractor.Portal, tractor.find_actor"
    return _beside_imports(options, f"import tractor; {use}")


async def _start(an: tractor.ActorNursery, n: int) -> float:
    """ms until ``n`` actors that were started together serve."""

    async def start(number: int) -> None:
        await an.start_actor(f"a{number}", enable_modules=[ENDPOINTS])

    began = time.perf_counter()
    async with trio.open_nursery() as tn:
        for number in range(n):
            tn.start_soon(start, number)
    return (time.perf_counter() - began) * 1e3


def _starts(options: Options, n: int) -> Series:
    ends: list[float] = []

    async def measured() -> float:
        async with open_root(options) as an:
            took = await _start(an, n)
            began = time.perf_counter()
            await an.cancel()
            ends.append((time.perf_counter() - began) * 1e3)
        return took

    async def floor() -> float:
        return start_at_once(IMPORTS, n)

    async def main() -> Series:
        return await alternate(options, measured, floor)

    series = run(main)
    series.notes.append(f"cancelled and reaped in {min(ends):.0f} ms (best)")
    return series


@row("start", "start one actor, ready to serve (exec)", "ms", FLOOR, Target(1.6, times_floor=True))
def start(options: Options) -> Series:
    """From `start_actor()` to its portal."""
    series = _starts(options, 1)
    imported = min(imported_time(IMPORTS) for _ in range(options.repeat))
    ratio = min(series.measured) / imported
    series.notes.append(
        f"without the end of its process the floor takes {imported:.1f} ms (best), a ratio of {ratio:.2f}"
    )
    return series


@row("start_8", "start 8 at once (exec)", "ms", f"8 x {FLOOR}", Target(500))
def start_8(options: Options) -> Series:
    """From the first `start_actor()` to the last portal."""
    return _starts(options, options.count(8))


@row("start_30", "start 30 at once (exec)", "ms", f"30 x {FLOOR}")
def start_30(options: Options) -> Series:
    """From the first `start_actor()` to the last portal."""
    return _starts(options, options.count(30))


@row("cancel_tree", "cancel a tree of 15 actors, all reaped", "ms", None, Target(200))
def cancel_tree(options: Options) -> Series:
    """Depth 3, two children each; from an error in the root's block to the end of the tree, root included."""
    depth = options.count(DEPTH, 1)
    actors = sum(WIDTH**level for level in range(depth + 1))
    boots: list[float] = []

    async def measured() -> float:
        pids: list[int] = []
        raised = began = time.perf_counter()
        try:
            async with open_root(options) as an, AsyncExitStack() as stack:
                await endpoints.grow_below(an, stack, depth, WIDTH, pids)
                raised = time.perf_counter()
                boots.append((raised - began) * 1e3)
                raise ZeroDivisionError("an error in the root")
        except ZeroDivisionError:
            took = (time.perf_counter() - raised) * 1e3
        left = [pid for pid in pids if _exists(pid)]
        if left or len(set(pids)) != actors - 1:
            raise AssertionError(f"of the actors {pids} are {left} alive")
        return took

    async def main() -> Series:
        return await alternate(options, measured)

    series = run(main)
    series.notes.append(
        f"{actors} actors with the root, {actors - 1} pids seen gone each time; "
        f"the tree stood in {min(boots):.0f} ms (best)"
    )
    return series


@row("kill_report", "a SIGKILLed child is reported to its parent", "ms", None, Target(200))
def kill_report(options: Options) -> Series:
    """From the signal to the `ActorFailure` that leaves the nursery, in a parent that waits in its block."""

    async def measured() -> float:
        killed = 0.0
        try:
            async with open_root(options) as an:
                portal = await an.start_actor("victim")
                (child,) = an.children.values()
                assert child.pid is not None, portal
                killed = time.perf_counter()
                os.kill(child.pid, signal.SIGKILL)
                await trio.sleep_forever()
        except tractor.ActorFailure as failure:
            if failure.returncode != -signal.SIGKILL:
                raise
        return (time.perf_counter() - killed) * 1e3

    async def main() -> Series:
        return await alternate(options, measured)

    return run(main)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _idle_floor() -> Iterator[int]:
    """The pid of a process that has imported what every actor has to, and waits."""
    code = f"{IMPORTS}, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def memory(pid: int) -> tuple[float, float | None]:
    """A process's resident and proportional set size in MB (10**6 bytes); the latter on Linux only."""
    if sys.platform != "linux":
        out = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True
        )
        return int(out.stdout) * 1024 / 1e6, None
    with open(f"/proc/{pid}/smaps_rollup") as file:
        sizes = {line.split()[0]: line.split()[1] for line in file if line.endswith("kB\n")}
    return int(sizes["Rss:"]) * 1024 / 1e6, int(sizes["Pss:"]) * 1024 / 1e6


@row(
    "memory",
    "resident memory of an idle actor",
    "MB",
    "python + trio + msgspec",
    Target(30),
)
def idle_memory(options: Options) -> Series:
    """RSS; the notes tell the PSS, while the root and the floor run as well."""
    shares: list[tuple[float | None, float | None]] = []

    async def main() -> Series:
        series = Series()
        for _ in range(options.count(3, 1)):
            async with open_root(options) as an:
                portal = await an.start_actor("idle", enable_modules=[ENDPOINTS])
                assert portal.chan.aid is not None
                assert portal.chan.aid.pid is not None
                with _idle_floor() as pid:
                    await trio.sleep(SETTLE)
                    rss, pss = memory(portal.chan.aid.pid)
                    floor, floor_pss = memory(pid)
                series.measured.append(rss)
                series.floor.append(floor)
                shares.append((pss, floor_pss))
                await an.cancel()
        return series

    series = run(main)
    pss, floor_pss = shares[-1]
    if pss is not None and floor_pss is not None:
        series.notes.append(f"PSS {pss:.1f} MB, of the floor {floor_pss:.1f} MB")
    return series
