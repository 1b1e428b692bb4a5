"""Ten services, replicas and a supervisor inside one, under kills, stops and failures: does each come back, once?

``make storm``, or ``python tests/services/services_storm.py --seconds 1800 --seed 1 --backend trio``

Checked again and again: no service is lost and none runs twice, no process is left behind, order is kept, counters are
right.  Then the time from a death to the next ready incarnation is measured beside a cold start, and beside what
`multiprocessing.Pool` does with a dead worker (and Ray with a dead actor, where it is installed).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "endpoints")]

import ep_services  # noqa: E402
import storm_figures  # noqa: E402
import trio  # noqa: E402
from ep_supervise_tools import alive  # noqa: E402

import tractor  # noqa: E402
from tractor import spawn  # noqa: E402
from tractor.services._events import ServiceEvent  # noqa: E402
from tractor.services._service import Service  # noqa: E402
from tractor.services._supervisor import Supervisor  # noqa: E402
from tractor.testing import get_rando_addr  # noqa: E402

STRATEGIES = ("one_for_one", "rest_for_one", "one_for_all")
DELAYS = tractor.Backoff(initial=0.02, factor=1.5, maximum=0.3, jitter=0.1)
ROUND = 20.0
"""Seconds for which one supervisor lives."""
SETTLED = 90.0
"""Seconds within which all must be well once nothing is done to them any more."""

TROUBLE = {
    "SIGKILL": 30,
    "SIGSTOP": 8,
    "raise ValueError": 10,
    "raise SystemExit": 3,
    "return 0": 5,
    "exit 0": 5,
    "eat 50000000": 5,
    "restart": 8,
    "stop and restart": 4,
    "cancel": 4,
}

UNLUCKY = (tractor.RuntimeFailure, tractor.TransportClosed, tractor.RemoteActorError)


class Watch:
    """What the events of one supervisor say, and what in them is wrong."""

    def __init__(self, sup: Supervisor, strategy: str) -> None:
        self.sup = sup
        self.rounds = strategy != "one_for_one"
        # All have been ready: from now on what starts does so in its turn.
        self.settled = False
        self.kinds: collections.Counter[str] = collections.Counter()
        # Of each member: its incarnation, and the last that was told of it.
        self.latest: dict[str, tuple[int, str]] = {}
        self.starts: collections.Counter[str] = collections.Counter()
        # Those that somebody stops: one that waits for its delay is down then, and nothing is told of it.
        self.let_go: set[str] = set()
        # Why each was stopped the last time.
        self.because: collections.defaultdict[str, str] = collections.defaultdict(str)
        self.faults: list[str] = []

    async def run(self, events: Any) -> None:
        async for event in events:
            self.kinds[event.kind] += 1
            self.look(event)

    def look(self, event: ServiceEvent) -> None:
        number, kind = self.latest.get(event.service, (0, "ended"))
        if event.kind == "starting":
            self.starts[event.service] += 1
            if kind in ("starting", "ready", "stopping"):
                self.faults.append(f"{event.service} {number} is {kind}, and {event} begins")
            if event.incarnation != number + 1:
                self.faults.append(f"{event.service}: {event.incarnation} comes after {number}")
            if self.because[event.service] == "round":
                self._look_at_order(event, before=True)
            self.because[event.service] = ""
            self.let_go.discard(event.service.partition(".")[0])
        elif event.kind == "stopping" and event.because in ("round", "close"):
            self._look_at_order(event, before=False)
        if event.kind == "stopping":
            # One that somebody has stopped starts when that one likes, also beside a round.
            self.because[event.service] = event.because or ""
        if event.kind not in ("backoff", "failed"):
            self.latest[event.service] = event.incarnation, event.kind

    def _look_at_order(self, event: ServiceEvent, before: bool) -> None:
        """Whatever comes before one that starts in a round is ready; what comes after one that stops is down."""
        if not (self.rounds and self.settled) and event.because != "close":
            return
        unit = event.service.partition(".")[0]
        order = list(self.sup.services)
        at = order.index(unit)
        others = order[:at] if before else order[at + 1 :]
        wrong = (
            ("starting", "stopping", "crashed", "ended")
            if before
            else ("starting", "ready", "stopping")
        )
        for member, (_, kind) in self.latest.items():
            other = member.partition(".")[0]
            if other in others and other not in self.let_go and kind in wrong:
                self.faults.append(f"{event.kind} {event.service} while {member} is {kind}")


class Storm:
    """One supervisor's.

    Args:
        sup: it.
        strategy: its.
        rng: what happens, and when.
        directory: where each incarnation writes down its pid.
    """

    def __init__(self, sup: Supervisor, strategy: str, rng: random.Random, directory: Path) -> None:
        self.sup = sup
        self.rng = rng
        self.directory = directory
        self.watch = Watch(sup, strategy)
        self.done: collections.Counter[str] = collections.Counter()

    def path(self, name: str) -> str:
        return str(self.directory / name)

    async def start_all(self) -> None:
        start, path = self.sup.start_service, self.path
        await start("daemon", enable_modules=["ep_services"])
        await start("task", ep_services.obey, path=path("task"))
        await start("talk", ep_services.talk, path=path("talk"))
        await start("api", ep_services.obey, path=path("api"), replicas=3)
        await start("shop", ep_services.keep_shop, path=path("shop"))
        self.sup.start_soon("fragile", ep_services.fail_at_times, path=path("fragile"), odds=0.4)
        await start("sour", ep_services.fail_at_end, path=path("sour"))
        await start("stubborn", ep_services.stay, seconds=60, path=path("stubborn"), shutdown=0.3)
        await start("eater", ep_services.obey, path=path("eater"), shutdown="kill")
        await start("watched", ep_services.obey, path=path("watched"), watchdog=1.0)

    # -- trouble --

    async def make_trouble(self) -> None:
        what = self.rng.choices(list(TROUBLE), list(TROUBLE.values()))[0]
        services = list(self.sup.services.values())
        service = self.rng.choice(services)
        self.done[what] += 1
        with trio.move_on_after(20):
            # What was to be hit may have just gone, or does not start.
            with contextlib.suppress(*UNLUCKY):
                await self.do(what, service)

    async def do(self, what: str, service: Service) -> None:
        if what.startswith("SIG"):
            await self.signal(service, signal.Signals[what])
        elif what == "restart":
            await service.restart()
        elif what == "stop and restart":
            self.watch.let_go.add(service.name)
            async with trio.open_nursery() as tn:
                tn.start_soon(self.quietly, service.stop)
                await trio.sleep(self.rng.uniform(0, 0.2))
                tn.start_soon(self.quietly, service.restart)
        elif what == "cancel":
            await (await service.portal()).cancel_actor()
        else:
            await service.run(ep_services.order, what=what)

    async def quietly(self, do: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(*UNLUCKY):
            await do()

    async def signal(self, service: Service, number: signal.Signals) -> None:
        pid = self.rng.choice(service.replicas).pid
        below = Path(self.path("shop.till"))
        if service.name == "shop" and self.rng.random() < 0.6 and below.exists():
            pid = int(below.read_text().split()[-1])
        if pid is None or not alive(pid):
            return
        os.kill(pid, number)
        if number is signal.SIGSTOP:
            await trio.sleep(self.rng.uniform(0.1, 2.0))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.rng.choice([signal.SIGCONT, signal.SIGKILL]))

    # -- what must be true --

    async def settle(self) -> None:
        """Wait until all are well; then look at each."""
        members: list[Service] = []
        with trio.move_on_after(SETTLED) as limit:
            while True:
                before = self.watch.kinds.total()
                members = [one for s in self.sup.services.values() for one in s.replicas]
                # What was ordered last may still come: so they are asked twice, and nothing is told meanwhile.
                if await self.all_answer(members):
                    await trio.sleep(0.5)
                    if await self.all_answer(members) and before == self.watch.kinds.total():
                        break
                await trio.sleep(0.05)
        if limit.cancelled_caught:
            states = {one.name: one.state for one in members}
            self.watch.faults.append(f"not all came back: {states}")
            return
        self.look_at_counters(members)
        await self.look_at_processes(members)

    async def all_answer(self, members: list[Service]) -> bool:
        for one in members:
            if one.state != "ready":
                return False
            try:
                if await (await one.portal()).run(ep_services.pid) != one.pid:
                    return False
            except UNLUCKY:
                return False
        return True

    async def look_at_processes(self, members: list[Service]) -> None:
        """Of all that ever ran only those that should do."""
        rightful = {one.pid for one in members}
        for path in self.directory.iterdir():
            with trio.move_on_after(5):
                # One below that was just killed is about to be reaped.
                while len(living := self.living(path)) > (3 if path.name == "api" else 1):
                    await trio.sleep(0.02)
            strange = living - rightful
            if strange and not path.name.startswith("shop."):
                self.watch.faults.append(f"{path.name}: {strange} run beside {rightful}")
            elif len(living) > (3 if path.name == "api" else 1):
                self.watch.faults.append(f"{path.name} runs more than once: {living}")

    @staticmethod
    def living(path: Path) -> set[int]:
        return {pid for pid in map(int, path.read_text().split()) if alive(pid)}

    def look_at_counters(self, members: list[Service]) -> None:
        if len(members) != 12:
            self.watch.faults.append(f"lost: {len(members)} of 12")
        for one in members:
            starts, (number, kind) = self.watch.starts[one.name], self.watch.latest[one.name]
            told = (one.incarnation, one.restarts, one.state)
            if told != (starts, starts - 1, "ready") or (number, kind) != (starts, "ready"):
                self.watch.faults.append(
                    f"{one.name}: {told}, but {starts} starts, {number} {kind}"
                )
        total = sum(self.watch.starts.values()) - len(members)
        if self.sup.statistics().restarts != total:
            self.watch.faults.append(f"{self.sup.statistics()}, but {total} restarts were told")

    def look_at_end(self) -> None:
        left = [pid for path in self.directory.iterdir() for pid in self.living(path)]
        if left:
            self.watch.faults.append(f"left behind: {left}")
        for member, (number, kind) in self.watch.latest.items():
            if kind not in ("stopped", "ended", "crashed"):
                self.watch.faults.append(f"the last that was told of {member}: {kind} {number}")


async def one_round(rng: random.Random, strategy: str, seconds: float, tpt: str) -> Storm:
    """One supervisor for so many seconds; gives what was seen."""
    storm: Storm | None = None
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as directory:
        try:
            async with (
                trio.open_nursery() as tn,
                tractor.open_supervisor(
                    strategy,
                    max_restarts=None,
                    backoff=DELAYS,
                    enable_transports=[tpt],
                    registry_addrs=[get_rando_addr(tpt)],
                    loglevel="critical",
                ) as sup,
            ):
                storm = Storm(sup, strategy, rng, Path(directory))
                tn.start_soon(storm.watch.run, sup.events())
                await storm.start_all()
                await storm.settle()
                storm.watch.settled = True
                end = trio.current_time() + seconds
                while trio.current_time() < end:
                    async with trio.open_nursery() as troubles:
                        for _ in range(rng.randint(1, 5)):
                            troubles.start_soon(storm.make_trouble)
                            await trio.sleep(rng.choice([0, 0.01, 0.3]))
                    if rng.random() < 0.5:
                        await storm.settle()
                await storm.settle()
        except BaseException as exc:
            if storm is None or not is_expected(exc):
                raise
        assert storm is not None
        storm.look_at_end()
    return storm


def is_expected(exc: BaseException) -> bool:
    """The services that fail at their end do so at the block's, too."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(is_expected, exc.exceptions))
    return isinstance(exc, tractor.RemoteActorError) and exc.boxed_type is ValueError


