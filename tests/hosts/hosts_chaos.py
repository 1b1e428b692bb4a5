"""Chaos over three hosts: in each round one thing is cut, slowed, stopped or killed, and both sides are looked at.

``make chaos-hosts``, or ``python tests/hosts/hosts_chaos.py --seconds 1800 --seed 1``.  The hosts are namespaces of
this machine (`bed.py`): Linux, root, `openssh-server iproute2`.  With ``--figures`` it measures instead: 64 actors
started at once, and calls over each road beside loopback.

A round is a root of its own (`ep_hosts_chaos.py`) with an actor, and one below it, on each host, which are called all
the time, and call each other by the direct road.  Checked in each: what the fault is to lose is lost there and here in
the times of hosts.md §4, and nothing else is; no operation hangs; nothing is left on any host, nor here.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "endpoints")]

import ep_elsewhere  # noqa: E402
import trio  # noqa: E402
from bed import Bed, missing, open_bed  # noqa: E402
from bed_keeper import wait_for  # noqa: E402
from bed_ways import ENDPOINTS, KEY, MODULES, Way, open_tree, root_options  # noqa: E402

import tractor  # noqa: E402
from tractor.process._stat import pid_alive  # noqa: E402

PROGRAM = ENDPOINTS / "ep_hosts_chaos.py"
DEADLINE = 3.0
NOW = 2.0
"""Seconds for an end that the network delivers."""
LATER = DEADLINE + 2.0
"""The same for one that it does not: hosts.md §4."""
LOOK = 1.5
"""Seconds for a busy machine, and for the looks of this one."""
TOLD = 2.0
"""Seconds from the loss that is known until a peer knows it, too."""
START_LIMIT, END_LIMIT = 60.0, 30.0
WAYS = (("ssh", "tunnel"), ("ssh", "direct"))


class Fault(NamedTuple):
    """What is done in a round.

    Attributes:
        lose: does it to a host, or to the root.
        gone: seconds in which nothing of ours runs on the host any more; ``None``: all goes on.
        known: the same until the root knows; ``None``: it is the root that is gone.
    """

    lose: Callable[[Run, str], object]
    gone: float | None
    known: float | None


class Run:
    """A round's program, and what it has said."""

    def __init__(self, way: Way, seed: int) -> None:
        self.way = way
        self.chance = random.Random(seed)
        order = {
            "urls": {name: way.url(name) for name in way.bed.hosts},
            "options": way.options(deadline=DEADLINE),
            "root": root_options() | {"authkey": KEY.decode()},
            "limit": LATER + 20.0,
            "peers": way.road == "direct",
        }
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.said.append(json.loads(line))

    def of(self, what: str) -> list[dict[str, Any]]:
        return [one for one in list(self.said) if one["what"] == what]

    def pids(self, host: str) -> list[int]:
        (one,) = (one for one in self.of("ready") if one["host"] == host)
        return list(one["pids"])

    def children(self) -> list[int]:
        """Pids of the root's own helpers here, and of the engines' clients."""
        found, todo = [], [self.process.pid]
        while todo:
            path = Path(f"/proc/{(pid := todo.pop())}/task/{pid}/children")
            with contextlib.suppress(OSError):
                below = [int(one) for one in path.read_text().split()]
                found += below
                todo += below
        return found

    def link_process(self) -> int:
        (found,) = (
            pid
            for pid in self.children()
            if b"tractor.hosts._link_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


def kill_there(run: Run, host: str, pid: int, number: int = signal.SIGKILL) -> None:
    run.way.bed.kill(host, pid, number)


def flap(run: Run, host: str) -> None:
    for _ in range(run.chance.randint(1, 2)):
        run.way.bed.cut(host)
        time.sleep(run.chance.uniform(0.1, DEADLINE * 0.25))
        run.way.bed.heal(host)
        time.sleep(DEADLINE)


def slow(run: Run, host: str) -> None:
    for name in run.way.bed.hosts:
        delay, loss = run.chance.choice([("20ms", "0%"), ("60ms", "0.5%"), ("100ms", "1%")])
        netem(run.way.bed, name, "delay", delay, "10ms", "loss", loss)
    time.sleep(DEADLINE)


def netem(bed: Bed, name: str, *how: str) -> None:
    do = (
        ["replace", "dev", f"to-{name}", "root", "netem", *how]
        if how
        else ["del", "dev", f"to-{name}", "root"]
    )
    bed.switch.run(["tc", "qdisc", *do], only="n")


def stop_root(run: Run, host: str) -> None:
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5 * DEADLINE)
    run.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)


