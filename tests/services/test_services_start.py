"""How services begin: the first start, what is refused, `after`, `ready_timeout`."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import ep_services
import pytest
import trio
from ep_services_tools import (
    QUICK,
    count,
    heard,
    kill,
    order,
    start_all,
    supervised,
    told,
    until_counted,
    words,
)
from ep_supervise_tools import alive, run

import tractor
from tractor._proto.services.restarts import Backoff

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_a_first_start_that_fails_is_raised_and_leaves_nothing(
    tmp_path: Path, tpt_proto: str
) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised(max_restarts=0, enable_transports=[tpt_proto]) as (sup, events):
            fails: Any = functools.partial(ep_services.fail_some, path=str(path), times=(1,))
            with pytest.raises(tractor.RemoteActorError) as caught:
                await sup.start_service("feed", fails)
            assert caught.value.boxed_type is ValueError
            assert dict(sup.services) == {}
            assert not alive(int(path.read_text()))
            feed = await sup.start_service("feed", fails)
            assert (feed.incarnation, feed.restarts) == (1, 0)
            assert await told(events, "ready feed") == [
                *("starting feed", "crashed feed", "starting feed", "ready feed"),
            ]

    run(main)


def test_a_first_start_of_replicas_fails_as_a_whole(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised() as (sup, _events):
            fails: Any = functools.partial(ep_services.fail_some, path=str(path), times=(2,))
            with pytest.raises(tractor.RemoteActorError, match="ValueError"):
                await sup.start_service("feed", fails, replicas=3)
            assert dict(sup.services) == {}
            assert not any(alive(int(pid)) for pid in path.read_text().split())

    run(main)


def test_a_first_start_whose_caller_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(ep_services.wait_for_gate, gate=str(gate), path=str(path))
        async with supervised() as (sup, events):
            async with trio.open_nursery() as tn:
                tn.start_soon(functools.partial(sup.start_service, "feed", slow))
                await until_counted(path, 1)
                tn.cancel_scope.cancel()
            assert not alive(int(path.read_text()))
            assert dict(sup.services) == {}
            gate.touch()
            await sup.start_service("feed", slow)
            assert await told(events, "ready feed") == [
                *("starting feed", "stopping feed", "stopped feed"),
                *("starting feed", "ready feed"),
            ]

    run(main)


def test_a_service_that_is_never_ready_and_does_not_go(tmp_path: Path) -> None:
    """The caller of its first start does not wait for its endpoint, but for its ladder."""

    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised() as (sup, _events):
            with pytest.raises(tractor.ServiceNotReady, match="ready_timeout"):
                await sup.start_service(
                    "feed",
                    functools.partial(ep_services.hang_before_started, path=str(path)),
                    ready_timeout=3.0,
                    shutdown="kill",
                )
            assert not alive(int(path.read_text()))

    run(main)


def test_what_is_too_slow_has_failed_to_start(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        async with supervised(loglevel="warning") as (sup, events):
            sup.start_soon(
                "feed",
                functools.partial(ep_services.wait_for_gate, gate=str(gate), path=str(path)),
                ready_timeout=3.0,
            )
            crashed = (await heard(events, "crashed feed"))[-1]
            assert isinstance(crashed.error, tractor.ServiceNotReady)
            gate.touch()
            assert await told(events, "ready feed") == ["starting feed", "ready feed"]

    run(main)


def test_a_service_that_is_stopped_while_it_starts(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised() as (sup, events):
            feed = sup.start_soon(
                "feed",
                functools.partial(ep_services.hang_before_started, path=str(path)),
                shutdown="kill",
            )
            await until_counted(path, 1)
            with trio.fail_after(20):
                await feed.stop()
            assert not alive(int(path.read_text()))
            assert feed.state == "stopped"
            assert await told(events, "stopped feed") == [
                *("starting feed", "stopping feed", "stopped feed")
            ]

    run(main)


@pytest.mark.parametrize("module", ["ep_services_broken", "ep_services_missing"])
def test_starts_that_fail_grow_apart_and_are_too_many_at_last(module: str) -> None:
    delays: list[float | None] = []

    async def main() -> None:
        growing = Backoff(initial=0.01, factor=3.0, jitter=0.0)
        async with supervised(backoff=growing, max_restarts=3) as (sup, events):
            sup.start_soon("feed", enable_modules=[module])
            async for event in events:
                if event.kind == "backoff":
                    delays.append(event.delay)
            assert not any(service.pid for service in sup.services.values())

    with pytest.raises(tractor.RestartLimitExceeded) as caught:
        run(main)
    assert delays == pytest.approx([0.01, 0.03, 0.09])
    assert module in str(caught.value.__cause__)
    assert caught.value.service == "feed"


def not_async() -> None:
    """No service."""


REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("up", {}, ValueError, "'up'"),
    ("to_come", {}, ValueError, "'to_come'"),
    ("two", {}, ValueError, "'two'"),
    ("two.0", {}, ValueError, r"'two\.0'"),
    ("two.1", {"replicas": 2}, ValueError, r"'two\.1'"),
    ("up", {"replicas": 2}, ValueError, "'up'"),
    ("x", {"restart": "always"}, ValueError, "restart='always'"),
    ("x", {"replicas": 0}, ValueError, "replicas=0"),
    ("x", {"replicas": 1.5}, TypeError, "replicas=1.5"),
    ("x", {"shutdown": -1}, ValueError, "shutdown=-1"),
    ("x", {"shutdown": float("inf")}, ValueError, "shutdown=inf"),
    ("x", {"shutdown": "term"}, TypeError, "shutdown='term'"),
    ("x", {"drain": -0.1}, ValueError, "drain=-0.1"),
    ("x", {"ready_timeout": 0}, ValueError, "ready_timeout=0"),
    ("x", {"watchdog": float("nan")}, ValueError, "watchdog=nan"),
    ("x", {"significant": True}, ValueError, "significant"),
    ("x", {"significant": True, "restart": "transient"}, ValueError, "never"),
    ("x", {"after": ["nobody"]}, ValueError, "'nobody'"),
    ("x", {"after": ["x"]}, ValueError, "'x'"),
    ("x", {"after": "up"}, TypeError, "after='up'"),
    ("x", {"backoff": 3}, TypeError, "backoff=3"),
    ("x", {"recycle": 3}, TypeError, "recycle=3"),
    ("x", {"actor": {"name": "y"}}, TypeError, "name"),
    ("x", {"fn": not_async}, TypeError, "not_async"),
    ("x", {"fn": lambda: None}, TypeError, "lambda"),
    ("x", {"unknown": 3}, TypeError, "unknown"),
    ("x", {"after": 5}, TypeError, "after=5"),
    ("x", {"enable_modules": 5}, TypeError, "not 5"),
    ("", {}, TypeError, "name"),
]


def test_what_is_refused(tmp_path: Path) -> None:
    """And nothing is spawned, nor told, for it."""

    async def main() -> None:
        gate = tmp_path / "gate"
        waits = functools.partial(ep_services.wait_for_gate, gate=str(gate))
        async with supervised() as (sup, events):
            up, _ = await start_all(sup, events, "up", "pair")
            sup.start_soon("two", ep_services.obey, replicas=2)
            sup.start_soon("to_come", waits)
            await told(events, "starting to_come")
            for name, options, error, says in REFUSED:
                fn = options.get("fn")
                rest = {key: value for key, value in options.items() if key != "fn"}
                with pytest.raises(error, match=says):
                    sup.start_soon(name, fn, **rest)
                with pytest.raises(error, match=says):
                    await sup.start_service(name, fn, **rest)
            assert list(sup.services) == ["up", "pair", "two", "to_come"]
            await up.stop()
            new = [words(e) for e in await heard(events, "stopped up")]
            assert [word for word in new if "starting" in word] == []

    run(main)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"strategy": "one_for_two"}, ValueError, "strategy='one_for_two'"),
        ({"max_restarts": -1}, ValueError, "max_restarts=-1"),
        ({"max_restarts": 1.5}, TypeError, "max_restarts=1.5"),
        ({"within": 0}, ValueError, "within=0"),
        ({"within": float("inf")}, ValueError, "within=inf"),
        ({"auto_shutdown": "sometimes"}, ValueError, "auto_shutdown='sometimes'"),
        ({"backoff": 0.1}, TypeError, "backoff=0.1"),
    ],
)
def test_an_unknown_word_or_number_of_the_supervisor(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    async def main() -> None:
        async with supervised(**options):
            pass

    with pytest.raises(error, match=says):
        run(main)


def test_names_of_replicas_that_are_given_away() -> None:
    """A service that is down is dropped where a new one is called like one of its replicas."""

    async def main() -> None:
        async with supervised() as (sup, events):
            pair = await sup.start_service("pair", ep_services.obey, replicas=2)
            await pair.stop()
            await start_all(sup, events, "pair.1")
            assert list(sup.services) == ["pair.1"]
            with pytest.raises(tractor.ServiceEnded, match="dropped"):
                await pair.restart()

    run(main)


def test_a_circle_by_names_that_are_used_again() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (a,) = await start_all(sup, events, "a")
            await start_all(sup, events, "b", after=["a"])
            await a.stop()
            with pytest.raises(ValueError, match="'b'"):
                sup.start_soon("a", ep_services.obey, after=["b"])

    run(main)


def test_after_waits_through_the_restarts_of_a_job(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        async with supervised(backoff=QUICK) as (sup, events):
            job = sup.start_soon(
                "migrate",
                functools.partial(ep_services.fail_some, path=str(path), times=(1, 2)),
                restart="transient",
            )
            api = sup.start_soon("api", ep_services.obey, after=["migrate"])
            await told(events, "ready migrate")
            assert (count(path), job.incarnation) == (3, 3)
            assert (await told(events, "ready api"))[0] == "starting api"
            await order(job, "return 0")
            await told(events, "ended migrate")
            # What has ended normally is no reason to wait.
            await order(api, "return 0")
            await told(events, "ready api")
            del gate

    run(main)


def test_a_blocked_service_comes_when_that_one_does() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (db,) = await start_all(sup, events, "db")
            api = await sup.start_service("api", ep_services.obey, after=["db"])
            web = await sup.start_service("web", ep_services.obey, after=["api"])
            await db.stop()
            await order(api, "return 0")
            await told(events, "ended api")
            assert (api.state, web.state) == ("waiting", "ready")
            for waits in (api.portal, api.wait):
                with pytest.raises(tractor.ServiceEnded):
                    await waits()
            with pytest.raises(tractor.ServiceEnded, match="down"):
                await sup.start_service("late", ep_services.obey, after=["web", "db"])
            with pytest.raises(tractor.ServiceEnded, match="down"):
                await api.restart()
            assert list(sup.services) == ["db", "api", "web"]
            await db.restart()
            await told(events, "ready api")

    run(main)


def test_what_was_dropped_after_it_failed_blocks_until_there_is_another() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (job,) = await start_all(sup, events, "job", restart="temporary")
            (api,) = await start_all(sup, events, "api", after=["job"])
            await order(job, "raise ValueError")
            await told(events, "failed job")
            await order(api, "return 0")
            await told(events, "ended api")
            assert api.state == "waiting"
            with trio.fail_after(20):
                await sup.wait()
            await start_all(sup, events, "job")
            await api.portal()

    run(main)


def test_a_first_start_that_a_round_meets_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=1
        )
        async with supervised("one_for_all") as (sup, events):
            (a,) = await start_all(sup, events, "a")
            async with trio.open_nursery() as tn:
                tn.start_soon(functools.partial(sup.start_service, "slow", slow))
                await until_counted(path, 1)
                kill(a)
                await told(events, "stopped slow")
                gate.touch()
            assert await told(events, "ready slow") == [
                *("starting a", "ready a", "starting slow", "ready slow"),
            ]
            assert sup.services["slow"].incarnation == 2

    run(main)


def test_what_a_service_tells_of_itself() -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (feed,) = await start_all(sup, events, "feed")
            pair = await sup.start_service("pair", ep_services.obey, replicas=2)
            assert feed.spec.name == "feed"
            assert feed.spec.restart == "permanent"
            assert feed.uptime is not None
            assert 0 <= feed.uptime < 40
            record = feed.statistics()
            assert (record.name, record.state, record.incarnation, record.restarts, record.pid) == (
                *("feed", "ready", 1, 0, feed.pid),
            )
            assert pair.statistics().pid == pair.pid
            total = sup.statistics()
            assert (total.phase, total.services, total.restarts) == ("open", {"ready": 3}, 0)
            with trio.move_on_after(0.05) as waited:
                await sup.wait()
            assert waited.cancelled_caught
            await feed.stop()
            await pair.stop()
            await sup.wait()
            assert feed.statistics().uptime is None
            assert (feed.pid, feed.aid) == (None, None)
            assert pair.pid == (None, None)

    run(main)


def test_what_is_cancelled_before_it_is_ready_has_failed_to_start(tmp_path: Path) -> None:
    async def main() -> None:
        path, gate = tmp_path / "starts", tmp_path / "gate"
        slow: Any = functools.partial(
            ep_services.wait_for_gate, gate=str(gate), path=str(path), from_start=1
        )
        async with supervised(max_restarts=0) as (sup, events):

            async def starts() -> None:
                with pytest.raises(tractor.RuntimeFailure, match="before it was ready"):
                    await sup.start_service("slow", slow, restart="transient")

            async with trio.open_nursery() as tn:
                tn.start_soon(starts)
                await until_counted(path, 1)
                os.kill(int(path.read_text()), signal.SIGTERM)
            assert dict(sup.services) == {}
            assert await told(events, "crashed slow") == ["starting slow", "crashed slow"]

    run(main)
