"""Programs fork while the control socket has a thread of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")

PROGRAM = """
import os, sys, trio, tractor
from tractor.control._socket import control_socket

sys.setswitchinterval(1e-5)

def fork_often():
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            # The only thread; and nothing of the parent's listens here.
            os._exit(len(os.listdir("/proc/self/task")) - 1 if os.path.exists("/proc/self/task") else 0)
        assert os.waitpid(pid, 0)[1] == 0

async def main():
    async with tractor.open_root_actor(registrar=False):
        assert control_socket() is not None
        async with trio.open_nursery() as tn:
            for _ in range(3):
                tn.start_soon(trio.to_thread.run_sync, fork_often)
            while tn.child_tasks:
                # The thread begins anew, in the loop.
                await trio.sleep(0)
    print("done")

trio.run(main)
"""


def test_threads_fork_all_the_time() -> None:
    """Who forks ends the control thread and keeps another from beginning; two at a time take turns."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
