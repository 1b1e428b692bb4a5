# ruff: noqa: PT012, SIM117
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
# Blocks within blocks are kept apart where their order matters.
"""From the first process to the last: many starts, signals to a whole program, and what G1 and G2 promise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_marks import gets_signals, outlives_its_root
from ep_supervise_tools import (
    Program,
    alive,
    one_daemon,
    place_of,
    program,
    run,
    until,
    until_gone,
)

import tractor

HERE = ["ep_supervise"]

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs signals to process groups")

pytestmark = posix_only


# -- many --


def test_many_starts_and_cancels_leave_nothing(
    take_stock: Callable[[], Any], spawn_backend: str, repeats: Callable[[int, int], int]
) -> None:
    # Sub-interpreters share one GIL, and each imports all it needs anew.
    cycles, at_once = (repeats(12, 40), 1) if spawn_backend == "subint" else (repeats(16, 200), 4)

    async def main() -> None:
        async with tractor.open_nursery() as an:

            async def one() -> None:
                portal = await an.start_actor("cycle")
                assert await portal.cancel_actor()

            async def all_gone() -> None:
                while an.children:
                    await trio.sleep(0.005)

            async def worker(number: int) -> None:
                for _ in range(number):
                    await one()

            await one()
            await all_gone()
            before = take_stock()
            async with trio.open_nursery() as tn:
                for _ in range(at_once):
                    tn.start_soon(worker, cycles // at_once)
            await all_gone()
            assert take_stock().more_than(before) == []
            assert an.statistics().spawned == cycles + 1
            assert an.statistics().reaped == cycles + 1
            assert an.statistics().escalations == 0

    run(main, limit=repeats(58, 300))


def test_many_actors_started_at_once(
    spawn_backend: str, repeats: Callable[[int, int], int]
) -> None:
    # The ends of sub-interpreters wait for one another's GIL, and the ladder's limits for none.
    number = 6 if spawn_backend == "subint" else repeats(12, 30)

    async def main() -> None:
        uids: list[Any] = []
        async with tractor.open_nursery() as an:
            async with trio.open_nursery() as tn:

                async def start(index: int) -> None:
                    portal = await an.start_actor(f"actor_{index}", enable_modules=HERE)
                    uids.append(await portal.run(ep_supervise.uid))

                for index in range(number):
                    tn.start_soon(start, index)
            assert sorted(name for name, _ in uids) == sorted(f"actor_{i}" for i in range(number))
            assert len(an.children) == number
            places = [place_of(r.portal) for r in an.children.values() if r.portal is not None]
            assert len(set(places)) == number
            await an.cancel()
            assert not any(map(alive, places))
        assert an.statistics().escalations == 0

    run(main)


@pytest.mark.usefixtures("forked_actors")
def test_a_tree_of_fifteen_actors_is_gone_after_an_error_in_the_root() -> None:
    pids: list[int] = []

    async def main() -> None:
        with pytest.raises(LookupError):
            async with one_daemon() as (_, portal):
                # The daemon, 2 below it, 4 below these, 8 below those.
                async with portal.open_context(ep_supervise.hold_tree, depth=3, width=2) as (
                    _,
                    below,
                ):
                    pids.extend(below)
                    raise LookupError

    run(main)
    assert len(set(pids)) == 15
    assert not any(map(alive, pids))


# -- lifetime_stack --


@pytest.mark.parametrize("way", ["cancel", "error", pytest.param("signal", marks=gets_signals)])
def test_the_lifetime_stack_of_a_subactor_is_closed(way: str, tmp_path: Path) -> None:
    path = tmp_path / "resource"

    async def main() -> None:
        async with one_daemon() as (_, portal):
            await portal.run(ep_supervise.push_file_removal, path=str(path))
            assert path.exists()
            if way == "error":
                raise LookupError
            if way == "signal":
                assert portal.chan.aid is not None
                assert portal.chan.aid.pid is not None
                os.kill(portal.chan.aid.pid, signal.SIGTERM)
            else:
                await portal.cancel_actor()

    if way == "error":
        with pytest.raises(LookupError):
            run(main)
    else:
        run(main)
    assert not path.exists()


def test_the_lifetime_stack_of_the_root_is_closed() -> None:
    closed: list[int] = []

    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            actor.lifetime_stack.callback(closed.append, 1)
            actor.lifetime_stack.callback(closed.append, 2)
            assert closed == []
        assert closed == [2, 1]

    run(main)


# -- signals to a whole program --


def expect_quiet_interrupt(prog: Program, status: int) -> None:
    """It ended as Python ends by a ctrl-c, and no subactor said a word."""
    assert status == -signal.SIGINT, prog.stderr
    assert "tractor/_child.py" not in prog.stderr, prog.stderr
    assert "Exception ignored" not in prog.stderr, prog.stderr
    lines = prog.stderr.strip().splitlines()
    assert lines[-1] == "KeyboardInterrupt", prog.stderr
    # A child may have gone, and its end been told, when the root's own interrupt comes.
    contexts = prog.stderr.count("During handling of the above exception")
    assert prog.stderr.count("Traceback (most recent call last)") == 1 + contexts, prog.stderr


DELAYS = [0.0, 0.01, 0.03, 0.07, 0.12, 0.16, 0.2, 0.3]
"""Seconds from the program's first line, when its root is about to boot, to the signal; the last are after the
start of its tree."""


@pytest.mark.parametrize("delay", DELAYS)
def test_an_interrupt_at_any_moment_leaves_nothing(delay: float) -> None:
    """The fixture that looks for leftovers is the other half of this test."""
    with program("tree", "1", "2") as prog:
        assert json.loads(prog.read_line()) == "booting"
        time.sleep(delay)
        prog.signal_group(signal.SIGINT)
        expect_quiet_interrupt(prog, prog.finish())


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.4])
def test_an_interrupt_among_many_starts_and_ends(delay: float) -> None:
    with program("start_for_ever") as prog:
        prog.read_line()
        time.sleep(delay)
        prog.signal_group(signal.SIGINT)
        expect_quiet_interrupt(prog, prog.finish())


def test_an_interrupt_of_a_whole_tree() -> None:
    with program("tree", "2", "2") as prog:
        pids = read_tree(prog)
        prog.signal_group(signal.SIGINT)
        expect_quiet_interrupt(prog, prog.finish())
        assert "T-800" not in prog.stderr
        assert not any(map(alive, pids))


def test_an_interrupt_of_the_root_alone() -> None:
    with program("tree", "2", "1") as prog:
        pids = read_tree(prog)
        prog.process.send_signal(signal.SIGINT)
        expect_quiet_interrupt(prog, prog.finish())
        assert not any(map(alive, pids))


def test_a_second_interrupt_while_the_tree_goes_down() -> None:
    with program("tree", "2", "1") as prog:
        pids = read_tree(prog)
        for _ in range(3):
            prog.signal_group(signal.SIGINT)
            time.sleep(0.02)
        assert prog.finish() == -signal.SIGINT, prog.stderr
        assert "tractor/_child.py" not in prog.stderr, prog.stderr
        assert not any(map(alive, pids))


def read_tree(prog: Program) -> list[int]:
    assert json.loads(prog.read_line()) == "booting"
    assert json.loads(prog.read_line()) == "one"
    pids: list[int] = json.loads(prog.read_line())
    assert all(map(alive, pids))
    return pids


def test_sigterm_of_the_root_cancels_the_tree_and_ends_it_by_that_signal() -> None:
    with program("tree", "2", "1") as prog:
        pids = read_tree(prog)
        prog.process.send_signal(signal.SIGTERM)
        assert prog.finish() == -signal.SIGTERM, prog.stderr
        assert not any(map(alive, pids)), "reaped by the time the root ends"
        assert "T-800" not in prog.stderr


# -- the loss of an ancestor --

LOSS_LIMIT = 2.0
"""Seconds after an ancestor's SIGKILL in which every process below it ends (G2)."""

