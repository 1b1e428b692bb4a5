"""Out of descriptors: an error at once, nothing left, and nobody is taken for dead."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from ep_marks import gets_signals

import tractor
from tractor.discovery import mk_maddr
from tractor.process._stat import pid_alive, process_start_time
from tractor.process._wait_pids import wait_pids_gone
from tractor.reaping._table import read_process
from tractor.spawn import ForkedProc
from tractor.testing import get_rando_addr

PROGRAM = Path(__file__).parents[1] / "endpoints" / "ep_few_descriptors.py"


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield


@gets_signals
@pytest.mark.parametrize(("limit", "tpt"), [(32, "uds"), (32, "tcp"), (40, "uds"), (50, "tcp")])
def test_ten_starts_with_few_descriptors(limit: int, tpt: str) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(limit), mk_maddr(get_rando_addr(tpt))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() in (
        ["works", "left", "0"],
        ["errno", str(errno.EMFILE), "left", "0"],
    ), done.stderr


def test_a_program_with_more_descriptors_than_select_knows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"no more than {hard} descriptors here")

    async def main() -> None:
        async with tractor.open_nursery(start_method="main_thread_forkserver") as an:
            portal = await an.start_actor("child")
            await portal.cancel_actor()

    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        trio.run(main)


def test_a_living_process_is_not_taken_for_dead() -> None:
    me = os.getpid()
    start_time = process_start_time(me)
    with no_descriptor_left():
        assert pid_alive(me)
        assert pid_alive(me, start_time)
        with pytest.raises(OSError, match="Too many open files"):
            read_process(me)


def test_an_own_child_is_reaped_without_a_descriptor() -> None:
    async def main() -> None:
        popen = subprocess.Popen(["sleep", "60"])
        child = ForkedProc(popen.pid)
        try:
            with no_descriptor_left():
                assert pid_alive(child.pid)
                async with trio.open_nursery() as tn:
                    turns = 0

                    async def count() -> None:
                        nonlocal turns
                        while True:
                            await trio.sleep(0.001)
                            turns += 1

                    tn.start_soon(count)
                    with trio.fail_after(20), trio.CancelScope() as enough:

                        async def stop() -> None:
                            # It polls meanwhile, and others have their turns.
                            while turns < 50:
                                await trio.sleep(0.001)
                            enough.cancel()

                        tn.start_soon(stop)
                        await child.wait()
                        raise AssertionError("it lives")
                    assert await wait_pids_gone({child.pid: None}, 0.05) == {child.pid}
                    child.kill()
                    with trio.fail_after(10):
                        assert await child.wait() == -signal.SIGKILL
                    tn.cancel_scope.cancel()
                assert not pid_alive(child.pid)
        finally:
            child.kill()
            child.close()
            popen.returncode = 0

    trio.run(main)


_MAIN_THREAD_ENDS = """
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the state in /proc is the main thread's")
def test_a_process_whose_main_thread_has_ended_runs() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MAIN_THREAD_ENDS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            deadline, state = threading.Event(), ""
            for _ in range(500):
                state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z":
                    break
                deadline.wait(0.01)
            assert state == "Z"
            assert pid_alive(process.pid)
            seen = read_process(process.pid)
            assert seen is None or not seen.is_zombie
        finally:
            process.kill()
    assert not pid_alive(process.pid)
