"""Actors behind `command://` over a plain local program: all but the network."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ep_elsewhere
import ep_instruments
import pytest
import trio
from ep_run import run

import tractor
from tractor._proto.deadlines import TEARDOWN_TIME
from tractor.devx import events
from tractor.hosts._links import links_of

sys.path.insert(0, str(Path(__file__).parent))

from bed_keeper import wait_for
from hosts_tools import CONT, LIMIT, STOP, gone, plain, relayed, relays, signal_relays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")

URL = "command://here"
TREE: dict[str, Any] = {"enable_modules": ["ep_elsewhere"]}


@contextlib.asynccontextmanager
async def far_away(options: dict[str, Any]) -> AsyncIterator[Far]:
    """An actor behind a command; a block that is left without an error ends it."""
    async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **options) as host:
        portal = await an.start_actor("far", host=host, **TREE)
        yield Far(host, portal, await portal.run(ep_elsewhere.pid))
        await an.cancel()


class Far(NamedTuple):
    """What a test has of it."""

    host: tractor.hosts.HostHandle
    portal: tractor.Portal
    pid: int


@pytest.fixture(autouse=True)
def _no_relay() -> Iterator[None]:
    yield
    signal_relays(signal.SIGKILL)


def test_it_is_an_actor_like_any_other() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            far = await an.start_actor("far", host=host, **TREE)
            near = await an.start_actor("near", **TREE)
            far_pid = await far.run(ep_elsewhere.pid)
            (info,) = [info for info in an.children.values() if info.aid.name == "far"]
            assert (info.pid, info.start_method) == (far_pid, "command")
            assert info.host == host.statistics().host_id
            with pytest.raises(tractor.RemoteActorError) as caught:
                await far.run(ep_elsewhere.boom, text="far away")
            assert caught.value.boxed_type is ValueError
            assert "far away" in str(caught.value)
            async with far.open_context(ep_elsewhere.echo) as (ctx, first):
                assert first == far_pid
                async with ctx.open_stream() as stream:
                    for item in (1, "two", [3, None]):
                        await stream.send(item)
                        assert await stream.receive() == item
            assert await ctx.wait_for_result() == "done"
            # Peers find each other both ways.
            assert await near.run(ep_elsewhere.call_peer, name="far") == far_pid
            assert await far.run(ep_elsewhere.call_peer, name="near") == await near.run(
                ep_elsewhere.pid
            )
            await an.cancel()
        await gone([far_pid])

    run(main, limit=LIMIT)


def test_its_instruments_are_made_there_and_tell_of_the_same_dialogs() -> None:
    keeper = ep_instruments.Keeper()

    async def main() -> None:
        async with (
            tractor.open_nursery(instruments=[keeper, "ep_instruments:make"]) as an,
            tractor.hosts.open_host(URL, **plain()) as host,
        ):
            far = await an.start_actor("far", host=host, enable_modules=["ep_instruments"])
            assert await far.run(ep_instruments.in_context) == "in_context"
            told = ep_instruments.as_records(await far.run(ep_instruments.kept))
            await an.cancel()
        (asked, _) = keeper.of(events.CallStarted)
        (served, _) = (one for one in told if isinstance(one, events.CallStarted))
        assert (asked.dialog, asked.function) == (served.dialog, served.function)
        (ready,) = keeper.of(events.ChildReady)
        assert (ready.name, ready.backend, ready.host) == ("far", "command", URL)

    run(main, limit=LIMIT)
    ep_instruments.keepers.clear()


def test_a_one_shot_there() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            portal = await an.run_in_actor(ep_elsewhere.pid, proc_kwargs={"host": host})
            assert await portal.wait_for_result() != os.getpid()

    run(main, limit=LIMIT)


def test_an_own_subactor_of_one_there() -> None:
    pids: list[int] = []

    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            far = await an.start_actor("far", host=host, **TREE)
            async with far.open_context(ep_elsewhere.below) as (ctx, found):
                pids.extend(found)
                await ctx.cancel()
            await an.cancel()
        await gone(pids)

    run(main, limit=LIMIT)


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_its_end_is_told_as_it_was(number: int) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            far = await an.start_actor("far", host=host, **TREE)
            if number:
                os.kill(await far.run(ep_elsewhere.pid), number)
                await trio.sleep_forever()
            await far.run(ep_elsewhere.leave, status=3)

    with pytest.raises(tractor.ActorFailure) as caught:
        run(main, limit=LIMIT)
    assert not isinstance(caught.value, tractor.HostLost)
    assert caught.value.returncode == (-number if number else 3)
    if not number:
        assert "these are my last words" in caught.value.stderr_tail


def test_one_that_does_not_go_is_killed() -> None:
    async def main() -> None:
        pids = []
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            for name, what in (("shielded", ep_elsewhere.shielded), ("stopped", ep_elsewhere.stop)):
                far = await an.start_actor(name, host=host, **TREE)
                pids.append(await far.run(ep_elsewhere.pid))
                with trio.move_on_after(0.5):
                    await far.run(what)
            await an.cancel()
        await gone(pids, 0.5)

    run(main, limit=LIMIT)


def test_the_agent_is_killed() -> None:
    seen: dict[str, Any] = {}

    async def main() -> None:
        async with far_away(plain(deadline=30.0)) as far:
            (link,) = links_of(tractor.current_actor())._hosts.values()
            os.kill(link.facts["pid"], signal.SIGKILL)
            seen["killed"] = time.monotonic()
            await gone([far.pid], 2.0)
            await trio.sleep_forever()

    with pytest.raises(tractor.HostLost) as caught:
        run(main, limit=LIMIT)
    assert caught.value.uid is not None
    assert caught.value.uid[0] == "far"
    assert caught.value.host == URL
    assert "the agent there was killed" in str(caught.value)
    # Its sentinel says that nothing is left: the lease is not waited for. But what is below its children has its time.
    assert TEARDOWN_TIME - 0.2 < time.monotonic() - seen["killed"] < 20.0


def test_the_agent_and_its_sentinel_are_killed() -> None:
    seen: dict[str, Any] = {}

    async def main() -> None:
        async with far_away(plain(deadline=2.0)) as far:
            (link,) = links_of(tractor.current_actor())._hosts.values()
            agent = link.facts["pid"]
            children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
            (guard,) = {int(pid) for pid in children} - {far.pid}
            os.kill(guard, signal.SIGSTOP)
            os.kill(agent, signal.SIGKILL)
            os.kill(guard, signal.SIGKILL)
            seen["killed"] = time.monotonic()
            await trio.sleep_forever()

    with pytest.raises(tractor.HostLost):
        run(main, limit=LIMIT)
    # The lease is waited for: nobody can say that nothing runs there before.
    assert time.monotonic() - seen["killed"] >= 2.0


def test_the_link_process_is_killed() -> None:
    async def main() -> None:
        async with far_away(plain(deadline=2.0)) as far:
            popen = links_of(tractor.current_actor())._popen
            assert popen is not None
            popen.kill()
            await gone([far.pid], 2.0)
            await trio.sleep_forever()

    with pytest.raises(tractor.HostLost, match="the link process has ended"):
        run(main, limit=LIMIT)


def test_a_cut_is_the_end_of_what_runs_there() -> None:
    seen: dict[str, Any] = {}

    async def main() -> None:
        async with far_away(relayed(deadline=2.0)) as far:
            seen["cut"] = time.monotonic()
            signal_relays(STOP)
            await gone([far.pid], 4.0)
            await trio.sleep_forever()

    with pytest.raises(tractor.HostLost):
        run(main, limit=LIMIT)
    assert time.monotonic() - seen["cut"] >= 2.0


def test_a_short_cut_is_survived() -> None:
    async def main() -> None:
        async with far_away(relayed(deadline=4.0)) as far:
            for _ in range(2):
                signal_relays(STOP)
                await trio.sleep(1.8)
                signal_relays(CONT)
                await far.host.ping()
                await trio.sleep(1.0)
            assert await far.portal.run(ep_elsewhere.pid) == far.pid

    run(main, limit=LIMIT)


def test_a_parent_that_holds_its_gil_loses_nobody() -> None:
    async def main() -> None:
        async with far_away(plain(deadline=2.0)) as far:
            time.sleep(5.0)
            assert await far.portal.run(ep_elsewhere.pid) == far.pid

    run(main, limit=LIMIT)


PROGRAM = """\
import os, sys, trio, tractor
sys.path[:0] = {path!r}
import ep_elsewhere
from bed_keeper import wait_for
from hosts_tools import plain, relayed

