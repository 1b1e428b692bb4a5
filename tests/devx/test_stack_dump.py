"""SIGUSR1 dumps the task tree of every actor, parents first."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ep_devx
import pytest
import trio

import tractor
from tractor._tools import TOOL_REQUESTS
from tractor._util import _task_tree
from tractor._util._task_tree import dump_file
from tractor.devx import _stack_dump
from tractor.devx._stack_dump import disarm, enable_stack_on_sig
from tractor.process._proc import expects_signal
from tractor.runtime._vars import reset_runtime_vars
from tractor.testing import get_rando_addr

pytest.importorskip("stackscope")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who waits for a signal")

LIMIT = 10.0


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file in place of the terminal of whoever runs the tests."""
    path = tmp_path / "tty"
    path.touch()
    monkeypatch.setattr(_stack_dump, "TERMINAL", str(path))
    return path


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    own = dump_file(os.getpid())
    own.unlink(missing_ok=True)
    before = signal.getsignal(signal.SIGUSR1)
    yield
    disarm()
    reset_runtime_vars()
    assert signal.getsignal(signal.SIGUSR1) is before
    own.unlink(missing_ok=True)


@pytest.fixture
def reg_addr() -> tuple[str, int]:
    """Nothing here depends on the transport."""
    host, port = get_rando_addr("tcp")
    assert isinstance(port, int)
    return host, port


@pytest.fixture
def own_log() -> Path:
    return dump_file(os.getpid())


@pytest.fixture
def devx_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(17, logger="tractor.devx")
    caplog.set_level(17, logger="tractor")
    return caplog


async def text_of(path: Path, done: Callable[[str], bool]) -> str:
    with trio.fail_after(LIMIT):
        while True:
            text = path.read_text() if path.exists() else ""
            if done(text):
                return text
            await trio.sleep(0.01)


def dumps_in(text: str) -> int:
    return len(re.findall(r"^end-of-", text, re.MULTILINE))


async def nap() -> None:
    await trio.sleep_forever()


def test_arming_says_so_once_and_gives_the_module(devx_log: pytest.LogCaptureFixture) -> None:
    module = enable_stack_on_sig()
    assert module is not None
    assert module.__name__ == "stackscope"
    handler = signal.getsignal(signal.SIGUSR1)
    assert enable_stack_on_sig() is module
    assert signal.getsignal(signal.SIGUSR1) is handler
    said = [r.getMessage() for r in devx_log.records]
    assert said.count("Enabling trace-trees on `SIGUSR1`") == 1
    assert [r.levelno for r in devx_log.records if "trace-trees" in r.getMessage()] == [17]


def test_outside_of_a_run_the_dump_is_made_at_once(own_log: Path, no_terminal: Path) -> None:
    enable_stack_on_sig()
    signal.raise_signal(signal.SIGUSR1)
    text = own_log.read_text()
    assert "no trio run in this thread" in text
    assert "test_outside_of_a_run_the_dump_is_made_at_once" in text
    assert f"tail -f {own_log}" in text.partition("start-of-")[0]
    assert own_log.stat().st_mode & 0o777 == 0o600
    assert no_terminal.read_text().replace("\r", "") == text


def test_the_loop_makes_the_dump_and_signals_close_together_make_whole_ones(
    own_log: Path, devx_log: pytest.LogCaptureFixture
) -> None:
    enable_stack_on_sig()

    async def main() -> str:
        async with trio.open_nursery() as tn:
            tn.start_soon(nap, name="the-culprit")
            await trio.sleep(0)
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert not own_log.exists(), "made in the handler, in the middle of a task's step"
            text = await text_of(own_log, lambda text: dumps_in(text) == 2)
            tn.cancel_scope.cancel()
            return text

    text = trio.run(main)
    marks = re.findall(r"^(start|end)-of-", text, re.MULTILINE)
    assert marks == ["start", "end"] * 2
    assert text.count("the-culprit") == 2
    assert sum("the-culprit" in r.getMessage() for r in devx_log.records) == 2


def test_a_blocked_loop_is_dumped_by_a_thread(
    own_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stack_dump, "LOOP_LIMIT", 0.01)
    enable_stack_on_sig()
    seen = threading.Event()
    append = _task_tree.append_dump

    def append_and_tell(path: Path, text: str) -> None:
        append(path, text)
        seen.set()

    monkeypatch.setattr(_stack_dump, "append_dump", append_and_tell)

    async def main() -> None:
        signal.raise_signal(signal.SIGUSR1)
        assert seen.wait(LIMIT)
        await trio.sleep(0)

    trio.run(main)
    text = own_log.read_text()
    assert dumps_in(text) == 1, "the loop has made it once more"
    assert "the trio loop has not run for" in text
    assert "test_a_blocked_loop_is_dumped_by_a_thread" in text


