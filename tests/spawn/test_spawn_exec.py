from __future__ import annotations

import ast
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tractor import spawn
from tractor.spawn._contract import ChildProcess, SpawnRequest, release_all_lifelines
from tractor.spawn._exec import ExecBackend, ExecProcess

SRC = str(Path(spawn.__file__).parents[2])

CHILD = """
import os, signal, sys, time
from tractor.spawn._boot import read_boot_record, restore_stderr
# Blocked by the parent until the child can handle them.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
from tractor.spawn._lifeline import Lifeline
def main(argv):
    fd = int(argv[argv.index("--boot_fd") + 1])
    mode = os.environ.get("MODE", "serve")
    if mode == "die":
        os.write(2, b"cannot " + b"x" * 20000 + b"begin")
        os._exit(3)
    record = read_boot_record(fd)
    if mode == "handover":
        sys.stderr.write("before")
        restore_stderr(record)
        os.write(2, b"after")
    if mode == "wait_eof":
        while os.read(fd, 1):
            pass
        os._exit(0)
    if mode == "report":
        fds = sorted(map(int, os.listdir("/proc/self/fd")))
        real = [n for n in fds if os.path.exists(f"/proc/self/fd/{n}")]
        print(repr({"argv": argv, "key": record.authkey, "fds": real, "fd": fd,
            "stderr_fd": record.stderr_fd, "pgid": os.getpgid(0), "ppid": record.parent_pid,
            "path": sys.path, "inheritable": os.get_inheritable(fd), "cwd": os.getcwd()}), flush=True)
        os._exit(0)
    lifeline = Lifeline(fd, lambda: None, grace=0.0)
    print("ready", flush=True)
    time.sleep(600)
"""


def request(**proc_kwargs: Any) -> SpawnRequest:
    return SpawnRequest(
        name="o'neil",
        uuid="0f" * 18,
        parent_addr=("/run/x", "a@1.sock"),
        authkey=b"k" * 32,
        proc_kwargs=proc_kwargs,
    )


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecBackend]:
    (tmp_path / "stand_in.py").write_text(CHILD)
    # The child finds it, and the package, by nothing but this path.
    monkeypatch.setattr(sys, "path", [str(tmp_path), SRC, *sys.path])
    before = len(os.listdir("/dev/fd"))
    yield ExecBackend("stand_in")
    assert len(os.listdir("/dev/fd")) == before


