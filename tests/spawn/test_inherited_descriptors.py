"""What a parent's objects own is never, in an actor that was forked off, a descriptor of that actor's own."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import ep_inherited
import pytest
import trio

import tractor
from tractor.spawn import fork_from_worker_thread, wait_child
from tractor.spawn.fork._descriptors import close_descriptors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() on this platform")

HERE = ["ep_inherited"]
KEY = "main_thread_forkserver"


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(50):
            await main()

    trio.run(bounded)


@contextlib.asynccontextmanager
async def owners(folder: Path) -> Any:
    """Objects of each kind; what was written into files is there once when they are closed."""
    files = await ep_inherited.make_owners(folder)
    try:
        yield
    finally:
        for kind in list(ep_inherited.owners):
            processes = [p for p in ep_inherited.owners[kind] if kind == "Popen"]
            ep_inherited.end(kind, "closed")
            for process in processes:
                process.wait()
    assert [file.read_text() for file in files] == [ep_inherited.TEXT] * len(files)


@pytest.mark.parametrize("endpoint", [ep_inherited.end_all, ep_inherited.end_all_below])
@pytest.mark.parametrize("how", ["dropped", "in a cycle", "closed"])
def test_no_end_of_a_parents_object_closes_an_actors_own_descriptor(
    how: str, endpoint: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        async with owners(tmp_path), tractor.open_nursery(start_method=KEY) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            assert await portal.run(endpoint, how=how) == []
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("kind", ["WakeupSocketpair", "pair", "FdStream"])
def test_an_end_in_the_midst_of_a_fork_takes_no_pipe_from_the_child(
    kind: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with owners(tmp_path), tractor.open_nursery(start_method=KEY) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            assert await portal.run(ep_inherited.lose_some_in_a_fork, kind=kind) > 0
            await portal.cancel_actor()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no O_PATH")
def test_what_a_parent_has_opened_is_closed_to_an_actor(tmp_path: Path) -> None:
    async def main() -> None:
        async with owners(tmp_path), tractor.open_nursery(start_method=KEY) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            told = await portal.run(ep_inherited.use_all)
            assert told == dict.fromkeys(
                ["file", "raw file", "socket", "number"], "Bad file descriptor"
            )
            await portal.cancel_actor()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_actor_has_no_number_taken_for_each_of_its_siblings() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            taken = []
            for number in range(4):
                portal = await an.start_actor(f"a{number}", enable_modules=HERE)
                taken.append((await portal.run(ep_inherited.numbers_taken)).count(os.devnull))
            await an.cancel()
        assert taken[1] == taken[3], taken

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_user_code_forks_off_holds_nothing_that_watches_an_actor() -> None:
    def pidfds() -> int:
        links = trio.run(ep_inherited.numbers_taken)
        return links.count("anon_inode:[pidfd]")

    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            await an.start_actor("child")
            assert (await ep_inherited.numbers_taken()).count("anon_inode:[pidfd]") == 1
            ok, text = wait_child(fork_from_worker_thread(pidfds))
            assert ok, text
            await an.cancel()

    run(main)


# -- the limit of what may stay taken --


def in_a_fork(target: Callable[[], None]) -> None:
    ok, text = wait_child(fork_from_worker_thread(target))
    assert ok, text


@contextlib.contextmanager
def limit(numbers: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (numbers, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def free_numbers() -> int:
    """How many descriptors can be opened; they stay open."""
    for number in range(10_000):
        try:
            os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return number
    raise AssertionError("there is no limit")


def free_after(numbers: int, dropped: list[Any]) -> int:
    """In a fork: how many numbers there are, and that they stay one's own when objects of the parent's end."""
    with limit(numbers):
        close_descriptors(())
        free = free_numbers()
        dropped.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        # What ends has given no number back that it did not own.
        assert free_numbers() <= numbers - 3 - free
    for fd in range(3, numbers):
        os.fstat(fd)
    return free


def test_many_files_and_sockets_leave_their_numbers() -> None:
    held: list[Any] = [socket.socket() for _ in range(60)]
    held += [open(os.devnull, "w") for _ in range(60)]  # noqa: SIM115

    def child() -> None:
        files = held[60:]
        assert free_after(256, held) >= 192 - 3
        assert all(file.closed for file in files)

    in_a_fork(child)
    for owner in held:
        assert owner.fileno() > 2
        owner.close()


def test_many_numbers_of_unknown_owners_are_freed_and_their_objects_live_on() -> None:
    held = [ep_inherited.Handle() for _ in range(100)]
    in_a_fork(lambda: None if free_after(256, held) == 253 else sys.exit(1))
    for owner in held:
        os.fstat(owner.fd)
        owner.close()


def test_numbers_above_a_lowered_limit_are_closed() -> None:
    low = os.open(os.devnull, os.O_RDONLY)
    high = os.dup2(low, 300)

    def child() -> None:
        with limit(256):
            close_descriptors((low,))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(high)
        os.fstat(low)

    in_a_fork(child)
    os.close(high)
    os.close(low)


def test_without_a_null_device_all_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [ep_inherited.Handle()]
    fd = held[0].fd

    def child() -> None:
        monkeypatch.setattr(os, "devnull", "/nowhere")
        close_descriptors(())
        monkeypatch.undo()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        os.dup2(0, fd)
        held.clear()
        os.fstat(fd)

    in_a_fork(child)
    held[0].close()
