"""How long it takes until what has died is there again: services, `multiprocessing.Pool`, Ray."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ep_services
import trio

import tractor

ANSWER = 3.0
"""Seconds for which a pool with a dead worker is waited for."""


async def times_of_services(samples: int, kind: str) -> tuple[list[float], list[float]]:
    """Seconds of a cold start each, and from each SIGKILL to the next `ready`."""
    cold: list[float] = []
    deaths: list[float] = []
    what: dict[str, Any] = {"enable_modules": ["ep_services"]}
    fn = ep_services.obey if kind == "task" else None
    async with tractor.open_supervisor(max_restarts=None, backoff=None, loglevel="error") as sup:
        service = await sup.start_service("service", fn, **what)
        with service.events() as events:
            for number in range(samples):
                # By turns: what else the machine does changes with time.
                began = time.monotonic()
                one = await sup.start_service(f"cold{number}", fn, **what)
                cold.append(time.monotonic() - began)
                await one.stop()
                began = time.monotonic()
                os.kill(service.pid, signal.SIGKILL)
                async for event in events:
                    if event.kind == "ready":
                        break
                deaths.append(time.monotonic() - began)
    return cold, deaths


def times_of_pool(samples: int) -> tuple[list[float], int]:
    """Seconds from a SIGKILL of a worker until there is another, and how many pools then still answered."""
    times: list[float] = []
    answers = 0
    for _ in range(samples):
        # A process for each: a pool that has lost a worker may not end.
        command = [sys.executable, str(Path(__file__).with_name("pool_death.py")), str(ANSWER)]
        took, answered = subprocess.check_output(command, text=True, timeout=60).split()
        times.append(float(took))
        answers += answered == "True"
    return times, answers


def times_of_ray(samples: int) -> list[float]:
    """Seconds from the death of an actor's process until it answers again."""
    ray: Any = importlib.import_module("ray")
    ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False)

    class Pid:
        def pid(self) -> int:
            return os.getpid()

    actor = ray.remote(max_restarts=-1, max_task_retries=-1)(Pid).remote()
    times = []
    for _ in range(samples):
        old = ray.get(actor.pid.remote())
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        while ray.get(actor.pid.remote()) == old:
            time.sleep(0.001)
        times.append(time.monotonic() - began)
    ray.shutdown()
    return times


def line(what: str, times: list[float], more: str = "") -> str:
    return f"{statistics.median(times):8.3f} {max(times):8.3f}  {what}{more}"


def table(samples: int, pools: int = 3) -> str:
    """Medians and worst ones, in seconds."""
    lines = ["  median    worst  (s)"]
    for kind in ("daemon", "task"):
        cold, deaths = trio.run(times_of_services, samples, kind)
        lines += [line(f"{kind}: cold start", cold), line(f"{kind}: from death to ready", deaths)]
    found, answers = times_of_pool(pools)
    lines.append(line("multiprocessing.Pool: a worker is replaced", found))
    lines[-1] += f"; {answers} of {pools} pools answered again within {ANSWER:g} s"
    if importlib.util.find_spec("ray") is None:
        lines.append("                   Ray: left out, as it is not installed")
    else:
        lines.append(line("Ray: from death to answer", times_of_ray(samples)))
    return "\n".join(lines)
