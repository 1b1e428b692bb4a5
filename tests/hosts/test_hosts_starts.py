"""How actors come to other hosts: what is shared, starts that are given up, code, and trees of hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ep_certs
import ep_elsewhere
import pytest
import trio
from bed import OTHER_PYTHON, Bed
from bed_init import PROJECT
from bed_ways import (
    ENDPOINTS,
    LIMIT,
    MODULES,
    Way,
    open_tree,
    root_options,
    start_program,
    until,
)

import tractor

# -- one link for all --


@pytest.mark.long
def test_one_link_process_and_one_client_a_host(usual_way: Way) -> None:
    async def main() -> None:
        async with open_tree(usual_way, "h1", "h2") as (an, hosts):
            before = clients()
            assert len(before) == 2
            for number in range(3):
                for host in hosts:
                    await an.start_actor(f"far{number}", host=host, enable_modules=MODULES)
            assert clients() == before
            assert [len(usual_way.actors(name)) for name in ("h1", "h2")] == [3, 3]
            await an.cancel()
        assert not clients()

    def clients() -> set[int]:
        """Of the engine, below this process; `srun` is two processes for each."""
        found = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(None, 2) for line in found.splitlines()]
        parents = {int(pid): int(ppid) for pid, ppid, _ in rows}

        def is_ours(pid: int) -> bool:
            while pid in parents and pid != os.getpid():
                pid = parents[pid]
            return pid == os.getpid()

        name = {"ssh": "ssh", "slurm": "srun"}[usual_way.engine]
        pids = {int(pid) for pid, _, comm in rows if comm == name and is_ours(int(pid))}
        return {pid for pid in pids if parents[pid] not in pids}

    trio.run(main)


# -- what is equal on two hosts --


@pytest.mark.long
def test_equal_pids_and_paths_on_two_hosts(way: Way) -> None:
    """The end of one does nothing to the other, and nothing here: pids and files are of one host."""
    # Far from those that processes of a host get by themselves.
    bed, pid = way.bed, 20_000

    async def main() -> None:
        async with open_tree(way, "h1", "h2") as (an, [h1, h2]):
            two = await start_with_pid(an, h2, pid)
            with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
                await lose_one(h1, two)
            assert await two.run(ep_elsewhere.pid) == pid
            await an.cancel()

    async def lose_one(h1: Any, two: tractor.Portal) -> None:
        async with (
            tractor.open_nursery() as inner,
            two.open_context(ep_elsewhere.below) as (ctx, _),
        ):
            await start_with_pid(inner, h1, pid)
            before = [process.pid for process in way.there("h2")]
            bed.kill("h1", pid, signal.SIGKILL)
            await until(lambda: not way.actors("h1"), LIMIT)
            assert [process.pid for process in way.there("h2")] == before
            await ctx.cancel()
            await trio.sleep_forever()

    async def start_with_pid(an: Any, host: Any, pid: int) -> tractor.Portal:
        for _ in range(10):
            bed.next_pid(host.statistics().hostname, pid)
            portal: tractor.Portal = await an.start_actor("same", host=host, enable_modules=MODULES)
            if await portal.run(ep_elsewhere.pid) == pid:
                return portal
            # Another process of that host came between, and may be gone by now.
            await portal.cancel_actor()
        raise AssertionError(f"no actor has got the pid {pid}")

    trio.run(main)


# -- starts that are given up --


@pytest.mark.long
def test_a_start_that_is_cancelled_at_any_time(usual_way: Way) -> None:
    """By opening a link as well as on an open one; nothing runs there afterwards, and the next start works."""

    async def main() -> None:
        async with open_tree(usual_way) as (an, _):
            for tenths in range(8):
                with trio.move_on_after(tenths / 10):
                    async with tractor.hosts.open_host(
                        usual_way.url("h1"), **usual_way.options()
                    ) as h1:
                        await an.start_actor("early", host=h1)
                        await an.start_actor("late", host=h1)
            await an.cancel()
        usual_way.nothing_is_left("h1")

    trio.run(main)


@pytest.mark.long
def test_a_host_that_does_not_answer(usual_way: Way) -> None:
    usual_way.bed.drop("h1")

    async def main() -> None:
        with pytest.raises(
            tractor.HostUnavailable, match=r"start_timeout=1\.5 s|timed out"
        ) as caught:
            async with open_tree(usual_way, "h1", start_timeout=1.5):
                raise AssertionError("it can't be reached")
        assert usual_way.url("h1") in str(caught.value)

    trio.run(main)
    usual_way.bed.heal("h1")


def test_a_python_that_is_not_there(usual_way: Way) -> None:
    async def main() -> None:
        with pytest.raises(tractor.HostUnavailable, match="/no/such/python") as caught:
            async with open_tree(usual_way, "h1", python="/no/such/python"):
                raise AssertionError("it can't run")
        # The engine's own last words.
        assert "No such file" in str(caught.value)

    trio.run(main)


WAITS: dict[str, Any] = {"begin": "now+600", "job-name": "waits"}
"""Options of `srun` for a job of its own, outside of the bed's allocation, which waits in the queue."""