async def main():
    async with tractor.open_nursery() as an, tractor.hosts.open_host("command://here", **{how}()) as host:
        far = await an.start_actor("far", host=host, enable_modules=["ep_elsewhere"])
        async with far.open_context(ep_elsewhere.below) as (ctx, pids):
            print(*pids, flush=True)
            if {stopped}:
                async with trio.open_nursery() as tn:
                    tn.start_soon(far.run, ep_elsewhere.stop)
            await trio.sleep_forever()

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("how", ["plain", "relayed"])
def test_nothing_outlives_a_killed_parent(tmp_path: Path, how: str, stopped: bool) -> None:
    here = Path(__file__).parent
    path = [str(here), str(here.parent / "endpoints")]
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(path=path, how=how, stopped=stopped))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        if stopped:
            status = Path(f"/proc/{pids[0]}/stat")
            wait_for(
                lambda: status.read_text().rpartition(")")[2].split()[0] == "T", "stopped", LIMIT
            )
        program.kill()
        killed = time.monotonic()

        async def all_gone() -> None:
            await gone([*pids, *relays()], 10.0)

        trio.run(all_gone)
    # Two seconds are the promise, and a second for the look of the test on a busy machine.
    assert time.monotonic() - killed < 2.0 + 1.0


# -- starts that fail ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"python": "/no/such/python"}, "/no/such/python"),
        ({"options": {"command": ["/no/such/command"]}}, "/no/such/command"),
        (
            {"options": {"command": ["sh", "-c", "echo out of order >&2; exit 3"]}},
            "the last words of its engine:\nout of order",
        ),
        (
            {"options": {"command": ["sh", "-c", "sleep 60"]}, "start_timeout": 0.5},
            "start_timeout=0.5 s",
        ),
        ({"options": {"command": ["sh", "-c", "yes"]}}, "no agent answers there"),
    ],
)
def test_a_host_that_can_not_be_used(options: dict[str, Any], says: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain(**options)):
            await an.start_actor("never")

    with pytest.raises(tractor.HostUnavailable, match=says) as caught:
        run(main, limit=LIMIT)
    assert URL in str(caught.value)


