"""What a restart takes along, in which order, over real processes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ep_services
import pytest
import trio
from ep_services_tools import LONG, kill, order, start_all, supervised, told, until_counted
from ep_supervise_tools import alive, run

import tractor
from tractor import spawn
from tractor.spawn._contract import selected_start_method

pytestmark = pytest.mark.usefixtures("forked_actors")


@pytest.fixture(params=["trio", "main_thread_forkserver"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    usual = selected_start_method()
    spawn.try_set_start_method(request.param)
    yield request.param
    spawn.try_set_start_method(usual)


def restarted(*names: str) -> list[str]:
    """Each stopped and gone in reverse order, then each started and ready."""
    return [
        *(f"{kind} {name}" for name in reversed(names) for kind in ("stopping", "stopped")),
        *(f"{kind} {name}" for name in names for kind in ("starting", "ready")),
    ]


def test_rest_for_one(tpt_proto: str, backend: str) -> None:
    async def main() -> None:
        async with supervised("rest_for_one", max_restarts=1, enable_transports=[tpt_proto]) as (
            sup,
            events,
        ):
            a, b, c, d = await start_all(sup, events, "a", "b", "c", "d")
            pids = [one.pid for one in (a, b, c, d)]
            kill(b)
            assert await told(events, "ready d") == [
                *("crashed b", "stopping d", "stopped d", "stopping c", "stopped c"),
                *("starting b", "ready b", "starting c", "ready c", "starting d", "ready d"),
            ]
            assert a.pid == pids[0]
            assert not any(alive(pid) for pid in pids[1:])
            assert [one.incarnation for one in (a, b, c, d)] == [1, 2, 2, 2]

    run(main)


def test_one_for_all(tpt_proto: str) -> None:
    async def main() -> None:
        async with supervised("one_for_all", max_restarts=1, enable_transports=[tpt_proto]) as (
            sup,
            events,
        ):
            _, b, _ = await start_all(sup, events, "a", "b", "c")
            kill(b)
            assert await told(events, "ready c") == [
                *("crashed b", "stopping c", "stopped c", "stopping a", "stopped a"),
                *("starting a", "ready a", "starting b", "ready b", "starting c", "ready c"),
            ]

    run(main)


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
def test_a_start_that_fails_in_the_round(strategy: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        fails: Any = functools.partial(ep_services.fail_some, path=str(path), times=(2,))
        async with supervised(strategy, max_restarts=2) as (sup, events):
            (a,) = await start_all(sup, events, "a")
            await sup.start_service("b", fails)
            await start_all(sup, events, "c")
            kill(a)
            found = await told(events, "ready c")
            start = ["starting a", "ready a", "starting b", "crashed b"]
            assert found[:5] == ["crashed a", "stopping c", "stopped c", "stopping b", "stopped b"]
            assert found[5:9] == start
            rest = ["starting b", "ready b", "starting c", "ready c"]
            if strategy == "one_for_all":
                rest = ["stopping a", "stopped a", "starting a", "ready a", *rest]
            assert found[9:] == rest
            # Two were counted: with the next it is too many.
            kill(a)
            await told(events, "gave-up a")

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert caught.value.count == 3


def test_what_is_down_stays_down_in_a_round() -> None:
    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            (job,) = await start_all(sup, events, "job", restart="transient")
            stopped, a = await start_all(sup, events, "stopped", "a")
            await order(job, "return 0")
            await told(events, "ended job")
            await stopped.stop()
            await told(events, "stopped stopped")
            kill(a)
            assert await told(events, "ready a") == ["crashed a", "starting a", "ready a"]
            assert (job.state, stopped.state) == ("ended", "stopped")

    run(main)


def test_a_temporary_one_does_not_survive_a_round() -> None:
    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            (a,) = await start_all(sup, events, "a")
            (temporary,) = await start_all(sup, events, "t", restart="temporary")
            pid = temporary.pid
            kill(a)
            assert await told(events, "ready a") == [
                *("crashed a", "stopping t", "stopped t", "starting a", "ready a"),
            ]
            assert not alive(pid)
            assert list(sup.services) == ["a"]
            assert temporary.state == "ended"

    run(main)


def test_a_temporary_one_that_is_asked_to_begin_anew_does() -> None:
    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            await start_all(sup, events, "a")
            (temporary,) = await start_all(sup, events, "t", restart="temporary")
            await temporary.restart()
            assert (temporary.state, temporary.incarnation) == ("ready", 2)
            assert await told(events, "ready t") == restarted("a", "t")

    run(main)


def test_one_for_one_waits_for_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow = functools.partial(ep_services.wait_for_gate, gate=str(gate), path=str(path))
        async with supervised() as (sup, events):
            a = sup.start_soon("a", slow)
            await until_counted(path, 1)
            (b,) = await start_all(sup, events, "b")
            kill(b)
            assert await told(events, "ready b") == ["crashed b", "starting b", "ready b"]
            assert a.state == "starting"
            gate.touch()
            await a.portal()

    run(main)


def test_stop_during_a_round_that_waits_for_a_delay() -> None:
    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            a, b = await start_all(sup, events, "a", "b", backoff=LONG)
            (c,) = await start_all(sup, events, "c", backoff=LONG)
            kill(b)
            await told(events, "ready a")
            assert (b.state, c.state) == ("backoff", "waiting")
            with trio.fail_after(20):
                await c.stop()
                await b.restart()
            assert (c.state, c.incarnation, a.incarnation) == ("stopped", 1, 2)
            assert await told(events, "ready b") == ["starting b", "ready b"]

    run(main)


def test_a_service_that_is_added_waits_for_the_end_of_the_round(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=2
        )
        async with supervised("one_for_all") as (sup, events):
            (a,) = await start_all(sup, events, "a")
            await sup.start_service("last", slow)
            kill(a)
            await until_counted(path, 2)
            late = sup.start_soon("late", ep_services.obey)
            async with trio.open_nursery() as tn:
                tn.start_soon(a.restart)
                await told(events, "starting last")
                assert late.state == "waiting"
                assert a.incarnation == 2
                gate.touch()
                found = await told(events, "ready late")
            assert found[0] == "ready last"
            # What was put off: first the restart, which takes all along, then the new one.
            assert found[-2:] == ["starting late", "ready late"]
            assert a.incarnation == 3

    run(main)


def test_an_end_in_the_round_of_what_is_up_again_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=2
        )
        async with supervised("rest_for_one", max_restarts=2) as (sup, events):
            (a,) = await start_all(sup, events, "a")
            b = await sup.start_service("b", slow)
            await told(events, "ready b")
            kill(a)
            await until_counted(path, 2)
            await told(events, "starting b")
            kill(a)
            assert await told(events, "stopped b") == ["crashed a", "stopping b", "stopped b"]
            gate.touch()
            assert await told(events, "ready b") == [
                *("starting a", "ready a", "starting b", "ready b"),
            ]
            assert (a.incarnation, b.incarnation) == (3, 3)
            # Both were counted.
            kill(b)
            await told(events, "gave-up b")

    with pytest.raises(tractor.RestartLimitExceeded):
        run(main)


def test_a_restart_by_plan_takes_along_what_the_strategy_does() -> None:
    async def main() -> None:
        async with supervised("rest_for_one", max_restarts=0) as (sup, events):
            _a, b, _c = await start_all(sup, events, "a", "b", "c")
            await b.restart()
            assert await told(events, "ready c") == restarted("b", "c")
            await sup.restart("c")
            assert await told(events, "ready c") == restarted("c")

    run(main)


def test_a_blocked_one_is_passed_over() -> None:
    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            db, a = await start_all(sup, events, "db", "a")
            (api,) = await start_all(sup, events, "api", after=["db"])
            await start_all(sup, events, "z")
            await db.stop()
            kill(a)
            assert (await told(events, "ready z"))[-4:] == [
                *("starting a", "ready a", "starting z", "ready z")
            ]
            assert api.state == "waiting"
            await db.restart()
            await api.portal()

    run(main)


def test_a_name_that_is_used_again_comes_before_what_waits_for_it() -> None:
    """Its place in the order is the last, so the round starts what waits for it after it."""

    async def main() -> None:
        async with supervised("one_for_all") as (sup, events):
            (db,) = await start_all(sup, events, "db")
            (api,) = await start_all(sup, events, "api", after=["db"])
            await db.stop()
            (db,) = await start_all(sup, events, "db")
            await start_all(sup, events, "z")
            kill(api)
            found = await told(events, "ready z")
            assert found[-6:] == [
                *("starting db", "ready db", "starting api", "ready api"),
                *("starting z", "ready z"),
            ]

    run(main)
