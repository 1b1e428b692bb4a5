"""Services that are looked after: the watchdog, recycling."""

from __future__ import annotations

import ep_services
import pytest
import trio
from ep_marks import gets_stuck
from ep_services_tools import heard, order, start_all, supervised, told
from ep_supervise_tools import alive, run

import tractor
from tractor.services import _incarnation

pytestmark = [pytest.mark.usefixtures("forked_actors"), gets_stuck]


def test_a_loop_that_stands_still(tpt_proto: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (feed,) = await start_all(sup, events, "feed", watchdog=1.0)
            pid = feed.pid
            async with trio.open_nursery() as tn:
                tn.start_soon(order, feed, "block 60")
                crashed = (await heard(events, "crashed feed"))[-1]
            assert isinstance(crashed.error, tractor.ServiceStuck)
            assert not alive(pid)
            await told(events, "ready feed")
            assert feed.last_error is crashed.error

    run(main)
    assert any("is stuck" in record.getMessage() for record in caplog.records)


def test_a_service_that_is_too_large_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ends are abnormal, with delays, and too many at last."""
    monkeypatch.setattr(_incarnation, "LOOK_INTERVAL", 0.05)

    async def main() -> None:
        async with supervised(max_restarts=2) as (sup, _events):
            await sup.start_service(
                "big", ep_services.obey, recycle=tractor.Recycle(rss=4096, jitter=0.0)
            )
            await sup.wait()

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert "recycle" in str(caught.value.__cause__)


def test_a_service_that_has_grown_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew by plan: nothing is counted."""
    monkeypatch.setattr(_incarnation, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(_incarnation, "TOO_SOON", 0.0)

    async def main() -> None:
        async with supervised(max_restarts=0) as (sup, events):
            await sup.start_service(
                "big", ep_services.obey, recycle=tractor.Recycle(rss=4096, jitter=0.0)
            )
            await told(events, "ready big")
            for _ in range(3):
                stopping = (await heard(events, "stopping big"))[-1]
                assert stopping.because == "restart"
                await told(events, "ready big")

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
def test_a_service_that_is_too_old(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `restart()`, it takes along what the strategy does; of replicas one at a time goes."""
    monkeypatch.setattr(_incarnation, "TOO_SOON", 0.0)

    async def main() -> None:
        async with supervised(strategy, max_restarts=0) as (sup, events):
            old = await sup.start_service(
                "old", ep_services.obey, replicas=2, recycle=tractor.Recycle(age=1.0, jitter=0.0)
            )
            (after,) = await start_all(sup, events, "after")
            down: set[str] = set()
            seen: list[str] = []
            while "after" not in seen or len(seen) < 6:
                event = await events.__anext__()
                if event.kind == "stopping":
                    seen.append(event.service)
                    down.add(event.service)
                elif event.kind == "ready":
                    down.discard(event.service)
                assert not {"old.0", "old.1"} <= down
                if strategy == "one_for_one" and len(seen) == 4:
                    break
            assert {"old.0", "old.1"} <= set(seen)
            assert ("after" in seen) is (strategy == "rest_for_one")
            assert (after.incarnation > 1) is (strategy == "rest_for_one")
            assert old.restarts >= 2

    run(main)
