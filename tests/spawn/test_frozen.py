"""Frozen programs: a stand-in whose executable is the program itself, as with those that PyInstaller makes.

`make frozen` does the same with a real one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tractor
from tractor import _freeze
from tractor.process import _frozen
from tractor.process.sentinel import _sentinel
from tractor.spawn import _contract
from tractor.transport import _table

METHODS = ["trio", "mp_spawn", "mp_forkserver", "main_thread_forkserver"]

FREEZE = f"""#!{sys.executable}
import os, sys
sys.frozen = True
sys.executable = os.path.abspath(__file__)
"""

# What `tests/spawn/frozen_program.py` freezes for good.
PROGRAM = """
import os, sys
import trio, tractor

with open(os.environ["RUNS"], "a") as runs:
    runs.write(f"{os.getpid()} {sys.argv[1:3]}\\n")
with open(os.environ["RUNS"]) as runs:
    if len(runs.readlines()) > 12:
        os._exit(99)

async def hi() -> str:
    return f"hi {sys.argv[1:]}"

async def nested() -> str:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(hi)
        return await portal.wait_for_result()

async def main() -> None:
    async with tractor.open_nursery(start_method=sys.argv[1]) as an:
        portal = await an.run_in_actor(nested)
        print(await portal.wait_for_result())
        portal = await an.start_actor("daemon", enable_modules=["__main__"])
        print(await portal.run(hi))
        await portal.cancel_actor()

if __name__ == "__main__":
    if "unsupported" not in sys.argv:
        tractor.freeze_support()
    trio.run(main)
"""

needs_posix = pytest.mark.skipif(os.name != "posix", reason="runs a script as a program")


def run(tmp_path: Path, *args: str) -> tuple[int, str, list[str]]:
    program = tmp_path / "program"
    program.write_text(FREEZE + PROGRAM)
    program.chmod(0o700)
    runs = tmp_path / "runs"
    env = {k: v for k, v in os.environ.items() if k != "TRACTOR_SPAWN_METHOD"}
    done = subprocess.run(
        [program, *args],
        env={**env, "RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout, runs.read_text().splitlines()


@needs_posix
@pytest.mark.parametrize("method", METHODS)
def test_with_support(tmp_path: Path, method: str) -> None:
    status, out, runs = run(tmp_path, method, "more")
    assert (status, out) == (0, f"hi ['{method}', 'more']\n" * 2)
    # Itself, its actors or their fork servers, and sentinels.
    assert len(runs) <= 8


@needs_posix
@pytest.mark.parametrize("method", METHODS[:3])
def test_without_support_nothing_is_started(tmp_path: Path, method: str) -> None:
    status, out, runs = run(tmp_path, method, "unsupported")
    assert status == 1
    assert f"spawn backend '{method}' starts" in out
    assert "Call `tractor.freeze_support()` in the first line under" in out
    assert len(runs) == 1


@needs_posix
def test_a_fork_needs_no_support(tmp_path: Path) -> None:
    assert run(tmp_path, METHODS[3], "unsupported")[0] == 0


def test_other_arguments_are_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frozen._supported, "value", False)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    for argv in ([], ["-m"], ["-m", "other", "tractor._child"], ["-c", "pass"], ["tractor._child"]):
        monkeypatch.setattr(sys, "argv", ["program", *argv])
        assert tractor.freeze_support() is None  # type: ignore[func-returns-value]
    assert _frozen.is_supported()


def test_what_is_loaded_by_name_is_found_by_tools_that_freeze() -> None:
    """They look for import statements."""
    text = Path(_freeze.__file__).read_text()
    known = [module for module, _ in _contract._BUILT_IN.values()]
    known += _table.LATE.values()
    for path in [*known, _sentinel.MODULE]:
        assert re.search(rf"^    import {path.partition(':')[0]}\b", text, re.MULTILINE)
