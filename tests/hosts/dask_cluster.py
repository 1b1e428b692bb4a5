"""A Dask cluster in one process: ``dask_cluster.py HOST``.  Prints the scheduler's address; ends with its stdin."""

from __future__ import annotations

import asyncio
import sys
import tempfile

from distributed import Scheduler, Worker


async def main(host: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Scheduler(host=host, port=0, dashboard=False) as scheduler,
            # Each agent holds a thread; what asks for the seat waits for the one before it.
            Worker(
                scheduler.address,
                name="w1",
                host=host,
                nthreads=8,
                resources={"seat": 1},
                dashboard=False,
                local_directory=folder,
            ),
        ):
            print(scheduler.address.removeprefix("tcp://"), flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
