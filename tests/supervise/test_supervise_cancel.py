# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""Cancelling actors: by portal, by nursery, by scope, by signal; who sees what."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
import trio.testing
from ep_marks import gets_signals, gets_stuck
from ep_supervise_tools import alive, one_daemon, place_of, run, until_exists, until_gone

import tractor

HERE = ["ep_supervise"]

pytestmark = pytest.mark.usefixtures("either_backend")


def child_aid(portal: tractor.Portal) -> tuple[tuple[str, str], int]:
    """Uid and place of the actor at the other end."""
    assert portal.chan.aid is not None
    return portal.chan.aid.uid, place_of(portal)


# -- portal.cancel_actor() --


def test_a_cancelled_daemon_is_no_failure(reg_addr: Any) -> None:
    async def main() -> None:
        async with one_daemon(registry_addrs=[reg_addr]) as (an, portal):
            _, pid = child_aid(portal)
            assert await portal.cancel_actor() is True
            await until_gone([pid])
        assert dict(an.children) == {}
        assert not an.cancel_called
        assert not an.cancelled_caught

    run(main)


def test_cancelling_what_is_gone_is_false() -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            assert await portal.cancel_actor() is True
            while an.children:
                await trio.sleep(0.005)
            assert await portal.cancel_actor() is False
            assert await portal.cancel_actor(raise_on_timeout=True) is False
            with pytest.raises(tractor.TransportClosed, match="daemon"):
                await portal.run(ep_supervise.add, one=1)
        assert await portal.cancel_actor() is False

    run(main)


@gets_stuck
def test_no_acknowledgment_in_time(tmp_path: Path) -> None:
    assert tractor.Portal.cancel_timeout == 0.5

    async def main() -> None:
        marker = str(tmp_path / "blocked")
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.block_loop, marker=marker)
            await until_exists(marker)
            assert await portal.cancel_actor(timeout=0.05) is False
            with pytest.raises(tractor.ActorTooSlowError, match="block_loop") as info:
                await portal.cancel_actor(timeout=0.05, raise_on_timeout=True)
            assert not isinstance(info.value, trio.TooSlowError)
            await an.cancel(hard_kill=True)

    run(main)


def test_cancel_actor_is_shielded() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with trio.CancelScope() as scope:
                scope.cancel()
                assert await portal.cancel_actor() is True

    run(main)


def test_cancelling_one_of_two_leaves_the_other() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            one, two = [await an.start_actor(n, enable_modules=HERE) for n in ("one", "two")]
            _, pid = child_aid(one)
            await one.cancel_actor()
            await until_gone([pid])
            assert await two.run(ep_supervise.add, one=1) == 11
            await two.cancel_actor()

    run(main)


def test_a_daemon_that_another_actor_cancels_is_no_failure() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            victim = await an.start_actor("victim", enable_modules=HERE)
            other = await an.start_actor("other", enable_modules=HERE)
            _, pid = child_aid(victim)
            assert await other.run(ep_supervise.cancel_by_name, name="victim") is True
            await until_gone([pid])
            assert await other.run(ep_supervise.add, one=1) == 11
            await other.cancel_actor()
        assert not an.cancel_called

    run(main)


def test_cancelling_an_actor_takes_its_subtree() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with pytest.raises(tractor.ContextCancelled):
                async with portal.open_context(ep_supervise.hold_tree, depth=2, width=2) as (
                    _,
                    pids,
                ):
                    assert len(set(pids)) == 7
                    assert await portal.cancel_actor()
                    await trio.sleep_forever()
            await until_gone(pids)

    run(main)


def test_cancelling_a_one_shot_by_its_portal(tmp_path: Path) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(
                ep_supervise.sleep_for_ever, marker=str(tmp_path / "runs")
            )
            await until_exists(tmp_path / "runs")
            assert await portal.cancel_actor()
            with pytest.raises(tractor.ContextCancelled) as info:
                await portal.wait_for_result()
            assert info.value.canceller == tractor.current_actor().aid.uid

    run(main)


# -- an.cancel() --


def test_cancelling_the_nursery(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            pids = []
            for index in range(3):
                portal = await an.start_actor(f"daemon_{index}", enable_modules=HERE)
                pids.append(await portal.run(ep_supervise.pid))
            await an.run_in_actor(ep_supervise.sleep_for_ever)
            assert not an.cancel_called
            await an.cancel()
            assert an.cancel_called
            assert not any(map(alive, pids))
            assert dict(an.children) == {}
        assert an.cancelled_caught
        assert an.statistics().reaped == 4
        assert an.statistics().escalations == 0

    run(main)


def test_cancelling_the_nursery_out_of_another_task() -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal), trio.open_nursery() as tn:

            async def served() -> None:
                with pytest.raises(tractor.ContextCancelled):
                    await portal.run(ep_supervise.sleep_for_ever)

            tn.start_soon(served)
            tn.start_soon(an.cancel)
        assert an.cancelled_caught

    run(main)


