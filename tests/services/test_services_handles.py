# ruff: noqa: PT012
# A dialog's error is raised at the end of its block, so the block belongs into `pytest.raises()`.
"""What a program does with a service's handle: portals, dialogs, restart, stop, events."""

from __future__ import annotations

import functools
import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

import ep_services
import pytest
import trio
from ep_services_tools import (
    LONG,
    QUICK,
    count,
    heard,
    kill,
    order,
    start_all,
    supervised,
    told,
    until_counted,
)
from ep_supervise_tools import alive, run

import tractor
from tractor.runtime.seen._kept import Recorder
from tractor.trionics import Lagged

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_first_is_what_the_ready_incarnation_gave(tpt_proto: str, tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=2
        )
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            feed = await sup.start_service("feed", slow)
            await told(events, "ready feed")
            old = feed.pid
            assert feed.first == old
            kill(feed)
            await until_counted(path, 2)
            assert feed.first == old
            gate.touch()
            await told(events, "ready feed")
            assert feed.first == feed.pid != old

    run(main)


@pytest.mark.parametrize("how", ["killed", "restarted", "stopped"])
def test_a_dialog_ends_with_its_incarnation(how: str, tpt_proto: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "runs"
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            async with trio.open_nursery() as tn:
                kind = tractor.TransportClosed if how == "killed" else tractor.ContextCancelled
                with pytest.raises(kind) as caught:
                    async with feed.open_context(ep_services.hold, path=str(path)) as (ctx, _):
                        if how == "killed":
                            kill(feed)
                        else:
                            tn.start_soon(feed.restart if how == "restarted" else feed.stop)
                        await ctx.wait_for_result()
            if isinstance(caught.value, tractor.ContextCancelled):
                assert caught.value.canceller == tractor.current_actor().aid.uid
            else:
                cause = caught.value.__cause__
                assert isinstance(cause, tractor.ActorFailure)
                assert cause.returncode == -9
            if how != "stopped":
                await (await feed.portal()).run(ep_services.pid)
            assert count(path) == 1

    run(main)


def test_a_call_ends_with_its_incarnation(tmp_path: Path) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed")

            async def killed_soon() -> None:
                await until_counted(tmp_path / "runs", 1)
                kill(feed)

            async with trio.open_nursery() as tn:
                tn.start_soon(killed_soon)
                with pytest.raises(tractor.TransportClosed):
                    await feed.run(ep_services.obey, path=str(tmp_path / "runs"))
            pid = await feed.run(ep_services.pid)
            assert pid == feed.pid
            assert count(tmp_path / "runs") == 1

    run(main)


def test_portals_are_of_the_newest_incarnations() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            seen: list[Any] = []
            async for portal in feed.portals():
                assert portal.chan.aid is not None
                seen.append(portal.chan.aid.uid)
                assert seen[-1] == feed.aid.uid
                if len(seen) == 1:
                    for _ in range(3):
                        kill(feed)
                        await told(events, "ready feed")
                elif len(seen) == 2:
                    await feed.stop()
            assert len(set(seen)) == len(seen) == 2

    run(main)


def test_a_portal_waits_while_one_is_to_come(tmp_path: Path) -> None:
    async def main() -> None:
        async with supervised(backoff=QUICK) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            old = feed.pid
            kill(feed)
            await told(events, "crashed feed")
            assert await feed.run(ep_services.pid) not in (old, os.getpid())
            await feed.stop()
            with pytest.raises(tractor.ServiceEnded, match="stopped") as caught:
                await feed.portal()
            assert isinstance(caught.value.__cause__, tractor.ActorFailure)
            with pytest.raises(tractor.ServiceEnded, match="stopped"):
                await feed.wait()

    run(main)


def test_stop_while_restart_waits(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=2
        )
        async with supervised() as (sup, events):
            feed = await sup.start_service("feed", slow)
            async with trio.open_nursery() as tn:

                async def restarts() -> None:
                    with pytest.raises(tractor.ServiceEnded, match="stopped"):
                        await feed.restart()

                tn.start_soon(restarts)
                await until_counted(path, 2)
                await feed.stop()
            assert feed.state == "stopped"
            assert not any(alive(int(pid)) for pid in path.read_text().split())
            gate.touch()
            await feed.restart()
            assert (feed.state, feed.incarnation) == ("ready", 3)
            await told(events, "ready feed")

    run(main)


def test_restart_while_stop_waits() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed")

            async def stops() -> None:
                with pytest.raises(tractor.ServiceEnded, match="restart"):
                    await feed.stop()

            async with trio.open_nursery() as tn:
                tn.start_soon(stops)
                await told(events, "stopping feed")
                await feed.restart()
            assert (feed.state, feed.incarnation) == ("ready", 2)

    run(main)


def test_two_restarts_at_a_time_are_one() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            async with trio.open_nursery() as tn:
                tn.start_soon(feed.restart)
                tn.start_soon(sup.restart, "feed")
            assert feed.incarnation == 2

    run(main)


def test_a_restart_that_fails_is_raised_and_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        fails: Any = functools.partial(ep_services.fail_some, path=str(path), times=(2,))
        async with supervised(backoff=QUICK) as (sup, events):
            feed = await sup.start_service("feed", fails)
            with pytest.raises(tractor.RemoteActorError, match="start 2"):
                await feed.restart()
            await feed.portal()
            assert (feed.state, feed.incarnation) == ("ready", 3)
            assert (await told(events, "backoff feed"))[-2:] == ["crashed feed", "backoff feed"]

    run(main)


def test_an_unknown_name() -> None:
    async def main() -> None:
        async with supervised() as (sup, _events):
            for ask in (sup.stop, sup.restart):
                with pytest.raises(KeyError):
                    await ask("nobody")

    run(main)


def test_stop_keeps_the_error_of_the_last_life(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            feed = await sup.start_service("feed", ep_services.fail_at_end)
            await feed.run(ep_services.pid)
            await feed.restart()
            stopped = (await heard(events, "stopped feed"))[-1]
            assert isinstance(stopped.error, tractor.RemoteActorError)
            assert feed.last_error is stopped.error
            assert feed.state == "ready"
            kill(feed)
            await told(events, "crashed feed")
            await sup.stop("feed")

    run(main)
    assert any(
        record.levelname == "ERROR" and "stopped" in record.getMessage()
        for record in caplog.records
    )


def test_the_events_of_a_service() -> None:
    async def main() -> None:
        async with supervised(backoff=QUICK) as (sup, events):
            feed, other = await start_all(sup, events, "feed", "other")
            mine = feed.events()
            kill(feed)
            kill(other)
            await told(events, "ready feed")
            await order(feed, "return 0")
            await feed.restart()
            await feed.stop()
            with mine:
                pass
            found = [(event.kind, event.incarnation) async for event in mine]
        starts = [number for kind, number in found if kind == "starting"]
        assert len(set(starts)) == len(starts)
        for number in {number for _, number in found}:
            ends = [k for k, n in found if n == number and k in ("ended", "crashed", "stopped")]
            assert len(ends) == 1
        assert [kind for kind, _ in found][:4] == ["crashed", "backoff", "starting", "ready"]
        assert [kind for kind, _ in found][-2:] == ["stopping", "stopped"]

    run(main)


def test_a_reader_that_does_not_read(repeats: Any) -> None:
    """Whole lives go by; it is told how much it has missed, and can go on from there."""
    lives = repeats(90, 1000)

    async def main() -> None:
        async with supervised() as (sup, events):
            feed = sup.start_soon("feed", ep_services.do, what="raise ValueError")
            with sup.events() as idle:
                while feed.restarts < lives:
                    await sup._carrier.changed.park()
                await feed.stop()
                with pytest.raises(Lagged) as caught:
                    await idle.__anext__()
                # Each life has three events, and its stop may have some more.
                lost = caught.value.lost
                assert 3 * lives - 256 <= lost <= 3 * feed.incarnation - 256 + 2
                idle.close()
                kept = [event async for event in idle]
                assert len(kept) == 256
                assert kept[-1].incarnation == feed.incarnation
                numbers = [event.incarnation for event in kept]
                assert numbers == sorted(numbers)
            events.close()

    run(main, limit=500)


def test_a_thousand_temporary_ones_leave_nothing(repeats: Any) -> None:
    """Of each a supervisor keeps less than 2.5 KB: with 2,000 that are 5 MB."""
    first, more = 10, repeats(30, 2000)

    async def main() -> None:
        async with supervised() as (sup, _events):

            async def come_and_go(numbers: range) -> None:
                for number in numbers:
                    one = await sup.start_service(
                        f"t{number}", ep_services.do, what="return 3", restart="temporary"
                    )
                    assert len(sup.services) <= 1
                    assert await one.wait() == 3

            def traced() -> int:
                # What is kept of rare events has a limit of its own.
                tractor.current_actor().recorder = Recorder()
                gc.collect()
                return tracemalloc.get_traced_memory()[0]

            # What the first ones leave is there once: modules, caches.
            await come_and_go(range(first))
            tracemalloc.start()
            before = traced()
            await come_and_go(range(first, first + more))
            grown = traced() - before
            tracemalloc.stop()
            # And what is there once, but was not needed by the first ones.
            assert grown < 2500 * more + 20_000, f"{grown / more:.0f} bytes for each"
            assert dict(sup.services) == {}
            assert sup.statistics().services == {}
            assert len(sup._carrier.entries) == 0
            assert len(sup._carrier.children.living) == 0
            assert len(sup._carrier.children.errors) == 0

    try:
        run(main, limit=500)
    finally:
        tracemalloc.stop()


def test_look_ups_give_the_living_one(tpt_proto: str, reg_addr: Any) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"enable_transports": [tpt_proto], "registry_addrs": [reg_addr]}
        async with supervised(backoff=QUICK, **options) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            for _ in range(20):
                kill(feed)
                await told(events, "crashed feed")
                async with tractor.find_actor("feed") as portal:
                    if portal is not None:
                        assert isinstance(portal, tractor.Portal)
                        assert await portal.run(ep_services.pid) == feed.pid
                async with tractor.wait_for_actor("feed") as found:
                    assert isinstance(found, tractor.Portal)
                    assert await found.run(ep_services.pid) == feed.pid
                await told(events, "ready feed")

    run(main)


def test_replicas(tpt_proto: str) -> None:
    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            api = await sup.start_service("api", ep_services.talk, replicas=3)
            assert api.state == "ready"
            assert [one.name for one in api.replicas] == ["api.0", "api.1", "api.2"]
            assert api.first == api.pid == tuple(one.pid for one in api.replicas)
            assert [aid.name for aid in api.aid] == ["api.0", "api.1", "api.2"]
            turns = [await sup.services["api"].run(ep_services.pid) for _ in range(6)]
            assert sorted(turns) == sorted(api.pid * 2)
            await told(events, "ready api.2")
            events_of_one = api.replicas[1].events()
            kill(api.replicas[1])
            await told(events_of_one, "ready api.1")
            assert api.incarnation == (1, 2, 1)
            assert (api.restarts, api.replicas[1].restarts) == (1, 1)
            events_of_one = api.replicas[0].events()
            kill(api.replicas[0])
            await told(events_of_one, "ready api.0")
            assert api.last_error is api.replicas[0].last_error
            assert api.replicas[2].last_error is None
            for ask in (api.replicas[1].stop, api.replicas[1].restart):
                with pytest.raises(tractor.RuntimeFailure, match="replica"):
                    await ask()

    run(main)


def test_a_restart_of_replicas_rolls() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            api = await sup.start_service("api", ep_services.obey, replicas=2, backoff=LONG)
            kill(api.replicas[0])
            await told(events, "backoff api.0")
            await api.restart()
            assert api.incarnation == (2, 2)
            assert await told(events, "ready api.1") == [
                *("starting api.0", "ready api.0"),
                *("stopping api.1", "stopped api.1", "starting api.1", "ready api.1"),
            ]

    run(main)


def test_what_replicas_return() -> None:
    async def main() -> None:
        async with supervised() as (sup, _events):
            job = await sup.start_service(
                "job", ep_services.do, what="return 7", replicas=2, restart="transient"
            )
            assert await job.wait() == [7, 7]
            assert job.state == "ended"

    run(main)
