"""Actors under `mpirun`: children that must not repeat what the parent's main module does.

Run it as `mpirun -n 1 python inherit_parent_main.py` (or without `mpirun`); it needs `mpi4py`.

What to learn:

- Importing `mpi4py.MPI` initialises MPI, which may happen once for each process that `mpirun`
  started.
- A child normally imports its parent's main module, to find endpoints in it. Here that would
  initialise MPI a second time. `inherit_parent_main=False` leaves the parent's main module alone.
- The endpoints are then in a module of their own: `_child.py`.
"""

import os

import _child
import trio
from mpi4py import MPI  # type: ignore[import-not-found,attr-defined,unused-ignore]

import tractor


async def main() -> None:
    """One child for each rank."""
    rank = MPI.COMM_WORLD.Get_rank()
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(
            f"mpi_child_{rank}",
            enable_modules=[_child.__name__],
            inherit_parent_main=False,
        )
        pid, has_mpi = await portal.run(_child.child_answer)
        await portal.cancel_actor()

    assert MPI.Is_initialized()
    assert pid != os.getpid()
    assert not has_mpi
    print(f"rank {rank}: child {pid} answered, MPI was initialised only here", flush=True)


if __name__ == "__main__":
    trio.run(main)
