# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""`Actor.background`: tasks of an actor's own, whose errors are the actor's failure."""

from __future__ import annotations

from typing import Any

import ep_life
import pytest
import trio
import trio.testing
from ep_life_tools import Notes
from ep_life_tools import notes as notes
from ep_life_tools import start as start
from ep_supervise_tools import run

import tractor
from tractor.msg.types import Aid

HERE = ["ep_life"]


async def fails() -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("the job has failed")


def expect_job_failure(caught: pytest.ExceptionInfo[Any]) -> None:
    assert caught.value.boxed_type is LookupError
    assert 'raise LookupError("the job has failed")' in caught.value.tb_str


def fails_by_the_job(main: Any) -> None:
    """Run a program that ends with the job's failure."""
    with pytest.raises(tractor.RemoteActorError) as caught:
        run(main)
    expect_job_failure(caught)


# -- in a subactor --


def test_a_task_outlives_the_request_that_started_it(start: str, notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE, lifespan=ep_life.database)
            await portal.run(ep_life.start_tick)
            await portal.run(ep_life.start_tick)
            assert notes() == ["open"]
            await portal.cancel_actor()

    run(main)
    assert notes() == ["open", "background ends", "background ends", "closed"]


def test_an_error_is_told_to_who_holds_a_context_and_to_the_parent_once(
    start: str, reg_addr: Any
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("it", enable_modules=HERE)
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(ep_life.hold, fail=True):
                    await trio.sleep_forever()
            expect_job_failure(caught)
            assert "the end of the actor: it" in str(caught.value)
            raise caught.value

    fails_by_the_job(main)


@pytest.mark.usefixtures("forked_actors")
def test_an_error_that_nobody_waits_for_is_raised_by_the_parents_nursery() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE)
            await portal.run(ep_life.fail_in_background)
            await trio.sleep_forever()

    fails_by_the_job(main)


@pytest.mark.usefixtures("forked_actors")
def test_a_call_that_runs_ends_with_the_error() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE)
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with trio.open_nursery() as tn:
                    tn.start_soon(portal.run, ep_life.fail_in_background)
                    await portal.run(ep_life.forever_unnoted)
            (error,) = (
                caught.value.exceptions
                if isinstance(caught.value, ExceptionGroup)
                else [caught.value]
            )
            raise error

    fails_by_the_job(main)


@pytest.mark.usefixtures("forked_actors")
def test_a_sibling_that_holds_a_context_hears_of_it() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            failing = await an.start_actor("failing", enable_modules=HERE)
            sibling = await an.start_actor("sibling", enable_modules=HERE)
            async with sibling.open_context(ep_life.holds_one_of, name="failing") as (ctx, _):
                await failing.run(ep_life.fail_in_background)
                with trio.CancelScope(shield=True):
                    heard = await ctx.wait_for_result()
                assert heard == ["LookupError", "failing"]

    fails_by_the_job(main)


@pytest.mark.usefixtures("forked_actors")
def test_an_error_passes_through_the_actors_above_once() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            middle = await an.start_actor("middle", enable_modules=HERE)
            await middle.run(ep_life.has_one_that_fails)

    with pytest.raises(tractor.RemoteActorError) as caught:
        run(main)
    assert caught.value.src_type is LookupError
    assert [name for name, _ in caught.value.relay_path] == ["low", "middle"]


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("infected", [False, True])
def test_a_failure_after_another_one_comes_with_it(
    infected: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "it", enable_modules=HERE, lifespan=ep_life.fails_to_close, infect_asyncio=infected
            )
            async with portal.open_context(ep_life.hold, fail=True):
                await trio.sleep_forever()

    with pytest.raises(tractor.RemoteActorError) as caught:
        run(main)
    assert caught.value.boxed_type is ExceptionGroup
    assert "LookupError: the job has failed" in caught.value.tb_str
    assert "OSError: the disk is full" in caught.value.tb_str
    # The parent tells of it, and so the actor does not.
    assert capfd.readouterr().err == ""


# -- in a root --


def test_an_error_of_a_roots_own_task_is_raised_by_its_block() -> None:
    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            actor.background.start_soon(fails)
            await trio.sleep_forever()

    with pytest.raises(LookupError, match="the job has failed"):
        run(main)


def test_a_roots_tasks_end_after_its_block_and_before_its_lifetime_stack() -> None:
    order: list[str] = []

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append("background")

    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            actor.lifetime_stack.callback(order.append, "stack")
            actor.background.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            order.append("block")
        assert order == ["block", "background", "stack"]

    run(main)


def test_an_error_beside_one_of_the_block_comes_with_it() -> None:
    async def at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("the job has failed")

    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            actor.background.start_soon(at_the_end)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("block")

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert [type(exc) for exc in caught.value.exceptions] == [KeyError, LookupError]


def test_a_cancelled_root_raises_the_error_of_its_task() -> None:
    async def at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("the job has failed")

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with tractor.open_root_actor() as actor:
                actor.background.start_soon(at_the_end)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()

    with pytest.raises(LookupError):
        run(main)


def test_a_scope_around_the_block_does_not_reach_a_task() -> None:
    ended = trio.Event()

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with tractor.open_root_actor() as actor:
                actor.background.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                    assert not ended.is_set()
        assert ended.is_set()

    run(main)


def test_there_are_none_before_the_runtime_is_open() -> None:
    with pytest.raises(tractor.RuntimeFailure, match="not open"):
        _ = tractor.Actor(Aid("it", "u", 1)).background
