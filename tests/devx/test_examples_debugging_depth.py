"""The same pause, crash or quit one, two and three levels below the root."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on this platform", allow_module_level=True)
pytest.importorskip("pexpect")

sys.path.insert(0, str(Path(__file__).parent))

import pty_ways
from pty_terminal import Terminal, python
from pty_ways import Way

pytestmark = pytest.mark.timeout(300)

pytest_generate_tests = pty_ways.parametrize

Grow = Callable[[str, int], Terminal]

each_depth = pytest.mark.parametrize("depth", [1, 2, 3] if pty_ways.COMPLETE else [3])


@pytest.fixture
def grow(way: Way, tmp_path: Path) -> Iterator[Grow]:
    """Start `pty_tree.py`."""
    with ExitStack() as stack:

        def start(what: str, depth: int) -> Terminal:
            script = Path(__file__).with_name("pty_tree.py")
            argv = python(script, what, str(depth), address=way.address())
            return stack.enter_context(Terminal(argv, tmp_path, ctrl_c=way.ctrl_c))

        yield start
    assert list(tmp_path.iterdir()) == []


def climb(t: Terminal, levels: range, *texts: str) -> None:
    """Continue in the REPL of each of these levels, upwards, and of the root."""
    for number in levels:
        t.stop("crashed", f"level_{number}" if number else "root", *texts)
        t.leave("c")


@each_depth
def test_pause(grow: Grow, depth: int) -> None:
    t = grow("pause", depth)
    t.stop("paused", f"level_{depth}", '-> print("the leaf goes on"')
    t.command("n", "the leaf goes on")
    t.command("p what", "'pause'")
    t.leave("c")
    t.end(0, "the tree has ended")


@each_depth
def test_quit(grow: Grow, depth: int) -> None:
    t = grow("pause", depth)
    t.stop("paused", f"level_{depth}")
    t.leave("q")
    climb(t, range(depth - 1, -1, -1), "BdbQuit")
    t.end(1, "BdbQuit")


@each_depth
def test_crash(grow: Grow, depth: int) -> None:
    t = grow("crash", depth)
    climb(t, range(depth, -1, -1), "the leaf fails")
    t.end(1, "the leaf fails")


@pytest.mark.skipif(importlib.util.find_spec("greenback") is None, reason="needs greenback")
@each_depth
def test_sync_pause_in_a_thread(grow: Grow, depth: int) -> None:
    t = grow("sync", depth)
    t.stop("paused", f"level_{depth}", "<Thread(", '-> print("the thread goes on"')
    t.leave("c")
    t.end(0, "the thread goes on", "the tree has ended")


@each_depth
def test_ctrl_c_ends_the_tree_when_nobody_has_the_terminal(grow: Grow, depth: int) -> None:
    t = grow("stay", depth)
    t.stop("paused", f"level_{depth}")
    t.leave("c")
    t.wait_for("nobody has the terminal")
    t.press_ctrl_c()
    t.end(-signal.SIGINT, "KeyboardInterrupt")
