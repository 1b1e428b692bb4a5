"""A program with a supervisor that gets ctrl-c: ``ep_services_prog.py PIDS WHEN [go]``."""

from __future__ import annotations

import sys
from pathlib import Path

import ep_services
import trio

import tractor
from tractor.services._events import Events


async def tell(events: Events) -> None:
    """Say that the services begin to stop."""
    async for event in events:
        if event.kind == "stopping":
            print("stopping", flush=True)
            break


async def main(path: str, when: str, seconds: float) -> None:
    async with trio.open_nursery() as tn, tractor.open_supervisor() as sup:
        for name in ("one", "two"):
            await sup.start_service(
                name, ep_services.stay, seconds=seconds, path=path, shutdown=30.0
            )
        while Path(path).read_text().count("\n") < 2:
            await trio.sleep(0.01)
        tn.start_soon(tell, sup.events())
        print("ready", flush=True)
        if when == "in the body":
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], 1.0 if "go" in sys.argv else 60.0)