def stop_actor_then_root(run: Run, host: str) -> None:
    kill_there(run, host, run.pids(host)[0], signal.SIGSTOP)
    run.process.kill()


def cut_and_kill_root(run: Run, host: str) -> None:
    run.way.bed.cut(host)
    run.process.kill()


FAULTS = {
    "cut": Fault(lambda run, host: run.way.bed.cut(host), LATER, LATER),
    "drop": Fault(lambda run, host: run.way.bed.drop(host), LATER, LATER),
    "kill agent": Fault(
        lambda run, host: kill_there(run, host, run.way.agent(host).pid), NOW, LATER
    ),
    "stop agent": Fault(
        lambda run, host: kill_there(run, host, run.way.agent(host).pid, signal.SIGSTOP),
        LATER,
        LATER,
    ),
    "kill actor": Fault(lambda run, host: kill_there(run, host, run.pids(host)[0]), NOW, NOW),
    "kill the one below": Fault(
        lambda run, host: kill_there(run, host, run.pids(host)[1]), NOW, NOW
    ),
    "kill root": Fault(lambda run, host: run.process.kill(), NOW, None),
    "stop actor, kill root": Fault(stop_actor_then_root, NOW, None),
    "cut, kill root": Fault(cut_and_kill_root, LATER, None),
    "kill link process": Fault(lambda run, host: os.kill(run.link_process(), 9), NOW, LATER),
    "flap": Fault(flap, None, None),
    "slow": Fault(slow, None, None),
    "stop root": Fault(stop_root, None, None),
}

ALL_HOSTS = {"kill root", "stop actor, kill root", "cut, kill root", "kill link process"}
LOST = {"cut", "drop", "kill agent", "stop agent", "kill link process"}
"""Faults that lose a host; others fail an actor."""


class Tally:
    """What was seen in all rounds."""

    def __init__(self) -> None:
        self.rounds: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.worst: dict[tuple[str, str], float] = {}
        self.faults: list[str] = []

    def see(self, fault: str, what: str, seconds: float) -> None:
        self.worst[fault, what] = max(seconds, self.worst.get((fault, what), 0.0))

    def print(self) -> None:
        print(f"\n{sum(self.rounds.values())} rounds; worst of each, in seconds:")
        for fault, count in sorted(self.rounds.items()):
            seen = {what: s for (one, what), s in self.worst.items() if one == fault}
            print(f"  {fault:22} {count:4}  {', '.join(f'{w} {s:.2f}' for w, s in seen.items())}")
        print("operations:")
        for outcome, count in self.outcomes.most_common():
            print(f"  {count:7} {outcome}")
        print(f"{len(self.faults)} faults of ours")
        for one in self.faults:
            print(f"  {one}")


