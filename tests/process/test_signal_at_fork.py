"""A signal that a forked process gets before anything of its own has run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, threading
# Runs in the child before what the package does there.
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
import trio, tractor

def fork():
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        while True:
            signal.pause()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main():
    async with tractor.open_nursery():
        print(fork(), await trio.to_thread.run_sync(fork), signal.pthread_sigmask(signal.SIG_BLOCK, []))

trio.run(main)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_it_is_not_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"{-signal.SIGTERM} {-signal.SIGTERM} set()\n", done.stderr
