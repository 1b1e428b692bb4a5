"""A victim, a rightful caller beside the attacker, and what an attack costs both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ep_victim
import trio

import tractor

__all__ = ["Seen", "attacked", "open_victim"]

PATIENCE = 30.0
"""Seconds that an attack may take."""

GONE = 10.0
"""Seconds until nothing of an attacker that has left may be held any more."""


@dataclass
class Seen:
    """What an attack has cost.

    Attributes:
        memory: bytes that the victim needed at most, beyond what it had.
        kept: bytes of them that it still had a moment after the end.
        maps: mappings more, at the height.
        lag: seconds of CPU that the victim's loop was held at most.
        latencies: seconds that each call of the rightful caller took.
        facts: what the attacker has seen.
        limits: how often the victim has seen each limit reached.
    """

    memory: int = 0
    kept: int = 0
    maps: int = 0
    lag: float = 0.0
    latencies: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def latency(self) -> float:
        """The longest that a rightful caller has waited."""
        return max(self.latencies, default=0.0)


@asynccontextmanager
async def open_victim(reg_addr: Any, **root_kwargs: Any) -> AsyncIterator[tractor.Portal]:
    """An actor, whose parent is its rightful caller."""
    async with tractor.open_nursery(
        registry_addrs=[reg_addr], loglevel="critical", **root_kwargs
    ) as an:
        portal = await an.start_actor("victim", enable_modules=["ep_victim"])
        yield portal
        await portal.cancel_actor()


async def attacked(portal: tractor.Portal, name: str, directory: Path) -> Seen:
    """Carry out the attack of that name on an actor, and see what it costs."""
    seen = Seen()
    (addr,) = await portal.run(ep_victim.where)
    alone = await portal.run(ep_victim.vitals)
    program = [
        sys.executable,
        str(Path(__file__).with_name("attacks.py")),
        name,
        json.dumps(addr),
        str(directory),
    ]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            async with trio.open_nursery() as tn:
                out = Lines(process.stdout)
                await out.next()
                before = await portal.run(ep_victim.vitals, anew=True)
                tn.start_soon(_keep_calling, portal, seen)
                assert process.stdin is not None
                await process.stdin.send_all(b"\n")
                seen.facts = await out.next()
                high = await portal.run(ep_victim.vitals)
                await process.stdin.send_all(b"\n")
                seen.facts |= await out.next()
                await process.wait()
                tn.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.aclose()
                await process.stdout.aclose()
    after = await _settled(portal, alone)
    seen.memory = max(high["peak"], after["peak"]) - before["memory"]
    seen.kept = after["memory"] - before["memory"]
    seen.maps = high["maps"] - before["maps"]
    seen.lag = after["lag"]
    seen.limits = {
        name: count - before["limits"].get(name, 0) for name, count in after["limits"].items()
    }
    return seen


async def _settled(portal: tractor.Portal, alone: dict[str, Any]) -> dict[str, Any]:
    """What the victim holds once it serves nobody else any more."""
    with trio.fail_after(GONE):
        while True:
            found: dict[str, Any] = await portal.run(ep_victim.vitals)
            if (found["serving"], found["peers"]) == (alone["serving"], alone["peers"]):
                return found
            await trio.sleep(0.02)


async def _keep_calling(portal: tractor.Portal, seen: Seen) -> None:
    number = 0
    while True:
        began = time.perf_counter()
        try:
            assert await portal.run(ep_victim.double, x=number) == 2 * number
        finally:
            seen.latencies.append(time.perf_counter() - began)
        number += 1
        await trio.sleep(0.005)


class Lines:
    """JSON lines of a process."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = b""

    async def next(self) -> dict[str, Any]:
        """The next one.  Raises RuntimeError: the process has ended before."""
        while b"\n" not in self._rest:
            data = await self._stream.receive_some()
            if not data:
                raise RuntimeError("the attacker has failed; see its traceback above")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
