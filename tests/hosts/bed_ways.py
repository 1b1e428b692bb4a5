"""Each way from this machine to a bed's hosts: an engine, and the road that actors there take back."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from bed import Bed, Process
from bed_keeper import BOOT_LIMIT, wait_for

import tractor
from tractor.hosts import HostHandle
from tractor.testing import get_rando_addr

ENDPOINTS = Path(__file__).resolve().parents[1] / "endpoints"
PROGRAM = ENDPOINTS / "ep_bed_prog.py"
MODULES = ["ep_elsewhere"]

KEY = b"of the tests over hosts, and of no other"

LIMIT = 50.0
"""Seconds after which a test counts as hanging; it decides no other."""

OTHERS = ("sshd: ", "slurmstepd")
"""What an engine keeps on a host for a client that it can't reach; it waits for the network, and is not ours."""


@dataclass(frozen=True)
class Way:
    """One of them."""

    bed: Bed
    engine: str
    road: str
    through: str = ""
    """What stands before a host's name in its URLs."""

    def url(self, name: str) -> str:
        """Of a host."""
        return f"{self.engine}://{self.through}{name}"

    def options(self, **more: Any) -> dict[str, Any]:
        """Those of `open_host()`, with others."""
        usual = {
            "python": self.bed.python,
            "road": self.road,
            "env": {"PYTHONPATH": str(ENDPOINTS)},
        }
        return usual | more

    def there(self, name: str) -> list[Process]:
        """What of ours runs on a host, as the kernel says; zombies included."""
        return [p for p in self.bed.processes(name) if not is_of_engine(p)]

    def agent(self, name: str) -> Process:
        """The agent there: the first of ours, of which all others come."""
        ours = self.there(name)
        known = {process.pid_here for process in ours}
        (first,) = (process for process in ours if process.parent_here not in known)
        return first

    def actors(self, name: str) -> list[Process]:
        """Those that run there, by their titles."""
        return [p for p in self.there(name) if p.argv and p.argv[0].startswith("_subactor[")]

    async def all_gone(self, *names: str, within: float) -> float:
        """Wait until nothing of ours is left on hosts; the seconds until then.

        Raises:
            AssertionError: it took too long; tells what runs there.
        """
        return await until(
            lambda: not any(map(self.there, names)), within, lambda: self.left(names)
        )

    def nothing_is_left(self, *names: str) -> None:
        """Judge hosts on which nothing is wanted any more: no actor runs, and what it was started by ends.

        A link is closed when its agent has said that it has nothing left; its own end may take another moment.
        """
        assert not any(map(self.actors, names)), self.left(names)
        wait_for(lambda: not any(map(self.there, names)), f"nothing is left on {names}", BOOT_LIMIT)

    def left(self, names: Sequence[str]) -> str:
        return "\n".join(f"{name}: {process}" for name in names for process in self.there(name))


def skip_a_drop_by_other_ways(way: Way, how: str) -> None:
    """A network that loses all is the same to every engine: one way will do."""
    if how == "drop" and way.road != "tunnel":
        pytest.skip("a tunnel alone")


def is_of_engine(process: Process) -> bool:
    """Whether it is sshd's or slurm's."""
    return bool(process.argv) and process.argv[0].startswith(OTHERS)


async def until(
    condition: Callable[[], object], within: float, what: Callable[[], str] = lambda: ""
) -> float:
    """Poll until it is true; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, f"not within {within} s: {what()}"
        await trio.sleep(0.01)
    return time.monotonic() - began


def root_options() -> dict[str, Any]:
    """Those of a root whose actors may be anywhere."""
    return {
        "registry_addrs": [get_rando_addr("tcp")],
        "enable_transports": ["tcp"],
        "authkey": KEY,
    }


@contextlib.asynccontextmanager
async def open_tree(
    way: Way, *names: str, **options: Any
) -> AsyncIterator[tuple[tractor.ActorNursery, list[HostHandle]]]:
    """A root and its nursery, with links to hosts, for a test that may take `LIMIT` seconds."""
    with trio.fail_after(LIMIT):
        async with contextlib.AsyncExitStack() as stack:
            an = await stack.enter_async_context(tractor.open_nursery(**root_options()))
            yield (
                an,
                [
                    await stack.enter_async_context(
                        tractor.hosts.open_host(way.url(name), **way.options(**options))
                    )
                    for name in names
                ],
            )


def start_program(
    way: Way, *names: str, what: str = "wait", **options: Any
) -> subprocess.Popen[str]:
    """A root of its own, with an actor on each host, each of which has a subactor; see :mod:`ep_bed_prog`."""
    order = {
        "urls": [way.url(name) for name in names],
        "options": way.options(**options),
        "root": root_options() | {"authkey": KEY.decode()},
        "what": what,
    }
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def is_ready(program: subprocess.Popen[str]) -> None:
    """Wait until it has said that all its actors run."""
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
