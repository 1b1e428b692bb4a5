"""Every script of `examples/debugging/` on a terminal, with somebody at its keyboard.

Each is run over TCP and UDS, and with and without ctrl-c at every prompt, which changes nothing. The short run has
each in one of these ways, `make debug-matrix` in all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on this platform", allow_module_level=True)
pytest.importorskip("pexpect")

sys.path.insert(0, str(Path(__file__).parent))

import pty_ways
from pty_terminal import Terminal, in_order, python
from pty_ways import Way

from tractor.testing import examples_dir, mk_cmd

SCRIPTS = examples_dir() / "debugging"

# Under load, and with a person's patience at each prompt.
pytestmark = pytest.mark.timeout(300)

needs_greenback = pytest.mark.skipif(
    importlib.util.find_spec("greenback") is None, reason="needs greenback"
)

Play = Callable[[str], Terminal]

pytest_generate_tests = pty_ways.parametrize


@pytest.fixture
def play(way: Way, tmp_path: Path) -> Iterator[Play]:
    """Start a script in the test's way; it must have ended when the test ends, and left no file."""
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Terminal:
            argv = python(SCRIPTS / f"{name}.py", address=way.address())
            return stack.enter_context(Terminal(argv, tmp_path, ctrl_c=way.ctrl_c))

        yield start
    assert list(tmp_path.iterdir()) == []


def test_each_script_has_a_test() -> None:
    names = {path.stem for path in SCRIPTS.glob("*.py") if not path.name.startswith("_")}

    assert len(names) == 22
    assert names <= {name.removeprefix("test_") for name in globals()}


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_script_teaches_and_runs_main(script: Path) -> None:
    text = script.read_text()

    assert text.startswith('"""')
    assert "What to learn" in text
    assert text.endswith('\n\nif __name__ == "__main__":\n    trio.run(main)\n')


def test_command_of_a_script() -> None:
    assert mk_cmd("root_actor_error") == " ".join(python(SCRIPTS / "root_actor_error.py"))


# -- the root alone --


@pytest.mark.parametrize("answer", ["c", "q"])
def test_root_actor_error(play: Play, answer: str) -> None:
    t = play("root_actor_error")
    t.stop("crashed", "root", "AssertionError", "the answer is wrong", "assert wanted == found")
    t.command("p wanted, found", "(42, 54)")
    t.leave(answer)
    t.end(1, "AssertionError: the answer is wrong")


def test_root_actor_breakpoint(play: Play) -> None:
    t = play("root_actor_breakpoint")
    stop = t.stop("paused", "root", "-> print")
    assert "<Task '__main__.main' " in stop.holder
    t.leave("c")
    t.end(0, "the root goes on")


def test_root_actor_breakpoint_quit(play: Play) -> None:
    t = play("root_actor_breakpoint")
    t.stop("paused", "root")
    t.leave("q")
    assert "\nthe root goes on" not in t.end(1, "BdbQuit")


def test_root_actor_breakpoint_forever(play: Play) -> None:
    t = play("root_actor_breakpoint_forever")
    t.stop("paused", "root", "-> turn += 1")
    # Over the next `pause()`, which opens nothing.
    for _ in range(5):
        t.command("n")
    t.command("p turn > 0", "True")
    for _ in range(3):
        t.leave("c")
        t.stop("paused", "root", "-> turn += 1")
    t.leave("q")
    t.end(1, "BdbQuit")


def test_root_self_cancelled_w_error(play: Play) -> None:
    t = play("root_self_cancelled_w_error")
    t.stop("paused", "root", "-> assert not scope.cancel_called")
    t.leave("c")
    t.stop("crashed", "root", "AssertionError", "the root has cancelled itself")
    t.leave("c")
    t.end(1, "AssertionError: the root has cancelled itself")


# -- a child --


def test_subactor_error(play: Play) -> None:
    t = play("subactor_error")
    t.stop("crashed", "name_error", "NameError", "there is no such name")
    t.leave("c")
    t.stop("crashed", "root", "remote task raised a 'NameError'", "there is no such name")
    t.leave("c")
    t.end(1, "RemoteActorError", "NameError")


def test_subactor_breakpoint(play: Play) -> None:
    t = play("subactor_breakpoint")
    t.stop("paused", "breakpoint_forever", "-> turn += 1")
    for _ in range(5):
        t.command("n")
    t.command("p turn > 0", "True")
    for _ in range(3):
        t.leave("c")
        t.stop("paused", "breakpoint_forever", "-> turn += 1")
    t.leave("q")
    t.stop("crashed", "root", "remote task raised a 'BdbQuit'")
    t.leave("c")
    t.end(1, "RemoteActorError", "BdbQuit")


def test_fast_error_in_root_after_spawn(play: Play) -> None:
    t = play("fast_error_in_root_after_spawn")
    t.stop("crashed", "root", "AssertionError", "the root was faster")
    t.leave("c")
    t.end(1, "AssertionError: the root was faster")


