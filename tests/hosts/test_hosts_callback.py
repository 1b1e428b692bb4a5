"""Actors of engines that are handed a job, whose agent calls back: a fake scheduler everywhere, Dask where it is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ep_elsewhere
import ep_scheduler
import pytest
import trio
from ep_run import run

import tractor
from tractor.hosts import _engine
from tractor.hosts.agent._children import processes_below
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from bed_keeper import wait_for
from hosts_tools import ENDPOINTS, LIMIT, gone, plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")

KEY = b"of the tests of call-backs alone"
MODULES = ["ep_elsewhere"]
RAY = "TRACTOR_TEST_RAY"
QUEUED = {"resources": {"seat": 1}}


@dataclass
class Cluster:
    """Where a test starts actors.

    Attributes:
        url: of a place on it.
        told: what the fake one has told, a file; `None`: it is a real one.
        pid: of the process that agents run below; `None`: of the program that starts them.
    """

    url: str
    told: Path | None = None
    pid: int | None = None

    def options(self, **engine: Any) -> dict[str, Any]:
        given = plain(deadline=5.0, options=engine)
        if self.told is not None:
            given["options"] = {"told": str(self.told), **engine}
        return given


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    ep_scheduler.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = os.pathsep.join([str(tmp_path), ENDPOINTS])
    monkeypatch.setenv("PYTHONPATH", path)
    _engine._plugins.forget()
    (tmp_path / "told").touch()
    yield Cluster("threads://here", tmp_path / "told")
    _engine._plugins.forget()


@pytest.fixture(scope="module")
def dask_if_any() -> Iterator[Cluster | None]:
    """A cluster for the module, made before a test is looked at for what it leaves; `None`: Dask is missing."""
    if importlib.util.find_spec("distributed") is None:
        yield None
        return
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("dask_cluster.py")), "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        yield Cluster(f"dask://{popen.stdout.readline().strip()}/w1", pid=popen.pid)
        popen.stdin.close()


@pytest.fixture
def dask(dask_if_any: Cluster | None) -> Cluster:
    if dask_if_any is None:
        pytest.skip("no dask here; PyPI has it as: distributed")
    return dask_if_any


@pytest.fixture
def ray() -> Cluster:
    """A cluster is too much to be started for tests: this takes one that runs, of this machine's Python."""
    url = os.environ.get(RAY)
    if url is None:
        pytest.skip(f"no cluster of Ray is named by {RAY}, as in ray://127.0.0.1:10001")
    return Cluster(url)


