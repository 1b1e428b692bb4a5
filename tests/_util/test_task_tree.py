"""Task trees as text, on demand and on a signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tractor._util import _task_tree
from tractor._util._task_tree import arm_task_dumps, format_here, format_task_tree, format_threads


async def nap() -> None:
    await trio.sleep_forever()


def test_tree_shows_names_places_and_depth() -> None:
    lines: list[str] = []

    async def middle() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(nap, name="leaf")

    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(middle, name="branch")
            await trio.testing.wait_all_tasks_blocked()
            lines.extend(format_task_tree(trio.lowlevel.current_task()))
            tn.cancel_scope.cancel()

    trio.run(main)
    assert len(lines) == 3
    assert "main" in lines[0]
    assert lines[1].startswith("    branch: ")
    assert lines[2].startswith("        leaf: nap:")
    assert " > sleep_forever:" in lines[2]


def test_outside_of_a_run_it_says_so() -> None:
    assert format_here() == "no trio run in this thread\n"


def test_threads_are_shown_without_this_module() -> None:
    ready, done = threading.Event(), threading.Event()

    def wait_here() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait_here, name="worker-seven")
    thread.start()
    ready.wait()
    text = format_threads()
    done.set()
    thread.join()
    assert "thread 'worker-seven':" in text
    assert "in wait_here" in text
    assert "test_threads_are_shown_without_this_module" in text
    assert _task_tree.__file__ not in text


@pytest.fixture
def dump_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "dump.log"
    monkeypatch.setattr(_task_tree, "dump_file", lambda pid: path)
    before = signal.getsignal(signal.SIGUSR1)
    yield path
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
class TestOnSignal:
    def test_dumps_are_appended(self, dump_file: Path) -> None:
        before = arm_task_dumps("('me', 'x')")
        assert before == signal.SIG_DFL

        async def main() -> None:
            async with trio.open_nursery() as tn:
                tn.start_soon(nap, name="the-culprit")
                await trio.testing.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGUSR1)
                tn.cancel_scope.cancel()

        trio.run(main)
        signal.raise_signal(signal.SIGUSR1)
        first, second = dump_file.read_text().split("end-of-('me', 'x')\n")[:2]
        assert first.startswith("start-of-('me', 'x')\n")
        # With full stacks where stackscope is installed.
        assert "the-culprit" in first
        assert "nap" in first
        assert second.startswith("start-of-('me', 'x')\nno trio run")
        assert dump_file.stat().st_mode & 0o777 == 0o600

    def test_no_link_is_followed_and_a_failure_disturbs_nothing(
        self, dump_file: Path, tmp_path: Path
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("precious")
        dump_file.symlink_to(victim)
        arm_task_dumps("me")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert victim.read_text() == "precious"
