"""What an actor pays for its control socket while nobody looks."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

import tractor
from tractor.control._socket import ControlSocket, control_socket
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

ROUNDS = 40


def _switches(native_id: int) -> int:
    """Of one thread, since its start: those that it chose, and those that it did not."""
    lines = Path(f"/proc/self/task/{native_id}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _nobody(_control: ControlSocket) -> object:
    raise AssertionError("nobody has asked")


def test_one_thread_one_socket_and_it_sleeps() -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        async with tractor.open_root_actor(registry_addrs=[get_rando_addr("tcp")]):
            new = [one for one in threading.enumerate() if one not in before]
            own = [one for one in new if one.name == "tractor control"]
            assert len(own) == 1
            server = control_socket()
            assert server is not None
            files = [
                path
                for path in Path(server.path).parent.iterdir()
                if f"@{os.getpid()}." in path.name
            ]
            assert files == [Path(server.path)]
            native = own[0].native_id
            assert native is not None
            # It has come to its first wait.
            with trio.fail_after(20):
                while Path(f"/proc/self/task/{native}/wchan").exists() and _state(native) != "S":
                    await trio.sleep(0.01)
            await trio.sleep(0.2)
            count = _switches(native)
            # The loop turns meanwhile, and other threads come and go.
            for _ in range(20):
                await trio.to_thread.run_sync(time.sleep, 0.01)
                await trio.sleep(0.05)
            assert _switches(native) == count
        assert not [one for one in threading.enumerate() if one.name == "tractor control"]

    trio.run(main)


def _state(native: int) -> str:
    text = Path(f"/proc/self/task/{native}/stat").read_text()
    return text.rpartition(")")[2].split()[0]


def test_its_start_its_end_and_its_memory() -> None:
    """By CPU time, which other programs do not lengthen much; the bounds are 1 ms, 10 ms and 64 KiB."""

    async def main() -> None:
        starts, ends, sizes = [], [], []
        # The first loads nothing that the next would not.
        ControlSocket("idle", os.getpid(), _nobody).close()  # type: ignore[arg-type]
        gc.collect()
        for _ in range(ROUNDS):
            resident, begun = _resident(), time.process_time()
            server = ControlSocket("idle", os.getpid(), _nobody)  # type: ignore[arg-type]
            starts.append(time.process_time() - begun)
            await trio.sleep(0.005)
            sizes.append(_resident() - resident)
            begun = time.process_time()
            server.close()
            ends.append(time.process_time() - begun)
        assert min(starts) <= 0.001
        assert min(ends) <= 0.010
        assert statistics.median(sizes) <= 64 * 1024

    trio.run(main)
