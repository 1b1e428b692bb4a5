"""Other packages doing the same work, each in a process of its own.

``python -m benches._peers NAME [--smoke]`` prints the figures of one of them as JSON.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benches._floors import check_size, check_sum, open_pipe
from benches._placement import on_one_cpu
from benches._report import aligned
from benches._rows import Options, rows

__all__ = ["PEERS", "run_peers", "table"]

ROWS = ("call", "concurrent", "one_way", "one_way_large", "start", "start_8")
LIMIT = 180
"""Seconds that one peer may take."""

SAMPLES = 5
PAYLOAD = bytes(2**20)


def _best(n: int, take: Callable[[], float], pick: Callable[[list[float]], float]) -> float:
    """The best of ``n`` samples after a warm-up."""
    take()
    return pick([take() for _ in range(n)])


# -- multiprocessing: what the standard library offers -----------------------------------------------


def _say_ready(conn: Any) -> None:
    conn.send(None)
    conn.recv()


def _spawn(n: int) -> float:
    """ms until ``n`` processes, started together with `spawn`, have said that they are there."""
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    started = []
    for _ in range(n):
        near, far = context.Pipe()
        process = context.Process(target=_say_ready, args=(far,))
        process.start()
        far.close()
        started.append((process, near))
    for _, near in started:
        near.recv()
    took = (time.perf_counter() - began) * 1e3
    for process, near in started:
        near.send(None)
        process.join()
        near.close()
    return took


def bench_multiprocessing(options: Options) -> dict[str, float]:
    """Pipes, and `spawn`."""
    few = options.count(SAMPLES, 1)
    ints, payloads = options.count(20_000, 20), options.count(200)
    with on_one_cpu(), open_pipe() as pipe:
        figures = {"call": _best(few, lambda: pipe.echo(options.count(2000)), min)}
    with open_pipe() as pipe:
        figures["one_way"] = _best(few, lambda: pipe.ints(ints), max)
        figures["one_way_large"] = _best(few, lambda: pipe.payloads(payloads), max)
    figures["start"] = _best(few, lambda: _spawn(1), min)
    figures["start_8"] = _best(few, lambda: _spawn(options.count(8)), min)
    return figures


# -- Ray ---------------------------------------------------------------------------------------------


class Plain:
    """The actor of Ray."""

    def nothing(self) -> None:
        """Return at once."""

    def count(self, n: int) -> Iterator[int]:
        """The integers below ``n``."""
        # Ray sends to the generator, which a bare `yield from` of a range can't take.
        yield from (i for i in range(n))

    def payloads(self, n: int) -> Iterator[bytes]:
        """``n`` payloads of 1 MiB."""
        for _ in range(n):
            yield PAYLOAD


def bench_ray(options: Options) -> dict[str, float]:
    """Actors of Ray, on this machine alone."""
    import ray

    few = options.count(SAMPLES, 1)
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    remote = ray.remote(num_cpus=0)(Plain)

    def start(n: int) -> float:
        began = time.perf_counter()
        actors = [remote.remote() for _ in range(n)]
        ray.get([actor.nothing.remote() for actor in actors])
        took = (time.perf_counter() - began) * 1e3
        for actor in actors:
            ray.kill(actor)
        return took

    actor = remote.remote()
    calls, many = options.count(500), options.count(4000)
    ints, payloads = options.count(5000, 20), options.count(100)

    def one_by_one() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            ray.get(actor.nothing.remote())
        return (time.perf_counter() - began) / calls * 1e6

    def at_once() -> float:
        began = time.perf_counter()
        ray.get([actor.nothing.remote() for _ in range(many)])
        return many / (time.perf_counter() - began)

    def one_way(method: Any, n: int) -> tuple[float, list[Any]]:
        began = time.perf_counter()
        got = [ray.get(ref) for ref in method.options(num_returns="streaming").remote(n)]
        return time.perf_counter() - began, got

    def small() -> float:
        took, got = one_way(actor.count, ints)
        check_sum(ints, len(got), sum(got))
        return ints / took

    def large() -> float:
        took, got = one_way(actor.payloads, payloads)
        check_size(payloads, sum(map(len, got)))
        return payloads * len(PAYLOAD) / took / 1e9

    try:
        return {
            "call": _best(few, one_by_one, min),
            "concurrent": _best(few, at_once, max),
            "one_way": _best(few, small, max),
            "one_way_large": _best(few, large, max),
            "start": _best(few, lambda: start(1), min),
            "start_8": _best(few, lambda: start(options.count(8)), min),
        }
    finally:
        ray.shutdown()


# -- xoscar ------------------------------------------------------------------------------------------


def bench_xoscar(options: Options) -> dict[str, float]:
    """Actors of xoscar, in a process of their own."""
    return asyncio.run(_bench_xoscar(options))


async def _bench_xoscar(options: Options) -> dict[str, float]:
    import xoscar

    class Callee(xoscar.Actor):  # type: ignore[misc]
        async def nothing(self) -> None:
            pass

    few = options.count(SAMPLES, 1)

    async def pool_of(n: int) -> tuple[Any, list[Any]]:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=n)
        strategy = xoscar.allocate_strategy
        refs = [
            await xoscar.create_actor(
                Callee,
                address=pool.external_address,
                uid=f"callee{number}",
                allocate_strategy=strategy.ProcessIndex(number + 1),
            )
            for number in range(n)
        ]
        return pool, refs

    async def start(n: int) -> float:
        began = time.perf_counter()
        pool, _ = await pool_of(n)
        took = (time.perf_counter() - began) * 1e3
        await pool.stop()
        return took

    starts = [await start(1) for _ in range(few + 1)]
    starts_8 = [await start(options.count(8)) for _ in range(few)]
    pool, (ref,) = await pool_of(1)
    calls, many = options.count(1000), options.count(4000)

    async def one_by_one() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await ref.nothing()
        return (time.perf_counter() - began) / calls * 1e6

    async def at_once() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(ref.nothing() for _ in range(many)))
        return many / (time.perf_counter() - began)

    figures = {
        "call": min([await one_by_one() for _ in range(few + 1)]),
        "concurrent": max([await at_once() for _ in range(few + 1)]),
        "start": min(starts),
        "start_8": min(starts_8),
    }
    await pool.stop()
    return figures


# -- all of them -------------------------------------------------------------------------------------

PEERS: dict[str, Callable[[Options], dict[str, float]]] = {
    "multiprocessing": bench_multiprocessing,
    "ray": bench_ray,
    "xoscar": bench_xoscar,
}


def run_peers(options: Options) -> dict[str, dict[str, Any]]:
    """Figures by peer and row; or the one entry ``"error"`` with the reason why there are none."""
    return {name: _run_peer(name, options) for name in PEERS}


def _run_peer(name: str, options: Options) -> dict[str, Any]:
    if importlib.util.find_spec(name) is None:
        return {"error": "not installed"}
    command = [sys.executable, "-m", __name__, name, *(["--smoke"] if options.smoke else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {LIMIT} s"}
    print(f"{name}: done", file=sys.stderr)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return {"error": f"status {done.returncode}: {' '.join(last)}"}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(peers: dict[str, dict[str, Any]]) -> str:
    """Plain text: the rows that peers can do as well, a column for each of them."""
    lines: list[tuple[str, ...]] = [("row", "unit", *peers)]
    for name in ROWS:
        cells = (f"{peer[name]:,.1f}" if name in peer else "-" for peer in peers.values())
        lines.append((name, rows[name].unit, *cells))
    why = [f"{name}: {peer['error']}" for name, peer in peers.items() if "error" in peer]
    return "\n".join([*aligned(lines, left=(0, 1)), *why])


if __name__ == "__main__":
    print(json.dumps(PEERS[sys.argv[1]](Options(smoke="--smoke" in sys.argv))))
