"""Endpoints in a module of their own, which knows nothing of MPI."""

import os
import sys


async def child_answer() -> tuple[int, bool]:
    """Run in the child: its pid, and whether it has loaded MPI."""
    return os.getpid(), "mpi4py.MPI" in sys.modules