def play(bed: Bed, seed: int, tally: Tally, only: str | None) -> None:
    """One round, by its number."""
    chance = random.Random(seed)
    way = Way(bed, *chance.choice(WAYS))
    kind = only or chance.choice(list(FAULTS))
    host = chance.choice(list(bed.hosts))
    tally.rounds[kind] += 1
    run = Run(way, seed)
    title = f"round {seed}: {kind} ({host}, {way.road})"
    try:
        wait_for(lambda: len(run.of("ready")) == len(bed.hosts), "all ready", START_LIMIT)
        time.sleep(chance.uniform(0.0, 1.5))
        for problem in _judge(run, kind, host, tally):
            tally.faults.append(f"{title}: {problem}")
    except (AssertionError, TimeoutError, ValueError) as exc:
        tally.faults.append(f"{title}: {exc}; it has said {run.said}")
    finally:
        run.close()
        for name in bed.hosts:
            bed.heal(name)
            netem(bed, name)
        for problem in _tidied(bed):
            tally.faults.append(f"{title}: left: {problem}")


def _judge(run: Run, kind: str, host: str, tally: Tally) -> Iterator[str]:
    fault, bed = FAULTS[kind], run.way.bed
    helpers = run.children()
    began = time.monotonic()
    fault.lose(run, host)
    victims = [*bed.hosts] if kind in ALL_HOSTS else [host]
    if fault.gone is not None:
        empty = _wait_until_empty(run.way, victims)
        for name in victims:
            limit = fault.gone if name == host or kind == "kill link process" else NOW
            took = empty[name] - began
            tally.see(kind, f"gone ({(name == host and 'there') or 'elsewhere'})", took)
            if took > limit + LOOK:
                yield f"gone on {name} after {took:.2f} s, not {limit:g}"
    if fault.gone is not None and fault.known is None:
        run.process.wait(END_LIMIT)
        wait_for(lambda: not any(map(pid_alive, helpers)), "helpers here gone", END_LIMIT)
        tally.see(kind, "gone (here)", time.monotonic() - began)
        return
    if fault.known is not None:
        yield from _known(run, kind, victims, began, fault.known, tally)
    survivors = set(bed.hosts) - set(victims if fault.gone is not None else ())
    if early := [one for one in run.of("end") if one["host"] in survivors]:
        yield f"lost without a reason: {early}"
    assert run.process.stdin is not None
    run.process.stdin.write("end\n")
    run.process.stdin.flush()
    asked = time.monotonic()
    if run.process.wait(END_LIMIT):
        yield f"the root ended with status {run.process.returncode}"
    tally.see(kind, "end", time.monotonic() - asked)
    wait_for(lambda: bool(run.of("done")) and not any(map(pid_alive, helpers)), "end", END_LIMIT)
    (done,) = run.of("done")
    tally.outcomes.update(done["outcomes"])
    tally.see(kind, "slowest operation", done["slowest"])
    for outcome in done["outcomes"]:
        if "HANG" in outcome or "AssertionError" in outcome or "InternalError" in outcome:
            yield f"an operation ended as {outcome}"


def _wait_until_empty(way: Way, names: list[str]) -> dict[str, float]:
    """Wait until nothing of ours is on any; when that was, of each."""
    empty: dict[str, float] = {}

    def look() -> bool:
        for name in names:
            if name not in empty and not way.there(name):
                empty[name] = time.monotonic()
        return len(empty) == len(names)

    wait_for(look, f"{names} empty", LATER + END_LIMIT)
    return empty


def _known(
    run: Run, kind: str, victims: list[str], began: float, limit: float, tally: Tally
) -> Iterator[str]:
    def ended() -> dict[str, Any]:
        return {one["host"]: one for one in run.of("end")}

    wait_for(lambda: set(victims) <= ended().keys(), f"{victims} known", limit + END_LIMIT)
    known = max(ended()[name]["at"] for name in victims) - began
    tally.see(kind, "known", known)
    if known > limit + LOOK:
        yield f"known after {known:.2f} s, not {limit:g}"
    for name in victims:
        if kind in LOST and not ended()[name]["lost"]:
            yield f"{name} ended as {ended()[name]['error']}"
    # Of those that are left one waits for a peer there, by the direct road.
    waiting = [name for name in run.way.bed.hosts if name not in victims]
    if run.way.road == "direct" and len(victims) == 1 and kind != "kill the one below":
        callers = [n for n in waiting if next(o for o in run.way.bed.hosts if o != n) == victims[0]]
        wait_for(lambda: len(run.of("told")) >= len(callers), "peers told", limit + END_LIMIT)
        for one in run.of("told"):
            tally.see(kind, "peer told", one["at"] - began)
            if one["at"] - began > max(known, 0.0) + TOLD + LOOK:
                yield f"a peer was told after {one['at'] - began:.2f} s; known after {known:.2f}"


