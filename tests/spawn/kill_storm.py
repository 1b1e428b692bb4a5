"""Random trees, random bad states, SIGKILL of random ancestors: is every descendant gone within 2 s?

``python tests/spawn/kill_storm.py --runs 200 --seed 1 --depth 3 --backend mp_forkserver``

With `mp_forkserver` fork servers get SIGKILL, too.  Then the promise is for what they have forked, by order of an actor
whose event loop runs.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "endpoints"))

import ep_sentinel_tools as tools

WEIGHTS = {"idle": 30, "shielded": 10, "blocked": 15, "busy": 5, "stopped": 20, "gil": 20}
MOST_ACTORS = 8
RUN_LOOPS = ("idle", "shielded")
"""States in which an actor's own nurseries still act."""

BACKENDS = ("trio", "mp_spawn", "mp_forkserver", "main_thread_forkserver", "zygote")


def random_tree(rng: random.Random, depth: int) -> tools.Node:
    """A tree of 2 to `MOST_ACTORS` actors with `depth` levels below the root at most."""
    left = rng.randint(1, MOST_ACTORS - 1)
    states = list(WEIGHTS)

    def node() -> tools.Node:
        return rng.choices(states, list(WEIGHTS.values()))[0], []

    root = node()
    open_ends = [(root, 0)]
    while left and open_ends:
        # The newest more often than not: deep trees are the interesting ones.
        parent, level = open_ends[-1] if rng.random() < 0.6 else rng.choice(open_ends)
        child = node()
        parent[1].append(child)
        left -= 1
        if level + 1 < depth:
            open_ends.append((child, level + 1))
        if len(parent[1]) == 3:
            open_ends.remove((parent, level))
    return root


@dataclass
class Figures:
    """What a storm saw."""

    times: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    """Seconds until all descendants were gone, by what was killed."""
    states: collections.Counter[str] = field(default_factory=collections.Counter)
    actors: int = 0
    late: list[str] = field(default_factory=list)
    files_left: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A table for people."""
        lines = [f"{'killed':20} {'runs':>5} {'median':>8} {'slowest':>8}"]
        for what, times in sorted(self.times.items()):
            row = f"{what:20} {len(times):5}"
            lines.append(f"{row} {statistics.median(times):7.3f}s {max(times):7.3f}s")
        every = [one for times in self.times.values() for one in times]
        lines.append(
            f"{'all':20} {len(every):5} {statistics.median(every):7.3f}s {max(every):7.3f}s"
        )
        counted = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        lines.append(f"{self.actors} actors: {counted}")
        lines.append(f"later than {tools.PROMISE} s: {len(self.late)}; {self.late}")
        lines.append(f"socket files left: {len(self.files_left)}; {self.files_left}")
        return "\n".join(lines)


def one_run(rng: random.Random, depth: int, figures: Figures, backend: str) -> None:
    spec = random_tree(rng, depth)
    with tools.Tree(spec, backend=backend) as tree:
        parents = [place for place in tree.pids if tools.below(place, tree.pids)]
        middle = [place for place in parents if place]
        choice = rng.random()
        if choice < 0.45 or not middle:
            chosen, what = [""], "the root"
        elif choice < 0.8:
            chosen, what = [rng.choice(middle)], "a middle actor"
        else:
            chosen = rng.sample(parents, rng.randint(2, len(parents)))
            what = "several at once"
        if rng.random() < 0.9:
            tree.enter_states()
            figures.states.update(tree.states.values())
        else:
            figures.states["idle"] += len(tree.pids)
        figures.actors += len(tree.pids)
        run_loops = [place for place in tree.servers if tree.states[place] in RUN_LOOPS]
        if run_loops and rng.random() < 0.4:
            server_of, what, chosen = rng.choice(run_loops), "a fork server", []
            note(figures, what, f"of {server_of!r}", tree, tree.kill_server(server_of))
            # The loss is an error of that actor's, which may go up to the root and end the program.
            tree.wait_gone([tree.pids[""]], limit=3.0)
        else:
            note(figures, what, chosen, tree, tree.kill(chosen))
        if "" not in chosen:
            # A root without a sentinel has left its block, and is about to end.
            ends = (
                tools.state_of(tree.pids[""]) in "XZ" or tools.state_of(tree.sentinels[""]) in "XZ"
            )
            if not ends:
                note(figures, "then the root", "", tree, tree.kill([""]))
            else:
                helpers = {*tree.sentinels.values(), *tree.servers.values()}
                tree.wait_gone({*tree.pids.values(), *helpers})
    figures.files_left += socket_files()


def note(figures: Figures, what: str, whom: object, tree: tools.Tree, took: float) -> None:
    figures.times[what].append(took)
    if took > tools.PROMISE:
        figures.late.append(f"{took:.2f} s: {what} {whom} of {tree.spec}")


def socket_files() -> list[str]:
    """Those of the runtime directory."""
    # An actor whose parent was only stopped ends in this moment, too.
    deadline = time.monotonic() + 1.0
    while True:
        found = [str(path) for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.sock")]
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for path in found:
        Path(path).unlink(missing_ok=True)
    return found


def storm(
    runs: int, seed: int, depth: int, verbose: bool = False, backend: str = "trio"
) -> Figures:
    """Runs with the same seed have the same trees, states and victims."""
    figures = Figures()
    for index in range(runs):
        one_run(random.Random(f"{seed}/{index}"), depth, figures, backend)
        if verbose and (index + 1) % 20 == 0:
            print(f"{index + 1} runs\n{figures.text()}\n", flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--depth", type=int, default=3, help="levels below the root")
    parser.add_argument("--backend", choices=BACKENDS, default="trio")
    args = parser.parse_args()
    if sys.platform != "linux":
        print("the net below a stopped process is tested on Linux only")
        return 0
    with tempfile.TemporaryDirectory(prefix="ks-", dir="/tmp") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        start = time.monotonic()
        figures = storm(args.runs, args.seed, args.depth, verbose=True, backend=args.backend)
        took = time.monotonic() - start
    print(f"{args.backend}: {args.runs} runs in {took:.0f} s, seed {args.seed}, depth {args.depth}")
    print(figures.text())
    return 1 if figures.late or figures.files_left else 0


if __name__ == "__main__":
    sys.exit(main())
