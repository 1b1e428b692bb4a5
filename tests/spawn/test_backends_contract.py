"""One suite for every backend that this Python can run: what `tractor.spawn`'s contract says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import ep_backends
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor.runtime._vars import runtime_vars
from tractor.spawn._contract import (
    ChildProcess,
    SpawnBackend,
    SpawnRequest,
    get_backend,
    usable_start_methods,
)
from tractor.spawn.zygote._tie import current_tie
from tractor.testing import get_rando_addr
from tractor.transport._settings import wire_settings

HERE = ["ep_backends"]
USABLE = usable_start_methods()
OF_PROCESSES = [key for key in USABLE if key != "subint"]
EXECS = ("trio", "mp_spawn", "zygote")
"""Those that can start a program: with options for one the last does."""

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


@pytest.fixture(params=OF_PROCESSES)
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def bare_child(key: str, **changes: Any) -> AsyncIterator[ChildProcess]:
    """A child that nobody answers: it waits for its parent's part of the handshake."""
    backend: SpawnBackend = get_backend(key)
    async with tractor.open_root_actor(start_method=key) as actor, trio.open_nursery() as nursery:
        child = await backend.start(request(actor, **changes), nursery)
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):
                child.kill()
                await child.wait()
                await child.aclose()


def request(actor: tractor.Actor, **changes: Any) -> SpawnRequest:
    values: dict[str, Any] = {
        "name": "bare",
        "uuid": "0f" * 16,
        "parent_addr": actor.accept_addrs[0],
        "authkey": wire_settings().authkey,
        **changes,
    }
    return SpawnRequest(**values)


# -- the process --


