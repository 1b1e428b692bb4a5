"""Ending processes: the order of the signals, and who is left alone."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import reap_strays as strays

from tractor.reaping import _signals as signals
from tractor.reaping._signals import survivors
from tractor.reaping._strays import StrayId
from tractor.reaping._table import read_process
from tractor.testing import find_descendants, reap

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

NOBODY = 2_000_000_000


@pytest.fixture(params=["pidfd", "number"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How processes are held: not every kernel has pidfds."""
    way: str = request.param
    if way == "number":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("no pidfds here")
    return way


@contextlib.contextmanager
def program(tmp_path: Path, code: str) -> Iterator[subprocess.Popen[bytes]]:
    ready = tmp_path / "ready"
    code = f"import signal, sys, time\n{code}\nopen({str(ready)!r}, 'w').close()\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stderr=subprocess.DEVNULL) as process:
        try:
            strays.until(ready.exists, "the program's start")
            yield process
        finally:
            process.kill()


def test_who_ends_when_asked_is_not_killed(tmp_path: Path, way: str) -> None:
    code = "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))"
    with program(tmp_path, code) as process:
        assert reap([process.pid], grace=strays.LIMIT) == ([process.pid], [])
        assert process.wait(strays.LIMIT) == 7


def test_who_does_not_is_killed_after_the_grace(tmp_path: Path, way: str) -> None:
    with program(tmp_path, "signal.signal(signal.SIGINT, signal.SIG_IGN)") as process:
        assert reap([process.pid], grace=0.05, poll=0.01) == ([process.pid], [process.pid])
        assert process.wait(strays.LIMIT) == -signal.SIGKILL


def test_a_stopped_one_is_killed(way: str) -> None:
    with strays.booting_actor() as (process, _):
        assert reap([process.pid], grace=0) == ([process.pid], [process.pid])
        assert survivors([process.pid]) == []


def test_several_share_one_grace(tmp_path: Path, way: str) -> None:
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat,
        strays.booting_actor() as (one, _),
    ):
        signalled, killed = reap([cat.pid, one.pid, cat.pid], grace=1.0)
        assert signalled == [cat.pid, one.pid]
        assert killed == [one.pid]
        assert cat.wait() == -signal.SIGINT


def test_those_that_are_gone_are_in_neither_list(way: str) -> None:
    with subprocess.Popen("true") as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert reap([process.pid]) == ([], [])
    assert reap([process.pid, NOBODY]) == ([], [])
    assert reap([]) == ([], [])


@pytest.mark.skipif(sys.platform != "linux", reason="start times")
def test_a_later_process_with_the_same_pid_is_left_alone(way: str) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        (found,) = (pid for pid in find_descendants(os.getpid()) if pid == cat.pid)
        seen = read_process(cat.pid)
        assert seen is not None
        assert seen.start_time == found.start_time
        later = StrayId.of(seen)
        later.start_time = seen.start_time - 1  # type: ignore[operator]
        assert reap([later], grace=0) == ([], [])
        assert survivors([later, found]) == [found]
        assert cat.poll() is None
        cat.kill()


def test_a_process_that_is_replaced_between_the_signals_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only the way without pidfds could hit the later one, and so looks again.
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        first = read_process(cat.pid)
        assert first is not None
        target = signals.Target(StrayId.of(first))
        target._start_time = -1.0
        assert not target.send(signal.SIGKILL)
        assert cat.poll() is None
        cat.kill()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs a second user")
def test_nothing_is_done_if_one_is_another_users() -> None:
    with (
        subprocess.Popen(["sleep", "600"], user=65534) as other,
        subprocess.Popen(["sleep", "600"]) as own,
    ):
        try:
            with pytest.raises(PermissionError, match=f"process {other.pid} belongs to another"):
                reap([own.pid, other.pid])
            assert own.poll() is None
            assert other.poll() is None
        finally:
            own.kill()
            other.kill()


@pytest.mark.parametrize("pid", [1, 0, -1])
def test_no_groups_and_no_init(pid: int) -> None:
    with pytest.raises(ValueError, match=f"process {pid} "):
        reap([pid])


def test_not_this_very_process() -> None:
    with pytest.raises(ValueError, match="not your own"):
        reap([os.getpid()])


@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_wrong_times(value: float) -> None:
    with pytest.raises(ValueError, match="grace"):
        reap([], grace=value)
    with pytest.raises(ValueError, match="poll"):
        reap([], poll=value)
    with pytest.raises(ValueError, match="poll"):
        reap([], poll=0)


def test_windows_has_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotImplementedError, match="Windows"):
        reap([])
