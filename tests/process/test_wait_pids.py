from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from tractor.process import _exit_watch
from tractor.process._exit_watch import ExitWatch
from tractor.process._wait_pids import pid_alive, process_start_time, wait_pids_gone

linux = pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@linux
def test_start_time_identifies_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    start = process_start_time(sleeper.pid)
    own = process_start_time(os.getpid())
    assert start is not None
    assert own is not None
    assert start >= own
    assert pid_alive(sleeper.pid, start)
    assert not pid_alive(sleeper.pid, start + 1)


def test_alive_until_dead(sleeper: subprocess.Popen[bytes]) -> None:
    assert pid_alive(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not pid_alive(sleeper.pid)
    assert process_start_time(sleeper.pid) is None


@linux
def test_zombie_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not pid_alive(sleeper.pid)
    assert trio.run(wait_pids_gone, {sleeper.pid: None}, 5) == set()


@pytest.mark.parametrize("pid", [0, -1])
def test_group_pids_are_refused(pid: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        pid_alive(pid)


@pytest.mark.parametrize("polling", [False, True])
def test_wait_pids_gone(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, polling: bool
) -> None:
    if polling:

        def refuse(pid: int) -> tuple[int, object]:
            raise OSError

        monkeypatch.setattr(_exit_watch, "open_exit_fd", refuse)
    pids = {sleeper.pid: process_start_time(sleeper.pid), os.getpid(): None}

    async def main() -> None:
        before = len(os.listdir("/dev/fd"))
        assert await wait_pids_gone(pids, 0.05) == set(pids)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, sleeper.kill)
            with trio.fail_after(10):
                assert await wait_pids_gone({sleeper.pid: None}, 10) == set()
        assert len(os.listdir("/dev/fd")) == before

    trio.run(main)


@linux
def test_reused_pid_is_not_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    assert trio.run(wait_pids_gone, {sleeper.pid: 1e12}, 60) == set()


def test_watch_of_a_process_that_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()

    async def main() -> None:
        watch = ExitWatch(sleeper.pid)
        with trio.fail_after(10):
            await watch.wait()
        watch.close()
        watch.close()

    trio.run(main)