@pytest.fixture
def env() -> Callable[[str], dict[str, str]]:
    def make(mode: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": "", "MODE": mode}

    return make


Env = Callable[[str], dict[str, str]]


def run(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def outer() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await main(nursery)

    trio.run(outer)


async def finish(process: ExecProcess) -> None:
    process.kill()
    await process.wait()
    await process.aclose()


def test_satisfies_the_contract() -> None:
    process: type[ChildProcess] = ExecProcess
    assert process is ExecProcess


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_child_gets_its_arguments_key_and_descriptors_only(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        leak = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(leak, True)
        mine = os.dup(leak)
        out_r, out_w = os.pipe()
        wanted = SpawnRequest(
            name="o'neil",
            uuid="0f" * 18,
            parent_addr=("/run/x", "a@1.sock"),
            loglevel="info",
            infect_asyncio=True,
            authkey=b"k" * 32,
            proc_kwargs={"env": env("report"), "stdout": out_w, "pass_fds": (mine,), "cwd": "/"},
        )
        process = await backend.start(wanted, nursery)
        os.close(out_w)
        assert await process.wait() == 0
        with open(out_r, "rb") as out:
            seen = ast.literal_eval(out.read().decode())
        os.close(leak)
        argv = seen["argv"]
        assert argv[0] == "--uid"
        assert ast.literal_eval(argv[1]) == ("o'neil", "0f" * 18)
        assert argv[2] == "--parent_addr"
        assert ast.literal_eval(argv[3]) == ("/run/x", "a@1.sock")
        assert argv[4:] == ["--loglevel", "info", "--asyncio", "--boot_fd", str(seen["fd"])]
        assert seen["key"] == b"k" * 32
        assert b"k" * 32 not in process.cmdline.encode()
        assert set(seen["fds"]) == {0, 1, 2, seen["fd"], seen["stderr_fd"], mine}
        assert seen["pgid"] == os.getpgid(0)
        assert seen["ppid"] == os.getpid()
        assert not seen["inheritable"]
        assert seen["cwd"] == "/"
        assert shlex.split(process.cmdline)[-2:] == argv[-2:]
        os.close(mine)
        await process.aclose()

    run(main)


@pytest.mark.parametrize("importable", [False, True])
def test_child_imports_from_the_working_directory_only_if_we_do(
    backend: ExecBackend,
    env: Env,
    importable: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    stray = tmp_path / "stray"
    stray.mkdir()
    monkeypatch.chdir(stray)
    path = [entry for entry in sys.path if entry]
    monkeypatch.setattr(sys, "path", [*path, str(stray)] if importable else path)

    async def main(nursery: trio.Nursery) -> None:
        out_r, out_w = os.pipe()
        process = await backend.start(request(env=env("report"), stdout=out_w), nursery)
        os.close(out_w)
        assert await process.wait() == 0
        with open(out_r, "rb") as out:
            seen = ast.literal_eval(out.read().decode())
        assert (str(stray) in seen["path"]) is importable
        await process.aclose()

    run(main)


def test_death_before_boot_is_told_at_once_with_the_end_of_stderr(
    backend: ExecBackend, env: Env, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await backend.start(request(env=env("die")), nursery)
        assert await process.wait() == 3
        assert process.returncode == 3
        await process.drain_stderr()
        assert process.stderr_tail() == ("x" * 20000 + "begin")[-16 * 1024 :]
        process.terminate()
        process.kill()
        await process.aclose()
        await process.aclose()

    run(main)
    assert capfd.readouterr().err == "cannot " + "x" * 20000 + "begin"


def test_capture_ends_at_the_hand_over(
    backend: ExecBackend, env: Env, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        out_r, out_w = os.pipe()
        process = await backend.start(request(env=env("handover"), stdout=out_w), nursery)
        os.close(out_w)
        await trio.lowlevel.wait_readable(out_r)
        os.close(out_r)
        # The child lives, and yet the relay sees the end of file.
        assert process._capture is not None
        assert process._capture._relayed is not None
        await process._capture._relayed.wait()
        assert process.stderr_tail() == "before"
        assert process.returncode is None
        await finish(process)

    run(main)
    assert sorted(capfd.readouterr().err.split("before")) == ["", "after"]


def test_tail_is_whole_even_if_the_relay_was_cancelled(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as inner:
            inner.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                process = await backend.start(request(env=env("die")), inner)
        assert await process.wait() == 3
        await process.drain_stderr()
        assert process.stderr_tail().endswith("xbegin")
        await process.aclose()

    run(main)


def test_aclose_ends_a_relay_that_a_live_child_keeps_open(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await backend.start(request(env=env("serve"), stdout=subprocess.DEVNULL), nursery)
        await process.aclose()
        await finish(process)

    run(main)


def test_own_stderr_argument_means_no_capture(
    backend: ExecBackend, env: Env, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await backend.start(request(env=env("die"), stderr=subprocess.DEVNULL), nursery)
        assert await process.wait() == 3
        await process.drain_stderr()
        assert process.stderr_tail() == ""
        await process.aclose()

    run(main)
    assert capfd.readouterr().err == ""


def test_many_tasks_wait_and_some_are_cancelled(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await backend.start(request(env=env("serve"), stdout=subprocess.DEVNULL), nursery)
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await process.wait())

        async with trio.open_nursery() as waiters:
            with trio.move_on_after(0.01) as scope:
                # The first one holds the watch; its cancellation hands it on.
                async with trio.open_nursery() as cancelled:
                    cancelled.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
                    for _ in range(3):
                        waiters.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
            assert scope.cancelled_caught
            assert codes == []
            process.terminate()
        assert codes == [-signal.SIGTERM] * 3
        assert await process.wait() == -signal.SIGTERM
        await process.aclose()

    run(main)


def test_stopped_child_can_be_killed(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await backend.start(request(env=env("serve"), stdout=subprocess.DEVNULL), nursery)
        os.kill(process.pid, signal.SIGSTOP)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        await process.aclose()

    run(main)


def test_each_lifeline_is_its_own(backend: ExecBackend, env: Env) -> None:
    async def main(nursery: trio.Nursery) -> None:
        made: list[ExecProcess] = []

        async def start() -> None:
            made.append(await backend.start(request(env=env("wait_eof")), nursery))

        async with trio.open_nursery() as starts:
            for _ in range(3):
                starts.start_soon(start)
        first, second, third = made
        first.release_lifeline()
        # Would wait for ever if a sibling had inherited the write end.
        assert await first.wait() == 0
        assert second.returncode is None
        release_all_lifelines()
        assert await second.wait() == await third.wait() == 0
        for process in made:
            process.release_lifeline()
            await process.aclose()

    run(main)


def test_many_starts_at_once(
    backend: ExecBackend, env: Env, repeats: Callable[[int, int], int]
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        codes: list[int] = []

        async def one() -> None:
            process = await backend.start(request(env=env("wait_eof")), nursery)
            process.release_lifeline()
            codes.append(await process.wait())
            await process.aclose()

        async with trio.open_nursery() as starts:
            for _ in range(repeats(10, 30)):
                starts.start_soon(one)
        assert codes == [0] * repeats(10, 30)

    run(main)


@pytest.mark.parametrize(
    ("proc_kwargs", "error"),
    [
        ({"cwd": "/no/such/directory"}, FileNotFoundError),
        ({"no_such_argument": 1}, TypeError),
        ({"env": {"a=b": "c"}}, ValueError),
    ],
)
def test_failed_start_leaves_nothing(
    backend: ExecBackend, proc_kwargs: dict[str, Any], error: type[Exception]
) -> None:
    async def main(nursery: trio.Nursery) -> None:
        with pytest.raises(error):
            await backend.start(request(**proc_kwargs), nursery)
        assert not nursery.child_tasks

    run(main)


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_closed_nursery_and_cancelled_caller_leave_no_process(
    backend: ExecBackend, env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    real = subprocess.Popen

    class Recorded(real):  # type: ignore[valid-type, misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            pids.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Recorded)

    async def main(nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as closed:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await backend.start(request(env=env("serve")), closed)
        assert len(pids) == 1
        with pytest.raises(ChildProcessError):
            os.waitpid(pids[0], os.WNOHANG)
        with trio.CancelScope() as scope:
            scope.cancel()
            await backend.start(request(env=env("serve")), nursery)
        assert scope.cancelled_caught
        assert len(pids) == 1

    run(main)


def test_unavailable_without_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        ExecBackend().is_available()
