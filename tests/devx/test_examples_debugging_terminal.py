"""Losses: the holder of the terminal killed, the root killed, many that want it at once; and `stty` afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on this platform", allow_module_level=True)
pytest.importorskip("pexpect")

sys.path.insert(0, str(Path(__file__).parent))

import pty_record
import pty_ways
from pty_terminal import Terminal, python
from pty_ways import Way

pytestmark = pytest.mark.timeout(300)

pytest_generate_tests = pty_ways.parametrize

Play = Callable[..., Terminal]

SHELL = "trap : INT; stty -g; {command}; echo status=$?; stty -g; echo typed | (read line; echo read=$line)"
"""What a person's shell sees: the terminal's settings before and after.  It survives ctrl-c as that does."""


@pytest.fixture
def play(way: Way, tmp_path: Path) -> Iterator[Play]:
    """Start a program of this directory; with `shell=True` between two looks at the terminal's settings."""
    with contextlib.ExitStack() as stack:

        def start(program: str, *args: str, shell: bool = False) -> Terminal:
            argv = python(Path(__file__).with_name(program), *args, address=way.address())
            if shell:
                argv = ["/bin/sh", "-c", SHELL.format(command=shlex.join(argv))]
            return stack.enter_context(Terminal(argv, tmp_path, ctrl_c=way.ctrl_c))

        yield start
    assert list(tmp_path.iterdir()) == []


def check_stty(t: Terminal, status: int) -> None:
    """Check what `SHELL` has printed."""
    t.end(0, f"status={status}")
    settings = [line for line in t.transcript.splitlines() if line.count(":") > 10]
    assert len(settings) == 2
    assert settings[0] == settings[1]


def test_terminal_is_sane_after_each_kind_of_end(play: Play) -> None:
    t = play("pty_tree.py", "crash", "1", shell=True)
    t.stop("crashed", "level_1")
    t.leave("c")
    t.stop("crashed", "root")
    t.leave("q")
    check_stty(t, 1)


def test_next_in_line_gets_the_terminal_of_a_killed_holder(
    play: Play, record_property: Callable[[str, object], None]
) -> None:
    t = play("pty_crowd.py", "pause", shell=True)
    first = t.stop("paused")
    t.wait_for("both have asked")
    pid = int(t.find(rf"pid of {first.name}: (\d+)")[1])
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    second = t.stop("paused")
    record_property("seconds to the next prompt", time.monotonic() - killed)
    assert {first.name, second.name} == {"ann", "ben"}
    # What is typed is seen: the dead one's settings of the terminal are gone.
    t.command("p 'line', 6 * 7", "p 'line', 6 * 7", "('line', 42)")
    t.leave("c")
    t.stop("crashed", "root", "ActorFailure", first.name)
    t.leave("c")
    check_stty(t, 1)


def test_killed_holder_deep_in_the_tree(play: Play) -> None:
    t = play("pty_tree.py", "pause", "3", shell=True)
    t.stop("paused", "level_3")
    out = t.command("p 'pid', __import__('os').getpid()")
    pid = int(out.rpartition("('pid', ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    for name in ("level_2", "level_1", "root"):
        t.stop("crashed", name, "ActorFailure")
        t.leave("c")
    check_stty(t, 1)


def test_everything_ends_when_the_root_is_killed(play: Play) -> None:
    # The descendants are looked for by the leak check of each test.
    t = play("pty_tree.py", "pause", "2")
    t.stop("paused", "level_2")
    os.kill(t.pid, signal.SIGKILL)
    # Nobody is left who could put the terminal's settings back.
    t.end(-signal.SIGKILL, sane=False)


def test_all_crashes_of_one_nursery_are_seen(play: Play) -> None:
    t = play("pty_crowd.py", "crash")
    names = []
    for _ in range(3):
        stop = t.stop("crashed")
        stop.shows(f"{stop.name} fails")
        names.append(stop.name)
        t.wait_for("all have asked")
        t.leave("c")
    assert sorted(names) == ["ann", "ben", "cid"]
    root = t.stop("crashed", "root")
    for name in names:
        root.shows(f"{name} fails")
    t.leave("c")
    t.end(1, "ExceptionGroup")


@pytest.mark.skipif(importlib.util.find_spec("greenback") is None, reason="needs greenback")
def test_tasks_threads_and_asyncio_each_get_a_turn(play: Play) -> None:
    t = play("pty_crowd.py", "everybody")
    names = []
    for _ in range(6):
        names.append(t.stop("paused").name)
        t.leave("c")
    t.end(0, "everybody has had a turn")
    assert sorted(names) == ["aio", "aio", "root", "threads", "threads", "threads"]
    for word in ("task of root", "task of aio", "task of threads", "worker", "thread", "asyncio"):
        assert f"{word} goes on" in t.transcript


# -- the guide --


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (pty_record.record, pty_record.SESSION),
        (pty_record.record_tutorial, pty_record.TUTORIAL_SESSION),
    ],
    ids=["guide", "tutorial"],
)
def test_recorded_session_is_up_to_date(record: Callable[[], str], kept: Path) -> None:
    assert pty_record.stable(record()) == pty_record.stable(kept.read_text())
