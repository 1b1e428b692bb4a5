"""What the tests of the spawn backends run in their actors."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
import weakref
from typing import Any

import trio

import tractor
from tractor.spawn._contract import selected_start_method

inherited: contextvars.ContextVar[str] = contextvars.ContextVar("inherited", default="nothing")
lock = threading.Lock()
collected: list[str] = []


async def add(one: int, two: int) -> int:
    return one + two


SEEDED = random.Random(5)
"""As modules have one of their own."""


async def draw() -> float:
    return SEEDED.random()


async def pid() -> int:
    return os.getpid()


async def describe() -> dict[str, Any]:
    """What a fresh process has, as far as a fork could differ."""
    return {
        "main_thread": threading.current_thread() is threading.main_thread(),
        "daemon": threading.current_thread().daemon,
        "threads": sorted(t.name for t in threading.enumerate()),
        "in_thread": await trio.to_thread.run_sync(os.getpid) == os.getpid(),
        "context": inherited.get(),
        "handlers": [type(h).__name__ for h in logging.getLogger().handlers],
        "sigusr1": signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "random": random.random(),
        "filters": [f[0] for f in warnings.filters if f[0] == "error"],
        "main": sys.modules["__main__"].__name__,
        "replayed": "__mp_main__" in sys.modules,
        "vars": tractor.get_runtime_vars(),
        "name": tractor.current_actor().name,
        "loglevel": logging.getLogger("tractor").level,
        "start_method": selected_start_method(),
    }


async def descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # that of the listing
    return found


async def grow(depth: int) -> list[tuple[int, str]]:
    """Pid and start method of a chain of actors, this one first."""
    mine = (os.getpid(), selected_start_method())
    if depth == 0:
        return [mine]
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(f"level{depth}", enable_modules=[__name__])
        below: list[tuple[int, str]] = await portal.run(grow, depth=depth - 1)
        await portal.cancel_actor()
    return [mine, *below]


async def take_lock() -> bool:
    """Whether what another thread held in the parent's process is free here."""
    logging.getLogger("somewhere").error("said in %s", os.getpid())
    import colorsys

    return colorsys.rgb_to_hls(0, 0, 0) is not None


async def write_all_streams() -> None:
    print("out of the child", flush=True)
    print("err of the child", file=sys.stderr, flush=True)


async def leave_by(way: str) -> None:
    if way == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep_forever()


async def make_directory() -> str:
    """A temporary directory that goes when this process does."""
    path = tempfile.mkdtemp()
    weakref.finalize(lock.__class__, os.rmdir, path)
    return path


async def ignores_cancellation() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def multiprocessing_view() -> dict[str, Any]:
    parent = multiprocessing.parent_process()
    assert parent is not None
    return {
        "name": multiprocessing.current_process().name,
        "parent": parent.pid,
        "parent_lives": parent.is_alive(),
    }


async def signal_in_another_thread(number: int) -> None:
    """A signal that interrupts no system call of the main thread's: only the interpreter can tell it of that."""
    await trio.to_thread.run_sync(lambda: signal.pthread_kill(threading.get_ident(), number))
    await trio.sleep_forever()
