# ruff: noqa: PT012
# A context raises at the end of its block, so the block belongs into `pytest.raises()`.
"""`Actor.drain()`: nothing new is begun, what runs may end; by a call, a signal, or the parent's word."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ep_life
import pytest
import trio
import trio.testing
from ep_life_tools import SCRIPT, Notes, until_it_refuses
from ep_life_tools import notes as notes
from ep_life_tools import start as start
from ep_marks import gets_signals
from ep_supervise_tools import free_uds, place_of, program, run, spoken, until

import tractor
from tractor._util._waiters import Waiters
from tractor.runtime._drain import Draining, checked_timeout

HERE = ["ep_life"]


@asynccontextmanager
async def one(**kwargs: Any) -> AsyncIterator[tuple[tractor.ActorNursery, tractor.Portal]]:
    async with tractor.open_nursery() as an:
        yield an, await an.start_actor("it", enable_modules=HERE, **kwargs)


# -- the wait by itself --


class Registration:
    def __init__(self) -> None:
        self.stops = 0
        self.may_stop = trio.Event()

    def link(self, addr: Any) -> None: ...

    def reg_addrs_changed(self) -> None: ...

    async def enter_itself(self) -> None: ...

    def report_lost(self, uid: Any) -> None: ...

    @property
    def down(self) -> Any: ...

    async def stop(self) -> None:
        self.stops += 1
        await self.may_stop.wait()


def test_it_waits_for_all_but_the_one_that_asks() -> None:
    async def main() -> None:
        began = trio.current_time()
        own: Any = "own"
        served = {own, "other"}
        draining, registration = Draining(served, Waiters()), Registration()
        async with trio.open_nursery() as tn:
            assert not draining.is_begun
            assert not await draining.run(1.0, own, registration, tn)
            assert draining.is_begun
            assert trio.current_time() == began + 1.0
            served.remove("other")
            # Not unregistered yet: that, too, has its time.
            assert await draining.run(1.0, own, registration, tn)
            assert trio.current_time() == began + 2.0
            registration.may_stop.set()
            assert await draining.run(math.inf, own, registration, tn)
            assert not await draining.run(0.0, None, registration, tn)
        assert registration.stops == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_is_a_time() -> None:
    assert checked_timeout(0) == 0.0
    assert checked_timeout(math.inf) == math.inf
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="0 or more"):
            checked_timeout(wrong)
    for kind in (None, "1", True):
        with pytest.raises(TypeError, match="seconds"):
            checked_timeout(kind)


# -- by a call --


def test_new_requests_are_refused_and_running_ones_end(start: str, reg_addr: Any) -> None:
    ended: list[bool] = []

    async def drain(portal: tractor.Portal) -> None:
        ended.append(await portal.run(ep_life.drain, timeout=30))

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an, trio.open_nursery() as tn:
            portal = await an.start_actor("it", enable_modules=HERE)
            async with (
                portal.open_context(ep_life.until_told) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                tn.start_soon(drain, portal)
                await until_it_refuses(portal)
                actor = tractor.current_actor()
                assert isinstance(actor, tractor.Registrar)
                with trio.fail_after(20):
                    while await actor.find_actor("it"):
                        await trio.sleep(0.005)
                with pytest.raises(tractor.ActorBusy, match="drains"):
                    async with portal.open_context(ep_life.hold):
                        pass
                assert not ended
                await stream.send("that is all")
                assert await ctx.wait_for_result() == "done"
            await until(lambda: ended)
            # It lives until somebody cancels it.
            with pytest.raises(tractor.ActorBusy):
                await portal.run(ep_life.pid)
            await portal.cancel_actor()

    run(main)
    assert ended == [True]


@pytest.mark.usefixtures("forked_actors")
def test_the_time_may_be_over_before() -> None:
    async def main() -> None:
        async with one() as (an, portal), portal.open_context(ep_life.hold) as (ctx, _):
            # The request that drains does not count, the context does.
            assert await portal.run(ep_life.drain, timeout=0) is False
            with pytest.raises(tractor.ActorBusy):
                await portal.run(ep_life.drain, timeout=0)
            assert ctx.maybe_error is None
            await an.cancel()

    run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("drain", [ep_life.drain, ep_life.drain_from_a_nursery])
def test_an_actor_that_serves_nothing_else_is_drained_at_once(drain: Any) -> None:
    async def main() -> None:
        async with one() as (an, portal):
            assert await portal.run(drain, timeout=30) is True
            await an.cancel()

    run(main)


@pytest.mark.usefixtures("forked_actors")
def test_a_cancel_ends_the_drain_and_the_lifespan_is_closed(notes: Notes) -> None:
    async def main() -> None:
        async with one(lifespan=ep_life.database) as (an, portal), trio.open_nursery() as tn:

            async def drain() -> None:
                with pytest.raises(tractor.ContextCancelled):
                    await portal.run(ep_life.drain, timeout=30)

            async with portal.open_context(ep_life.hold):
                tn.start_soon(drain)
                await until_it_refuses(portal)
                await an.cancel()

    run(main)
    assert notes() == ["open", "closed"]


def test_a_root_drains_too_and_leaves_its_own_registry() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(name="registrar") as actor:
            assert isinstance(actor, tractor.Registrar)
            assert await actor.find_actor("registrar")
            assert "draining" not in repr(actor)
            assert await actor.drain(10)
            assert not await actor.find_actor("registrar")
            assert "draining" in repr(actor)
            with pytest.raises(ValueError, match="0 or more"):
                await actor.drain(-1)

    run(main)


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_a_drained_actor_that_ends_is_busy_to_the_last(notes: Notes) -> None:
    async def main() -> None:
        async with one(lifespan=ep_life.never_closes) as (_, portal):
            await portal.run(ep_life.drain, timeout=0)
            async with trio.open_nursery() as tn:
                tn.start_soon(portal.cancel_actor)
                await until(lambda: "closing" in notes())
                # Not cancelled: nothing of it has run, so it may be sent elsewhere.
                with pytest.raises(tractor.ActorBusy):
                    await portal.run(ep_life.pid)

    run(main)


# -- by the parent's word --


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_a_parent_asks_a_child_to_drain() -> None:
    async def main() -> None:
        async with one() as (an, portal):
            (child,) = an._children.living.values()
            async with (
                portal.open_context(ep_life.until_told) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                assert await child.drain(0) is False
                async with trio.open_nursery() as tn:
                    ended: list[bool] = []

                    async def drain() -> None:
                        ended.append(await child.drain(30))

                    tn.start_soon(drain)
                    await until_it_refuses(portal)
                    await stream.send("that is all")
                    assert await ctx.wait_for_result() == "done"
                assert ended == [True]
            os.kill(place_of(portal), signal.SIGSTOP)
            with trio.fail_after(20):
                assert await child.drain(0.1) is False
            await an.cancel(hard_kill=True)
            assert await child.drain(30) is False

    run(main)


@pytest.mark.usefixtures("forked_actors")
def test_nobody_but_the_parent_may_ask() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            await an.start_actor("it", enable_modules=HERE)
            other = await an.start_actor("other", enable_modules=HERE)
            assert await other.run(ep_life.tries_to_drain, name="it") == "AttributeError"
            await an.cancel()

    run(main)


# -- by a signal --


@gets_signals
def test_sigterm_leaves_running_requests_their_time(start: str, notes: Notes) -> None:
    async def main() -> None:
        async with one(lifespan=ep_life.database, drain=30) as (an, portal):
            async with (
                portal.open_context(ep_life.until_told) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                os.kill(place_of(portal), signal.SIGTERM)
                await until_it_refuses(portal)
                assert notes() == ["open"]
                await stream.send("that is all")
                assert await ctx.wait_for_result() == "done"
            await portal.wait_closed()
            assert not an.children

    run(main)
    assert notes() == ["open", "closed"]


@gets_signals
@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain(number: int, notes: Notes) -> None:
    async def main() -> None:
        async with one(lifespan=ep_life.database, drain=30) as (_, portal):
            with pytest.raises(tractor.ContextCancelled):
                async with portal.open_context(ep_life.hold) as (ctx, _):
                    os.kill(place_of(portal), signal.SIGTERM)
                    await until_it_refuses(portal)
                    os.kill(place_of(portal), number)
                    await ctx.wait_for_result()
            await portal.wait_closed()

    run(main)
    assert notes() == ["open", "closed"]


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_one_that_is_to_go_at_once_does_not_drain(notes: Notes) -> None:
    async def main() -> None:
        async with one(lifespan=ep_life.database, drain=30) as (an, portal):
            await portal.run(ep_life.start_tick)
            with trio.CancelScope() as scope:
                async with portal.open_context(ep_life.hold):
                    await an.cancel(hard_kill=True)
                    scope.cancel()
            assert an.statistics().escalations == 0

    run(main)
    assert notes() == ["open", "background ends", "closed"]


# -- a daemon --


ENDED = ["open", "body", "body ends", "closed"]
"""What a daemon with a body and the lifespan `database` has noted when it is gone."""


async def daemon_says(prog: Any) -> Any:
    return tuple(json.loads(await trio.to_thread.run_sync(prog.read_line))[0])


def test_a_daemon_has_a_body_a_lifespan_and_a_drain(notes: Notes) -> None:
    addr = free_uds()

    async def main() -> None:
        with program("daemon", spoken(addr), "", "30", "ep_life:database", script=SCRIPT) as prog:
            await daemon_says(prog)
            async with tractor.open_root_actor(name="client", registry_addrs=[addr]):
                async with tractor.find_actor("the_daemon", raise_on_none=True) as portal:
                    assert isinstance(portal, tractor.Portal)
                    assert await portal.run(ep_life.rows) == ["one", "two"]
                    async with (
                        portal.open_context(ep_life.until_told) as (ctx, _),
                        ctx.open_stream() as stream,
                    ):
                        prog.process.send_signal(signal.SIGTERM)
                        await until_it_refuses(portal)
                        assert notes() == ["open", "body"]
                        await stream.send("that is all")
                        assert await ctx.wait_for_result() == "done"
                # The registrar is gone with it.
                status = await trio.to_thread.run_sync(prog.finish)
                assert status == -signal.SIGTERM, prog.stderr
                assert prog.stderr == ""

    run(main)
    assert notes() == ENDED


def test_a_second_sigterm_ends_a_daemon_that_drains(notes: Notes) -> None:
    addr = free_uds()

    async def main() -> None:
        with program("daemon", spoken(addr), "", "30", "ep_life:database", script=SCRIPT) as prog:
            await daemon_says(prog)
            async with tractor.open_root_actor(name="client", registry_addrs=[addr]):
                async with tractor.find_actor("the_daemon", raise_on_none=True) as portal:
                    assert isinstance(portal, tractor.Portal)
                    with pytest.raises(tractor.ContextCancelled):
                        async with portal.open_context(ep_life.hold) as (ctx, _):
                            prog.process.send_signal(signal.SIGTERM)
                            await until_it_refuses(portal)
                            prog.process.send_signal(signal.SIGTERM)
                            await ctx.wait_for_result()
                status = await trio.to_thread.run_sync(prog.finish)
                assert status == -signal.SIGTERM, prog.stderr

    run(main)
    assert notes() == ENDED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_a_daemons_lifespan_short(number: int, notes: Notes) -> None:
    async def main() -> None:
        with program(
            "daemon", spoken(free_uds()), "plain", "0", "ep_life:never_closes", script=SCRIPT
        ) as prog:
            await daemon_says(prog)
            prog.process.send_signal(number)
            await until(lambda: "closing" in notes())
            prog.process.send_signal(number)
            assert await trio.to_thread.run_sync(prog.finish) == -number, prog.stderr
            assert "the runtime failed" not in prog.stderr

    run(main)
    assert notes() == ["open", "body", "body ends", "closing", "cut"]


@pytest.mark.parametrize(
    ("kind", "lifespan", "last", "noted"),
    [
        ("raises", "database", "LookupError: the body has failed", ENDED),
        (
            "background",
            "database",
            "LookupError: the job has failed",
            ENDED,
        ),
        ("", "fails_to_open", "ConnectionRefusedError: no database there", []),
    ],
)
def test_what_ends_a_daemon_is_its_error(
    kind: str, lifespan: str, last: str, noted: list[str], notes: Notes
) -> None:
    with program(
        "daemon", spoken(free_uds()), kind, "0", f"ep_life:{lifespan}", script=SCRIPT
    ) as prog:
        assert prog.finish() == 1
        assert prog.stderr.splitlines()[-1] == last
    assert notes() == noted


def test_a_body_that_returns_leaves_the_daemon_serving(notes: Notes) -> None:
    addr = free_uds()

    async def main() -> None:
        with program(
            "daemon", spoken(addr), "returns", "0", "ep_life:database", script=SCRIPT
        ) as prog:
            await daemon_says(prog)
            async with tractor.open_root_actor(name="client", registry_addrs=[addr]):
                async with tractor.find_actor("the_daemon", raise_on_none=True) as portal:
                    assert isinstance(portal, tractor.Portal)
                    assert await portal.run(ep_life.pid) == prog.pid
                    assert await portal.cancel_actor()
                assert await trio.to_thread.run_sync(prog.finish) == 0, prog.stderr

    run(main)
    assert notes() == ENDED


def test_what_no_daemon_is_booted_with() -> None:
    def sync_function() -> None: ...

    with pytest.raises(TypeError, match="`main` is an async function"):
        tractor.run_daemon([], main=sync_function)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lifespan"):
        tractor.run_daemon([], lifespan=7)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="nothing"):
        tractor.run_daemon([], lifespan="ep_life:nothing")
    with pytest.raises(ValueError, match="0 or more"):
        tractor.run_daemon([], drain=-1.0)
    assert tractor.current_actor(err_on_no_runtime=False) is None
