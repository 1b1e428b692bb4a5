"""How often and how soon services come again, over real processes."""

from __future__ import annotations

import functools
from pathlib import Path

import ep_services
import pytest
import trio
from ep_services_tools import LONG, QUICK, count, heard, kill, start_all, supervised, told
from ep_supervise_tools import alive, run

import tractor
from tractor._proto.services.restarts import Backoff

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_a_task_that_always_raises_is_given_up(tmp_path: Path, tpt_proto: str) -> None:
    path = tmp_path / "starts"

    async def main() -> None:
        async with supervised(max_restarts=3, within=50.0, enable_transports=[tpt_proto]) as (
            sup,
            _events,
        ):
            await sup.start_service("other", ep_services.obey)
            await sup.start_service("feed", ep_services.do, what="raise KeyError", path=str(path))
            await trio.sleep_forever()

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    limit = caught.value
    assert (limit.service, limit.count, limit.within) == ("feed", 4, 50.0)
    assert [type(exc) for exc in limit.errors] == [tractor.RemoteActorError] * 4
    assert limit.__cause__ is limit.errors[-1]
    pids = [int(pid) for pid in path.read_text().split()]
    assert len(set(pids)) == 4
    assert not any(map(alive, pids))


def test_no_restart_is_allowed() -> None:
    async def main() -> None:
        async with supervised(max_restarts=0, backoff=LONG) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            kill(feed)
            # At once, before any delay.
            found = await heard(events, "gave-up feed")
            assert [event.kind for event in found] == ["crashed", "gave-up"]
            assert feed.incarnation == 1

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert isinstance(caught.value.__cause__, tractor.ActorFailure)


def test_without_a_limit_it_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised(max_restarts=None) as (sup, events):
            feed = sup.start_soon("feed", ep_services.do, what="raise KeyError", path=str(path))
            for _ in range(30):
                await told(events, "crashed feed")
            assert feed.restarts >= 29
            assert count(path) >= 30

    run(main)


def test_restarts_by_plan_are_not_counted() -> None:
    async def main() -> None:
        async with supervised(max_restarts=1, backoff=QUICK) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            for _ in range(10):
                await feed.restart()
            assert (feed.incarnation, feed.restarts) == (11, 10)
            kill(feed)
            await told(events, "backoff feed")
            await feed.portal()

    run(main)


def test_a_restart_by_plan_sets_the_delay_back() -> None:
    async def main() -> None:
        growing = Backoff(initial=0.01, factor=100.0, maximum=60.0, jitter=0.0)
        async with supervised(backoff=growing) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            delays = []
            for _ in range(3):
                kill(feed)
                delays.append((await heard(events, "backoff feed"))[-1].delay)
                if delays[-1] == pytest.approx(1.0):
                    # Cut short, too.
                    await feed.restart()
                await told(events, "ready feed")
            assert delays == pytest.approx([0.01, 1.0, 0.01])

    run(main)


def test_a_permanent_task_that_returns_has_the_first_delay_each_time() -> None:
    delays: list[float | None] = []

    async def main() -> None:
        growing = Backoff(initial=0.01, factor=50.0, jitter=0.0)
        async with supervised(backoff=growing, max_restarts=4) as (sup, events):
            sup.start_soon("feed", ep_services.do, what="return 1")
            async for event in events:
                if event.kind == "backoff":
                    delays.append(event.delay)

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert delays == pytest.approx([0.01] * 4)
    assert caught.value.errors == (None,) * 5
    assert caught.value.__cause__ is None


def test_a_long_life_sets_the_delay_back(tmp_path: Path) -> None:
    """Time in which it was not ready counts for nothing."""

    async def main() -> None:
        path = tmp_path / "starts"
        growing = Backoff(initial=0.01, factor=2.0, jitter=0.0, reset_after=1.5)
        fails = functools.partial(ep_services.fail_some, path=str(path), times=(2, 3))
        async with supervised(backoff=growing) as (sup, events):
            feed = await sup.start_service("feed", fails)
            await trio.sleep(1.6)
            delays = []
            for ends in (True, False, False, True):
                if ends:
                    kill(feed)
                delays.append((await heard(events, "backoff feed"))[-1].delay)
                if ends is False and len(delays) == 3:
                    await told(events, "ready feed")
            assert delays == pytest.approx([0.01, 0.02, 0.04, 0.08])

    run(main)