def test_a_dump_that_fails_harms_nothing(
    own_log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def boom(*args: object) -> str:
        raise ValueError("no tree today")

    monkeypatch.setattr(_stack_dump, "format_tree_of", boom)
    enable_stack_on_sig()

    async def main() -> str:
        signal.raise_signal(signal.SIGUSR1)
        return await text_of(own_log, lambda text: dumps_in(text) == 1)

    assert "boom() failed: ValueError('no tree today')" in trio.run(main)
    own_log.unlink()
    monkeypatch.setattr(_stack_dump, "_write", boom)
    signal.raise_signal(signal.SIGUSR1)
    assert "the task dump failed" in caplog.text


def test_no_file_of_anybody_elses_is_written_through(own_log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    own_log.symlink_to(victim)
    enable_stack_on_sig()
    signal.raise_signal(signal.SIGUSR1)
    assert victim.read_text() == "precious"


def test_without_stackscope_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "stackscope" else find(name, *a),
    )
    before = signal.getsignal(signal.SIGUSR1)
    assert enable_stack_on_sig() is None
    assert signal.getsignal(signal.SIGUSR1) is before
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "trio-tractor[dumps]" in record.getMessage()


@pytest.mark.parametrize("sig", [None, getattr(signal, "SIGKILL", 9)])
def test_a_signal_that_cannot_be_caught_is_a_warning(
    sig: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert enable_stack_on_sig(sig) is None
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_another_thread_cannot_arm(caplog: pytest.LogCaptureFixture) -> None:
    thread = threading.Thread(target=enable_stack_on_sig)
    thread.start()
    thread.join()
    assert "main thread" in caplog.text


def test_only_the_parent_may_ask(reg_addr: tuple[str, int]) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("other", enable_modules=["ep_devx"])
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_devx.ask_root_to_dump)
            assert caught.value.src_type is tractor.MessagingError
            await portal.cancel_actor()

    trio.run(main)


@linux_only
class TestTree:
    @pytest.mark.parametrize("how", ["argument", "variable", "debug mode", "call"])
    def test_every_actor_is_armed_and_restored(
        self, how: str, reg_addr: tuple[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kwargs: dict[str, Any] = {}
        if how == "argument":
            kwargs["enable_stack_on_sig"] = True
        elif how == "variable":
            monkeypatch.setenv("TRACTOR_ENABLE_STACKSCOPE", "1")
        elif how == "debug mode":
            kwargs["debug_mode"] = True

        async def main() -> None:
            async with tractor.open_nursery(registry_addrs=[reg_addr], **kwargs) as an:
                if how == "call":
                    assert enable_stack_on_sig() is not None
                assert signal.getsignal(signal.SIGUSR1) is _stack_dump._on_signal
                portal = await an.start_actor("below", enable_modules=["ep_devx"])
                assert "_on_signal" in await portal.run(ep_devx.sigusr1_handler)
                assert await portal.run(ep_devx.use_stackscope)
                await portal.cancel_actor()

        trio.run(main)
        armed_after = signal.getsignal(signal.SIGUSR1) is _stack_dump._on_signal
        assert armed_after is (how == "call")

    def test_parents_come_before_their_children(
        self, reg_addr: tuple[str, int], own_log: Path, devx_log: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> list[Path]:
            async with tractor.open_nursery(
                registry_addrs=[reg_addr], enable_stack_on_sig=True
            ) as an:
                portal = await an.start_actor("middle", enable_modules=["ep_devx"])
                async with portal.open_context(ep_devx.with_child) as (ctx, grandchild):
                    child = await portal.run(ep_devx.pid)
                    paths = [dump_file(p) for p in (os.getpid(), child, grandchild)]
                    os.kill(os.getpid(), signal.SIGUSR1)
                    texts = [await text_of(p, lambda text: dumps_in(text) == 1) for p in paths]
                    await ctx.cancel()
                await portal.cancel_actor()
            for text, name in zip(texts, ("root", "middle", "grandchild"), strict=True):
                assert f"start-of-('{name}', '" in text
                assert f"end-of-('{name}', '" in text
            assert "with_child" in texts[1]
            return paths

        paths = trio.run(main)
        times = [path.stat().st_mtime_ns for path in paths]
        for path in paths:
            path.unlink()
        assert times == sorted(times)
        said = [r.getMessage() for r in devx_log.records]
        (relayed,) = [
            i
            for i, line in enumerate(said)
            if line.startswith("Relaying `SIGUSR1`[10] to sub-actor")
        ]
        (dumped,) = [i for i, line in enumerate(said) if "end-of-('root'" in line]
        assert dumped < relayed

    def test_a_child_that_would_die_of_the_signal_is_asked_by_message(
        self, reg_addr: tuple[str, int], own_log: Path
    ) -> None:
        async def main() -> str:
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                portal = await an.start_actor("unarmed", enable_modules=["ep_devx"])
                pid = await portal.run(ep_devx.pid)
                assert not expects_signal(pid, signal.SIGUSR1)
                enable_stack_on_sig()
                os.kill(os.getpid(), signal.SIGUSR1)
                text = await text_of(dump_file(pid), lambda text: dumps_in(text) == 1)
                assert await portal.run(ep_devx.pid) == pid
                await portal.cancel_actor()
                dump_file(pid).unlink()
                return text

        assert "start-of-('unarmed', '" in trio.run(main)

    def test_an_actor_in_a_sub_interpreter_is_asked_by_message(
        self, reg_addr: tuple[str, int], own_log: Path
    ) -> None:
        if "subint" not in tractor.spawn.usable_start_methods():
            pytest.skip("no sub-interpreters here")

        async def main() -> str:
            async with tractor.open_nursery(
                registry_addrs=[reg_addr], enable_stack_on_sig=True, start_method="subint"
            ) as an:
                portal = await an.start_actor("inside")
                os.kill(os.getpid(), signal.SIGUSR1)
                text = await text_of(own_log, lambda text: dumps_in(text) == 2)
                await portal.cancel_actor()
                return text

        text = trio.run(main)
        assert text.index("end-of-('root', '") < text.index("start-of-('inside', '")


def test_the_request_is_one_of_the_fixed_list() -> None:
    assert "_dump_stacks" in TOOL_REQUESTS
