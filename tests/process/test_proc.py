"""What `/proc` tells of processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tractor.process import _proc
from tractor.process._stat import process_start_time

pytestmark = pytest.mark.skipif(not _proc.ON_LINUX, reason="only Linux has it so")


def test_this_process() -> None:
    stat = _proc.read_stat(os.getpid())
    assert stat.ppid == os.getppid()
    assert stat.start_time == process_start_time(os.getpid())
    assert not stat.has_ended
    assert 0 < stat.cpu_seconds <= time.process_time() + 1
    assert os.getpid() in _proc.all_pids()


def test_a_name_with_anything_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"7 (a) Z 1 (b) S 5 " + b" ".join(b"%d" % n for n in range(5, 53))
    monkeypatch.setattr(_proc, "read_proc", lambda pid, name: line)
    stat = _proc.read_stat(7)
    assert stat.comm == b"a) Z 1 (b"
    assert stat.ppid == 5
    assert not stat.has_ended


@pytest.fixture
def zombie() -> Iterator[int]:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


def test_a_zombie_has_ended(zombie: int) -> None:
    assert _proc.read_stat(zombie).has_ended


def test_no_process_and_no_descriptor_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _proc.look(2**22 + 1) is None

    def refuse(pid: int, name: str) -> bytes:
        raise OSError(_proc.OUT_OF_RESOURCES[0], "too many open files")

    monkeypatch.setattr(_proc, "read_proc", refuse)
    with pytest.raises(OSError, match="too many open files"):
        _proc.look(1)
    assert not _proc.expects_signal(1, signal.SIGUSR1)


def test_signals_that_are_expected() -> None:
    assert _proc.expects_signal(os.getpid(), signal.SIGINT)
    assert not _proc.expects_signal(os.getpid(), signal.SIGKILL)
