"""Three registrars, of which any two are killed or stopped at a time: ``python tests/discovery/registrar_storm.py``.

Meanwhile actors that have no channel to each other look others up: some that live all the time, some that are killed
and started again, and nobody.  Each look-up must be answered, rightly, or raise a named error: who lives is never said
to be nobody.  In the end all registrars know the same.  Prints the counts and the slowest look-up of each kind; the
exit status is 1 if anything else has happened.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import trio

import tractor
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parents[1] / "endpoints"))

import ep_registrar_storm
from ep_registrars_tools import Keeper, keepers

LOOKERS = 3
STEADY = [f"steady_{number}" for number in range(4)]
MORTAL = [f"mortal_{number}" for number in range(2)]
HERE = ["ep_registrar_storm"]


class Storm:
    """One run."""

    def __init__(self, seconds: float, seed: str, addrs: list[Any]) -> None:
        self.seconds = seconds
        self.seed = seed
        self.addrs = addrs
        self.ends: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.total: dict[str, float] = {}
        self.faults: list[str] = []

    async def run(self, start_method: str | None) -> None:
        """All of it; what was found is in the attributes afterwards."""
        async with tractor.open_nursery(
            registrar=False,
            registry_addrs=self.addrs,
            start_method=start_method,
            loglevel="critical",
        ) as an:
            async with keepers(self.addrs) as kept, trio.open_nursery() as tn:
                for name in STEADY:
                    await an.start_actor(name, enable_modules=HERE)
                for name in MORTAL:
                    tn.start_soon(self.live_and_die, name)
                async with trio.open_nursery() as lookers:
                    for number in range(LOOKERS):
                        lookers.start_soon(self.look, an, number)
                    lookers.start_soon(self.strike, kept)
                await self.compare()
                tn.cancel_scope.cancel()
            await an.cancel()

    async def strike(self, kept: list[Keeper]) -> None:
        """Two at a time, again and again: the third is there all the while."""
        rng = random.Random(f"{self.seed}/strike")
        end = trio.current_time() + self.seconds - 3
        while trio.current_time() < end:
            async with trio.open_nursery() as tn:
                for one in rng.sample(kept, 2):
                    how = rng.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP"])
                    self.ends[f"registrar: {how}"] += 1
                    tn.start_soon(self.end, one, how, rng.uniform(0, 0.5), rng.uniform(0.1, 4))
            # At times it is one of those that have just come back that is alone next.
            await trio.sleep(rng.choice([0, 0.5, 2.5]))

    async def end(self, one: Keeper, how: str, first: float, then: float) -> None:
        await trio.sleep(first)
        if how == "SIGSTOP":
            one.pause()
            await trio.sleep(then)
            one.go_on()
        else:
            await one.end(getattr(signal, how), again=False)
            await trio.sleep(then)
            await one.start()

    async def live_and_die(self, name: str) -> None:
        rng = random.Random(f"{self.seed}/{name}")
        while True:
            with contextlib.suppress(tractor.ActorFailure):
                async with tractor.open_nursery() as an:
                    portal = await an.start_actor(name, enable_modules=HERE)
                    await trio.sleep(rng.uniform(0.2, 2))
                    assert portal.chan.aid is not None
                    assert portal.chan.aid.pid is not None
                    os.kill(portal.chan.aid.pid, signal.SIGKILL)
                    self.ends["service: SIGKILL"] += 1
                    await trio.sleep_forever()

    async def look(self, an: tractor.ActorNursery, number: int) -> None:
        portal = await an.start_actor(f"looker_{number}", enable_modules=HERE)
        counts, slowest, total, faults = await portal.run(
            ep_registrar_storm.look,
            seconds=self.seconds,
            seed=f"{self.seed}/{number}",
            steady=STEADY,
            mortal=MORTAL,
        )
        self.counts.update(counts)
        self.faults += faults
        for kind, took in slowest.items():
            self.slowest[kind] = max(took, self.slowest.get(kind, 0.0))
            self.total[kind] = self.total.get(kind, 0.0) + total[kind]

    async def compare(self) -> None:
        """The tables, as soon as they can be the same."""
        tables: list[Any] = []
        with trio.move_on_after(10):
            while not tables or any(one != tables[0] for one in tables):
                tables = [await self.table(addr) for addr in self.addrs]
                await trio.sleep(0.1)
            return
        self.faults += [f"the tables differ: {sorted(table)}" for table in tables]

    async def table(self, addr: Any) -> Any:
        async with tractor.get_registry(addr) as registrar:
            table = await registrar.run_from_ns("self", "get_registry")
        # These come and go while we ask.
        return {k: v for k, v in table.items() if k.rpartition(".")[0] not in MORTAL}

    def report(self) -> str:
        """The figures, one a line."""
        lines = [f"{self.seconds:g} s, seed {self.seed}: {self.counts.total()} look-ups"]
        lines += [f"  {n:7}  {what}" for what, n in sorted((self.counts + self.ends).items())]
        for kind, took in sorted(self.slowest.items()):
            many = sum(n for what, n in self.counts.items() if what.startswith(f"{kind}:"))
            mean = 1000 * self.total[kind] / many
            lines.append(f"  {took:7.2f}  s, the slowest {kind}; {mean:.1f} ms in the mean")
        lines += [f"FAULT: {fault}" for fault in self.faults]
        return "\n".join(lines)


def free_addrs(proto: str, directory: Path) -> list[Any]:
    if proto == "uds":
        return [(str(directory), f"registry_{number}.sock") for number in range(3)]
    return [get_rando_addr(proto) for _ in range(3)]


def storm(seconds: float, seed: str, proto: str, start_method: str | None) -> Storm:
    """Run it, with registrars at addresses of its own."""
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as directory:
        run = Storm(seconds, seed, free_addrs(proto, Path(directory)))
        trio.run(run.run, start_method)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--tpt", default="uds", choices=["tcp", "uds"])
    parser.add_argument("--backend", default="main_thread_forkserver")
    args = parser.parse_args()
    run = storm(args.seconds, args.seed, args.tpt, args.backend)
    print(run.report())
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
