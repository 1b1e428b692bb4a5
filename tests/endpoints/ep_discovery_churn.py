"""The programs of the churn test: registrars, programs with services and lookers, and an observer at the end.

``python ep_discovery_churn.py registrar NAME ADDR | program NUMBER SEED SECONDS ADDR... | observer ADDR...``

Every look-up is classed; what may not happen is a *fault*, and is told in words.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from ep_discovery_tools import RawPeer

import tractor
from tractor.discovery import _panel

SERVICES = ("svc_0", "svc_1", "svc_2")
"""Shared by both programs: each starts an actor of each name."""

BOUND = 12.0
"""Seconds after which a look-up counts as hanging: some addresses with 3 s each, and a busy machine."""

WAIT = 1.0
"""Seconds that a ``wait_for_actor`` is given before it is cancelled."""


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def address(text: str) -> Any:
    first, _, second = text.rpartition("|")
    return first, int(second) if second.isdigit() else second


# -- endpoints --


async def who() -> list[Any]:
    aid = tractor.current_actor().aid
    return [aid.name, aid.uuid]


async def die() -> None:
    os._exit(7)


async def look(seconds: float, seed: str, addrs: list[Any]) -> dict[str, Any]:
    """Look actors up for some seconds; the counts."""
    looker = Looker(random.Random(seed), [tuple(a) for a in addrs])
    await looker.run(seconds)
    return looker.report()


# -- a looker --


def is_gone(pid: int | None) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


class Ledger:
    """Every answer of every registrar to this process, against every address that was found dead and deleted there.

    An address is *returned twice* when a registrar gives it, with the owner whose it was, in an answer to a request
    that was made after that registrar had confirmed its deletion to this process.
    """

    def __init__(self) -> None:
        self.deleted: dict[tuple[str, Any], tuple[float, Any]] = {}
        self.twice: list[str] = []
        self._ask = _panel.ask  # type: ignore[attr-defined]

    async def ask(self, registrar: Any, bound: Any, func: str, **kwargs: Any) -> Any:
        """In the place of the runtime's own."""
        began = trio.current_time()
        answer = await self._ask(registrar, bound, func, **kwargs)
        where = registrar.chan.aid.name
        if func == "delete_addr" and answer is not None:
            self.deleted[where, tuple(kwargs["addr"])] = (trio.current_time(), tuple(answer))
        elif func == "find_actor":
            for uuid, _, addrs, _ in answer[1]:
                for addr in map(tuple, addrs):
                    # It may have come back as another actor's, say a TCP port that was used again.
                    when, owner = self.deleted.get((where, addr), (began, None))
                    if when < began and owner == (kwargs["name"], uuid):
                        self.twice.append(f"{registrar.chan.peer} gave {addr} of {owner} again")
        return answer

    def __enter__(self) -> Ledger:
        _panel.ask = self.ask  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_exc: object) -> None:
        _panel.ask = self._ask  # type: ignore[attr-defined]


