"""``portal.cancel_actor()`` of an own child puts it on the ladder; ``portal.wait_closed()`` waits for its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
from pathlib import Path
from typing import Any

import ep_outcome
import pytest
import trio
import trio.testing
from ep_marks import gets_signals, gets_stuck
from ep_supervise_tools import alive, run, until_exists

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_outcome"]


async def ask(portal: tractor.Portal, busy: Any, marker: Path) -> None:
    """Have the actor do what keeps it, and go on when it does."""
    async with trio.open_nursery() as tn:
        tn.start_soon(functools.partial(portal.run, busy, marker=str(marker)))
        await until_exists(marker)
        tn.cancel_scope.cancel()


@gets_stuck
@pytest.mark.parametrize("found", ["started", "looked up"])
@pytest.mark.parametrize("busy", [ep_outcome.compute, ep_outcome.block])
def test_a_computation_does_not_hold_the_block(
    busy: Any, found: str, reg_addr: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("busy", enable_modules=HERE)
            pid = await portal.run(ep_outcome.pid)
            await ask(portal, busy, tmp_path / "busy")
            if found == "started":
                assert not await portal.cancel_actor()
            else:
                async with tractor.find_actor("busy") as other:
                    assert isinstance(other, tractor.Portal)
                    assert not await other.cancel_actor()
            await portal.wait_closed()
            assert not alive(pid)
            assert not an.cancel_called

    with caplog.at_level(logging.WARNING, logger="tractor"):
        run(main)
    [line] = [r.getMessage() for r in caplog.records if "#T-800" in r.getMessage()]
    assert line.startswith("#T-800 deployed to collect zombie B0")
    assert "did not answer" in line
    assert "trio.to_thread" in line
    assert "open_worker_pool" in line


@gets_stuck
def test_a_short_wait_for_the_acknowledgment_is_no_reason_to_signal_at_once(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("fine", enable_modules=HERE)
            [child] = an._children.living.values()
            await portal.cancel_actor(timeout=0)
            await portal.wait_closed()
            assert child.returncode == 0
            assert child.ladder is not None
            assert not child.ladder.escalations

    run(main)


@gets_stuck
def test_a_thread_that_is_left_does_not_hold_the_block(
    reg_addr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("left", enable_modules=HERE)
            await portal.run(ep_outcome.leave_a_thread)
            assert await portal.cancel_actor()

    with caplog.at_level(logging.WARNING, logger="tractor"):
        run(main)
    assert any("does not end" in r.getMessage() for r in caplog.records)


@gets_signals
@pytest.mark.parametrize("how", ["portal", "nursery", "kill"])
def test_a_forked_helper_does_not_hold_the_block(how: str, reg_addr: Any) -> None:
    helpers: list[int] = []

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("forks", enable_modules=HERE)
            helpers.append(await portal.run(ep_outcome.fork_a_helper))
            pid = await portal.run(ep_outcome.pid)
            if how == "portal":
                assert await portal.cancel_actor()
                await portal.wait_closed()
                assert not alive(pid)
            elif how == "nursery":
                await an.cancel()
            else:
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(tractor.TransportClosed):
                    await portal.run(ep_outcome.forever)

    try:
        if how == "kill":
            with pytest.raises(tractor.ActorFailure):
                run(main)
        else:
            run(main)
        assert all(map(alive, helpers)), "the block was left before the helper has ended"
    finally:
        for helper in helpers:
            os.kill(helper, signal.SIGKILL)
            # An orphan is this process's to reap where it has made itself the one who does.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(helper, 0)


def test_wait_closed(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kept = await an.start_actor("kept", enable_modules=HERE)
            gone = await an.start_actor("gone", enable_modules=HERE)
            over = trio.Event()

            async def wait() -> None:
                await gone.wait_closed()
                over.set()

            async with trio.open_nursery() as tn:
                tn.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert not over.is_set()
                assert await gone.cancel_actor()
            assert list(an.children) == [kept.chan.aid.uid] if kept.chan.aid else False
            await gone.wait_closed()
            assert not await gone.cancel_actor()
            with trio.move_on_after(0.05) as scope:
                await kept.wait_closed()
            assert scope.cancelled_caught
            # Of another actor, which is not a child of this one, the channel's end.
            assert await kept.run(ep_outcome.waits_for_its_parent_to_close) is True
            await an.cancel()
        await kept.wait_closed()

    run(main)