def test_cancel_is_shielded_and_idempotent() -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            _, pid = child_aid(portal)
            with trio.CancelScope() as scope:
                scope.cancel()
                await an.cancel()
            assert not alive(pid)
            await an.cancel()
            await an.cancel(hard_kill=True)

    run(main)


def test_an_error_after_the_cancel_is_raised() -> None:
    async def main() -> None:
        with pytest.raises(LookupError):
            async with one_daemon() as (an, _):
                await an.cancel()
                raise LookupError
        assert an.cancel_called
        assert not an.cancelled_caught

    run(main)


@gets_stuck
def test_hard_kill_needs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        marker = str(tmp_path / "blocked")
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.block_loop, marker=marker)
            _, pid = child_aid(portal)
            await until_exists(marker)
            await an.cancel(hard_kill=True)
            assert not alive(pid)
        assert an.statistics().escalations == 1, "from SIGTERM to SIGKILL, nothing before"

    run(main)
    assert "#T-800 deployed to collect zombie B0" in caplog.text


def test_hard_kill_of_a_healthy_child_ends_by_sigterm() -> None:
    async def main() -> None:
        async with one_daemon() as (an, _):
            await an.cancel(hard_kill=True)
        assert an.statistics().escalations == 0

    run(main)


# -- scopes --


def test_a_surrounding_scope(reg_addr: Any) -> None:
    async def main() -> None:
        pids = []
        with trio.CancelScope() as scope:
            async with one_daemon(registry_addrs=[reg_addr]) as (an, portal):
                pids.append(await portal.run(ep_supervise.pid))
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert not any(map(alive, pids))
        assert not an.cancelled_caught, "not this nursery's own cancellation"
        assert an.cancel_called

    run(main)


def test_a_scope_while_the_block_waits_for_its_children() -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:

                    async def later() -> None:
                        await trio.testing.wait_all_tasks_blocked(0.02)
                        scope.cancel()

                    async with tractor.open_nursery() as an:
                        portal = await an.start_actor("daemon")
                        place = place_of(portal)
                        tn.start_soon(later)
            assert scope.cancelled_caught
            assert not alive(place)
            assert tractor.current_actor().cancel_called is False

    run(main)


def test_nurseries_one_in_the_other_in_one_actor() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as outer:
            kept = await outer.start_actor("kept", enable_modules=HERE)
            with pytest.raises(LookupError):
                async with tractor.open_nursery() as inner:
                    portal = await inner.start_actor("gone")
                    place = place_of(portal)
                    raise LookupError
            assert not alive(place)
            assert await kept.run(ep_supervise.add, one=1) == 11
            await kept.cancel_actor()
        assert not outer.cancel_called

    run(main)


def test_the_root_cancels_itself() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            actor = tractor.current_actor()
            portal = await an.start_actor("daemon")
            place = place_of(portal)
            actor.cancel_soon()
            await trio.sleep_forever()
        assert actor.cancel_called
        assert actor.cancel_complete
        assert actor.cancel_caller is not None
        assert actor.cancel_caller.uid == actor.aid.uid
        assert not alive(place)

    run(main)


# -- a signal to one subactor alone --


@gets_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signalled_daemon_counts_as_cancelled(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            _, pid = child_aid(portal)
            os.kill(pid, number)
            await until_gone([pid])
        assert not an.cancel_called

    run(main)
    assert capfd.readouterr().err == "", "it ends quietly"


@gets_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_dialogs_of_a_signalled_daemon_end_as_its_own_cancellation(
    number: signal.Signals,
) -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            uid, pid = child_aid(portal)
            with pytest.raises(tractor.ContextCancelled) as info:
                async with portal.open_context(ep_supervise.hold):
                    os.kill(pid, number)
                    await trio.sleep_forever()
            assert info.value.canceller == uid

    run(main)


@gets_signals
def test_a_one_shot_that_signals_itself() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.signal_self, number=int(signal.SIGTERM))
            with pytest.raises(tractor.ContextCancelled) as info:
                await portal.wait_for_result()
            assert info.value.canceller == child_aid(portal)[0]

    run(main)


@gets_signals
def test_a_signalled_subtree_goes_with_its_top() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with pytest.raises(tractor.ContextCancelled):
                async with portal.open_context(ep_supervise.hold_tree, depth=2) as (_, pids):
                    os.kill(pids[0], signal.SIGINT)
                    await trio.sleep_forever()
            await until_gone(pids)

    run(main)
