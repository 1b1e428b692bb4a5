"""The promise itself, on real trees: 2 s after SIGKILL of an ancestor nothing is left below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import ep_sentinel_tools as tools
import pytest
import trio

import tractor
from tractor.process.sentinel._sentinel import sentinel_pid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the promise is Linux's")


def chain(*states: str) -> tools.Node:
    """One actor in each level."""
    state, *below = states
    return state, [chain(*below)] if below else []


@pytest.mark.parametrize("state", ["idle", "blocked", "stopped", "gil"])
def test_root_is_killed(state: str) -> None:
    # What ends early below it must not depend on what is there only for longer.
    with tools.Tree(("idle", [chain(*[state] * depth) for depth in (1, 2, 3)])) as tree:
        with_children = {place for place in tree.pids if tools.below(place, tree.pids)}
        assert tree.sentinels.keys() == with_children == {"", "1", "2", "20"}
        tree.enter_states()
        assert tree.kill([""]) <= tools.BUSY
    assert left_files() == []


@pytest.mark.parametrize("state", ["stopped", "gil"])
def test_root_in_a_bad_state_is_killed(state: str) -> None:
    with tools.Tree(chain(state, state, "idle", state)) as tree:
        tree.enter_states()
        assert tree.kill([""]) <= tools.BUSY
    assert left_files() == []


@pytest.mark.parametrize("root", ["idle", "stopped"])
@pytest.mark.parametrize("states", [("gil", "stopped"), ("stopped", "gil"), ("blocked", "idle")])
def test_middle_actor_is_killed(root: str, states: tuple[str, str]) -> None:
    with tools.Tree(chain(root, "idle", *states)) as tree:
        tree.enter_states()
        assert tree.kill(["0"]) <= tools.BUSY
        if root == "stopped":
            os.kill(tree.process.pid, signal.SIGCONT)
        # The root hears of it, and when it has ended all is gone, those that watched too.
        assert tree.process.wait(30) == 1
        assert not tree.wait_gone([*tree.pids.values(), *tree.sentinels.values()], limit=0)
        assert "ActorFailure" in tree.stderr()
    assert left_files() == []


def test_several_are_killed_at_once() -> None:
    spec: tools.Node = (
        "idle",
        [("idle", [("gil", []), ("stopped", [])]), ("stopped", [("idle", [])])],
    )
    with tools.Tree(spec) as tree:
        tree.enter_states()
        assert tree.kill(["0", "", "1"]) <= tools.BUSY
    assert left_files() == []


def test_below_one_that_is_stopped_the_end_is_a_graceful_one() -> None:
    with tools.Tree(chain("idle", "stopped", "idle", "shielded")) as tree:
        tree.enter_states()
        os.kill(tree.pids[""], signal.SIGKILL)
        assert not tree.wait_gone([tree.pids["00"]])
        # It was not told by its parent, which cannot; nor was it killed when that is.
        assert tools.state_of(tree.pids["0"]) == "T"
        assert not tree.wait_gone([*tree.pids.values(), *tree.sentinels.values()])


def test_with_the_sentinel_of_a_middle_actor_killed_before() -> None:
    with tools.Tree(chain("idle", "idle", "gil")) as tree:
        tree.enter_states()
        os.kill(tree.sentinels["0"], signal.SIGKILL)
        os.kill(tree.pids["0"], signal.SIGKILL)
        # The root knows of those below, and is the last net.
        assert tree.process.wait(30) == 1
        assert not tree.wait_gone(tree.pids.values(), limit=0)
    assert left_files() == []


@pytest.mark.parametrize("how", ["crash", "interrupt", "normal", "wait SIGINT", "wait SIGTERM"])
def test_nothing_is_left_after_the_usual_ends(how: str, tmp_path: Path) -> None:
    word, _, name = how.partition(" ")
    with subprocess.Popen(
        [sys.executable, str(tools.PROGRAM), str(tmp_path), word],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = set(json.loads(process.stdout.readline()).values())
        helpers = {
            pid
            for pid, parent in tools.running_with(b"_sentinel_main.py").items()
            if parent in pids
        }
        assert len(helpers) == 2
        (tmp_path / "go").touch()
        if name:
            os.killpg(process.pid, signal.Signals[name])
        process.wait(30)
        # Nobody has to wait for anything once the program has ended.
        assert {pid: tools.state_of(pid) for pid in pids | helpers if is_running(pid)} == {}
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()
    assert left_files() == []


def test_exit_without_a_word(tmp_path: Path) -> None:
    with tools.Tree(chain("idle", "gil", "idle")) as tree:
        tree.enter_states()
        # As `os._exit()`: no ladder, no farewell.
        assert tree.kill([""]) <= tools.BUSY
        assert tree.process.wait(10) == -signal.SIGKILL


def is_running(pid: int) -> bool:
    return tools.state_of(pid) not in "ZX"


def left_files() -> list[Path]:
    return [*Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.sock")]


def test_there_is_one_as_long_as_there_are_children() -> None:
    seen: list[int | None] = []

    async def main() -> None:
        async with tractor.open_root_actor():
            seen.append(sentinel_pid())
            for _ in range(2):
                async with tractor.open_nursery() as an:
                    await an.start_actor("one")
                    seen.append(sentinel_pid())
                    async with tractor.open_nursery() as inner:
                        portal = await inner.start_actor("two")
                        await portal.cancel_actor()
                    seen.append(sentinel_pid())
                    await an.cancel()
                # The nursery's exit means that all are gone, helpers too.
                seen.append(sentinel_pid())

    trio.run(main)
    before, one, same, after, other, same_other, after_other = seen
    assert before is after is after_other is None
    assert one is not None
    assert other is not None
    assert (one, other) == (same, same_other)
    assert not is_running(one)
    assert not is_running(other)


def test_a_short_storm() -> None:
    script = Path(__file__).with_name("kill_storm.py")
    done = subprocess.run(
        [sys.executable, str(script), "--runs", "5", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
