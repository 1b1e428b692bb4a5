"""The primitives of forking, and what a forked actor must not have of its parent."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ep_backends
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor.spawn import ForkedProc, fork_from_worker_thread, wait_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() on this platform")

HERE = ["ep_backends"]
KEY = "main_thread_forkserver"


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


# -- the primitives --


def test_a_child_without_a_target_ends_at_once() -> None:
    pid = fork_from_worker_thread()
    assert pid != os.getpid()
    ok, text = wait_child(pid)
    assert ok
    assert text == f"process {pid} exited with status 0"


def raises() -> int:
    raise ZeroDivisionError("in the child")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (lambda: None, 0),
        (lambda: 7, 7),
        (raises, 1),
        (lambda: sys.exit(5), 5),
        (lambda: sys.exit(), 0),
        (lambda: sys.exit("words"), 1),
    ],
)
def test_the_target_says_the_status(
    target: Callable[[], int | None], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ok, text = wait_child(fork_from_worker_thread(target), expect_exit_ok=status == 0)
    assert ok
    assert text.endswith(f"status {status}")
    if target is raises:
        assert "ZeroDivisionError: in the child" in capfd.readouterr().err


def test_what_was_not_expected_is_told() -> None:
    assert wait_child(fork_from_worker_thread(lambda: 3))[0] is False
    assert wait_child(fork_from_worker_thread(), expect_exit_ok=False)[0] is False
    pid = fork_from_worker_thread(lambda: time.sleep(600))
    os.kill(pid, signal.SIGKILL)
    assert wait_child(pid) == (False, f"process {pid} was ended by signal 9 (SIGKILL)")
    ok, text = wait_child(pid)
    assert not ok
    assert "not a child of this process" in text


def test_the_target_runs_in_a_thread_without_a_past() -> None:
    async def in_child() -> int:
        assert threading.current_thread() is threading.main_thread()
        assert threading.active_count() == 1
        assert ep_backends.inherited.get() == "nothing"
        assert tractor.current_actor(err_on_no_runtime=False) is None
        assert tractor.get_runtime_vars() == tractor.get_runtime_vars(clear_values=True)
        assert await trio.to_thread.run_sync(os.getpid) == os.getpid()
        async with tractor.open_nursery(enable_transports=["uds"], start_method="trio"):
            return 42

    async def main() -> None:
        ep_backends.inherited.set("something")
        await trio.to_thread.run_sync(os.getpid)
        async with tractor.open_nursery():
            pid = fork_from_worker_thread(lambda: trio.run(in_child), thread_name="forks")
            ok, text = await trio.to_thread.run_sync(lambda: wait_child(pid, expect_exit_ok=False))
        assert ok
        assert text.endswith("status 42")

    run(main)


def test_watching_a_forked_process() -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        proc = ForkedProc(fork_from_worker_thread(lambda: os.read(read_fd, 1)[0]))
        assert proc.poll() is None
        assert proc.returncode is None
        with trio.move_on_after(0) as scope:
            await proc.wait()
        assert scope.cancelled_caught
        assert proc.poll() is None
        os.write(write_fd, b"\x09")
        assert await proc.wait() == 9
        assert proc.returncode == proc.poll() == 9
        proc.terminate()
        proc.kill()
        os.close(read_fd)
        os.close(write_fd)
        for send in (ForkedProc.terminate, ForkedProc.kill):
            proc = ForkedProc(fork_from_worker_thread(lambda: time.sleep(600)))
            send(proc)
            assert await proc.wait() in (-signal.SIGTERM, -signal.SIGKILL)

    run(main)


def test_a_status_that_other_code_took_is_unknown() -> None:
    proc = ForkedProc(fork_from_worker_thread())
    wait_child(proc.pid)
    assert proc.poll() == 255


def test_a_pid_that_does_not_come_in_time() -> None:
    """`logging` holds forks up while its lock is taken; what is forked later is killed and reaped."""
    before = set(threading.enumerate())
    with logging._lock:  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match=r"not told a pid within 0\.05 s"):
            fork_from_worker_thread(lambda: time.sleep(600), join_timeout=0.05)
        (late,) = set(threading.enumerate()) - before
    late.join()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_fork_that_fails_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise BlockingIOError(11, "out of processes")

    monkeypatch.setattr(os, "fork", no_fork)
    with pytest.raises(OSError, match="out of processes"):
        fork_from_worker_thread()


def test_the_filters_of_warnings_are_as_before() -> None:
    before = list(warnings.filters)
    wait_child(fork_from_worker_thread())
    assert list(warnings.filters) == before


# -- forked actors --


@contextmanager
def busy_parent() -> Iterator[None]:
    """A process with all that a child must not get to feel."""
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    token = ep_backends.inherited.set("something")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ep_backends.inherited.reset(token)
        signal.signal(signal.SIGUSR1, before)
        logging.getLogger().removeHandler(handler)


def test_an_actor_is_like_a_fresh_process() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            told = []
            with busy_parent():
                random.seed(1)
                for name in ("one", "two"):
                    portal = await an.start_actor(name, enable_modules=HERE)
                    told.append(await portal.run(ep_backends.describe))
            await an.cancel()
        one, two = told
        assert one["main_thread"]
        assert not one["daemon"]
        assert one["threads"][0] == "MainThread"
        assert len(one["threads"]) <= 3  # lifeline, and one of trio's for `to_thread`
        assert one["in_thread"]
        assert one["context"] == "nothing"
        assert one["handlers"] == []
        assert one["sigusr1"]
        # The mask is the one of the thread that asked for the actor, as with exec.
        assert one["blocked"] == [signal.SIGUSR2]
        assert one["random"] != two["random"]
        assert one["filters"] == []

    run(main)


def test_locks_and_imports_of_other_threads_are_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread holds a handler's lock, and another one is in the middle of an import, when the fork comes."""
    (tmp_path / "colorsys.py").write_text(
        "import threading\n"
        "gates = getattr(threading, '_gates', None)\n"
        "if gates and threading.current_thread().name == 'importer':\n"
        "    gates[0].set(); gates[1].wait()\n"
        "def rgb_to_hls(*rgb): return rgb\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    started, go_on = gates = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "_gates", gates, raising=False)
    handler = logging.StreamHandler(sys.stderr)
    assert handler.lock is not None
    logging.getLogger().addHandler(handler)
    importer = threading.Thread(target=__import__, args=("colorsys",), name="importer")
    importer.start()
    started.wait()

    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            assert handler.lock is not None
            with handler.lock:
                portal = await an.start_actor("free", enable_modules=HERE)
            assert await portal.run(ep_backends.take_lock)
            await an.cancel()

    try:
        run(main)
    finally:
        go_on.set()
        importer.join()
        logging.getLogger().removeHandler(handler)
        sys.modules.pop("colorsys", None)


def test_finalizers_of_the_parent_do_not_run_in_the_child() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as kept:
            async with tractor.open_nursery(start_method=KEY) as an:
                portal = await an.start_actor("x", enable_modules=HERE)
                own = await portal.run(ep_backends.make_directory)
                await portal.cancel_actor()
            assert os.path.isdir(kept)
            assert not os.path.exists(own), "those of the child do"

    run(main)


PROGRAM = """
import sys, trio, tractor
sys.path.insert(0, {endpoints!r})
import ep_backends
async def main():
    async with tractor.open_nursery(start_method={key!r}) as an:
        print("said once, and not yet flushed", end="")
        portal = await an.start_actor("x", enable_modules=["ep_backends"])
        await portal.run(ep_backends.write_all_streams)
        await an.cancel()
if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize("how", ["script", "module", "command", "stdin"])
def test_what_the_parent_had_buffered_is_written_once(how: str, tmp_path: Path) -> None:
    endpoints = str(Path(ep_backends.__file__).parent)
    code = PROGRAM.format(endpoints=endpoints, key=KEY)
    (tmp_path / "prog.py").write_text(code)
    command = {
        "script": ["prog.py"],
        "module": ["-m", "prog"],
        "command": ["-c", code],
        "stdin": ["-"],
    }[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=code if how == "stdin" else "",
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("said once") == 1
    assert done.stdout.count("out of the child") == 1
    assert done.stderr == "err of the child\n"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"child_sigint": "trio"}, NotImplementedError, "cancelled by message"),
        ({"child_sigint": "other"}, ValueError, "'other'"),
        ({"env": {}}, ValueError, "'env' is unknown"),
        ({"after_fork": "reseed"}, ValueError, "a function without arguments"),
        ({"after_fork": ep_backends.pid}, ValueError, "not async"),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            with pytest.raises(error, match=text):
                await an.start_actor("x", proc_kwargs=options)
            portal = await an.start_actor("x", proc_kwargs={"child_sigint": "ipc"})
            await portal.cancel_actor()

    run(main)


def test_a_hook_runs_in_the_child_after_the_fork() -> None:
    ep_backends.SEEDED.seed(5)

    def reseed() -> None:
        ep_backends.SEEDED.seed(os.urandom(8))

    def fails() -> None:
        raise RuntimeError("no seed is good enough")

    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            drawn = []
            for options in ({}, {}, {"after_fork": reseed}, {"after_fork": reseed}):
                portal = await an.start_actor("x", enable_modules=HERE, proc_kwargs=options)
                drawn.append(await portal.run(ep_backends.draw))
                await portal.cancel_actor()
            # A module's own generator is in the same state in all that were forked.
            assert drawn[0] == drawn[1] == ep_backends.SEEDED.random()
            assert len(set(drawn)) == 3
            with pytest.raises(tractor.ActorFailure) as caught:
                await an.start_actor("y", proc_kwargs={"after_fork": fails})
            assert "no seed is good enough" in caught.value.stderr_tail

    run(main)


def test_other_threads_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    over = threading.Event()
    worker = threading.Thread(target=over.wait, name="the user's own")
    worker.start()

    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY, loglevel="warning") as an:
            # Idle by the time of the fork.
            await trio.to_thread.run_sync(int)
            for _ in range(2):
                portal = await an.start_actor("x")
                await portal.cancel_actor()

    try:
        with caplog.at_level("WARNING", "tractor"):
            run(main)
    finally:
        over.set()
        worker.join()
    (record,) = [r for r in caplog.records if "forking while" in r.message]
    assert '("the user\'s own")' in record.message


def test_a_root_in_a_side_thread_can_fork() -> None:
    seen: list[int] = []

    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            portal = await an.start_actor("x", enable_modules=HERE)
            told = await portal.run(ep_backends.describe)
            assert told["main_thread"]
            seen.append(await portal.run(ep_backends.pid))
            await portal.cancel_actor()

    thread = threading.Thread(target=run, args=(main,))
    thread.start()
    thread.join()
    assert len(seen) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_interrupts_nothing_is_handled(number: signal.Signals) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=KEY) as an:
            portal = await an.start_actor("signalled", enable_modules=HERE)
            with pytest.raises(tractor.ContextCancelled):
                await portal.run(ep_backends.signal_in_another_thread, number=int(number))

    run(main)