def queued() -> list[str]:
    argv = ["squeue", "-h", "-n", "waits"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def queue(slurm_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Slurm without an allocation."""
    for name in [name for name in os.environ if name.startswith("SLURM_JOB")]:
        monkeypatch.delenv(name)
    return Way(slurm_bed, "slurm", "direct")


@pytest.mark.long
def test_a_start_that_waits_in_a_queue_is_cancelled(queue: Way) -> None:
    async def main() -> None:
        async with open_tree(queue), trio.open_nursery() as tn:

            async def start() -> None:
                async with tractor.hosts.open_host(queue.url("h1"), **queue.options(options=WAITS)):
                    raise AssertionError("it has a node")

            tn.start_soon(start)
            await until(queued, LIMIT)
            tn.cancel_scope.cancel()
        assert not queued()

    trio.run(main)


@pytest.mark.long
def test_a_start_that_waits_in_a_queue_is_withdrawn_when_the_parent_was_killed(queue: Way) -> None:
    with start_program(queue, "h1", options=WAITS) as program:
        trio.run(until, queued, LIMIT)
        program.kill()
        assert trio.run(until, lambda: not queued(), LIMIT) < 2.5


# -- code --


def test_a_module_that_is_not_there(usual_way: Way) -> None:
    async def main() -> None:
        async with open_tree(usual_way, "h1", env={}) as (an, [h1]):
            with pytest.raises(tractor.RemoteActorError, match="ep_elsewhere") as caught:
                await an.start_actor("far", host=h1, enable_modules=MODULES)
            assert caught.value.boxed_type is ModuleNotFoundError
            await an.cancel()

    trio.run(main)


SHIPPED = """\
import json, sys, trio, tractor
import own_package.part

async def own(x: int) -> str:
    return f"{own_package.part.twice(x)} by {__file__}"

async def main(url, options, root):
    root["authkey"] = root["authkey"].encode()
    root["registry_addrs"] = [tuple(addr) for addr in root["registry_addrs"]]
    async with tractor.open_nursery(**root) as an, tractor.hosts.open_host(url, **options) as host:
        far = await an.start_actor("far", host=host, enable_modules=["__main__", "own_package.part"])
        print(await far.run(own, x=4))
        print(await far.run(own_package.part.twice_async, x=5))
        await an.cancel()

if __name__ == "__main__":
    trio.run(lambda: main(**json.loads(sys.argv[1])))
"""


def test_code_that_is_shipped(usual_way: Way, tmp_path: Path) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text(
        "def twice(x): return 2 * x\nasync def twice_async(x): return twice(x)\n"
    )
    script = tmp_path / "own_program.py"
    script.write_text(SHIPPED)
    order = {
        "url": usual_way.url("h1"),
        "options": usual_way.options(env={}, ship=["main", "own_package"]),
        "root": root_options() | {"authkey": "of this test and of no other"},
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script), json.dumps(order)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first.startswith("8 by /")
        assert str(tmp_path) not in first
        assert second == "10"
    # By content: the second run has sent nothing.
    kept = usual_way.bed.run("h1", ["sh", "-c", "ls ~/.cache/tractor/code"]).stdout.split()
    assert len(kept) >= 2
    usual_way.nothing_is_left("h1")


@pytest.mark.long
def test_another_python(usual_way: Way) -> None:
    python = usual_way.bed.other_python
    if python is None:
        pytest.skip(f"no other Python with the project's packages: name one by {OTHER_PYTHON}")
    path = os.pathsep.join([str(ENDPOINTS), str(PROJECT / "src")])

    async def main() -> None:
        async with open_tree(usual_way, "h1", python=python, env={"PYTHONPATH": path}) as (
            an,
            [h1],
        ):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            there = tuple(await far.run(ep_elsewhere.python))
            assert there != sys.version_info[:2]
            assert h1.statistics().python.startswith("{}.{}.".format(*there))
            async with far.open_context(ep_elsewhere.below) as (ctx, _):
                await ctx.cancel()
            await an.cancel()

    trio.run(main)


# -- certificates --


@pytest.mark.long
def test_tls(way: Way) -> None:
    names = ("127.0.0.1", way.bed.address, *(h.address for h in way.bed.hosts.values()))
    given = ep_certs.config(hosts=names)
    # Of this machine's private directory nothing is on a host, of the bed's shared one all.

    def moved(path: object) -> str:
        target = way.bed.claim.share / Path(str(path)).name
        target.write_bytes(Path(str(path)).read_bytes())
        return str(target)

    tls = tractor.TLSConfig(moved(given.certfile), moved(given.keyfile), moved(given.cafile))

    async def main() -> None:
        with trio.fail_after(LIMIT):
            async with (
                tractor.open_nursery(**root_options(), tls=tls) as an,
                tractor.hosts.open_host(way.url("h1"), **way.options()) as h1,
            ):
                far = await an.start_actor("far", host=h1, enable_modules=MODULES)
                assert await far.run(ep_elsewhere.pid) in {
                    process.pid for process in way.there("h1")
                }
                await an.cancel()

    trio.run(main)


# -- trees --


def test_three_levels_on_three_hosts(bed: Bed) -> None:
    """Each from the one above it; the way from host to host is each host's own."""
    way = Way(bed, "ssh", "tunnel")

    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            urls = [way.url("h2"), way.url("h3")]
            async with far.open_context(ep_elsewhere.chain, urls=urls, options=way.options()) as (
                ctx,
                names,
            ):
                assert names == ["h1", "h2", "h3"]
                assert [len(way.actors(name)) for name in names] == [1, 1, 1]
                await ctx.cancel()
            await an.cancel()
        for name in bed.hosts:
            way.nothing_is_left(name)

    trio.run(main)


@pytest.mark.parametrize("killed", ["h1", pytest.param("h2", marks=pytest.mark.long)])
def test_nothing_of_a_tree_outlives_one_above_it(bed: Bed, killed: str) -> None:
    way = Way(bed, "ssh", "tunnel")

    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            urls = [way.url("h2"), way.url("h3")]
            async with far.open_context(ep_elsewhere.chain, urls=urls, options=way.options()):
                (victim,) = way.actors(killed)
                bed.kill(killed, victim.pid, 9)
                names = ["h1", "h2", "h3"]
                below = names[names.index(killed) + 1 :]
                assert await way.all_gone(*below, within=LIMIT) < 10.0
                await trio.sleep_forever()

    with pytest.raises((tractor.ActorFailure, tractor.RemoteActorError)):
        trio.run(main)
