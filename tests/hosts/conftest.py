"""A test bed for the tests of a module, and what each of its tests needs of it."""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bed import Bed, missing, open_bed
from bed_init import PROJECT
from bed_keeper import wait_for

GONE_LIMIT = 10.0
"""Seconds after which what a test has left on a host is its fault; the test itself judges what is promised."""


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
            os.kill(pid, 9)
        pytest.fail("left on hosts:\n  " + "\n  ".join(map(str, left)), pytrace=False)


def left_on(bed: Bed) -> list[tuple[str, int, str]]:
    """What runs on hosts: the host, the pid here, the arguments.

    Without what an engine keeps for a client that it can't reach: that waits for the network, and is not ours.
    """
    return [
        (name, process.pid_here, " ".join(process.argv) or process.state)
        for name in bed.hosts
        for process in bed.processes(name)
        if not process.argv[:1] or not process.argv[0].startswith(("sshd: ", "slurmstepd"))
    ]