def storm(seconds: float, seed: int, verbose: bool = False) -> list[str]:
    """Rounds for so many seconds; the faults."""
    began, faults = time.monotonic(), []
    events: collections.Counter[str] = collections.Counter()
    done: collections.Counter[str] = collections.Counter()
    number = 0
    while (left := seconds - (time.monotonic() - began)) > 1 or not number:
        rng = random.Random(f"{seed}/{number}")
        strategy, tpt = STRATEGIES[number % 3], ("uds", "tcp")[number % 2]
        length = min(ROUND, max(3.0, seconds / 3), left)
        seen = trio.run(one_round, rng, strategy, length, tpt)
        events += seen.watch.kinds
        done += seen.done
        faults += [f"round {number}, {strategy}: {fault}" for fault in seen.watch.faults]
        number += 1
        if verbose:
            kinds = ", ".join(f"{count} {kind}" for kind, count in seen.watch.kinds.items())
            print(f"{strategy}, {tpt}: {kinds}; {len(seen.watch.faults)} faults", flush=True)
            for fault in seen.watch.faults:
                print(f"  FAULT {fault}", flush=True)
    if verbose:
        print(f"\n{number} supervisors, what was done: {dict(done)}\nevents: {dict(events)}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", default="trio", help="spawn backend; default: %(default)s")
    parser.add_argument("--samples", type=int, default=20, help="deaths that are measured")
    args = parser.parse_args()
    spawn.try_set_start_method(args.backend)
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        faults = storm(args.seconds, args.seed, verbose=True)
        if args.samples:
            print(storm_figures.table(args.samples))
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
