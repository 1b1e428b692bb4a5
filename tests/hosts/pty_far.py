"""Actors on other hosts whose last one pauses, crashes or hangs: ``python pty_far.py JSON``.

The object has `urls`, one for each actor of a host, each of which is started by the one before; `options` for all of
them; `root`, options of the root; and `what` the last one does, which has a subactor of its own host for that:

- `pause`: pauses once and returns;
- `crash`: raises a ValueError;
- `sync`: pauses in a worker thread and returns;
- `wait`: pauses before a call that never ends.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import trio

import tractor


def pause_in_thread() -> None:
    """Pause in a plain function."""
    tractor.pause_from_sync()
    print("the thread goes on", flush=True)


async def wait() -> None:
    """Wait for ever."""
    print("it waits", flush=True)
    await trio.sleep_forever()


async def leaf(what: str) -> None:
    """What the last actor does."""
    if what == "crash":
        raise ValueError("the leaf fails")
    if what == "sync":
        await trio.to_thread.run_sync(pause_in_thread)
        return
    await tractor.pause()
    print("the leaf goes on", flush=True)
    if what == "wait":
        await wait()


async def level(number: int, urls: list[str], options: dict[str, Any], what: str) -> None:
    """Run in each actor: have the next one, or the last one, which is on the same host."""
    async with tractor.open_nursery() as an:
        if not urls:
            portal = await an.run_in_actor(leaf, name="leaf", what=what)
            await portal.wait_for_result()
            return
        async with tractor.hosts.open_host(urls[0], **options) as host:
            portal = await an.start_actor(
                f"level_{number + 1}", host=host, enable_modules=["__main__"]
            )
            print(f"host of level_{number + 1}: {host.statistics().host_id}", flush=True)
            await portal.run(level, number=number + 1, urls=urls[1:], options=options, what=what)
            await an.cancel()


async def main() -> None:
    """The root."""
    order = json.loads(sys.argv[1])
    options = order["root"]
    if "authkey" in options:
        options["authkey"] = options["authkey"].encode()
    async with tractor.open_root_actor(debug_mode=True, **options):
        await level(0, order["urls"], order["options"], order["what"])
    print(f"the root ends, pid {os.getpid()}", flush=True)


if __name__ == "__main__":
    trio.run(main)
