"""A program that starts ten actors with few descriptors: ``python ep_few_descriptors.py LIMIT MADDR``.

Prints ``works``, or the error and how many of its processes are left; not imported by children.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import trio

import tractor


def children() -> list[str]:
    return [
        pid
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    ]


async def main(registrar: str) -> None:
    tpt = "uds" if registrar.startswith("/unix") else "tcp"
    async with tractor.open_nursery(enable_transports=[tpt], registry_addrs=[registrar]) as an:

        async def one(number: int) -> None:
            await an.start_actor(f"w{number}", inherit_parent_main=False)

        async with trio.open_nursery() as tn:
            for number in range(10):
                tn.start_soon(one, number)
        await an.cancel()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), hard))
    try:
        trio.run(main, sys.argv[2])
    except OSError as exc:
        said = f"errno {exc.errno}"
    else:
        said = "works"
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    print(said, "left", len(children()))
