"""What looks up and what is looked up while registrars die: `tests/discovery/registrar_storm.py`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import tractor

BOUND = 10.0
"""Seconds after which a look-up counts as hanging: three for what it is given by default, and a busy machine."""


async def uid() -> list[str]:
    return list(tractor.current_actor().aid.uid)


class Looker:
    """Looks actors up at random, has each portal answer a call, and counts."""

    def __init__(self, rng: random.Random, steady: list[str], mortal: list[str]) -> None:
        self.rng = rng
        self.steady = steady
        self.mortal = mortal
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.total: dict[str, float] = {}
        self.faults: list[str] = []

    async def run(self, seconds: float) -> None:
        ways: list[Callable[[], Awaitable[str]]] = [
            self.find_steady,
            self.find_steady,
            self.find_mortal,
            self.find_all,
            self.find_nobody,
            self.query_steady,
            self.wait_steady,
        ]
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            await self.timed(self.rng.choice(ways))
            await trio.sleep(self.rng.uniform(0, 0.02))

    async def timed(self, way: Callable[[], Awaitable[str]]) -> None:
        kind = way.__name__
        began = trio.current_time()
        outcome = "does not end"
        with trio.move_on_after(BOUND):
            try:
                outcome = await way()
            except tractor.RuntimeFailure as exc:
                # It is what `find_actor()` tells of who can't be had now; here that is a registrar or an actor.
                outcome = f"named error: {type(exc).__name__}"
            except Exception as exc:
                outcome = f"raised {exc!r}"
        took = trio.current_time() - began
        self.counts[f"{kind}: {outcome}"] += 1
        self.slowest[kind] = max(took, self.slowest.get(kind, 0.0))
        self.total[kind] = self.total.get(kind, 0.0) + took
        if outcome not in ("portal", "ended since", "None", "address") and "named" not in outcome:
            self.faults.append(f"{kind}: {outcome}")

    async def verified(self, portal: Any, name: str) -> str:
        try:
            found = await portal.run(uid)
        except tractor.TransportClosed:
            if name in self.mortal:
                return "ended since"
            raise
        return "portal" if found[0] == name else f"{found} for {name!r}"

    async def find_steady(self) -> str:
        name = self.rng.choice(self.steady)
        async with tractor.find_actor(name) as portal:
            return "nobody, and it lives" if portal is None else await self.verified(portal, name)

    async def find_mortal(self) -> str:
        name = self.rng.choice(self.mortal)
        async with tractor.find_actor(name) as portal:
            return "None" if portal is None else await self.verified(portal, name)

    async def find_all(self) -> str:
        name = self.rng.choice(self.steady)
        async with tractor.find_actor(name, only_first=False) as portals:
            if not isinstance(portals, list):
                return "nobody, and it lives"
            return await self.verified(portals[0], name) if len(portals) == 1 else "several"

    async def find_nobody(self) -> str:
        async with tractor.find_actor("nobody") as portal:
            return "None" if portal is None else f"{portal!r}"

    async def query_steady(self) -> str:
        async with tractor.query_actor(self.rng.choice(self.steady)) as (addr, _):
            return "nobody, and it lives" if addr is None else "address"

    async def wait_steady(self) -> str:
        name = self.rng.choice(self.steady)
        async with tractor.wait_for_actor(name) as portal:
            return await self.verified(portal, name)


async def look(seconds: float, seed: str, steady: list[str], mortal: list[str]) -> Any:
    """Look up all the time; the counts, and for each kind of look-up the slowest and the sum."""
    looker = Looker(random.Random(seed), steady, mortal)
    await looker.run(seconds)
    return [looker.counts, looker.slowest, looker.total, looker.faults]
