"""The zygote: a fork of it is like a process of its own, and its end is nobody else's."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import ep_zygote
import pytest
import trio
from ep_run import run

import tractor
from tractor.process._stat import ProcessId, is_below, pid_alive
from tractor.spawn import usable_start_methods
from tractor.spawn.zygote._backend import BACKEND

pytestmark = [
    pytest.mark.skipif("zygote" not in usable_start_methods(), reason="needs Linux with pidfds"),
    pytest.mark.usefixtures("arguments_count"),
]

HERE = ["ep_zygote"]


@pytest.fixture
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


def test_one_forks_for_the_whole_tree_and_ends_with_it() -> None:
    async def main() -> int:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            other = await an.start_actor("other", enable_modules=HERE)
            found = [*await portal.run(ep_zygote.chain, depth=2), await other.run(ep_zygote.pids)]
            (zygote,) = {ppid for _, ppid in found}
            assert zygote not in {os.getpid(), *(pid for pid, _ in found)}
            assert len({pid for pid, _ in found}) == 4
            await an.cancel()
        return zygote

    assert not pid_alive(run(main))


def test_auto_is_the_zygote_where_there_can_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="auto") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            assert (await portal.run(ep_zygote.pids))[1] != os.getpid()

            def is_none() -> None:
                raise RuntimeError("no zygote here")

            monkeypatch.setattr(BACKEND, "is_available", is_none)
            other = await an.start_actor("other", enable_modules=HERE)
            assert (await other.run(ep_zygote.pids))[1] == os.getpid()
            await an.cancel()

    run(main)


def test_who_ordered_a_process_is_above_it() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            one = await an.start_actor("one", enable_modules=HERE)
            other = await an.start_actor("other", enable_modules=HERE)
            (mine, zygote), (others, _) = (
                await one.run(ep_zygote.pids),
                await other.run(ep_zygote.pids),
            )
            for pid in (mine, others):
                assert is_below(ProcessId.of(pid), os.getpid())
                assert not is_below(ProcessId.of(pid), zygote), "it forks, and is nobody's parent"
            assert not is_below(ProcessId.of(others), mine)
            await an.cancel()

    run(main)


def test_a_fork_gets_what_a_program_would_get(tmp_path: Path) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("middle", enable_modules=HERE)
            found = await portal.run(ep_zygote.after_changes, where=str(tmp_path))
            await portal.cancel_actor()
        execd, forked = found["trio"], found["zygote"]
        assert (execd.pop("forked"), forked.pop("forked")) == (False, True)
        assert forked == execd
        assert forked["cwd"] == str(tmp_path)
        assert forked["environment"][b"ADDED"] == "ä".encode()

    run(main)


@pytest.mark.parametrize("end", [3, -signal.SIGKILL])
def test_the_status_is_the_process_s_own(end: int) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            pid, _ = await portal.run(ep_zygote.pids)
            if end < 0:
                os.kill(pid, -end)
            else:
                await portal.run(ep_zygote.leave, status=end)
            await trio.sleep_forever()

    with pytest.raises((tractor.TransportClosed, tractor.ActorFailure)) as caught:
        run(main)
    assert "exit code 3" in str(caught.value) or "SIGKILL" in str(caught.value)


def test_without_it_actors_go_on_and_new_ones_are_execd(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            pid, zygote = await portal.run(ep_zygote.pids)
            assert zygote != os.getpid()
            os.kill(zygote, signal.SIGKILL)
            with caplog.at_level(logging.WARNING, "tractor"):
                # The zygote is not waited for: it may still be there at this moment.
                while (await _parent_of_new(an, "new"))[1] != os.getpid():
                    await trio.sleep(0.01)
            assert "is exec'd, not forked: the zygote is gone" in caplog.text
            while (await portal.run(ep_zygote.chain, depth=1))[1][1] != pid:
                await trio.sleep(0.01)
            await portal.cancel_actor()
            await an.cancel()

    run(main)


async def _parent_of_new(an: tractor.ActorNursery, name: str) -> tuple[int, int]:
    portal = await an.start_actor(name, enable_modules=HERE)
    found = await portal.run(ep_zygote.pids)
    await portal.cancel_actor()
    return found


def test_one_that_does_not_answer_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            _, zygote = await portal.run(ep_zygote.pids)
            assert zygote != os.getpid()
            os.kill(zygote, signal.SIGSTOP)
            with caplog.at_level(logging.WARNING, "tractor"):
                _, parent = await _parent_of_new(an, "new")
            assert parent == os.getpid()
            assert "has not answered within 1" in caplog.text
            os.kill(zygote, signal.SIGCONT)
            # What nobody waits for any more is not forked.
            _, parent = await _parent_of_new(an, "next")
            while parent != zygote:
                _, parent = await _parent_of_new(an, "next")
            pid, _ = await portal.run(ep_zygote.pids)
            with trio.fail_after(30):
                while _children_of(zygote) != {pid}:
                    await trio.sleep(0.01)
            await an.cancel()

    run(main)


def _children_of(pid: int) -> set[int]:
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_start_that_is_cancelled_leaves_nobody() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE)
            pid, zygote = await portal.run(ep_zygote.pids)
            for wait in range(12):
                with trio.move_on_after(wait * 0.001):
                    await an.start_actor(f"x{wait}", enable_modules=HERE)
            # Those that were up in time are the nursery's.
            with trio.fail_after(30):
                while _children_of(zygote) != {pid, *(child.pid for child in an.children.values())}:
                    await trio.sleep(0.01)
            await an.cancel()

    run(main)


def test_options_of_a_program_and_another_group_mean_a_program() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            portal = await an.start_actor("one", enable_modules=HERE, proc_kwargs={"cwd": "/"})
            _, parent = await portal.run(ep_zygote.pids)
            assert parent == os.getpid()
            await an.cancel()

    run(main)


ALONE = """
import os, sys, trio, tractor, ep_zygote

