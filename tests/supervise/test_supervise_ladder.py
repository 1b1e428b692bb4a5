# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""The teardown ladder: children that do not go when they are asked to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import ep_supervise
import pytest
import trio
from ep_marks import gets_signals, gets_stuck
from ep_supervise_tools import alive, one_daemon, run, until_exists

import tractor

ZOMBIE = "#T-800 deployed to collect zombie B0"


@pytest.fixture
def marker(tmp_path: Path) -> str:
    return str(tmp_path / "stuck")


async def tear_down(an: tractor.ActorNursery, portal: tractor.Portal, marker: str) -> int:
    """Wait until the child is stuck, cancel the nursery, and see that the child is gone."""
    assert portal.chan.aid is not None
    assert portal.chan.aid.pid is not None
    await until_exists(marker)
    await an.cancel()
    assert not alive(portal.chan.aid.pid)
    return an.statistics().escalations


@gets_stuck
@pytest.mark.parametrize("ignore_sigterm", [False, True])
def test_a_blocked_loop(
    marker: str, ignore_sigterm: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`time.sleep(1000)`: no ack, no exit, no SIGTERM handled, so the last rung is reached."""

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(
                ep_supervise.block_loop, marker=marker, ignore_sigterm=ignore_sigterm
            )
            assert await tear_down(an, portal, marker) == 3

    run(main)
    (record,) = (r for r in caplog.records if ZOMBIE in r.getMessage())
    assert record.levelname == "ERROR"
    assert "block_loop" in record.getMessage()
    assert "tractor._child" in record.getMessage(), "the command line is shown"


@gets_stuck
def test_a_shielded_sleep(marker: str, caplog: pytest.LogCaptureFixture) -> None:
    """The cancel is acked, but the task does not end."""

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.sleep_shielded, marker=marker)
            assert await tear_down(an, portal, marker) == 2

    run(main)
    assert ZOMBIE in caplog.text


@gets_signals
def test_a_stopped_process(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            assert portal.chan.aid is not None
            assert portal.chan.aid.pid is not None
            os.kill(portal.chan.aid.pid, signal.SIGSTOP)
            await an.cancel()
            assert not alive(portal.chan.aid.pid)

    run(main)
    assert ZOMBIE in caplog.text


@gets_stuck
def test_an_error_in_the_body_takes_the_same_way(
    marker: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises(LookupError):
            async with tractor.open_nursery() as an:
                await an.run_in_actor(ep_supervise.block_loop, marker=marker)
                await until_exists(marker)
                raise LookupError

    run(main)
    assert ZOMBIE in caplog.text


@gets_stuck
def test_children_go_down_in_parallel(tmp_path: Path) -> None:
    """Six stuck ones take one ladder's time, not six: the clock of the scope is the proof."""
    number = 6
    one_ladder = 0.5 + 1.6 + 0.5

    async def main() -> None:
        async with tractor.open_nursery() as an:
            for index in range(number):
                await an.run_in_actor(
                    ep_supervise.block_loop, name=str(index), marker=str(tmp_path / str(index))
                )
            for index in range(number):
                await until_exists(tmp_path / str(index))
            with trio.fail_after(one_ladder * number / 2):
                await an.cancel()
        assert an.statistics().escalations == 3 * number

    run(main)


@gets_signals
def test_the_socket_files_of_killed_children_are_removed(marker: str, tmp_path: Path) -> None:
    own = (str(tmp_path), "own.sock")

    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            await an.start_actor("has_a_file", enable_modules=["ep_supervise"])
            portal = await an.start_actor("own", bind_addrs=[own], enable_modules=["ep_supervise"])
            assert (tmp_path / "own.sock").exists()
            files = list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("has_a_file@*.sock"))
            for record in an.children.values():
                assert record.pid is not None
                os.kill(record.pid, signal.SIGSTOP)
            assert portal.chan.connected()
            await an.cancel(hard_kill=True)
            assert not (tmp_path / "own.sock").exists()
            # Its peers', and its users'.
            assert len(files) == 2
            assert not any(path.exists() for path in files)

    run(main)


@gets_signals
def test_a_killed_child_takes_its_own_children_along(caplog: pytest.LogCaptureFixture) -> None:
    """They end by the loss of their parent; the nursery is not left before that."""
    pids: list[int] = []

    async def main() -> None:
        with pytest.raises((tractor.ActorFailure, BaseExceptionGroup)):
            async with one_daemon() as (_, portal):
                with pytest.raises(tractor.TransportClosed):
                    async with portal.open_context(ep_supervise.hold_tree, depth=2, width=2) as (
                        _,
                        below,
                    ):
                        pids.extend(below)
                        os.kill(below[0], signal.SIGKILL)
                        await trio.sleep_forever()
        assert len(pids) == 7
        assert not any(map(alive, pids))

    run(main)
    assert ZOMBIE not in caplog.text, "nobody had to be killed"


@gets_signals
def test_the_children_of_a_killed_child_that_are_stuck_go_too(tmp_path: Path) -> None:
    pids: list[int] = []
    marker = str(tmp_path / "blocked")

    async def main() -> None:
        with pytest.raises((tractor.ActorFailure, BaseExceptionGroup)):
            async with one_daemon() as (_, portal):
                with pytest.raises(tractor.TransportClosed):
                    async with portal.open_context(
                        ep_supervise.hold_tree, depth=2, worst="blocked", marker=marker
                    ) as (_, below):
                        pids.extend(below)
                        await until_exists(f"{marker}.{below[-1]}")
                        os.kill(below[0], signal.SIGKILL)
                        await trio.sleep_forever()
        assert not any(map(alive, pids))

    run(main)


@gets_stuck
@pytest.mark.parametrize("worst", ["blocked", "shielded"])
def test_progress_notes_keep_a_slow_subtree_alive(
    worst: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A child that works down a stuck child of its own takes longer than its own limit; it may."""
    pids: list[int] = []
    marker = str(tmp_path / "stuck")

    async def main() -> None:
        async with one_daemon() as (an, portal):
            with pytest.raises(tractor.ContextCancelled):
                async with portal.open_context(
                    ep_supervise.hold_tree, depth=1, worst=worst, marker=marker
                ) as (_, below):
                    pids.extend(below)
                    await until_exists(f"{marker}.{below[-1]}")
                    await an.cancel()
                    await trio.sleep_forever()
            assert not any(map(alive, pids))
        assert an.statistics().escalations == 0

    run(main)
    assert ZOMBIE not in caplog.text, "the child itself was not killed"