def _tidied(bed: Bed) -> Iterator[str]:
    """What is left on hosts, which is ended."""

    def left() -> list[tuple[str, Any]]:
        return [(n, p) for n in bed.hosts for p in Way(bed, "ssh", "tunnel").there(n)]

    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not left(), "hosts empty", LATER + LOOK)
    for name, process in left():
        yield f"{name}: {process}"
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid_here, signal.SIGKILL)
    for name in bed.hosts:
        for process in bed.processes(name):
            # An sshd that waits for a client which it could not reach.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid_here, signal.SIGKILL)


# -- figures ------------------------------------------------------------------------------------------


async def start_many(way: Way, count: int) -> tuple[float, float]:
    """Seconds until actors, started at once on all hosts in turn, are up; and until all are gone again."""
    async with open_tree(way, *way.bed.hosts) as (an, hosts):
        began = time.monotonic()
        async with trio.open_nursery() as tn:
            for number in range(count):
                where = hosts[number % len(hosts)]

                async def start(name: str, where: tractor.hosts.HostHandle) -> None:
                    await an.start_actor(name, host=where, enable_modules=MODULES)

                tn.start_soon(start, f"a{number}", where)
        up = time.monotonic() - began
        began = time.monotonic()
        await an.cancel()
        return up, time.monotonic() - began


async def time_calls(way: Way, rounds: int) -> dict[str, float]:
    """Microseconds of a call: over the road, and to an actor here, over loopback's TCP; the best of several turns."""
    async with open_tree(way, "h1") as (an, [h1]):
        portals = {
            way.road: await an.start_actor("far", host=h1, enable_modules=MODULES),
            "loopback": await an.start_actor("near", enable_modules=MODULES),
        }
        best = dict.fromkeys(portals, float("inf"))
        for _ in range(5):
            for name, portal in portals.items():
                began = time.perf_counter()
                for _ in range(rounds):
                    await portal.run(ep_elsewhere.pid)
                best[name] = min(best[name], (time.perf_counter() - began) / rounds * 1e6)
        await an.cancel()
    return best


def figures(bed: Bed) -> None:
    for way in (Way(bed, *one) for one in WAYS):
        up, down = trio.run(start_many, way, 64)
        print(
            f"{way.road}: 64 actors on {len(bed.hosts)} hosts up in {up:.2f} s, gone in {down:.2f} s"
        )
        best = trio.run(time_calls, way, 500)
        road, near = best[way.road], best["loopback"]
        print(f"{way.road}: a call {road:.0f} us, over loopback {near:.0f} us: {road / near:.2f} x")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=list(FAULTS), help="this fault in every round")
    parser.add_argument("--figures", action="store_true", help="measure, and break nothing")
    options = parser.parse_args()
    if (reason := missing()) is not None:
        print(f"no hosts can be made here: {reason}", file=sys.stderr)
        return 1
    tally = Tally()
    with open_bed() as bed:
        os.environ.update(bed.environ)
        if options.figures:
            figures(bed)
            return 0
        until = time.monotonic() + options.seconds
        seed = options.seed
        while time.monotonic() < until:
            before = len(tally.faults)
            play(bed, seed, tally, options.only)
            for one in tally.faults[before:]:
                print(one, flush=True)
            seed += 1
    print(f"seeds {options.seed} to {seed - 1}")
    tally.print()
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