def test_an_actor_serves_and_ends(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            portal = await an.start_actor("served", enable_modules=HERE)
            assert await portal.run(ep_backends.add, one=1, two=2) == 3
            assert portal.chan.aid is not None
            (record,) = an.children.values()
            assert record.pid == portal.chan.aid.pid == await portal.run(ep_backends.pid)
            await portal.cancel_actor()

    run(main)


def test_the_status_of_a_signal_is_negative(key: str) -> None:
    async def main() -> None:
        for act, status in (("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)):
            async with bare_child(key) as child:
                assert child.returncode is None
                assert str(child.pid) in repr(child)
                # Stopped, it can't have a handler for SIGTERM any more than it has at the start.
                getattr(child, act)()
                status_seen = await child.wait()
                assert child.returncode == status_seen
                assert status_seen in (status, 0, 1), "a child that was up goes by itself"
                if act == "kill":
                    assert status_seen == status
                child.terminate()
                child.kill()

    run(main)


@pytest.mark.parametrize(("way", "status"), [("exit", 3), ("signal", -9)])
def test_an_unexpected_end_is_told_with_its_status(key: str, way: str, status: int) -> None:
    async def main() -> None:
        async def lose() -> None:
            async with tractor.open_nursery(start_method=key) as an:
                portal = await an.start_actor("leaver", enable_modules=HERE)
                with pytest.raises(tractor.TransportClosed):
                    await portal.run(ep_backends.leave_by, way=way)
                await trio.sleep_forever()

        with pytest.raises(tractor.ActorFailure) as info:
            await lose()
        assert info.value.returncode == status

    run(main)


def test_many_tasks_wait_and_a_wait_can_be_cancelled(key: str) -> None:
    async def main() -> None:
        seen: list[int | None] = []

        async def wait(child: ChildProcess) -> None:
            seen.append(await child.wait())

        async with bare_child(key) as child, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait, child)
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.move_on_after(0) as scope:
                await child.wait()
            assert scope.cancelled_caught
            assert child.returncode is None
            child.kill()
        assert seen == [-9, -9, -9]

    run(main)


def test_a_stopped_child_can_be_killed(key: str) -> None:
    async def main() -> None:
        async with bare_child(key) as child:
            os.kill(child.pid, signal.SIGSTOP)
            child.kill()
            assert await child.wait() == -9

    run(main)


def test_the_lifeline_ends_a_child(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            portal = await an.start_actor("held", enable_modules=HERE)
            assert await portal.run(ep_backends.add, one=1, two=1) == 2
            ((_, child),) = an._children.living.items()
            assert child.process is not None
            portal.chan.cancel_called = True
            child.note_cancel_request()
            child.process.release_lifeline()
            child.process.release_lifeline()
            await child.exited.wait()

    run(main)


@needs_proc
def test_the_command_line_is_for_people_and_has_no_key(key: str) -> None:
    async def main() -> None:
        async with bare_child(key, authkey=b"secret" * 6) as child:
            assert "tractor._child" in child.cmdline
            assert "bare" in child.cmdline
            assert "secret" not in child.cmdline
            with open(f"/proc/{child.pid}/cmdline", "rb") as real:
                assert b"secret" not in real.read()
            with open(f"/proc/{child.pid}/environ", "rb") as real:
                assert b"secret" not in real.read()

    run(main)


# -- starts that fail --


def test_an_early_death_tells_what_it_said(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            with pytest.raises(tractor.ActorFailure) as info:
                await an.start_actor("dies", enable_modules=["ep_supervise_dies"])
            assert info.value.returncode == 7
            assert "the last word of ep_supervise_dies" in info.value.stderr_tail
            portal = await an.start_actor("next", enable_modules=HERE)
            assert await portal.run(ep_backends.add, one=2, two=2) == 4
            await portal.cancel_actor()

    run(main)


def test_a_parent_that_is_not_there_is_told_on_stderr(key: str) -> None:
    async def main() -> None:
        async with bare_child(key, parent_addr=("127.0.0.1", 1)) as child:
            assert await child.wait() == 1
            await child.drain_stderr()
            assert "Traceback" in child.stderr_tail()

    run(main)


def test_a_cancelled_start_leaves_no_process(key: str) -> None:
    """Whatever the moment: before, during or after the process comes to life."""

    async def main() -> None:
        async def late(delay: float) -> None:
            with trio.move_on_after(delay):
                await an.start_actor("late")

        async with tractor.open_nursery(start_method=key) as an:
            # Alone, and among others that do the same.
            await late(0.03)
            async with trio.open_nursery() as starters:
                for delay in (0.0, 0.002, 0.005, 0.01, 0.03, 0.1):
                    starters.start_soon(late, delay)
            await an.cancel()

    run(main)


def test_a_nursery_that_takes_no_more_tasks_leaves_no_process(key: str) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(start_method=key) as actor:
            async with trio.open_nursery() as closed:
                pass
            with pytest.raises(RuntimeError, match="closed"):
                await get_backend(key).start(request(actor), closed)

    run(main)


@pytest.mark.parametrize("key", [k for k in OF_PROCESSES if k in EXECS])
def test_options_of_popen_reach_the_process(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            with pytest.raises(TypeError, match="no_such"):
                await an.start_actor("x", proc_kwargs={"no_such": 1})
            portal = await an.start_actor(
                "x", enable_modules=HERE, proc_kwargs={"cwd": "/", "stdout": 2}
            )
            assert await portal.run(ep_backends.add, one=0, two=0) == 0
            (record,) = an.children.values()
            if sys.platform == "linux":
                assert os.readlink(f"/proc/{record.pid}/cwd") == "/"
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("key", [k for k in OF_PROCESSES if k not in EXECS])
def test_options_that_a_backend_has_not_are_refused(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            with pytest.raises(ValueError, match="cwd"):
                await an.start_actor("x", proc_kwargs={"cwd": "/"})
            assert not an.children

    run(main)


# -- what reaches the child --


@pytest.mark.parametrize("key", USABLE)
def test_settings_reach_the_child(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            start_method=key, authkey=b"0123456789abcdef", max_frame_size=2**20, loglevel="error"
        ) as an:
            portal = await an.start_actor("told", enable_modules=HERE, loglevel="cancel")
            told = await portal.run(ep_backends.describe)
            assert told["name"] == "told"
            assert told["loglevel"] == 22
            assert told["start_method"] == key
            assert told["vars"]["_max_frame_size"] == 2**20
            assert told["vars"]["_is_root"] is False
            assert told["vars"]["_registry_addrs"] == [
                list(a) for a in runtime_vars()._registry_addrs
            ]
            await portal.cancel_actor()

    run(main)


def test_a_tcp_child_holds_the_key(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            start_method=key,
            enable_transports=["tcp"],
            registry_addrs=[get_rando_addr("tcp")],
            authkey=os.urandom(32),
        ) as an:
            portal = await an.start_actor("keyed", enable_modules=HERE)
            assert await portal.run(ep_backends.add, one=5, two=5) == 10
            await portal.cancel_actor()

    run(main)


@needs_proc
def test_a_child_has_no_descriptor_of_ours(key: str) -> None:
    async def main() -> None:
        leak = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(leak, True)
        read_fd, write_fd = os.pipe()
        ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in (read_fd,)}
        async with tractor.open_nursery(start_method=key) as an:
            sibling = await an.start_actor("sibling")
            portal = await an.start_actor("bare", enable_modules=HERE)
            theirs = await portal.run(ep_backends.descriptors)
            mine = await ep_backends.descriptors()
            tie = set(known.fds()) if (known := current_tie()) else set[int]()
            await sibling.cancel_actor()
            await portal.cancel_actor()
        os.close(read_fd)
        os.close(write_fd)
        os.close(leak)
        assert not ours & set(theirs.values())
        # Pipes and sockets have names of their own; the child's boot pipe, that of multiprocessing's resource tracker,
        # and what the fork server holds, are both ends' business; what leads to the zygote is that of all actors.
        shared = {
            name
            for fd, name in theirs.items()
            if int(fd) > 2 and name in mine.values() and name.startswith(("pipe", "socket"))
            if int(fd) not in tie
        }
        assert all(name.startswith("pipe") for name in shared)
        assert len(shared) <= (4 if key.startswith("mp_") else 2), shared

    run(main)


# -- trees --


@pytest.mark.parametrize("key", USABLE)
def test_subactors_of_subactors_are_started_likewise(key: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            portal = await an.start_actor("level3", enable_modules=HERE)
            chain = await portal.run(ep_backends.grow, depth=2)
            assert [method for _, method in chain] == [key] * 3
            assert len({pid for pid, _ in chain}) == (1 if key == "subint" else 3)
            await portal.cancel_actor()

    run(main)


def test_the_environment_beats_what_is_handed_down(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=key) as an:
            portal = await an.start_actor("level1", enable_modules=HERE)
            assert (await portal.run(ep_backends.describe))["start_method"] == key
            await portal.cancel_actor()

    other = next(k for k in OF_PROCESSES if k != key)
    monkeypatch.setenv("TRACTOR_SPAWN_METHOD", key)

    async def beaten() -> None:
        async with tractor.open_nursery(start_method=other) as an:
            portal = await an.start_actor("level1", enable_modules=HERE)
            assert (await portal.run(ep_backends.describe))["start_method"] == key
            await portal.cancel_actor()

    run(main)
    run(beaten)


def test_many_at_once(key: str, repeats: Callable[[int, int], int]) -> None:
    # Those that are interpreters of their own take ten times as long to start.
    number = repeats(6, 30) if key in ("trio", "mp_spawn") else 30

    async def main() -> None:
        pids: set[int] = set()
        async with tractor.open_nursery(start_method=key) as an:

            async def start(each: int) -> None:
                portal = await an.start_actor(f"a{each}", enable_modules=HERE)
                pids.add(await portal.run(ep_backends.pid))

            async with trio.open_nursery() as starters:
                for each in range(number):
                    starters.start_soon(start, each)
            assert len(pids) == len(an.children) == number
            await an.cancel()

    run(main)
