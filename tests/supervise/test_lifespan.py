# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""`lifespan=`: opened before an actor serves, shared with its endpoints, closed on every way out."""

from __future__ import annotations

import functools
import json
import os
import signal
from typing import Any

import ep_life
import pytest
import trio
from ep_life_tools import SCRIPT, Notes
from ep_life_tools import notes as notes
from ep_life_tools import start as start
from ep_marks import gets_signals, outlives_its_root
from ep_supervise_tools import alive, place_of, program, run, until, until_gone

import tractor
from tractor.spawn._contract import selected_start_method

HERE = ["ep_life"]


# -- around the life --


def test_endpoints_share_what_it_has_opened(start: str, reg_addr: Any, notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("db", enable_modules=HERE, lifespan=ep_life.database)
            assert notes() == ["open"]
            assert await portal.run(ep_life.rows) == ["one", "two"]
            await portal.cancel_actor()
        assert notes() == ["open", "closed"]

    run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("lifespan", [ep_life.AsClass, "ep_life:AsClass"])
def test_it_may_be_a_class_or_a_path(lifespan: Any, notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE, lifespan=lifespan)
            assert await portal.run(ep_life.state) == "state of a class"
            await an.cancel()

    run(main)
    assert notes() == ["open", "closed"]


@pytest.mark.parametrize(
    "way", ["cancel", "error", "hard kill", pytest.param("signal", marks=gets_signals)]
)
def test_it_is_closed_on_every_way_out(start: str, way: str, notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("db", enable_modules=HERE, lifespan=ep_life.database)
            if way == "error":
                raise LookupError
            if way == "signal":
                os.kill(place_of(portal), signal.SIGTERM)
            elif way == "hard kill":
                await an.cancel(hard_kill=True)
            else:
                await portal.cancel_actor()

    if way == "error":
        with pytest.raises(LookupError):
            run(main)
    else:
        run(main)
    assert notes() == ["open", "closed"]


@outlives_its_root
@pytest.mark.parametrize("method", ["trio", "main_thread_forkserver"])
def test_it_is_closed_when_the_parent_is_killed(method: str, notes: Notes) -> None:
    async def main() -> None:
        with program("hold", method, script=SCRIPT) as prog:
            pid = json.loads(await trio.to_thread.run_sync(prog.read_line))
            prog.process.kill()
            await until_gone([pid])
            assert notes() == ["open", "closed"]

    run(main)


def test_what_is_served_ends_first_then_the_background_then_the_lifespan(
    start: str, notes: Notes
) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "it", enable_modules=HERE, lifespan=ep_life.in_the_background
            )
            async with trio.open_nursery() as tn:

                async def call() -> None:
                    with pytest.raises(tractor.ContextCancelled):
                        await portal.run(ep_life.forever)

                tn.start_soon(call)
                # One after the other on one channel: the call has begun when this one returns.
                assert await portal.run(ep_life.state) == "ticks"
                await portal.cancel_actor()

    run(main)
    assert notes() == ["open", "request ends", "background ends", "closed"]


@pytest.mark.usefixtures("forked_actors")
def test_it_may_start_subactors(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE, lifespan=ep_life.with_workers)
            below = await portal.run(ep_life.through_below)
            shared = selected_start_method() == "subint"
            assert (below == os.getpid()) is shared
            await portal.cancel_actor()
        assert shared or not alive(below)
        assert an.statistics().escalations == 0

    run(main)
    assert notes() == ["closed"]


# -- errors --


def test_what_opening_it_raises_is_raised_by_the_start(start: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.RemoteActorError, match="no database there") as caught:
                await an.start_actor("db", lifespan=ep_life.fails_to_open)
            assert caught.value.boxed_type is ConnectionRefusedError
            assert 'raise ConnectionRefusedError("no database there")' in caught.value.tb_str
            assert "tractor/runtime" not in caught.value.tb_str
            assert not an.children

    run(main)


def test_nothing_is_started_with_what_is_no_lifespan() -> None:
    async def async_function() -> None: ...

    def local() -> Any: ...

    async def main() -> None:
        async with tractor.open_nursery() as an:
            for wrong in (7, async_function, ep_life.forever, functools.partial(ep_life.database)):
                with pytest.raises(TypeError, match="lifespan"):
                    await an.start_actor("it", lifespan=wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="local"):
                await an.start_actor("it", lifespan=local)
            with pytest.raises(ValueError, match="module:name"):
                await an.start_actor("it", lifespan="no path")
            assert an.statistics().spawned == 0

    run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        ("no_such_module:acm", ModuleNotFoundError, "no_such_module"),
        ("ep_life:nothing", AttributeError, "nothing"),
        ("ep_life:sync_function", TypeError, "lifespan"),
        ("ep_life:Database", TypeError, "no async context manager"),
    ],
)
def test_a_path_that_leads_to_none(path: str, error: type[Exception], match: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.RemoteActorError, match=match) as caught:
                await an.start_actor("it", lifespan=path)
            assert caught.value.boxed_type is error

    run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("asked", [True, False])
