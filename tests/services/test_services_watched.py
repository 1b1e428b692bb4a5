"""Services that are looked after: the watchdog, recycling."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time

import ep_services
import pytest
import trio
from ep_marks import gets_stuck
from ep_services_tools import heard, order, start_all, supervised, told
from ep_supervise_tools import alive, run

import tractor
from tractor._util._task_tree import dump_file
from tractor.services import _incarnation

pytestmark = [pytest.mark.usefixtures("forked_actors"), gets_stuck]


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("block 60", "in carry_out"),
        pytest.param(
            "spin_in_c",
            "in spin_in_c",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="C code holds the GIL"),
        ),
    ],
)
def test_a_loop_that_stands_still(
    what: str, place: str, tpt_proto: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without anything else it is told where it stood, also while C code keeps Python from running."""

    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (feed,) = await start_all(sup, events, "feed", watchdog=1.0)
            pid = feed.pid
            async with trio.open_nursery() as tn:
                tn.start_soon(order, feed, what)
                crashed = (await heard(events, "crashed feed"))[-1]
            assert isinstance(crashed.error, tractor.ServiceStuck)
            line = str(crashed.error)
            assert re.search(rf"{re.escape(ep_services.__file__)}:\d+ {place}", line), line
            assert not alive(pid)
            await told(events, "ready feed")
            assert feed.last_error is crashed.error
            # Nothing of it is left but the log.
            assert not dump_file(pid).exists()

    run(main)
    (record,) = [one for one in caplog.records if "is stuck" in one.getMessage()]
    assert place in record.getMessage()
    # The tree of tasks: where Python still runs.
    assert ("_watch_signals" in record.getMessage()) is (what != "spin_in_c")


def test_a_tree_that_stood_still_as_a_whole() -> None:
    """As after a suspend, or in a container that was paused: nobody is stuck."""

    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed", watchdog=1.0)
            pid = feed.pid
            for _ in range(2):
                # Where in its turn the watchdog is at that time is left to chance.
                await trio.sleep(random.uniform(0.0, 1.0))
                os.kill(pid, signal.SIGSTOP)
                time.sleep(1.5)
                os.kill(pid, signal.SIGCONT)
                await trio.sleep(1.3)
            assert feed.pid == pid

    run(main)


async def _wait_in_turns(stops: list[float]) -> float:
    """How long :func:`_wait_while_awake` waits while its own loop stands still now and then."""
    begin = trio.current_time()

    async def stand_still() -> None:
        for before in stops:
            await trio.sleep(before)
            time.sleep(0.5)

    async with trio.open_nursery() as tn:
        tn.start_soon(stand_still)
        await _incarnation._wait_while_awake(trio.sleep_forever, 0.8)
        tn.cancel_scope.cancel()
    return trio.current_time() - begin


def test_a_wait_begins_anew_when_its_own_loop_stood_still() -> None:
    async def main() -> None:
        assert await _wait_in_turns([]) >= 0.8
        assert await _wait_in_turns([0.1]) >= 0.6 + 0.8
        assert await _wait_in_turns([0.1, 0.1]) >= 1.2 + 0.8
        with trio.fail_after(20):
            event = trio.Event()
            event.set()
            await _incarnation._wait_while_awake(event.wait, 3600.0)

    run(main)


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