def test_a_start_that_is_given_up_is_withdrawn(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ > {mark}; exec sleep 60"]

    async def main() -> None:
        async with tractor.open_nursery():
            with trio.move_on_after(LIMIT) as scope:
                async with trio.open_nursery() as tn:

                    async def start() -> None:
                        async with tractor.hosts.open_host(
                            URL, **plain(options={"command": command})
                        ):
                            raise AssertionError("it is no agent")

                    tn.start_soon(start)
                    while not mark.exists() or not mark.read_text():
                        await trio.sleep(0.01)
                    tn.cancel_scope.cancel()
            assert not scope.cancelled_caught
            await gone([int(mark.read_text())], 2.0)

    run(main, limit=LIMIT)


def test_a_client_is_asked_to_withdraw_a_start_before_it_is_killed(tmp_path: Path) -> None:
    runs, asked = tmp_path / "runs", tmp_path / "asked"
    # It does not mind the end of its stdin.
    script = f"trap 'touch {asked}; exit' TERM; touch {runs}; while :; do sleep 0.02; done"

    async def main() -> None:
        async with tractor.open_nursery(), trio.open_nursery() as tn:

            async def start() -> None:
                options = plain(options={"command": ["sh", "-c", script]})
                async with tractor.hosts.open_host(URL, **options):
                    raise AssertionError("it is no agent")

            tn.start_soon(start)
            while not runs.exists():
                await trio.sleep(0.01)
            tn.cancel_scope.cancel()

    run(main, limit=LIMIT)
    assert asked.exists()


def test_a_link_that_is_being_closed_is_joined_by_nobody() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            for twentieths in range(8):
                with trio.move_on_after(twentieths / 20):
                    async with tractor.hosts.open_host(URL, **plain()) as host:
                        await an.start_actor("early", host=host)
            # Opened, closed, and opened again at once.
            for _ in range(2):
                async with tractor.hosts.open_host(URL, **plain()) as host:
                    await host.ping()
            await an.cancel()

    run(main, limit=LIMIT)


def test_a_module_that_is_not_there() -> None:
    async def main() -> None:
        async with (
            tractor.open_nursery() as an,
            tractor.hosts.open_host(URL, **plain(env={})) as host,
        ):
            with pytest.raises(tractor.RemoteActorError, match="ep_elsewhere") as caught:
                await an.start_actor("far", host=host, **TREE)
            assert caught.value.boxed_type is ModuleNotFoundError

    run(main, limit=LIMIT)


@pytest.mark.parametrize("ship", [(), ("shipped_module",)])
def test_a_module_that_is_another_one_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    ship: tuple[str, ...],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place, version in (("here", 1), ("there", 2)):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "differing_module.py").write_text(f"version = {version}\n")
    (tmp_path / "here" / "shipped_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "here")
    options = plain(env={"PYTHONPATH": str(tmp_path / "there")}, ship=ship)

    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **options) as host:
            await an.start_actor("far", host=host, enable_modules=["differing_module"])
            await an.cancel()

    says = "'differing_module' (" + str(tmp_path / "there" / "differing_module.py")
    if ship:
        with pytest.raises(tractor.RemoteActorError) as caught:
            run(main, limit=LIMIT)
        assert caught.value.boxed_type is tractor.RuntimeFailure
        assert says in str(caught.value)
    else:
        run(main, limit=LIMIT)
        assert says in capfd.readouterr().err


