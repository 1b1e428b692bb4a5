"""The process above a test session: what it adopts is seen and told apart, and it passes everything on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reap_strays as strays

from tractor.testing import _adopter, _leaks

pytestmark = pytest.mark.skipif(
    not _adopter.lists_children(), reason="this system's /proc does not list children"
)

Stock = Callable[[], Any]

RESTART = "from tractor.testing._adopter import restart_below_adopter as restart\nrestart()\n"


def program(code: str, **kwargs: Any) -> subprocess.Popen[str]:
    """Run code that begins below an adopter of its own, in a process group of its own."""
    outside = {key: value for key, value in os.environ.items() if key != _adopter.VARIABLE}
    return subprocess.Popen(
        [sys.executable, "-c", RESTART + code],
        env=outside,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **kwargs,
    )


@pytest.fixture(params=["adopter", "whole machine"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to look for processes."""
    if request.param == "whole machine":
        monkeypatch.setattr(_leaks, "_adopter", lambda: None)
    elif _adopter.Adopter.find() is None:
        pytest.skip("this session has no adopter")
    return str(request.param)


@contextlib.contextmanager
def sleeper(**kwargs: Any) -> Iterator[int]:
    """An orphan, of a launcher that has ended."""
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdout=subprocess.DEVNULL).pid)"
    )
    launched = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, **kwargs
    )
    pid = int(launched.stdout)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        strays.until(lambda: strays.state(pid) == "", "an orphan that is collected")


@pytest.mark.usefixtures("way")
def test_an_orphan_and_what_is_below_it_are_seen_until_they_are_gone(take_stock: Stock) -> None:
    before = take_stock()
    with sleeper() as orphan:
        new = take_stock().processes - before.processes
        assert [pid for pid, _ in new] == [orphan]
    assert take_stock().more_than(before) == []


def test_an_orphan_in_another_session_and_without_environment_is_seen(take_stock: Stock) -> None:
    adopter = _adopter.Adopter.find()
    if adopter is None or adopter._mark is not None:
        pytest.skip("other sessions, or workers of this one, may have the same adopter")
    before = take_stock()
    with sleeper(env={}, start_new_session=True) as orphan:
        assert [pid for pid, _ in take_stock().processes - before.processes] == [orphan]


def test_a_child_that_another_thread_started_is_seen(take_stock: Stock) -> None:
    before = take_stock()
    started, collected = threading.Event(), threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def start_one() -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            children.append(child)
            started.set()
            collected.wait(strays.LIMIT)

    thread = threading.Thread(target=start_one)
    thread.start()
    try:
        assert started.wait(strays.LIMIT)
        new = take_stock().processes - before.processes
        assert [pid for pid, _ in new] == [children[0].pid]
        assert children[0].pid in _adopter.children_of(os.getpid())
    finally:
        children[0].communicate(b"\n")
        collected.set()
        thread.join()


@pytest.mark.usefixtures("way")
def test_a_child_and_a_grandchild_are_seen(take_stock: Stock) -> None:
    before = take_stock()
    code = (
        "import subprocess, sys\n"
        "below = subprocess.Popen([sys.executable, '-c', 'input()'])\n"
        "print(below.pid, flush=True); below.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        below = int(child.stdout.readline())
        new = {pid for pid, _ in take_stock().processes - before.processes}
        assert new == {child.pid, below}
        child.stdin.write(b"\n")


@pytest.mark.usefixtures("way")
def test_a_child_that_nobody_collects_is_a_leak(take_stock: Stock) -> None:
    before = take_stock()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], dict(os.environ))
    strays.until(lambda: strays.state(child) == "Z", "a zombie")
    assert _leaks.leaks_since(before, 0.1) == [f"process {child}: a zombie"]
    os.waitpid(child, 0)


def test_the_adopter_is_not_taken_for_a_parent_of_actors() -> None:
    with program(
        "import os; print(os.getppid(), os.environ['TRACTOR_TESTS_ADOPTER'])\ninput()"
    ) as process:
        assert process.stdout is not None
        parent, adopter = process.stdout.readline().split()
        assert int(parent) == int(adopter) == process.pid
        assert Path(f"/proc/{parent}/comm").read_text() == "init\n"
        assert "python" not in os.readlink(f"/proc/{parent}/exe")
        process.communicate("\n")


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_session_s_status_is_passed_on(status: int) -> None:
    with program(f"raise SystemExit({status})") as process:
        assert process.wait(strays.LIMIT) == status


def test_a_ctrl_c_is_the_session_s_to_answer() -> None:
    code = (
        "import signal\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "try:\n    print('ready', flush=True); signal.pause()\nexcept KeyboardInterrupt:\n    raise SystemExit(2)"
    )
    with program(code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(strays.LIMIT) == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_session_ends_with_its_adopter(signum: signal.Signals) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with program(code) as process:
        assert process.stdout is not None
        session = int(process.stdout.readline())
        process.send_signal(signum)
        process.wait(strays.LIMIT)
        strays.until(lambda: not strays.runs(session), "the end of the session")


def test_a_process_that_has_just_been_started_bears_its_mark() -> None:
    mark = b"/of/this/very/test"
    for _ in range(30):
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"MARK": mark}) as cat:
            assert _adopter.bears_mark(cat.pid, mark)
    assert not _adopter.bears_mark(os.getpid(), mark)


def test_what_has_no_environment_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_seconds: float) -> None:
        pytest.fail("waited")

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={}) as cat:
        # Until then its `exec` may not be over.
        while not Path(f"/proc/{cat.pid}/cmdline").read_bytes():
            pass
        monkeypatch.setattr("time.sleep", fail)
        assert not _adopter.bears_mark(cat.pid, b"/a/mark")
        cat.kill()
        os.waitid(os.P_PID, cat.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            _adopter.bears_mark(cat.pid, b"/a/mark")