def test_one_count_for_all() -> None:
    async def main() -> None:
        async with supervised(max_restarts=3) as (sup, events):
            a, b = await start_all(sup, events, "a", "b")
            for one in (a, b, a, b):
                kill(one)
                found = await heard(events, f"crashed {one.name}")
                if one is not b or found[-1].incarnation == 1:
                    await told(events, f"ready {one.name}")
            await told(events, "gave-up b")

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert (caught.value.service, caught.value.count) == ("b", 4)


def test_one_that_does_not_escalate_has_its_own_count() -> None:
    async def main() -> None:
        async with supervised(max_restarts=1) as (sup, events):
            (apart,) = await start_all(sup, events, "apart", escalate=False)
            (feed,) = await start_all(sup, events, "feed")
            kill(apart)
            await told(events, "ready apart")
            kill(feed)
            await told(events, "ready feed")
            kill(apart)
            assert await told(events, "failed apart") == ["crashed apart", "failed apart"]
            assert apart.state == "failed"
            with pytest.raises(tractor.ActorFailure):
                await apart.wait()
            with pytest.raises(tractor.ServiceEnded) as caught:
                await apart.portal()
            assert caught.value.__cause__ is apart.last_error
            assert feed.state == "ready"
            await apart.restart()
            assert apart.state == "ready"

    run(main)


def test_a_restart_that_stop_prevents_is_taken_out() -> None:
    async def main() -> None:
        async with supervised(max_restarts=1, within=1000.0) as (sup, events):
            a, b = await start_all(sup, events, "a", "b", backoff=LONG)
            (c,) = await start_all(sup, events, "c")
            kill(a)
            await told(events, "backoff a")
            with trio.fail_after(20):
                await a.stop()
            kill(c)
            await told(events, "ready c")
            kill(b)
            await told(events, "gave-up b")

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert caught.value.count == 2


def test_a_supervisor_inside_a_service(tmp_path: Path, tpt_proto: str) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            shop = await sup.start_service(
                "shop", ep_services.supervise, path=str(path), restart="transient"
            )
            crashed = (await heard(events, "crashed shop"))[-1]
            assert isinstance(crashed.error, tractor.RemoteActorError)
            assert crashed.error.boxed_type is tractor.RestartLimitExceeded
            await told(events, "ready shop")
            assert shop.incarnation == 2

    run(main)


def test_delays_that_no_limit_reaches_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        apart = Backoff(initial=10.0, factor=2.0, maximum=30.0)
        for limit in (2, 5):
            async with supervised(
                backoff=apart, max_restarts=limit, within=60.0, loglevel="warning"
            ):
                pass

    run(main)
    (record,) = [r for r in caplog.records if "keep a service below" in r.getMessage()]
    assert "max_restarts=5" in record.getMessage()


async def give_up(sup: tractor.Supervisor) -> None:
    await sup.start_service("feed", ep_services.do, what="raise KeyError")


@pytest.mark.parametrize("raises", [False, True])
def test_giving_up_cancels_the_body(raises: bool) -> None:
    async def main() -> None:
        async with supervised(max_restarts=0) as (sup, _events):
            await give_up(sup)
            try:
                await trio.sleep_forever()
            finally:
                if raises:
                    raise OSError("the body's cleanup")

    if not raises:
        with pytest.raises(tractor.RestartLimitExceeded):
            run(main)
        return
    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    limit, error = caught.value.exceptions
    assert isinstance(limit, tractor.RestartLimitExceeded)
    assert isinstance(error, OSError)