def test_options_for_a_process_of_this_host() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, tractor.hosts.open_host(URL, **plain()) as host:
            with pytest.raises(TypeError, match=r"\['pass_fds'\] are for a process of this host"):
                await an.start_actor("far", host=host, proc_kwargs={"pass_fds": (1,)})

    run(main, limit=LIMIT)


# -- code ---------------------------------------------------------------------------------------------

SHIPPED = """\
import os, trio, tractor
from bed_keeper import wait_for
from hosts_tools import plain

async def own(x: int) -> int:
    import shipped_package.part
    return shipped_package.part.twice(x) + {plus}

async def main():
    options = plain(env={{}}, ship=("main", "shipped_package"))
    async with tractor.open_nursery() as an, tractor.hosts.open_host("command://here", **options) as host:
        far = await an.start_actor("far", host=host, enable_modules=["__main__"])
        print(await far.run(own, x=4))
        await an.cancel()

if __name__ == "__main__":
    trio.run(main)
"""


def test_code_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "code" / "shipped_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("def twice(x): return 2 * x\n")
    script = tmp_path / "program.py"
    for plus in (1, 1, 2):
        script.write_text(SHIPPED.format(plus=plus))
        done = subprocess.run(
            [sys.executable, str(script)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(package.parent), str(Path(__file__).parent)]),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.stdout, done.returncode) == (f"{8 + plus}\n", 0), done.stderr
    # The package, and two states of the script: the second run has sent nothing.
    assert len(list((tmp_path / "cache" / "tractor" / "code").iterdir())) == 3