class Looker:
    """Looks up at random, verifies each portal by a call, and counts."""

    def __init__(self, rng: random.Random, addrs: list[Any]) -> None:
        self.rng = rng
        self.addrs = addrs
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.slowest = 0.0
        self.ledger = Ledger()
        self._ghosts = 0

    def report(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "faults": self.faults + self.ledger.twice,
            "slowest": self.slowest,
            "deleted": len(self.ledger.deleted),
        }

    async def run(self, seconds: float) -> None:
        end = trio.current_time() + seconds
        with self.ledger:
            async with trio.open_nursery() as tn:
                for _ in range(2):
                    tn.start_soon(self._work, end)

    async def _work(self, end: float) -> None:
        ways = [
            self._find,
            self._find,
            self._find_at,
            self._find_at,
            self._find_all,
            self._wait,
            self._query,
            self._ghost,
        ]
        while trio.current_time() < end:
            way = self.rng.choice(ways)
            name = self.rng.choice(SERVICES)
            await self._timed(way, name)
            await trio.sleep(self.rng.uniform(0, 0.03))

    async def _timed(self, way: Callable[[str], Any], name: str) -> None:
        began = trio.current_time()
        with trio.move_on_after(BOUND) as bound:
            try:
                outcome = await way(name)
            except tractor.RuntimeFailure:
                outcome = "error: RuntimeFailure"
            except Exception as exc:
                outcome = "fault"
                self.faults.append(f"{way.__name__} of {name!r} raised {exc!r}")
        if bound.cancelled_caught:
            outcome = "fault"
            self.faults.append(f"{way.__name__} of {name!r} did not end within {BOUND} s")
        self.counts["look-ups"] += 1
        self.counts[outcome] += 1
        if way != self._wait:
            self.slowest = max(self.slowest, trio.current_time() - began)

    async def _verify(self, portal: tractor.Portal, name: str) -> str:
        """A portal is live if a call over it works, or if its actor has ended since."""
        aid = portal.chan.aid
        assert aid is not None
        try:
            found: list[Any] = await portal.run(who)
        except (tractor.TransportClosed, tractor.RemoteActorError) as exc:
            # Killed, or cancelled, between the answer and the call: then it is gone, or about to be.
            with trio.move_on_after(6):
                while not is_gone(aid.pid):
                    await trio.sleep(0.01)
                return "portal, ended since"
            self.faults.append(f"the portal to {aid.reprol()} is dead, the actor is not: {exc!r}")
            return "fault"
        if found != [name, aid.uuid]:
            self.faults.append(f"{found} answered for {name!r}, {aid.uuid}")
            return "fault"
        return "portal"

    async def _find(self, name: str) -> str:
        async with tractor.find_actor(name) as portal:
            assert not isinstance(portal, list)
            return "None" if portal is None else await self._verify(portal, name)

    async def _find_at(self, name: str) -> str:
        at = self.rng.choice(self.addrs)
        async with tractor.find_actor(name, registry_addrs=[at]) as portal:
            assert not isinstance(portal, list)
            return "None" if portal is None else await self._verify(portal, name)

    async def _find_all(self, name: str) -> str:
        async with tractor.find_actor(name, registry_addrs=self.addrs, only_first=False) as portals:
            if not isinstance(portals, list):
                return "None"
            outcomes = [await self._verify(portal, name) for portal in portals]
            return max(outcomes, key=["portal", "portal, ended since", "fault"].index)

    async def _wait(self, name: str) -> str:
        with trio.move_on_after(WAIT):
            async with tractor.wait_for_actor(name) as portal:
                # The bound is for the wait alone.
                with trio.CancelScope(shield=True):
                    return await self._verify(portal, name)
        return "wait cancelled"

    async def _query(self, name: str) -> str:
        async with tractor.query_actor(name, regaddr=self.rng.choice(self.addrs)) as (addr, _):
            return "address" if addr is not None else "None"

    async def _ghost(self, _name: str) -> str:
        """An entry that nobody stands behind: found dead once, it is never given again."""
        self._ghosts += 1
        aid = tractor.current_actor().aid
        uid = (f"ghost_{aid.uuid[:6]}_{self._ghosts}", "nobody")
        addr = (tempfile.gettempdir(), f"{uid[0]}.sock")
        at = self.rng.choice(self.addrs)
        try:
            with trio.fail_after(3):
                peer = await RawPeer.connect(at, uid)
        except (OSError, tractor.TransportClosed, trio.TooSlowError) as exc:
            raise tractor.RuntimeFailure(f"not planted: {exc!r}") from exc
        with contextlib.closing(peer):
            try:
                with trio.fail_after(3):
                    refused = await peer.register(addr)
            except (tractor.TransportClosed, trio.TooSlowError) as exc:
                raise tractor.RuntimeFailure(f"not planted: {exc!r}") from exc
            if refused is not None:
                self.faults.append(f"{uid} could not be registered: {refused}")
            async with tractor.find_actor(uid[0], registry_addrs=[at]) as portal:
                if portal is not None:
                    self.faults.append(f"a portal to {uid}: {portal!r}")
            async with tractor.query_actor(uid[0], regaddr=at) as (known, _):
                if known is not None:
                    self.faults.append(f"the stale address {known} was returned a second time")
        return "None, stale"


# -- services --


