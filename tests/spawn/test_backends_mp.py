"""What is special about multiprocessing's start methods: the fork server, and what of the parent must not show."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ep_backends
import ep_sentinel_tools as tools
import pytest
import trio
from ep_run import run

import tractor
from tractor.process._stat import pid_alive
from tractor.spawn import usable_start_methods
from tractor.testing import find_descendants

pytestmark = pytest.mark.skipif(
    "mp_forkserver" not in usable_start_methods() or sys.platform != "linux",
    reason="no fork server here, or no /proc to look for it",
)

HERE = ["ep_backends"]


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


def fork_servers() -> list[int]:
    """Pids of the fork servers that this process has started."""
    return [
        pid
        for pid in find_descendants(os.getpid())
        if b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
        and int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
    ]


def test_one_fork_server_for_each_actor_that_spawns() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(start_method="mp_forkserver"):
            assert fork_servers() == []
            seen = set()
            for _ in range(2):
                async with tractor.open_nursery() as an:
                    for name in ("one", "two"):
                        portal = await an.start_actor(name, enable_modules=HERE)
                        seen.update(fork_servers())
                        await portal.cancel_actor()
            assert len(seen) == 1
        assert fork_servers() == []

    run(main)


def test_a_killed_fork_server_takes_its_actors_along() -> None:
    async def main() -> None:
        async def lose() -> None:
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("orphan", enable_modules=HERE)
                pids.append(await portal.run(ep_backends.pid))
                (server,) = fork_servers()
                os.kill(server, signal.SIGKILL)
                await trio.sleep_forever()

        pids: list[int] = []
        async with tractor.open_root_actor(start_method="mp_forkserver"):
            with pytest.raises(tractor.ActorFailure) as info:
                await lose()
            assert info.value.returncode == 255
            assert not pid_alive(pids[0])
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("next", enable_modules=HERE)
                assert await portal.run(ep_backends.add, one=1, two=1) == 2
                await an.cancel()

    run(main)


def test_what_is_stuck_goes_with_a_killed_fork_server() -> None:
    spec: tools.Node = ("idle", [("gil", [("idle", [])]), ("stopped", []), ("idle", [("gil", [])])])
    with tools.Tree(spec, backend="mp_forkserver") as tree:
        tree.enter_states()
        assert tree.kill_server("") <= tools.BUSY
        assert tree.process.wait(30) == 1


def test_who_has_started_them_may_be_stuck_when_the_fork_server_is_killed() -> None:
    """Then those that can end by themselves do."""
    spec: tools.Node = ("blocked", [("idle", [("idle", [])]), ("shielded", [])])
    with tools.Tree(spec, backend="mp_forkserver") as tree:
        tree.enter_states()
        assert tree.kill_server("") <= tools.BUSY
        tree.kill([""])


def test_a_stopped_fork_server_holds_nobody_up() -> None:
    """Neither the end of an actor that it has started, nor the cancellation of a start, nor its own end."""

    async def main() -> None:
        async with tractor.open_nursery(start_method="mp_forkserver") as an:
            await an.start_actor("first")
            (server,) = fork_servers()
            os.kill(server, signal.SIGSTOP)
            with trio.move_on_after(0.2) as scope:
                await an.start_actor("never")
            assert scope.cancelled_caught
            await an.cancel()

    run(main)


@pytest.mark.parametrize("key", ["mp_spawn", "mp_forkserver"])
def test_the_programs_own_use_of_multiprocessing_is_left_alone(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            portal = await an.start_actor("x", enable_modules=HERE)
            told = await portal.run(ep_backends.multiprocessing_view)
            assert told == {"name": "x", "parent": os.getpid(), "parent_lives": True}
            assert multiprocessing.active_children() == []
            await portal.cancel_actor()

    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    before = tracker and tracker._resource_tracker._fd
    method = multiprocessing.get_start_method(allow_none=True)
    run(main)
    assert multiprocessing.get_start_method(allow_none=True) == method
    tracker = sys.modules["multiprocessing.resource_tracker"]
    assert tracker._resource_tracker._fd == before
