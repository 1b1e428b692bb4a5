"""`respawn` at the REPL, on a pseudo-terminal: the code is changed, a fresh process takes the crashed one's place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pexpect = pytest.importorskip("pexpect")
pytestmark = [
    pytest.mark.usefixtures("forked_actors"),
    pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal"),
]

LIMIT = 40
PROMPT = r"\(Pdb\+\) "

WRONG = "async def work(x: int) -> float:\n    return x / 0\n"
RIGHT = "async def work(x: int) -> float:\n    return x / 2\n"

HEAD = """
import os, sys, trio, tractor
import changing

async def fails():
    raise ValueError("of the root")

async def main():
    async with tractor.open_nursery(debug_mode=True, start_method=sys.argv[1]) as an:
"""
TAIL = """
if __name__ == "__main__":
    trio.run(main)
"""

ONE_SHOT = """
        portal = await an.run_in_actor(changing.work, name="worker", x=20)
        # At once: the start of a sibling takes longer than an answer at the prompt may.
        before = portal.chan.aid
        sibling = await an.start_actor("sibling")
        print("RESULT", await portal.wait_for_result())
        after = portal.chan.aid
        print("SAME", before.name == after.name, before.pid == after.pid, sibling.chan.connected())
        await an.cancel()
"""

DAEMON = """
        portal = await an.start_actor("worker", enable_modules=["changing"])
        first = portal.chan.aid.pid
        try:
            await portal.run(changing.work, x=20)
        except tractor.RemoteActorError as exc:
            print("CAUGHT", exc.src_type.__name__)
        while portal.chan.aid.pid == first:
            await trio.sleep(0.01)
        print("RESULT", await portal.run(changing.work, x=20))
        await portal.cancel_actor()
"""

BY_NAME = """
        portal = await an.start_actor("worker", enable_modules=["changing"])
        first = portal.chan.aid.pid
        await tractor.pause()
        while portal.chan.aid.pid == first:
            await trio.sleep(0.01)
        print("RESULT", await portal.run(changing.work, x=20))
        await portal.cancel_actor()
"""

ROOT = """
        raise ValueError("of the root")
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Starts a program; gives its terminal."""
    children = []

    def start(block: str, code: str = WRONG, method: str = "trio") -> Any:
        (tmp_path / "changing.py").write_text(code)
        program = tmp_path / "program.py"
        program.write_text(HEAD + block + TAIL)
        environ = {
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            # The changed file may have the same size and time as the first.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHON_COLORS": "0",
            "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"],
        }
        child = pexpect.spawn(
            sys.executable, [str(program), method], env=environ, encoding="utf-8", timeout=LIMIT
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def end_of(child: Any) -> str:
    child.expect(pexpect.EOF)
    child.wait()
    return str(child.before)


def test_a_one_shot_is_run_again_and_nobody_hears_of_the_error(run: Any, tmp_path: Path) -> None:
    child = run(ONE_SHOT)
    child.expect("Opening a pdb REPL in crashed actor")
    child.expect("ZeroDivisionError")
    child.expect(PROMPT)
    (tmp_path / "changing.py").write_text(RIGHT)
    child.sendline("respawn")
    child.expect("a fresh process takes its place")
    rest = end_of(child)
    assert "RESULT 10.0" in rest
    assert "SAME True False True" in rest
    assert "Error" not in rest
    assert child.exitstatus == 0


def test_code_that_is_still_wrong_can_be_mended_again(run: Any, tmp_path: Path) -> None:
    child = run(ONE_SHOT)
    for _ in range(2):
        child.expect(PROMPT)
        child.sendline("respawn")
        child.expect("a fresh process takes its place")
        child.expect("ZeroDivisionError")
    child.expect(PROMPT)
    (tmp_path / "changing.py").write_text(RIGHT)
    child.sendline("respawn")
    assert "RESULT 10.0" in end_of(child)


def test_a_daemon_is_replaced_and_its_caller_hears_of_the_error(run: Any, tmp_path: Path) -> None:
    child = run(DAEMON)
    child.expect(PROMPT)
    (tmp_path / "changing.py").write_text(RIGHT)
    child.sendline("respawn")
    child.expect("CAUGHT ZeroDivisionError")
    assert "RESULT 10.0" in end_of(child)


def test_a_parent_replaces_a_child_by_name(run: Any, tmp_path: Path) -> None:
    child = run(BY_NAME)
    child.expect(PROMPT)
    child.sendline("respawn")
    child.expect("nothing has crashed here")
    child.expect(PROMPT)
    child.sendline("respawn nobody")
    child.expect("0 subactors of .* are called 'nobody'; there are: worker")
    child.expect(PROMPT)
    (tmp_path / "changing.py").write_text(RIGHT)
    child.sendline("respawn worker")
    child.expect("is replaced when this REPL is left")
    child.expect(PROMPT)
    child.sendline("c")
    assert "RESULT 10.0" in end_of(child)


def test_the_root_says_why_not(run: Any) -> None:
    child = run(ROOT)
    child.expect(PROMPT)
    child.sendline("respawn")
    child.expect("can't be undone here: it is the root")
    child.expect(PROMPT)
    child.sendline("c")
    assert "ValueError: of the root" in end_of(child)


def test_after_the_nursery_has_ended_it_says_why_not(run: Any) -> None:
    child = run(ONE_SHOT)
    child.expect(PROMPT)
    child.sendline("c")
    child.expect(PROMPT)
    child.sendline("respawn")
    child.expect("its nursery has ended, and all of its actors with it")
    child.expect(PROMPT)
    child.sendline("c")
    end_of(child)


def test_what_is_forked_would_have_the_old_code(run: Any) -> None:
    child = run(ONE_SHOT, method="main_thread_forkserver")
    child.expect(PROMPT)
    child.sendline("respawn")
    child.expect("no respawn: .*would fork it off this process, where the code is the old one")
    child.expect(PROMPT)
    child.sendline("c")
    assert "ZeroDivisionError" in end_of(child)