def test_per_actor_debug(play: Play) -> None:
    t = play("per_actor_debug")
    t.stop("crashed", "debugged_boi", "RuntimeError", "debugged_boi has failed")
    t.leave("c")
    t.end(1, "handled: RuntimeError", "crash_boi has failed")


def test_pm_in_subactor(play: Play) -> None:
    t = play("pm_in_subactor")
    for name in ("name_error", "name_error", "root", "root"):
        t.stop("crashed", name, "NameError", "there is no such name")
        t.leave("c")
    t.end(1, "RemoteActorError", "NameError")


def test_shielded_pause(play: Play) -> None:
    hint = ("Failed to REPl via `_pause()`", "await tractor.pause(shield=True)")
    t = play("shielded_pause")
    for name, before in (("root", ()), ("child", (*hint, "the scope has ended"))):
        # The first turn of the loop, its second one, the sub-task.
        t.stop("paused", name, *before)
        t.leave("c")
        t.stop("paused", name)
        t.leave("c")
        t.stop("paused", name, "pause_in_subtask()")
        t.leave("c")
    # In the scope, after it, and where the error leaves.
    for before in ((*hint, "the scope has ended"), (), ()):
        t.stop("crashed", "child", *before, "the child has failed")
        t.leave("c")
    for _ in range(2):
        t.stop("crashed", "root", "remote task raised a 'RuntimeError'")
        t.leave("c")
    t.end(1, "the child has failed")
    assert "this is never printed" not in t.transcript.replace('print("this is never printed")', "")


@pytest.mark.parametrize("answer", ["c", "q"])
def test_subactor_bp_in_ctx(play: Play, answer: str) -> None:
    t = play("subactor_bp_in_ctx")
    t.stop("paused", "counter", "numbers()", "-> yield number")
    t.command("bt", "count()", "numbers()")
    t.leave("c")
    t.stop("paused", "counter", "-> yield number")
    t.leave(answer)
    t.end(1, "TransportClosed", "peer IPC channel closed abruptly?")
    assert "number 0" in t.transcript


def test_open_ctx_modnofound(play: Play) -> None:
    t = play("open_ctx_modnofound")
    t.stop("crashed", "root", "remote task raised a 'ModuleNotExposed'", "enable_modules")
    t.leave("c")
    t.end(1, "ModuleNotExposed")


# -- several actors --


def test_multi_subactors(play: Play) -> None:
    t = play("multi_subactors")
    crashed: list[str] = []
    pauses = 0
    while not {"name_error", "name_error_1", "spawn_error"} <= {*crashed}:
        stop = t.stop()
        if stop.kind == "paused":
            assert stop.name == "breakpoint_forever"
            pauses += 1
            assert pauses < 200, "the others do not come"
        else:
            stop.shows("NameError")
            crashed.append(stop.name)
        t.leave("c")
    assert sorted(crashed) == ["name_error", "name_error_1", "spawn_error"]
    assert crashed.index("name_error_1") < crashed.index("spawn_error")
    t.stop("paused", "breakpoint_forever")
    t.leave("q")
    last = t.stop("crashed", "root", "all children failed")
    for name in ("name_error", "name_error_1", "spawn_error", "breakpoint_forever"):
        last.shows(f"{name}@")
    t.leave("c")
    t.end(1, "ExceptionGroup")


def test_multi_daemon_subactors(play: Play) -> None:
    t = play("multi_daemon_subactors")
    t.stop("paused", "bp_forever")
    t.leave("c")
    t.stop("crashed", "name_error", "3 squared is 9", "NameError")
    t.leave("c")
    t.stop("paused", "bp_forever", "handled: NameError")
    t.leave("c")
    t.stop("crashed", "name_error", "4 squared is 16", "NameError")
    t.leave("c")
    t.stop("crashed", "root", "remote task raised a 'NameError'")
    t.leave("c")
    t.end(1, "RemoteActorError", "NameError")


def test_multi_subactor_root_errors(play: Play) -> None:
    t = play("multi_subactor_root_errors")
    first = t.stop("crashed")
    t.wait_for("the root fails now")
    t.leave("c")
    second = t.stop("crashed")
    assert {first.name, second.name} == {"name_error", "value_error"}
    t.leave("c")
    root = t.stop("crashed", "root")
    for text in ("the root has a problem of its own", "no such name", "no such value"):
        root.shows(text)
    t.leave("c")
    t.end(1, "ExceptionGroup")


def test_multi_subactor_root_errors_with_a_quick_user(play: Play) -> None:
    t = play("multi_subactor_root_errors")
    # The first child is gone before the other one has asked, or the root has seen that it has.
    t.stop("crashed")
    t.leave("c")
    while True:
        stop = t.stop("crashed")
        t.leave("c")
        if stop.name == "root":
            break
    stop.shows("the root has a problem of its own")
    t.end(1, "AssertionError: the root has a problem of its own")


