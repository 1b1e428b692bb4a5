# ruff: noqa: PT012, SIM117
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
# Blocks within blocks are kept apart where their order matters.
"""One-cancels-all: what a nursery raises when one of its actors, or its body, fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import alive, one_daemon, run, until_exists

import tractor

HERE = ["ep_supervise"]

pytestmark = pytest.mark.usefixtures("either_backend")


async def start_bystanders(an: tractor.ActorNursery, pids: list[int], number: int = 2) -> None:
    """Daemons that have to go with the one that fails."""
    for index in range(number):
        portal = await an.start_actor(f"bystander_{index}", enable_modules=HERE)
        pids.append(await portal.run(ep_supervise.pid))


def test_an_error_of_a_one_shot_cancels_the_rest(reg_addr: Any) -> None:
    pids: list[int] = []
    unwound = []

    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError) as info:
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                await start_bystanders(an, pids)
                await an.run_in_actor(ep_supervise.fail, name="unlucky", message="my own words")
                try:
                    await trio.sleep_forever()
                finally:
                    unwound.append(True)
        exc = info.value
        assert exc.boxed_type is ValueError
        assert exc.src_type is ValueError
        assert exc.src_type_str == "ValueError"
        assert exc.src_uid is not None
        assert exc.src_uid[0] == "unlucky"
        assert list(exc.relay_path) == [exc.src_uid]
        assert not exc.is_inception()
        assert "my own words" in str(exc)
        assert "in fail" in exc.tb_str
        assert not any(map(alive, pids))
        assert an.cancel_called
        assert not an.cancelled_caught

    run(main)
    assert unwound == [True]


def test_an_error_of_a_one_shot_while_the_block_ends_normally() -> None:
    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError, match="boom"):
            async with tractor.open_nursery() as an:
                await an.start_actor("daemon")
                portal = await an.run_in_actor(ep_supervise.fail)
        with pytest.raises(tractor.RemoteActorError, match="boom"):
            await portal.wait_for_result()

    run(main)


def test_the_body_catches_what_wait_for_result_raises_and_the_nursery_raises_it_all_the_same() -> (
    None
):
    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError) as info:
            async with tractor.open_nursery() as an:
                portal = await an.run_in_actor(ep_supervise.fail)
                await portal.wait_for_result()
        assert info.value.src_type is ValueError

    run(main)


def test_an_error_of_the_body_is_raised_bare(reg_addr: Any) -> None:
    pids: list[int] = []
    error = LookupError("of the body")

    async def main() -> None:
        with pytest.raises(LookupError) as info:
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                await start_bystanders(an, pids)
                raise error
        assert info.value is error
        assert not any(map(alive, pids))

    run(main)


def test_an_error_of_a_call_in_the_body_is_raised_bare() -> None:
    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError, match="boom"):
            async with one_daemon() as (_, portal):
                await portal.run(ep_supervise.fail)

    run(main)


def test_an_error_of_a_call_that_the_body_handles_is_no_failure() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with pytest.raises(tractor.RemoteActorError):
                await portal.run(ep_supervise.fail)
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()

    run(main)


@gets_signals
@pytest.mark.parametrize("when", ["idle", "in a call"])
def test_a_daemon_killed_is_an_actor_failure(when: str, tmp_path: Path) -> None:
    pids: list[int] = []

    async def main() -> None:
        marker = str(tmp_path / "in the call")
        with pytest.raises(tractor.ActorFailure) as info:
            async with one_daemon("victim") as (an, portal):
                await start_bystanders(an, pids, 1)
                assert portal.chan.aid is not None
                assert portal.chan.aid.pid is not None
                victim = portal.chan.aid
                async with trio.open_nursery() as tn:
                    if when == "in a call":

                        async def call() -> None:
                            with pytest.raises(tractor.TransportClosed, match="victim"):
                                await portal.run(ep_supervise.sleep_for_ever, marker=marker)

                        tn.start_soon(call)
                        await until_exists(marker)
                    os.kill(portal.chan.aid.pid, signal.SIGKILL)
                    await trio.sleep_forever()
        assert info.value.uid == victim.uid
        assert info.value.returncode == -signal.SIGKILL
        assert not any(map(alive, pids))

    run(main)


@gets_signals
def test_a_daemon_killed_while_the_block_waits_for_it() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure) as info:
            async with one_daemon() as (_, portal):
                assert portal.chan.aid is not None
                assert portal.chan.aid.pid is not None
                os.kill(portal.chan.aid.pid, signal.SIGKILL)
        assert info.value.returncode == -signal.SIGKILL

    run(main)


@gets_signals
@pytest.mark.parametrize("status", [0, 5])
def test_a_process_that_ends_without_a_word(status: int) -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure) as info:
            async with tractor.open_nursery() as an:
                await an.run_in_actor(ep_supervise.die, name="mute", status=status)
        assert info.value.returncode == status
        assert info.value.uid is not None
        assert info.value.uid[0] == "mute"

    run(main)


@gets_signals
def test_a_call_to_a_process_that_ends_without_a_word() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure) as info:
            async with one_daemon() as (_, portal):
                with pytest.raises(tractor.TransportClosed):
                    await portal.run(ep_supervise.die, status=4)
                await trio.sleep_forever()
        assert info.value.returncode == 4

    run(main)


def test_errors_of_several_actors_are_a_group_with_one_entry_each(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as info:
            async with tractor.open_nursery() as an:
                markers = [tmp_path / name for name in ("one", "two")]
                for marker in markers:
                    await an.run_in_actor(
                        ep_supervise.fail_when_cancelled,
                        name=marker.name,
                        marker=str(marker),
                        message=f"of {marker.name}",
                    )
                for marker in markers:
                    await until_exists(marker)
                await an.run_in_actor(ep_supervise.fail, name="first", message="of first")
                await trio.sleep_forever()
        errors = info.value.exceptions
        assert all(isinstance(e, tractor.RemoteActorError) for e in errors)
        names = sorted(e.src_uid[0] for e in errors)  # type: ignore[union-attr]
        assert names == ["first", "one", "two"]
        for exc in errors:
            assert f"of {exc.src_uid[0]}" in str(exc)  # type: ignore[union-attr]

    run(main)


def test_the_body_is_one_entry_of_the_group(tmp_path: Path) -> None:
    error = LookupError("of the body")

    async def main() -> None:
        marker = tmp_path / "runs"
        with pytest.raises(BaseExceptionGroup) as info:
            async with tractor.open_nursery() as an:
                await an.run_in_actor(
                    ep_supervise.fail_when_cancelled, marker=str(marker), message="late"
                )
                await until_exists(marker)
                raise error
        assert len(info.value.exceptions) == 2
        assert error in info.value.exceptions
        (other,) = (e for e in info.value.exceptions if e is not error)
        assert isinstance(other, tractor.RemoteActorError)
        assert other.boxed_type is ValueError

    run(main)


def test_many_failures_give_one_entry_each(tmp_path: Path) -> None:
    number = 4

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as info:
            async with tractor.open_nursery() as an:
                for index in range(number):
                    marker = tmp_path / str(index)
                    await an.run_in_actor(
                        ep_supervise.fail_when_cancelled,
                        name=f"actor_{index}",
                        marker=str(marker),
                        message="all of us",
                    )
                    await until_exists(marker)
                raise LookupError
        assert len(info.value.exceptions) == number + 1

    run(main)


def test_an_error_three_levels_down_names_its_way() -> None:
    names = ["one", "two", "three"]

    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError) as info:
            async with tractor.open_nursery() as an:
                await an.run_in_actor(ep_supervise.fail_below, name=names[0], names=names[1:])
        exc = info.value
        assert exc.is_inception()
        assert exc.boxed_type is tractor.RemoteActorError
        assert exc.src_type is ValueError
        assert exc.src_type_str == "ValueError"
        assert exc.src_uid is not None
        assert exc.src_uid[0] == "three"
        assert [name for name, _ in exc.relay_path] == ["three", "two", "one"]
        assert exc.relay_uid is not None
        assert exc.relay_uid[0] == "one"
        assert exc.relay_path[0] == exc.src_uid
        assert exc.relay_path[-1] == exc.relay_uid
        assert "deep" in str(exc)
        inner = exc.unwrap()
        assert isinstance(inner, ValueError)
        assert "deep" in str(inner)

    run(main)


@gets_signals
def test_a_nested_actor_that_is_killed_is_reported_to_the_top() -> None:
    async def main() -> None:
        with pytest.raises(tractor.RemoteActorError) as info:
            async with one_daemon("top") as (_, portal):
                async with portal.open_context(ep_supervise.hold_tree, depth=2) as (_, pids):
                    os.kill(pids[2], signal.SIGKILL)
                    await trio.sleep_forever()
        assert "ActorFailure" in str(info.value)
        assert "'1_0'" in str(info.value)
        assert "SIGKILL" in str(info.value)
        assert not any(map(alive, pids))

    run(main)


@gets_signals
def test_a_failed_start_in_the_body_takes_the_rest_down() -> None:
    pids: list[int] = []

    async def main() -> None:
        with pytest.raises(tractor.ActorFailure) as info:
            async with tractor.open_nursery() as an:
                await start_bystanders(an, pids, 1)
                await an.start_actor("dies", enable_modules=["ep_supervise_dies"])
        assert info.value.returncode == 7
        assert not any(map(alive, pids))

    run(main)
