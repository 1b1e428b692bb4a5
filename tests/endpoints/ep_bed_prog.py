"""A root with an actor on each of some hosts, each with a subactor of its own; see `tests/hosts/bed_ways.py`."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

import tractor

sys.path.insert(0, str(Path(__file__).parent))

import ep_elsewhere


async def main(urls: list[str], options: dict[str, Any], root: dict[str, Any], what: str) -> None:
    root["authkey"] = root["authkey"].encode()
    root["registry_addrs"] = [tuple(addr) for addr in root["registry_addrs"]]
    async with AsyncExitStack() as stack:
        an = await stack.enter_async_context(tractor.open_nursery(**root))
        for url in urls:
            host = await stack.enter_async_context(tractor.hosts.open_host(url, **options))
            far = await an.start_actor("far", host=host, enable_modules=["ep_elsewhere"])
            await stack.enter_async_context(far.open_context(ep_elsewhere.below))
            if what == "stopped":
                tn = await stack.enter_async_context(trio.open_nursery())
                tn.start_soon(far.run, ep_elsewhere.stop)
        print("ready", flush=True)
        if what == "stop itself":
            os.kill(os.getpid(), signal.SIGSTOP)
            print("goes on", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(lambda: main(**json.loads(sys.argv[1])))