def test_multi_nested_subactors_error_up_through_nurseries(play: Play) -> None:
    t = play("multi_nested_subactors_error_up_through_nurseries")
    seen: dict[str, list[int]] = {"oak": [], "elm": []}
    for number in range(8):
        stop = t.stop("crashed")
        tree, _, level = stop.name.partition("_level_")
        stop.shows("ValueError", f"the leaf of {tree} fails")
        seen[tree].append(int(level))
        t.leave("cq"[number % 2])
    assert seen == {"oak": [1, 2, 3, 4], "elm": [1, 2, 3, 4]}
    root = t.stop("crashed", "root", "both trees failed")
    for tree in seen:
        root.shows(f"the leaf of {tree} fails")
    t.leave("c")
    t.end(1, "ExceptionGroup")


def test_root_cancelled_but_child_is_in_tty_lock(play: Play) -> None:
    t = play("root_cancelled_but_child_is_in_tty_lock")
    t.stop("paused", "grandchild")
    t.wait_for("the root cancels now")
    t.command("p 6 * 7", "42")
    t.leave("c")
    t.end(0, "the grandchild goes on", "the tree has ended")


def test_root_timeout_while_child_crashed(play: Play) -> None:
    t = play("root_timeout_while_child_crashed")
    t.stop("crashed", "name_error", "NameError")
    t.wait_for("the root has waited long enough")
    t.command("p 6 * 7", "42")
    t.leave("c")
    root = t.stop("crashed", "root")
    root.shows("TooSlowError")
    root.shows("no such name")
    t.leave("c")
    t.end(1, "ExceptionGroup")


# -- plain functions, threads, asyncio --


@needs_greenback
def test_sync_bp(play: Play) -> None:
    t = play("sync_bp")
    for name in ("root", "child"):
        for where in ("task", "task by builtin", "worker thread", "worker thread", "own thread"):
            stop = t.stop("paused", name, '-> return f"{where} goes on"')
            stop.shows("<Task '" if "task" in where else "<Thread(")
            t.command("p where", f"'{name}: the {where}'")
            t.leave("c")
    names = set()
    for _ in range(2):
        stop = t.stop("paused")
        stop.shows("<Thread(")
        t.command("p where", f"'{stop.name}: a thread at once'")
        names.add(stop.name)
        t.leave("c")
    assert names == {"root", "child"}
    t.end(0)
    for name in names:
        in_order(
            t.transcript,
            [
                f"{name}: the {where} goes on"
                for where in (
                    "task",
                    "task by builtin",
                    "worker thread",
                    "worker thread",
                    "own thread",
                )
            ],
        )


@needs_greenback
def test_asyncio_bp(play: Play) -> None:
    t = play("asyncio_bp")
    t.stop("paused", "aio", "trio_side()")
    t.leave("c")
    t.stop("paused", "aio", "aio_task()", "-> chan.send_nowait(number)")
    t.command("p number", "0")
    t.leave("c")
    t.stop("paused", "root", "echoed: 0")
    t.leave("c")
    t.stop("paused", "aio", "aio_task()")
    t.command("p number", "1")
    t.leave("c")
    t.stop("crashed", "aio", "ValueError", "asyncio has failed")
    t.leave("c")
    t.stop("crashed", "root", "remote task raised a 'ValueError'")
    t.leave("c")
    t.end(1, "ValueError", "asyncio has failed")


@needs_greenback
def test_restore_builtin_breakpoint(play: Play) -> None:
    t = play("restore_builtin_breakpoint")
    t.stop("paused", "root", '-> print("the root goes on"')
    t.leave("c")
    text = t.prompt("(Pdb) ")
    # From 3.13 on it stops at the call itself.
    line = "breakpoint()" if sys.version_info >= (3, 13) else 'print("the runtime is closed")'
    in_order(text, ["the root goes on", f"-> {line}"])
    assert "Opening a pdb REPL" not in text
    t.leave("c")
    t.end(0, "the runtime is closed")


# -- from outside --


@pytest.mark.skipif(importlib.util.find_spec("stackscope") is None, reason="needs stackscope")
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 on this platform")
def test_shield_hang_in_sub(play: Play) -> None:
    t = play("shield_hang_in_sub")
    pids = t.find(r"root (\d+), hanger (\d+): press ctrl-c")
    root, hanger = int(pids[1]), int(pids[2])
    files = [Path(f"/tmp/tractor-stackscope-{pid}.log") for pid in (root, hanger)]
    try:
        os.kill(root, signal.SIGUSR1)
        # The parent's is complete before the child's begins.
        t.wait_for("start-of-('root'")
        t.wait_for("end-of-('hanger'")
        in_order(
            t.transcript,
            [f"{edge}-of-('{name}'" for name in ("root", "hanger") for edge in ("start", "end")],
        )
        for file, name in zip(files, ("root", "hanger"), strict=True):
            in_order(
                file.read_text(), [f"start-of-('{name}'", "sleep_forever", f"end-of-('{name}'"]
            )
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    t.press_ctrl_c()
    t.end(-signal.SIGINT, "#T-800 deployed to collect zombie B0", "KeyboardInterrupt")