LOAD_ALLOWANCE = 18.0
"""Seconds that a loaded machine may add before the test fails; without a lifeline nothing ends at all."""


@outlives_its_root
@pytest.mark.parametrize(
    ("worst", "depth", "width"), [("", 2, 2), ("shielded", 2, 1), ("blocked", 1, 2)]
)
def test_sigkill_of_the_root_takes_all_along(
    worst: str, depth: int, width: int, tmp_path: Path
) -> None:
    marker = str(tmp_path / "stuck")
    with program("tree", str(depth), str(width), worst, marker) as prog:
        pids = read_tree(prog)
        if worst:
            leaves = [pid for pid in pids if is_leaf(pid, pids)]
            assert len(leaves) == width
            run(stuck, [f"{marker}.{pid}" for pid in leaves])
        prog.process.kill()
        prog.process.wait()
        run(until_gone, pids, LOSS_LIMIT + LOAD_ALLOWANCE)
    expect_no_file()


def expect_no_file() -> None:
    """A dead root's own socket file, too, is removed: by its sentinel."""
    run(until, lambda: not left_files(), LOSS_LIMIT + LOAD_ALLOWANCE)


def left_files() -> list[Path]:
    return [p for p in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.sock") if p.is_socket()]


async def stuck(markers: list[str]) -> None:
    while not all(map(os.path.exists, markers)):
        await trio.sleep(0.01)


def is_leaf(pid: int, pids: list[int]) -> bool:
    out = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [int(line.split()[1]) for line in out.stdout.splitlines()]
    return pid not in parents


def test_sigkill_in_the_middle_of_boots() -> None:
    with program("start_for_ever") as prog:
        prog.read_line()
        time.sleep(0.25)
        prog.process.kill()
        prog.process.wait()
        run(until, lambda: not children_of_any(), LOSS_LIMIT + LOAD_ALLOWANCE)
    # It may have been killed before its first subactor was there, and so a sentinel.
    for path in left_files():
        assert path.name in ("registry@1616.sock", f"root@{prog.process.pid}.sock")
        path.unlink(missing_ok=True)


def children_of_any() -> list[str]:
    """Subactors of this test's programs, whoever their parent is by now."""
    out = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True)
    own = os.environ["XDG_RUNTIME_DIR"]
    return [line for line in out.stdout.splitlines() if "tractor._child" in line and own in line]


@gets_signals
def test_the_middle_of_a_tree_is_lost() -> None:
    """What was below it ends, also the socket files; the rest of the program reports it."""

    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError, match="ActorFailure"):
            async with one_daemon() as (_, portal):
                async with portal.open_context(ep_supervise.hold_tree, depth=3) as (_, pids):
                    os.kill(pids[1], signal.SIGKILL)
                    await until_gone(pids[1:], LOSS_LIMIT + LOAD_ALLOWANCE)
                    await trio.sleep_forever()

    run(main)


@outlives_its_root
def test_a_program_that_ends_in_the_block_by_os_exit() -> None:
    code = """
import os, trio, tractor
async def main():
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("orphan")
        print(portal.chan.aid.pid, flush=True)
        os._exit(5)
if __name__ == "__main__":
    trio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 5, done.stderr
    run(until_gone, [int(done.stdout)], LOSS_LIMIT + LOAD_ALLOWANCE)
    expect_no_file()