async def main():
    async with tractor.open_nursery(start_method="zygote") as an:
        first = await an.start_actor("first", enable_modules=["ep_zygote"])
        _, zygote = await first.run(ep_zygote.pids)
        os.setpgid(0, 0)
        second = await an.start_actor("second", enable_modules=["ep_zygote"])
        _, parent = await second.run(ep_zygote.pids)
        print(zygote != parent == os.getpid())
        await an.cancel()

if __name__ == "__main__":
    trio.run(main)
"""


def test_a_process_that_has_left_its_group_starts_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env={**os.environ, "PYTHONPATH": str(Path(ep_zygote.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_what_the_user_forks_off_orders_nothing() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote") as an:
            await an.start_actor("one", enable_modules=HERE)
            read_fd, write_fd = os.pipe()
            pid = os.fork()
            if pid == 0:
                from tractor.spawn.zygote._tie import current_tie

                os.write(write_fd, b"none" if current_tie() is None else b"some")
                os._exit(0)
            os.waitpid(pid, 0)
            assert os.read(read_fd, 4) == b"none"
            os.close(read_fd)
            os.close(write_fd)
            # It was not its to end.
            again = await an.start_actor("again", enable_modules=HERE)
            assert (await again.run(ep_zygote.pids))[1] != os.getpid()
            await an.cancel()

    run(main)


# -- what it is to load --


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the program imports from."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy_one.py").write_text("import os\nPID = os.getpid()\n")
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / "threaded_one.py").write_text(
        "import os, threading, time\nPID = os.getpid()\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    return tmp_path


def test_what_is_preloaded_is_there_in_each_fork(
    modules: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["heavy_one", "broken_one"]

    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote", preload=names) as an:
            one = await an.start_actor("one", enable_modules=HERE)
            ((pid, zygote),) = [await one.run(ep_zygote.pids)]
            assert zygote != os.getpid()
            assert await one.run(ep_zygote.loaded, names=names) == {
                "heavy_one": zygote,
                "broken_one": None,
            }
            assert pid != zygote
            await an.cancel()
        # Not of the next tree.
        async with tractor.open_nursery(start_method="zygote") as an:
            one = await an.start_actor("one", enable_modules=HERE)
            assert await one.run(ep_zygote.loaded, names=names) == dict.fromkeys(names)
            await an.cancel()

    run(main)
    assert "heavy_one" not in sys.modules
    told = capfd.readouterr().err
    assert "the zygote can't preload 'broken_one'" in told
    assert "RuntimeError: not today" in told


def test_a_preloaded_module_with_a_thread_has_subactors_execd(
    modules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method="zygote", preload=["threaded_one"]) as an:
            one = await an.start_actor("one", enable_modules=HERE)
            assert (await one.run(ep_zygote.pids))[1] == os.getpid()
            assert await one.run(ep_zygote.loaded, names=["threaded_one"]) == {"threaded_one": None}
            await an.cancel()

    with caplog.at_level(logging.WARNING, logger="tractor"):
        run(main)
    assert "'threaded_one', which it was to preload, has started a thread" in caplog.text


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("numpy", TypeError, "`preload` must be a list of module names, not the string 'numpy'"),
        ([1], TypeError, "`preload` must be a list of module names"),
        (["__main__"], ValueError, "'__main__' is the program"),
    ],
)
def test_preload_takes_names_of_modules(given: object, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(preload=given):  # type: ignore[arg-type]
            raise AssertionError("not reached")

    with pytest.raises(error, match=text):
        run(main)
