from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from tractor import spawn
from tractor.process._wait_pids import process_start_time, wait_pids_gone
from tractor.spawn._boot import BootRecord, open_boot_pipe, read_boot_record
from tractor.spawn._lifeline import Lifeline

SRC = str(Path(spawn.__file__).parents[2])


def never() -> None:
    raise AssertionError("lost")


def test_stop_ends_thread_and_descriptors() -> None:
    before = len(os.listdir("/dev/fd"))
    fd, end = open_boot_pipe(BootRecord())
    read_boot_record(fd)
    threads = threading.active_count()
    lifeline = Lifeline(fd, never)
    assert threading.active_count() == threads + 1
    lifeline.stop()
    lifeline.stop()
    assert threading.active_count() == threads
    assert not lifeline.lost
    end.release()
    assert len(os.listdir("/dev/fd")) == before


class _Left(BaseException):
    """Stands for the process's end."""


def test_loss_releases_children_calls_back_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    fd, end = open_boot_pipe(BootRecord())
    read_boot_record(fd)
    child_fd, _child_end = open_boot_pipe(BootRecord())
    read_boot_record(child_fd)
    seen: list[object] = []
    left = threading.Event()

    def on_lost() -> None:
        # The subactors were told before.
        seen.append(os.read(child_fd, 1))
        raise RuntimeError("the run is over")

    def leave(code: int) -> None:
        seen.append(code)
        left.set()

    monkeypatch.setattr(os, "_exit", leave)
    lifeline = Lifeline(fd, on_lost, grace=0.0, exit_code=9)
    end.release()
    assert left.wait(10)
    assert seen == [b"\0", 9]
    assert lifeline.lost
    lifeline.stop()
    lifeline._thread.join()
    for each in (fd, child_fd, lifeline._wake_r, lifeline._wake_w):
        os.close(each)


CHAIN = """
import os, subprocess, sys, time
from tractor.spawn._boot import BootRecord, open_boot_pipe, read_boot_record
from tractor.spawn._lifeline import Lifeline
depth = int(sys.argv[1])
if len(sys.argv) > 2:
    fd = int(sys.argv[2])
    read_boot_record(fd)
    lifeline = Lifeline(fd, lambda: None, grace=0.3)
if depth:
    fd, end = open_boot_pipe(BootRecord())
    command = [sys.executable, __file__, str(depth - 1), str(fd)]
    child = subprocess.Popen(command, pass_fds=[fd])
print(os.getpid(), flush=True)
while True:  # A blocked event loop: only the thread can see the loss.
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killing_the_top_ends_every_level_below(tmp_path: Path) -> None:
    script = tmp_path / "chain.py"
    script.write_text(CHAIN)
    env = {**os.environ, "PYTHONPATH": SRC}
    with subprocess.Popen(
        [sys.executable, str(script), "2"], env=env, stdout=subprocess.PIPE, text=True
    ) as top:
        assert top.stdout is not None
        pids = {int(top.stdout.readline()) for _ in range(3)}
        started = {pid: process_start_time(pid) for pid in pids}
        os.kill(top.pid, signal.SIGKILL)
        top.wait()
        assert trio.run(wait_pids_gone, started, 10) == set()


def test_normal_exit_is_not_held_up_by_the_thread() -> None:
    code = (
        "import sys\n"
        "from tractor.spawn._boot import BootRecord, open_boot_pipe, read_boot_record\n"
        "from tractor.spawn._lifeline import Lifeline\n"
        "fd, end = open_boot_pipe(BootRecord()); read_boot_record(fd)\n"
        "lifeline = Lifeline(fd, lambda: None)\n"
        "if 'stop' in sys.argv: lifeline.stop()\n"
        "sys.exit(5)\n"
    )
    env = {**os.environ, "PYTHONPATH": SRC}
    for args in ([], ["stop"]):
        done = subprocess.run([sys.executable, "-c", code, *args], env=env, timeout=30, check=False)
        assert done.returncode == 5


def test_loss_before_the_watch_begins_is_seen() -> None:
    code = (
        "from tractor.spawn._boot import BootRecord, open_boot_pipe, read_boot_record\n"
        "from tractor.spawn._lifeline import Lifeline\n"
        "import time\n"
        "fd, end = open_boot_pipe(BootRecord()); read_boot_record(fd); end.release()\n"
        "lifeline = Lifeline(fd, lambda: None, grace=0.0, exit_code=77)\n"
        "time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": SRC}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=30, check=False)
    assert done.returncode == 77
