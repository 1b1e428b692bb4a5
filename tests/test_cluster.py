# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""`open_actor_cluster()`."""

from __future__ import annotations

import os

import ep_supervise
import pytest
import trio
from ep_supervise_tools import alive, run, until_exists

import tractor
from tractor import open_actor_cluster

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_default_names_and_keys() -> None:
    async def main() -> None:
        async with open_actor_cluster(["ep_supervise"], count=3) as portals:
            assert list(portals) == [f"root.worker_{i}" for i in range(3)]
            uids = [await portal.run(ep_supervise.uid) for portal in portals.values()]
            assert [name for name, _ in uids] == list(portals)
            pids = {await portal.run(ep_supervise.pid) for portal in portals.values()}
            assert len(pids) == 3
        assert not any(map(alive, pids))

    run(main)


def test_default_count_is_the_usable_cpus() -> None:
    async def main() -> None:
        async with open_actor_cluster(["ep_supervise"]) as portals:
            usable = (
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            )
            assert len(portals) == usable

    run(main)


def test_own_names_under_the_own_root_name() -> None:
    async def main() -> None:
        async with open_actor_cluster(
            ["ep_supervise"], count=2, names=["ann", "ben"], name="boss"
        ) as portals:
            assert list(portals) == ["boss.ann", "boss.ben"]

    run(main)


@pytest.mark.parametrize(("count", "names"), [(2, ["one"]), (1, ["one", "two"]), (3, [])])
def test_count_and_names_must_agree(count: int, names: list[str]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=str(count)):
            async with open_actor_cluster(["ep_supervise"], count=count, names=names):
                pytest.fail("it opened")
        assert tractor.current_actor(err_on_no_runtime=False) is None, "nothing was booted"

    run(main)


def test_under_a_running_runtime_and_cancelled_at_the_end() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(name="mine") as actor:
            async with open_actor_cluster(["ep_supervise"], count=2) as portals:
                assert list(portals) == ["mine.worker_0", "mine.worker_1"]
                pids = [await portal.run(ep_supervise.pid) for portal in portals.values()]
            assert not any(map(alive, pids))
            assert tractor.current_actor() is actor

    run(main)


def test_an_error_in_the_block_takes_the_cluster_down() -> None:
    async def main() -> list[int]:
        pids: list[int] = []
        with pytest.raises(LookupError, match="of the block"):
            async with open_actor_cluster(["ep_supervise"], count=2) as portals:
                pids += [await portal.run(ep_supervise.pid) for portal in portals.values()]
                raise LookupError("of the block")
        return pids

    assert not any(map(alive, run(main)))


def test_hard_kill_starts_at_the_signals(tmp_path: object) -> None:
    async def main() -> None:
        marker = f"{tmp_path}/asleep"
        async with open_actor_cluster(["ep_supervise"], count=1, hard_kill=True) as portals:
            (portal,) = portals.values()
            async with trio.open_nursery() as tn:

                async def asleep() -> None:
                    # A hard kill leaves no time for an answer: the call ends one way or another.
                    with pytest.raises((tractor.TransportClosed, tractor.ContextCancelled)):
                        await portal.run(ep_supervise.sleep_for_ever, marker=marker)

                tn.start_soon(asleep)
                await until_exists(marker)
                await portal.cancel_actor()

    run(main)


def test_one_error_leaves_bare() -> None:
    async def main() -> None:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            async with open_actor_cluster(["no_such_module_at_all"], count=1):
                pytest.fail("it opened")

    run(main)
