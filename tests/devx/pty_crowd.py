"""Many want the terminal at once: ``python pty_crowd.py WHAT``.

- `pause`: two children pause in a task; the root prints their pids when one has the terminal and the other waits.
- `crash`: three children of one nursery crash.
- `everybody`: three actors' tasks, two threads and an asyncio task pause.
"""

from __future__ import annotations

import os
import sys
import threading

import trio

import tractor
from tractor.devx.debug import Lock


async def pause_then_sleep() -> None:
    """Run in a child."""
    print(f"pid of {tractor.current_actor().name}: {os.getpid()}", flush=True)
    await tractor.pause()
    print(f"{tractor.current_actor().name} goes on", flush=True)
    await trio.sleep_forever()


async def crash() -> None:
    """Run in a child."""
    raise ValueError(f"{tractor.current_actor().name} fails")


async def asked(count: int) -> None:
    """Wait until so many actors hold or await the terminal."""
    while True:
        status = Lock.statistics()
        if (status.holder is not None) + len(status.waiting) >= count:
            return
        await trio.sleep(0.01)


async def two_pause() -> None:
    """Two children that pause."""
    async with tractor.open_nursery(debug_mode=True) as an:
        for name in ("ann", "ben"):
            await an.run_in_actor(pause_then_sleep, name=name)
        await asked(2)
        print("both have asked", flush=True)


async def three_crash() -> None:
    """Three children that crash."""
    async with tractor.open_nursery(debug_mode=True) as an:
        for name in ("ann", "ben", "cid"):
            await an.run_in_actor(crash, name=name)
        await asked(3)
        print("all have asked", flush=True)


# -- everybody at once --


def pause_plainly(word: str) -> None:
    """Pause in a plain function."""
    tractor.pause_from_sync()
    print(f"{word} goes on", flush=True)


async def pause_in_task(word: str) -> None:
    """Run in each actor."""
    await tractor.pause()
    print(f"{word} goes on", flush=True)


async def threads() -> None:
    """Run in a child: a worker thread of trio and one of our own."""
    own = threading.Thread(target=pause_plainly, args=("thread",), name="own_thread")
    async with trio.open_nursery() as tn:
        tn.start_soon(pause_in_task, "task of threads")
        tn.start_soon(trio.to_thread.run_sync, pause_plainly, "worker")
        own.start()
        await trio.to_thread.run_sync(own.join)


async def aio_task(chan: tractor.to_asyncio.LinkedTaskChannel) -> None:
    """The asyncio side."""
    chan.started_nowait()
    pause_plainly("asyncio")


async def aio() -> None:
    """Run in an infected child."""
    async with tractor.to_asyncio.open_channel_from(aio_task) as (chan, _):
        await pause_in_task("task of aio")
        await chan.wait_for_result()


async def everybody() -> None:
    """The root's task and those of two children; threads in one, asyncio in the other."""
    async with tractor.open_nursery(debug_mode=True, maybe_enable_greenback=True) as an:
        await an.run_in_actor(threads)
        await an.run_in_actor(aio, infect_asyncio=True)
        await pause_in_task("task of root")
    print("everybody has had a turn")


if __name__ == "__main__":
    trio.run({"pause": two_pause, "crash": three_crash, "everybody": everybody}[sys.argv[1]])