class Services:
    """Actors that are started and ended again and again."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.counts: Counter[str] = Counter()

    async def keep(self, name: str, end: float) -> None:
        while trio.current_time() < end:
            how = self.rng.choice(["SIGKILL", "SIGKILL", "os._exit", "cancel", "SIGTERM", "pause"])
            life = min(self.rng.uniform(0.2, 2.0), max(end - trio.current_time(), 0))
            self.counts["services started"] += 1
            try:
                async with tractor.open_nursery() as an:
                    portal = await an.start_actor(name, enable_modules=[__name__])
                    await trio.sleep(life)
                    self.counts[f"service: {how}"] += 1
                    await self._end(portal, how)
                    await an.cancel()
            except* (tractor.ActorFailure, tractor.TransportClosed, tractor.RemoteActorError):
                pass
            await trio.sleep(self.rng.uniform(0, 0.5))

    async def _end(self, portal: tractor.Portal, how: str) -> None:
        assert portal.chan.aid is not None
        pid = portal.chan.aid.pid
        assert pid is not None
        if how == "pause":
            os.kill(pid, signal.SIGSTOP)
            await trio.sleep(self.rng.uniform(0.1, 0.8))
            os.kill(pid, signal.SIGCONT)
        elif how == "cancel":
            await portal.cancel_actor()
        elif how == "os._exit":
            await portal.run(die)
        else:
            os.kill(pid, getattr(signal, how))


# -- the programs --


async def registrar(name: str, addr: str) -> None:
    """Be the registrar at an address until a signal comes."""
    async with tractor.open_root_actor(
        name=name, registry_addrs=[address(addr)], ensure_registry=True
    ):
        say(name)
        await trio.sleep_forever()


async def program(number: str, seed: str, seconds: str, *addrs: str) -> None:
    """A root that is not a registrar, with services that come and go, and lookers inside and below."""
    registries = [address(a) for a in addrs]
    rng = random.Random(f"{seed}/{number}")
    services = Services(rng)
    looker = Looker(random.Random(f"{seed}/{number}/root"), registries)
    reports: list[dict[str, Any]] = []
    async with tractor.open_nursery(
        name=f"program_{number}",
        registry_addrs=registries,
        enable_transports=["tcp", "uds"],
        enable_modules=[__name__],
    ) as an:
        assert not tractor.current_actor().is_registrar
        below = await an.start_actor("looker", enable_modules=[__name__])

        async def look_below() -> None:
            reports.append(
                await below.run(
                    look, seconds=float(seconds), seed=f"{seed}/{number}/below", addrs=registries
                )
            )

        end = trio.current_time() + float(seconds)
        async with trio.open_nursery() as tn:
            for name in SERVICES:
                tn.start_soon(services.keep, name, end)
            tn.start_soon(look_below)
            tn.start_soon(looker.run, float(seconds))
        await an.cancel()
    reports.append(looker.report())
    say({"services": services.counts, "lookers": reports})


async def observer(*addrs: str) -> None:
    """What remains in the tables when everybody else has gone: nobody but each registrar and this process."""
    left: list[str] = []
    registries = [address(a) for a in addrs]
    async with tractor.open_root_actor(name="observer", registry_addrs=registries):
        for addr in registries:
            async with tractor.get_registry(addr) as portal:
                table = await portal.run_from_ns("self", "get_registry")
                for name in {key.rpartition(".")[0] for key in table}:
                    # A ghost whose planter was cut off has not been looked up yet.
                    if name.startswith("ghost"):
                        async with tractor.find_actor(name, registry_addrs=[addr]) as found:
                            left += [] if found is None else [f"{found!r}"]
                table = await portal.run_from_ns("self", "get_registry")
                names = sorted(key.rpartition(".")[0] for key in table)
                if len(names) != 2 or names[0] != "observer":
                    left.append(f"{addr}: {names}")
    say(left)


PROGRAMS: dict[str, Any] = {"registrar": registrar, "program": program, "observer": observer}

if __name__ == "__main__":
    # Services and lookers find this very module under its own name.
    import ep_discovery_churn

    trio.run(ep_discovery_churn.PROGRAMS[sys.argv[1]], *sys.argv[2:])
