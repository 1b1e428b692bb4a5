# ruff: noqa: PT012
# A context raises at the end of its block, so the block belongs into `pytest.raises()`.
"""Services have what every actor has: a lifespan, background tasks, a drain."""

from __future__ import annotations

from typing import Any

import ep_life
import ep_services
import pytest
import trio
import trio.testing
from ep_life_tools import Notes, until_it_refuses
from ep_life_tools import notes as notes
from ep_marks import gets_signals
from ep_supervise_tools import run, until

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_life"]


def test_each_incarnation_has_its_lifespan(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_supervisor(backoff=None) as sup:
            service = await sup.start_service(
                "db", enable_modules=HERE, actor={"lifespan": ep_life.database}
            )
            assert await service.run(ep_life.rows) == ["one", "two"]
            await service.restart()
            assert await service.run(ep_life.rows) == ["one", "two"]

    run(main)
    assert notes() == ["open", "closed"] * 2


def test_one_that_fails_is_the_error_of_the_first_start(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            with pytest.raises(tractor.RemoteActorError, match="no database there"):
                await sup.start_service("db", actor={"lifespan": ep_life.fails_to_open})
            assert not sup.services

    run(main)


@gets_signals
def test_an_error_in_the_background_is_an_abnormal_end_also_where_the_lifespan_hangs(
    notes: Notes,
) -> None:
    async def main() -> None:
        async with tractor.open_supervisor(backoff=None) as sup:
            service = await sup.start_service(
                "db", enable_modules=HERE, actor={"lifespan": ep_life.never_closes}
            )
            await service.run(ep_life.fail_in_background)
            await until(lambda: service.restarts == 1)
            await service.portal()
            error = service.last_error
            assert isinstance(error, tractor.RemoteActorError)
            assert error.boxed_type is LookupError
            await sup.cancel(hard_kill=True)

    run(main)
    assert notes()[:4] == ["open", "closing", "cut", "open"]


def test_what_runs_has_the_time_of_its_drain_and_new_calls_wait_for_the_next(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_supervisor() as sup, trio.open_nursery() as tn:
            service = await sup.start_service(
                "db", enable_modules=HERE, drain=30, actor={"lifespan": ep_life.database}
            )
            first = service.pid
            async with (
                service.open_context(ep_life.until_told) as (ctx, pid),
                ctx.open_stream() as stream,
            ):
                assert pid == first
                portal = await service.portal()
                tn.start_soon(service.restart)
                await until_it_refuses(portal)
                later: list[int] = []

                async def call() -> None:
                    later.append(await service.run(ep_life.pid))

                tn.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert later == []
                await stream.send("that is all")
                assert await ctx.wait_for_result() == "done"
            await until(lambda: later)
            assert later == [service.pid] != [first]

    run(main)
    assert notes() == ["open", "closed"] * 2


@gets_signals
def test_a_kill_cuts_a_drain_short(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            service = await sup.start_service("db", enable_modules=HERE, drain=30)
            with pytest.raises((tractor.ContextCancelled, tractor.TransportClosed)):
                async with service.open_context(ep_life.hold), trio.open_nursery() as tn:
                    portal = await service.portal()
                    tn.start_soon(service.stop)
                    await until_it_refuses(portal)
                    tn.start_soon(sup.cancel, True)
                    await trio.sleep_forever()

    run(main)


@pytest.mark.parametrize("fn", [ep_services.obey, ep_services.talk])
def test_its_own_function_is_no_request_that_a_drain_waits_for(fn: Any) -> None:
    """It would go on for ever."""

    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            service = await sup.start_service("own", fn, drain=3600)
            await service.restart()
            assert service.incarnation == 2

    run(main)
