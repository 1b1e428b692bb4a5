"""Fixes for trio, applied where a probe shows the bug."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import ep_trionics
import pytest
import trio
from ep_supervise_tools import run
from trio._core import _run, _wakeup_socketpair

import tractor
from tractor.trionics import patches
from tractor.trionics.patches import _table, wakeup_socketpair_drain

Pair = _wakeup_socketpair.WakeupSocketpair


def spinning_drain(self: Any) -> None:
    """The drain of the trio releases that have the bug."""
    try:
        while True:
            self.wakeup_sock.recv(2**16)
    except BlockingIOError:
        pass


def drain_that_ends(self: Any) -> None:
    try:
        while self.wakeup_sock.recv(2**16):
            pass
    except BlockingIOError:
        pass


@pytest.fixture(autouse=True)
def unpatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test applies is taken back."""
    monkeypatch.setattr(_table, "_applied", set())
    drain = Pair.drain
    yield
    monkeypatch.undo()
    Pair.drain = drain  # type: ignore[method-assign]
    if hasattr(Pair, wakeup_socketpair_drain._marker):
        delattr(Pair, wakeup_socketpair_drain._marker)


def test_where_the_bug_is_it_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "drain", spinning_drain)
    assert wakeup_socketpair_drain.repro()
    assert wakeup_socketpair_drain.is_needed()
    assert patches.apply_all() == {"wakeup_socketpair_drain": True}
    assert not wakeup_socketpair_drain.repro()
    fixed = Pair.drain
    assert patches.apply_all() == {"wakeup_socketpair_drain": True}
    wakeup_socketpair_drain.apply()
    assert Pair.drain is fixed


def test_the_fix_needs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor:
        """A socket of a process that is out of memory."""

        asked: ClassVar[list[int]] = []

        def recv(self, size: int) -> bytes:
            self.asked.append(size)
            raise MemoryError

    pair = Pair.__new__(Pair)
    pair.wakeup_sock = Poor()  # type: ignore[assignment]
    monkeypatch.setattr(Pair, "drain", spinning_drain)
    with pytest.raises(MemoryError):
        pair.drain()
    assert patches.apply_all() == {"wakeup_socketpair_drain": True}
    pair.drain()
    assert max(Poor.asked[1:]) < 1024


def test_where_it_is_not_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "drain", drain_that_ends)
    assert not wakeup_socketpair_drain.is_needed()
    assert patches.apply_all() == {"wakeup_socketpair_drain": False}
    assert Pair.drain is drain_that_ends


def test_an_unknown_implementation_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(Pair, "drain", other)
    assert patches.apply_all() == {"wakeup_socketpair_drain": False}
    monkeypatch.delattr(_wakeup_socketpair, "WakeupSocketpair")
    assert not wakeup_socketpair_drain.repro()
    wakeup_socketpair_drain.apply()
    assert patches.apply_all() == {"wakeup_socketpair_drain": False}


def test_the_fixed_drain_still_drains() -> None:
    wakeup_socketpair_drain.apply()
    pair = Pair()
    try:
        for _ in range(3):
            pair.wakeup_thread_and_signal_safe()
        pair.drain()
        with pytest.raises(BlockingIOError):
            pair.wakeup_sock.recv(1)
        pair.write_sock.close()
        pair.drain()
    finally:
        pair.close()


def test_a_fixed_trio_runs_threads_and_wakes_up() -> None:
    wakeup_socketpair_drain.apply()

    async def main() -> list[int]:
        return [await trio.to_thread.run_sync(abs, -n) for n in range(3)]

    assert trio.run(main) == [0, 1, 2]


def test_each_is_applied_once_and_told() -> None:
    class Fake:
        NAME = "fake"
        applied = 0

        def is_needed(self) -> bool:
            return True

        def apply(self) -> None:
            self.applied += 1

        def repro(self) -> bool:
            return True

    fake, lines = Fake(), list[str]()
    for _ in range(2):
        assert patches.apply_all((fake,), lines.append) == {"fake": True}
    assert fake.applied == 1
    assert lines == ["trio needs the fix 'fake': applied"]


def test_every_patch_has_its_functions() -> None:
    for patch in patches.PATCHES:
        assert patch.NAME
        for name in ("is_needed", "apply", "repro"):
            assert callable(getattr(patch, name))


def test_without_descriptors_a_probe_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError("no descriptors left")

    monkeypatch.setattr(Pair, "drain", spinning_drain)
    monkeypatch.setattr(socket, "socketpair", fails)
    assert not wakeup_socketpair_drain.repro()


def test_actors_have_what_their_trio_needs_and_the_root_is_left_alone(start_method: str) -> None:
    async def main() -> dict[str, bool]:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("patched", enable_modules=["ep_trionics"])
            found: dict[str, bool] = await portal.run(ep_trionics.applied_patches)
            await portal.cancel_actor()
        return found

    needed = {patch.NAME: patch.is_needed() for patch in patches.PATCHES}
    drain = Pair.drain
    assert run(main) == needed
    assert Pair.drain is drain
    assert not _table._applied


def test_a_root_mends_the_run_it_is_opened_in_and_no_other() -> None:
    def drain_of_this_run() -> Any:
        return _run.GLOBAL_RUN_CONTEXT.runner.entry_queue.wakeup.drain

    async def main() -> Any:
        before = drain_of_this_run()
        assert before.__func__ is Pair.drain
        async with tractor.open_root_actor():
            await trio.to_thread.run_sync(abs, -1)
            mended = drain_of_this_run()
        # What it guards against may come after the root has closed.
        assert drain_of_this_run() is mended
        return mended

    async def other() -> Any:
        return drain_of_this_run().__func__

    drain = Pair.drain
    mended = run(main)
    assert max(_asked(mended.func)) < 1024
    assert Pair.drain is drain
    assert trio.run(other) is drain


def _asked(read_all: Any) -> list[int]:
    """The sizes that a drain asks a socket for that has no memory."""
    asked = []

    class Poor:
        def recv(self, size: int) -> bytes:
            asked.append(size)
            raise MemoryError

    read_all(Poor())
    return asked


def test_a_run_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wakeup_socketpair_drain.apply_to_this_run()

    async def main() -> bool:
        pair = _run.GLOBAL_RUN_CONTEXT.runner.entry_queue.wakeup
        monkeypatch.delattr(_wakeup_socketpair, "WakeupSocketpair")
        wakeup_socketpair_drain.apply_to_this_run()
        return "drain" in vars(pair)

    assert not trio.run(main)
