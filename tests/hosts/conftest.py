"""A test bed for the tests of a module, and what each of its tests needs of it."""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bed import Bed, missing, open_bed
from bed_init import PROJECT
from bed_keeper import wait_for
from bed_slurm import all_respond
from bed_ways import Way, is_of_engine

WAYS = (
    ("ssh", "tunnel"),
    pytest.param(("ssh", "direct"), marks=pytest.mark.long),
    pytest.param(("slurm", "direct"), marks=pytest.mark.long),
)

ENGINE_LIMIT = 1.0
"""Seconds in which an engine's processes on a host end, where they have seen their client's end."""

GONE_LIMIT = 10.0
"""Seconds after which what a test has left on a host is its fault; the test itself judges what is promised."""


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    given = getattr(getattr(item, "callspec", None), "params", {})
    needs = {"require_bed", "dask_if_any"}.intersection(getattr(item, "fixturenames", ()))
    if needs and given.get("cluster") != "fake":
        item.add_marker("hosts")


@pytest.fixture(scope="session")
def require_bed() -> None:
    """Skips, and says why, where this machine can't have hosts."""
    _skip_if(missing())


def _skip_if(reason: str | None) -> None:
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def byte_code() -> None:
    """The package as byte code: hosts can't write it, and an actor there would compile all anew."""
    compileall.compile_dir(PROJECT / "src", quiet=2)


@pytest.fixture(scope="module")
def module_bed(require_bed: None, byte_code: None) -> Iterator[Bed]:
    """Hosts h1, h2 and h3, for all tests of a module; with slurm, where it is installed."""
    with open_bed(slurm=missing(slurm=True) is None) as bed:
        yield bed


@pytest.fixture
def bed(module_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """The hosts, whole at the test's begin, and found by the `ssh` of this process; nothing is left on them."""
    yield from _for_one_test(module_bed, monkeypatch)


@pytest.fixture
def slurm_bed(bed: Bed) -> Bed:
    """The same for tests that run `srun`."""
    _skip_if(missing(slurm=True))
    return bed


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest, bed: Bed) -> Way:
    """Each engine and road: the test runs once with each."""
    return _way(bed, *request.param)


@pytest.fixture(params=[WAYS[0], WAYS[2]], ids="-".join)
def usual_way(request: pytest.FixtureRequest, bed: Bed) -> Way:
    """Each engine with its usual road, for what has nothing to do with roads."""
    return _way(bed, *request.param)


@pytest.fixture
def dask_way(bed: Bed) -> Iterator[Way]:
    """A scheduler here, and a worker on h1 and h2."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("no dask here; PyPI has it as: distributed")
    script = [bed.python, str(Path(__file__).with_name("dask_cluster.py"))]
    with contextlib.ExitStack() as stack:
        address = _first_line(
            stack,
            subprocess.Popen(
                [*script, bed.address, "scheduler"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ),
        )
        for name in ("h1", "h2"):
            host = bed.hosts[name]
            command = [*script, host.address, f"tcp://{address}", name]
            _first_line(stack, bed.popen(name, command))
            host.own |= {process.pid_here for process in bed.processes(name)}
        yield Way(bed, "dask", "direct", f"{address}/")


def _first_line(stack: contextlib.ExitStack, popen: subprocess.Popen[str]) -> str:
    """What a process says first; it ends with the stack."""
    stack.enter_context(popen)
    assert popen.stdin is not None
    assert popen.stdout is not None
    stack.callback(popen.stdin.close)
    return popen.stdout.readline().strip()


def _way(bed: Bed, engine: str, road: str) -> Way:
    if engine == "slurm":
        _skip_if(missing(slurm=True))
    return Way(bed, engine, road)


def _for_one_test(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    for name, value in bed.environ.items():
        monkeypatch.setenv(name, value)
    yield bed
    for name in bed.hosts:
        bed.heal(name)
    try:
        wait_for(lambda: not left_on(bed), "", GONE_LIMIT)
    except TimeoutError:
        left = left_on(bed)
        for _, pid, _ in left:
            os.kill(pid, signal.SIGKILL)
        pytest.fail("left on hosts:\n  " + "\n  ".join(map(str, left)), pytrace=False)
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not any(map(bed.processes, bed.hosts)), "", ENGINE_LIMIT)
    for process in [process for name in bed.hosts for process in bed.processes(name)]:
        # It waits for a client that it could not reach, and would do so for minutes.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid_here, signal.SIGKILL)
    if "SLURM_CONF" in bed.environ:
        wait_for(lambda: all_respond(bed.environ), "every node of slurm responds", 60.0)


def left_on(bed: Bed) -> list[tuple[str, int, str]]:
    """What runs on hosts: the host, the pid here, the arguments."""
    return [
        (name, process.pid_here, " ".join(process.argv) or process.state)
        for name in bed.hosts
        for process in bed.processes(name)
        if not is_of_engine(process)
    ]
