"""``tractor stacks``: a task is shown where it is, also where it is stuck."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ep_observe
import msgspec
import pytest
import trio.testing
from ep_observe import block, command, run, wait_here

import tractor
from tractor.control._stacks import stacks_of
from tractor.observe._stacks_text import IDLE, profile_text, running_stack, stacks_text


def frame(function: str, line: int = 1, runtime: bool = False) -> dict[str, Any]:
    return {"file": "a.py", "line": line, "function": function, "runtime": runtime}


def task(number: int, name: str, *frames: dict[str, Any], **more: Any) -> dict[str, Any]:
    runtime = all(one["runtime"] for one in frames)
    given = {"parent": None, "running": False, "runtime": runtime, **more}
    return {"id": number, "name": name, "frames": list(frames), **given}


ANSWER: dict[str, Any] = {
    "tasks": [
        task(1, "init", frame("init", runtime=True)),
        task(2, "main", frame("main", 10), frame("finish", 3, runtime=True), parent=1),
        task(3, "busy\x1b", frame("work", 4), frame("_solve", 118), parent=2, running=True),
    ],
    "threads": [{"name": "MainThread", "frames": [frame("run", 7, runtime=True)]}],
    "truncated": 2,
}


def test_the_tasks_of_the_program() -> None:
    assert list(stacks_text(ANSWER)) == [
        "task main",
        "    a.py:10 in main()",
        "    waits in finish()",
        "  task busy?, running",
        "      a.py:4 in work()",
        "      a.py:118 in _solve()",
        "2 more tasks were left out",
    ]


def test_everything() -> None:
    lines = list(stacks_text(ANSWER, threads=True, everything=True))
    assert lines[:2] == ["task init", "    a.py:1 in init()"]
    assert lines[-2:] == ["thread MainThread", "    a.py:7 in run()"]
    assert "      a.py:3 in finish()" in lines


def test_a_poor_mans_profile() -> None:
    stack = running_stack(ANSWER)
    assert stack == ("task busy?", "a.py:4 in work()", "a.py:118 in _solve()")
    idle = running_stack({"tasks": ANSWER["tasks"][:2]})
    assert idle == IDLE
    lines = list(profile_text([stack, idle, stack]))
    assert lines[0] == "    2 of 3  task busy?"
    assert lines[-1] == f"    1 of 3  {IDLE[0]}"


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
def test_a_stuck_task_is_shown_where_it_is_stuck(tmp_path: Path, forked_actors: None) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    source = Path(ep_observe.__file__).read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if "open(path" in text)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        pid = str(portal.chan.aid.pid) if portal.chan.aid else ""
        async with trio.open_nursery() as tn:
            tn.start_soon(portal.run, wait_here)
            while "in wait_here()" not in (await command("stacks", pid, "--limit", "20"))[1]:
                pass
            tn.start_soon(portal.run, block, fifo)
            wanted = f"ep_observe.py:{line} in block()"
            code, out, _ = await command("stacks", pid, "--limit", "20")
            while wanted not in out:
                code, out, _ = await command("stacks", pid, "--limit", "20")
            assert code == 0
            assert "task ep_observe:block, running" in out
            waiting = out.partition("task ep_observe:wait_here")[2]
            assert "in wait_here()" in waiting.splitlines()[1]
            target = tmp_path / "stacks"
            assert (await command("stacks", pid, "--repeat", "2", "-o", str(target)))[0] == 0
            assert wanted in target.read_text()
            assert "2 of 2" in target.read_text()
            code, out, err = await command("stacks", pid, "-o", str(tmp_path / "no" / "such"))
            assert (code, out) == (1, "")
            assert "could not be written" in err
            with open(fifo, "wb"):
                pass
            tn.cancel_scope.cancel()
        code, out, _ = await command("stacks", str(os.getpid()), "--tree", "--json", "--threads")
        actors = msgspec.json.decode(out)["actors"]
        assert [one["name"] for one in actors] == ["root", "worker"]
        assert (await command("stacks", "nobody-of-this-name"))[0] == 1

    run(main)


def test_stacks_that_are_encoded_say_the_same() -> None:
    """Those of one place are made once; of other coroutines, and of a deeper one, they are their own."""

    async def deep(levels: int) -> None:
        if levels:
            await deep(levels - 1)
        else:
            await trio.sleep_forever()

    async def by_generator() -> None:
        async def numbers() -> AsyncIterator[int]:
            await trio.sleep_forever()
            yield 1

        async for _ in numbers():
            pass

    async def main() -> None:
        async with trio.open_nursery() as tn:
            for levels in (1, 1, 3):
                tn.start_soon(deep, levels)
            tn.start_soon(by_generator)
            await trio.testing.wait_all_tasks_blocked()
            root, loop = trio.lowlevel.current_root_task(), threading.get_ident()
            plain = stacks_of(root, loop)["tasks"]
            encoded = msgspec.json.decode(msgspec.json.encode(stacks_of(root, loop, encoded=True)))
            tn.cancel_scope.cancel()
        by_id = {task["id"]: task for task in encoded["tasks"]}
        for task in plain:
            if not task["running"]:
                assert by_id[task["id"]] == task
        depths = sorted(
            sum(frame["function"].endswith("deep") for frame in task["frames"]) for task in plain
        )
        assert depths[-3:] == [2, 2, 4]

    trio.run(main)