@pytest.fixture(params=["fake", "dask", "ray"])
def cluster(request: pytest.FixtureRequest, dask_if_any: Cluster | None) -> Cluster:
    """Each of them."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


def root(**more: Any) -> Any:
    return tractor.open_nursery(
        **{
            "registry_addrs": [get_rando_addr("tcp")],
            "enable_transports": ["tcp"],
            "authkey": KEY,
            **more,
        }
    )


def test_calls_streams_and_errors(cluster: Cluster) -> None:
    async def main() -> None:
        options = cluster.options()
        async with root() as an, tractor.hosts.open_host(cluster.url, **options) as host:
            far = await an.start_actor("far", host=host, enable_modules=MODULES)
            pid = await far.run(ep_elsewhere.pid)
            with pytest.raises(tractor.RemoteActorError, match="far away") as caught:
                await far.run(ep_elsewhere.boom, text="far away")
            assert caught.value.boxed_type is ValueError
            async with far.open_context(ep_elsewhere.echo) as (ctx, first):
                assert first == pid
                async with ctx.open_stream() as stream:
                    for item in (1, "two", b"3" * 300_000):
                        await stream.send(item)
                        assert await stream.receive() == item
            assert await ctx.wait_for_result() == "done"
            with pytest.raises(tractor.ActorFailure) as ended:
                await one_that_leaves(host)
            assert ended.value.returncode == 3
            assert "these are my last words" in ended.value.stderr_tail
            await an.cancel()
        await gone([pid])

    run(main, limit=LIMIT)
    if cluster.told is not None:
        assert "\nwithdrawn\n" in told(cluster)


async def one_that_leaves(host: tractor.hosts.HostHandle) -> None:
    async with tractor.open_nursery() as an:
        one = await an.start_actor("one", host=host, enable_modules=MODULES)
        await one.run(ep_elsewhere.leave, status=3)


@pytest.mark.parametrize("what", [pytest.param("wait", marks=pytest.mark.long), "stopped"])
def test_nothing_outlives_a_killed_parent(cluster: Cluster, what: str) -> None:
    if cluster.url.startswith("ray"):
        pytest.skip("its agents are below none of our processes")
    order = {
        "urls": [cluster.url],
        "options": cluster.options(),
        "root": {
            "registry_addrs": [get_rando_addr("tcp")],
            "enable_transports": ["tcp"],
            "authkey": KEY.decode(),
        },
        "what": what,
    }
    program = subprocess.Popen(
        [sys.executable, str(Path(ENDPOINTS) / "ep_bed_prog.py"), json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        ours = [*processes_below(cluster.pid or program.pid, 0)]
        if what == "stopped":
            wait_for(lambda: "T" in map(state_of, ours), "one is stopped", LIMIT)
        program.kill()
        killed = time.monotonic()
        trio.run(gone, ours)
        print(f"{cluster.url} {what}: all gone {time.monotonic() - killed:.2f} s after")
    # An agent and its guard, an actor and its sentinel, and that one's subactor.
    assert len(ours) >= 5


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# -- starts that wait, and those that fail ------------------------------------------------------------


def told(cluster: Cluster) -> str:
    assert cluster.told is not None
    return cluster.told.read_text()


def give_up(cluster: Cluster, options: dict[str, Any], when: Callable[[], bool]) -> None:
    """Begin to open a link, and be cancelled."""

    async def main() -> None:
        async with root(), trio.open_nursery() as tn:

            async def start() -> None:
                async with tractor.hosts.open_host(cluster.url, **options):
                    raise AssertionError("it was to wait")

            tn.start_soon(start)
            while not when():
                await trio.sleep(0.01)
            tn.cancel_scope.cancel()

    run(main, limit=LIMIT)


def test_a_start_that_waits_is_withdrawn(fake: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    give_up(fake, fake.options(gate=str(gate)), lambda: "waits" in told(fake))
    # The link process has told its engine before it ended.
    assert told(fake).startswith("waits\nwithdrawn\n")


def test_a_job_that_starts_late_ends_at_once(fake: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        # Keeps the link process, whose threads the scheduler is.
        async with root(), tractor.hosts.open_host("command://here", **plain()):
            options = fake.options(gate=str(gate), forgetful=True)
            async with trio.open_nursery() as tn:

                async def start() -> None:
                    async with tractor.hosts.open_host(fake.url, **options):
                        raise AssertionError("it was to wait")

                tn.start_soon(start)
                while "waits" not in told(fake):
                    await trio.sleep(0.01)
                tn.cancel_scope.cancel()
            while "withdrawn" not in told(fake):
                await trio.sleep(0.01)
            gate.touch()
            while "ended" not in told(fake):
                await trio.sleep(0.01)

    run(main, limit=LIMIT)
    assert "ended 1 tractor agent: nobody waits for it at 127.0.0.1:" in told(fake)


def test_a_start_of_dask_that_waits_never_comes(dask: Cluster) -> None:
    """One link has the worker's only seat; the start behind it is withdrawn, and the seat is free after both."""

    async def main() -> None:
        async with root():
            async with tractor.hosts.open_host(dask.url, **dask.options(**QUEUED)) as first:
                late = tractor.hosts.open_host(
                    dask.url, **dask.options(**QUEUED) | {"start_timeout": 3.0}
                )
                with pytest.raises(tractor.HostUnavailable, match=r"start_timeout=3\.0 s"):
                    await late.__aenter__()
                await first.ping()
            # Were the other still queued, it would have the seat now.
            async with tractor.hosts.open_host(dask.url, **dask.options(**QUEUED)) as again:
                await again.ping()

    run(main, limit=LIMIT)


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("broken", {}, "the engine failed: ZeroDivisionError: it has divided"),
        (
            "here",
            {"program": ["sh", "-c", "echo out of order >&2"]},
            "(?s)its job has ended.*last words of its engine:\nout of order",
        ),
    ],
)
def test_a_host_that_can_not_be_used(
    fake: Cluster, target: str, options: dict[str, Any], says: str
) -> None:
    async def main() -> None:
        async with (
            root(),
            tractor.hosts.open_host(f"threads://{target}", **fake.options(**options)),
        ):
            raise AssertionError("it can't be opened")

    with pytest.raises(tractor.HostUnavailable, match=says):
        run(main, limit=LIMIT)


def test_a_python_that_a_worker_does_not_have(dask: Cluster) -> None:
    async def main() -> None:
        options = dask.options() | {"python": "/no/such/python"}
        async with root(), tractor.hosts.open_host(dask.url, **options):
            raise AssertionError("it can't be opened")

    with pytest.raises(tractor.HostUnavailable, match=r"(?s)its job has ended.*/no/such/python"):
        run(main, limit=LIMIT)
