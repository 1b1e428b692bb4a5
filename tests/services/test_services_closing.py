"""How a supervisor's block ends, and how services are stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import ep_services
import pytest
import trio
from ep_services_tools import (
    LONG,
    heard,
    kill,
    order,
    start_all,
    supervised,
    told,
    until_counted,
)
from ep_supervise_tools import Program, alive, program, run, until_gone

import tractor
from tractor._proto.children import ladder

pytestmark = pytest.mark.usefixtures("forked_actors")

PROGRAM = Path(ep_services.__file__).with_name("ep_services_prog.py")


def test_the_end_of_the_body_stops_all_in_reverse_order(tpt_proto: str) -> None:
    found: list[str] = []

    async def main() -> None:
        async with supervised(enable_transports=[tpt_proto]) as (sup, events):
            services = await start_all(sup, events, "a", "b", "c")
            pids = {one.name: one.pid for one in services}

            async def watch() -> None:
                async for event in sup.events():
                    found.append(f"{event.kind} {event.service}")
                    assert event.because in (None, "close")
                    if event.kind == "stopped":
                        assert not alive(pids[event.service])

            async with trio.open_nursery() as tn:
                tn.start_soon(watch)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await sup.cancel()

    run(main)
    assert found == [f"{kind} {name}" for name in "cba" for kind in ("stopping", "stopped")]


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("body", [True, False])
def test_errors_of_the_body_and_of_services(body: bool, fails: bool) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            await start_all(sup, events, "a")
            what = "raise ValueError" if fails else "return 0"
            b = await sup.start_service("b", ep_services.fail_at_end, what=what)
            await sup.start_service("t", ep_services.fail_at_end, restart="temporary")
            await (await b.portal()).run(ep_services.pid)
            if body:
                raise OSError("the body")

    if not body and not fails:
        run(main)
        return
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        run(main)
    if body and not fails:
        assert type(caught.value) is OSError
    elif not body:
        assert isinstance(caught.value, tractor.RemoteActorError)
        assert caught.value.boxed_type is ValueError
    else:
        assert isinstance(caught.value, BaseExceptionGroup)
        kinds = sorted(type(exc).__name__ for exc in caught.value.exceptions)
        assert kinds == ["OSError", "RemoteActorError"]


def test_a_block_that_is_cancelled() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with supervised() as (sup, events):
                services = await start_all(sup, events, "a", "b")
                pids = [one.pid for one in services]
                kill(services[1])
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert not any(map(alive, pids))

    run(main)


@pytest.mark.parametrize("how", ["cancel", "hard"])
def test_cancel_leaves_the_body_running(how: str) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (a,) = await start_all(sup, events, "a")
            (b,) = await start_all(sup, events, "b", backoff=LONG)
            pid = a.pid
            kill(b)
            await told(events, "backoff b")
            with trio.fail_after(10):
                await sup.cancel(hard_kill=how == "hard")
                await sup.wait()
            assert not alive(pid)
            assert (a.state, b.state) == ("stopped", "stopped")
            with pytest.raises(tractor.RuntimeFailure, match="ends"):
                await sup.start_service("c", ep_services.obey)
            with pytest.raises(tractor.RuntimeFailure, match="ends"):
                sup.start_soon("c", ep_services.obey)
            with pytest.raises(tractor.RuntimeFailure, match="ends"):
                await a.restart()
            for one in (a, b):
                with pytest.raises(tractor.ServiceEnded):
                    await one.portal()
                with pytest.raises(tractor.ServiceEnded):
                    await one.wait()
            assert [event async for event in sup.events()] == []

    run(main)


@pytest.mark.parametrize(
    ("shutdown", "ignores", "status", "escalations"),
    [
        ("kill", False, -signal.SIGKILL, []),
        (0, False, None, ["TERM", "KILL"]),
        (0, True, -signal.SIGKILL, ["TERM", "KILL"]),
        (1.0, True, -signal.SIGKILL, ["TERM", "KILL"]),
    ],
)
def test_shutdown(
    shutdown: Any, ignores: bool, status: int | None, escalations: list[str], tmp_path: Path
) -> None:
    """A task that does not go when it is asked to."""

    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised() as (sup, events):
            stubborn = await sup.start_service(
                "stubborn",
                ep_services.stay,
                seconds=60,
                path=str(path),
                ignore_sigterm=ignores,
                shutdown=shutdown,
            )
            await until_counted(path, 1)
            child = stubborn._entry.lives[stubborn._members[0]].child
            assert child is not None
            began = trio.current_time()
            await stubborn.stop()
            assert not alive(int(path.read_text()))
            assert stubborn.state == "stopped"
            assert (await heard(events, "stopped stubborn"))[-1].error is None
            assert child.ladder is not None
            found = [(one.entered.name, one.at - began) for one in child.ladder.escalations]
            assert [name for name, _ in found] == escalations
            if escalations:
                term, killed = (at for _, at in found)
                assert term >= shutdown
                assert killed - term >= 0.49
            if status is not None:
                assert child.returncode == status

    run(main)


def test_auto_shutdown() -> None:
    async def main() -> None:
        async with supervised(auto_shutdown="any_significant") as (sup, events):
            a, b = await start_all(sup, events, "a", "b")
            (job,) = await start_all(sup, events, "job", restart="transient", significant=True)
            (other,) = await start_all(sup, events, "other", restart="transient", significant=True)
            await other.stop()
            await order(job, "raise ValueError")
            await told(events, "ready job")
            await order(job, "return 7")
            with trio.fail_after(10):
                await sup.wait()
            assert await told(events, "stopped a") == [
                *("ended job", "stopping b", "stopped b", "stopping a", "stopped a"),
            ]
            assert await job.wait() == 7
            assert (a.state, b.state) == ("stopped", "stopped")
            with pytest.raises(tractor.RuntimeFailure):
                await sup.start_service("c", ep_services.obey)

    run(main)


@pytest.mark.parametrize("what", ["return 7", "raise ValueError"])
def test_auto_shutdown_by_the_last_one(what: str) -> None:
    async def main() -> None:
        async with supervised(auto_shutdown="all_significant") as (sup, events):
            (a,) = await start_all(sup, events, "a")
            one, two = await start_all(
                sup, events, "one", "two", restart="temporary", significant=True
            )
            await order(one, "return 7")
            await told(events, "ended one")
            assert (a.state, two.state) == ("ready", "ready")
            await order(two, what)
            await sup.wait()
            assert a.state == "stopped"
            assert dict(sup.services).keys() == {"a"}

    run(main)


def test_an_end_in_the_closing_is_the_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        async with supervised() as (sup, events):
            (a,) = await start_all(sup, events, "a")
            path = tmp_path / "starts"
            await sup.start_service(
                "slow", ep_services.stay, seconds=60, path=str(path), shutdown=1.0
            )
            await until_counted(path, 1)
            with sup.events() as mine:
                async with trio.open_nursery() as tn:
                    tn.start_soon(sup.cancel)
                    await told(mine, "stopping slow")
                    kill(a)
                    crashed = (await heard(mine, "crashed a"))[-1]
                    assert isinstance(crashed.error, tractor.ActorFailure)
                assert a.restarts == 0

    with pytest.raises(tractor.ActorFailure):
        run(main)


def interrupt(prog: Program) -> None:
    """Again and again: one that hits the program's own code is that code's."""
    while prog.process.poll() is None:
        os.kill(prog.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            prog.process.wait(0.3)


@pytest.mark.parametrize("when", ["in the body", "in the end"])
def test_ctrl_c_twice(when: str, tmp_path: Path) -> None:
    """Services that hang in a shielded sleep, and would have 30 s."""
    path = tmp_path / "pids"
    with program(str(path), when, script=PROGRAM) as prog:
        assert prog.read_line() == "ready"
        if when == "in the end":
            assert prog.read_line() == "stopping"
        began = time.monotonic()
        interrupt(prog)
        assert time.monotonic() - began < 25
        # The last one may have hit the interpreter's own end.
        assert prog.finish() in (1, -signal.SIGINT), prog.stderr
        assert "KeyboardInterrupt" in prog.stderr
    trio.run(until_gone, [int(pid) for pid in path.read_text().split()])


@pytest.mark.parametrize("when", ["in the body", "in the end"])
def test_ctrl_c_once(when: str, tmp_path: Path) -> None:
    """The services have their time, and nobody is killed."""
    path = tmp_path / "pids"
    with program(str(path), when, "go", script=PROGRAM) as prog:
        assert prog.read_line() == "ready"
        if when == "in the end":
            assert prog.read_line() == "stopping"
        os.kill(prog.pid, signal.SIGINT)
        assert prog.finish() == 1, prog.stderr
        assert "KeyboardInterrupt" in prog.stderr
        assert "T-800" not in prog.stderr


def test_the_parent_of_a_supervisor_is_lost(tmp_path: Path) -> None:
    """All goes at once: neither order nor `shutdown` hold."""

    async def main() -> None:
        path = tmp_path / "pids"
        async with supervised() as (sup, events):
            shop = await sup.start_service(
                "shop", ep_services.supervise_stubborn, path=str(path), restart="temporary"
            )
            await until_counted(path, 2)
            kill(shop)
            await told(events, "failed shop")
            assert not any(alive(int(pid)) for pid in path.read_text().split())

    run(main)


def test_the_kills_of_the_ladder_are_no_errors_of_the_block(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "starts"
        async with supervised() as (sup, _events):
            for shutdown in ("kill", 0.0):
                await sup.start_service(
                    f"s{shutdown}",
                    ep_services.stay,
                    seconds=60,
                    path=str(path),
                    ignore_sigterm=True,
                    shutdown=shutdown,
                )
            await until_counted(path, 2)
        assert not any(alive(int(pid)) for pid in path.read_text().split())

    run(main)


def test_a_supervisor_inside_has_the_time_that_its_services_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ladder of the actor around waits: it is told that this goes on, and how long."""
    # Less than one of them needs.
    monkeypatch.setattr(ladder, "PROGRESS_TIMEOUT", 2.0)

    async def main() -> None:
        path = tmp_path / "pids"
        async with supervised() as (sup, events):
            shop = await sup.start_service(
                "shop", ep_services.supervise_stubborn, path=str(path), seconds=2.5
            )
            await until_counted(path, 2)
            life = shop._entry.lives[shop._members[0]]
            await shop.stop()
            assert life.child is not None
            assert life.child.returncode == 0
            assert life.child.ladder is not None
            assert life.child.ladder.escalations == []
            assert (await heard(events, "stopped shop"))[-1].error is None

    run(main)
