"""How incarnations end, and what each restart kind makes of it."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ep_services
import pytest
from ep_services_tools import QUICK, heard, kill, order, start_all, supervised, told, until_counted
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


def test_a_permanent_task_that_returns_comes_again(tpt_proto: str, backend: str) -> None:
    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            before = feed.aid, feed.pid
            await order(feed, "return 7")
            assert await told(events, "ready feed") == ["ended feed", "starting feed", "ready feed"]
            assert feed.aid.name == before[0].name == "feed"
            assert feed.aid.uid != before[0].uid
            assert feed.pid != before[1]
            assert (feed.incarnation, feed.restarts, feed.state) == (2, 1, "ready")
            assert not alive(before[1])

    run(main)


def test_a_transient_task_that_returns_has_ended(tpt_proto: str) -> None:
    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (job,) = await start_all(sup, events, "job", restart="transient")
            await order(job, "return 7")
            assert await job.wait() == 7
            assert (job.state, job.incarnation, job.pid) == ("ended", 1, None)
            assert list(sup.services) == ["job"]
            with pytest.raises(tractor.ServiceEnded):
                await job.portal()
            # Down, so the name may be given away.
            again = await sup.start_service("job", ep_services.do, what="return 8")
            assert again.incarnation == 1

    run(main)


def test_a_transient_task_that_raises_comes_again(tpt_proto: str, backend: str) -> None:
    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            (feed,) = await start_all(sup, events, "feed", restart="transient")
            await order(feed, "raise ValueError")
            crashed = (await heard(events, "crashed feed"))[-1]
            await told(events, "ready feed")
            assert isinstance(feed.last_error, tractor.RemoteActorError)
            assert feed.last_error.boxed_type is ValueError
            assert "carry_out" in str(feed.last_error)
            assert crashed.error is feed.last_error
            assert (crashed.incarnation, feed.incarnation) == (1, 2)

    run(main)


@pytest.mark.parametrize("what", ["return 7", "raise ValueError"])
def test_a_temporary_task_is_dropped(what: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (one,) = await start_all(sup, events, "one", restart="temporary")
            await order(one, what)
            if what == "return 7":
                assert await one.wait() == 7
                assert one.state == "ended"
            else:
                with pytest.raises(tractor.RemoteActorError, match="ValueError"):
                    await one.wait()
                assert one.state == "failed"
            assert dict(sup.services) == {}
            with pytest.raises(tractor.ServiceEnded, match="dropped"):
                await one.restart()

    run(main)
    failed = [r for r in caplog.records if "'one', incarnation 1: failed" in r.getMessage()]
    assert len(failed) == (what != "return 7")


def test_what_is_below_a_service_is_gone_before_it_comes_again(
    tmp_path: Path, tpt_proto: str, backend: str
) -> None:
    async def main() -> None:
        pids = tmp_path / "below"
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            tree = await sup.start_service("tree", ep_services.with_a_child, path=str(pids))
            await until_counted(pids, 1)
            below = int(pids.read_text())
            await told(events, "ready tree")
            kill(tree)
            async for event in events:
                if event.kind == "starting":
                    assert not alive(below)
                    break
            assert (await heard(events, "ready tree"))[-1].incarnation == 2

    run(main)


@pytest.mark.parametrize(
    "what",
    [
        "raise ValueError",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "group",
        "exit 0",
        "exit 3",
    ],
)
def test_what_is_abnormal(what: str) -> None:
    """And nothing of it interrupts the supervisor's own actor."""

    async def main() -> None:
        async with supervised(max_restarts=1) as (sup, events):
            (job,) = await start_all(sup, events, "job", restart="transient")
            await order(job, what)
            assert (await told(events, "ready job"))[0] == "crashed job"
            assert job.state == "ready"
            if what.startswith("exit"):
                assert isinstance(job.last_error, tractor.ActorFailure)
                assert job.last_error.returncode == int(what.split()[1])

    run(main)


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("by", ["portal", "SIGTERM", "SIGINT"])
def test_a_cancel_by_somebody_else_is_a_normal_end(
    by: str, daemon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with supervised(loglevel="warning") as (sup, events):
            if daemon:
                job = await sup.start_service(
                    "job", enable_modules=["ep_services"], restart="transient"
                )
            else:
                (job,) = await start_all(sup, events, "job", restart="transient")
            if by == "portal":
                await (await job.portal()).cancel_actor()
            else:
                os.kill(job.pid, signal.Signals[by])
            assert (await told(events, "ended job"))[-1] == "ended job"
            assert job.state == "ended"
            assert job.last_error is None

    run(main)
    assert any("'job' was cancelled by" in record.getMessage() for record in caplog.records)


def test_every_incarnation_gets_the_arguments_of_the_call(tmp_path: Path) -> None:
    async def main() -> None:
        values, path = [1, 2], tmp_path / "values"
        async with supervised(backoff=QUICK) as (sup, events):
            feed = await sup.start_service("feed", ep_services.keep, values=values, path=str(path))
            values.append(3)
            await until_counted(path, 1)
            await told(events, "ready feed")
            kill(feed)
            await told(events, "ready feed")
            await until_counted(path, 2)
        assert path.read_text() == "[1, 2]\n[1, 2]\n"

    run(main)


def test_keywords_that_are_called_like_an_option_go_by_partial() -> None:
    async def main() -> None:
        async with supervised() as (sup, _events):
            fn: Any = functools.partial(ep_services.returns, restart=3)
            job = await sup.start_service("job", fn, restart="transient")
            assert await job.wait() == 3

    run(main)