def test_what_closing_it_raises_is_the_actors_failure(asked: bool) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", lifespan=ep_life.fails_to_close)
            if asked:
                await an.cancel()
            else:
                await portal.cancel_actor()

    with pytest.raises(tractor.RemoteActorError, match="the disk is full") as caught:
        run(main)
    assert caught.value.boxed_type is OSError


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize(
    ("lifespan", "error"),
    [(ep_life.fails_later, TimeoutError), (ep_life.ends_by_itself, tractor.RuntimeFailure)],
)
def test_one_that_ends_while_the_actor_serves_is_its_failure(
    lifespan: Any, error: type[BaseException]
) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE, lifespan=lifespan)
            async with portal.open_context(ep_life.hold):
                await trio.sleep_forever()

    # By the context and by the child's end: it is one event, and told once.
    with pytest.raises(tractor.RemoteActorError) as caught:
        run(main)
    assert caught.value.boxed_type is error


def test_there_is_no_state_without_one(notes: Notes) -> None:
    with pytest.raises(tractor.NoRuntime):
        tractor.actor_state()

    async def main() -> None:
        async with tractor.open_root_actor():
            with pytest.raises(tractor.RuntimeFailure, match="without `lifespan=`"):
                tractor.actor_state()

    run(main)


# -- while it opens, while it closes --


def test_a_start_may_be_cancelled_while_it_opens(start: str, notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(
                        functools.partial(an.start_actor, "it", lifespan=ep_life.never_opens)
                    )
                    await until(notes)
                    (child,) = an.children.values()
                    scope.cancel()
            assert child.pid == os.getpid() or not alive(child.pid or 0)

    run(main)
    assert notes() == ["opening", "given up"]


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_one_that_does_not_close_is_cut_short(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            await an.start_actor("it", lifespan=ep_life.never_closes)
            await an.cancel()
            # SIGTERM was enough.
            assert an.statistics().escalations == 1

    run(main)
    assert notes() == ["open", "closing", "cut"]


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_the_parent_ends_a_failed_actor_that_does_not_close(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("it", enable_modules=HERE, lifespan=ep_life.never_closes)
            await portal.run(ep_life.fail_in_background)
            await trio.sleep_forever()

    with pytest.raises(tractor.RemoteActorError, match="the job has failed"):
        run(main)
    assert notes() == ["open", "closing", "cut"]


@pytest.mark.usefixtures("forked_actors")
def test_an_infected_actor_has_one_too(notes: Notes) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "db", enable_modules=HERE, lifespan=ep_life.database, infect_asyncio=True
            )
            assert await portal.run(ep_life.rows) == ["one", "two"]
            await portal.cancel_actor()

    run(main)
    assert notes() == ["open", "closed"]
