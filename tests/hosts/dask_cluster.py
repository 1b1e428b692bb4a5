"""A Dask cluster, or a part of it, in one process, which ends with its stdin; prints the scheduler's address.

``dask_cluster.py HOST`` is all of it, ``… HOST scheduler`` and ``… HOST ADDRESS NAME``, a worker, are the parts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack

from distributed import Scheduler, Worker


async def main(host: str, what: str = "", name: str = "w1") -> None:
    async with AsyncExitStack() as stack:
        address = what
        if what in ("", "scheduler"):
            scheduler = Scheduler(host=host, port=0, dashboard=False)
            address = (await stack.enter_async_context(scheduler)).address
        if what != "scheduler":
            worker = Worker(
                address,
                name=name,
                host=host,
                # Each agent holds a thread; what asks for the seat waits for the one before it.
                nthreads=8,
                resources={"seat": 1},
                dashboard=False,
                local_directory=stack.enter_context(tempfile.TemporaryDirectory()),
            )
            await stack.enter_async_context(worker)
        print(address.removeprefix("tcp://"), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
