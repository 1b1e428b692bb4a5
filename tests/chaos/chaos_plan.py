"""What happens in a round of chaos, and when: from the seed alone, without actors, clocks or sockets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Branch", "Fault", "Node", "Operation", "Plan", "plan_round"]

MOST_DEEP = 3
MOST_WIDE = 4
MOST_ACTORS = 8
SPAN = 1.5
"""Seconds over which operations and faults begin, once the tree is up."""

OPERATIONS = {
    "call": 6,
    "slow call": 5,
    "failing call": 3,
    "big call": 3,
    "stream": 5,
    "left stream": 3,
    "dialog": 6,
    "cancelled dialog": 4,
    "cancelled call": 4,
    "start": 2,
    "cancel actor": 1,
}
"""Weights."""

SIGNALS = ("SIGKILL", "SIGSTOP")
INSIDE = ("os._exit", "segfault", "blocked loop")
LINKS = ("delay", "half-close", "reset", "truncate")
FAULTS = {
    "SIGKILL": 3,
    "SIGSTOP": 3,
    "os._exit": 2,
    "segfault": 2,
    "blocked loop": 3,
    "delay": 3,
    "half-close": 3,
    "reset": 3,
    "truncate": 3,
}
"""Weights."""

HARMLESS_TO_PARENT = ("blocked loop", *LINKS)
"""What an actor that lives in its parent's process may go through: the others would end the root, too."""

ENDINGS = ("cancel actor", "cancel nursery", "error", "cancel scope")


@dataclass(frozen=True)
class Node:
    """An actor below another: its place, like ``0.1``, and what is below it."""

    path: str
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """It and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Branch:
    """An actor below the root, in a nursery of its own, with its subtree."""

    node: Node
    ending: str
    """One of `ENDINGS`: how its nursery is left, if nothing else has ended it."""
    proxied: bool
    """Whether its connection to the root is one that can be broken."""


@dataclass(frozen=True)
class Fault:
    """Something bad that happens to an actor, or to its connection to the root."""

    at: float
    kind: str
    path: str
    seconds: float
    """How long it stays stopped or blocked, or how late each chunk of bytes gets (a dialog has hundreds)."""
    size: int
    """Bytes that still get through."""
    towards: str
    """``'child'`` or ``'root'``: the end that sees the half-closed or truncated connection."""


@dataclass(frozen=True)
class Operation:
    """Something that the root asks for, and that must end in one outcome."""

    at: float
    """Seconds after the tree is up."""
    kind: str
    path: str
    size: int
    via: str
    """``'portal'``: over the branch's own; ``'look-up'``; ``'dial'``: over a connection that is made for it."""
    inside: bool
    """Whether it is a task within the branch's nursery, and so ends with it."""
    breaks: Fault | None
    """What happens to the connection of a ``'dial'``, that many seconds after it was made."""


@dataclass(frozen=True)
class Plan:
    """One round."""

    seed: str
    branches: tuple[Branch, ...]
    operations: tuple[Operation, ...]
    faults: tuple[Fault, ...]

    @property
    def touched(self) -> frozenset[str]:
        """The branches, by their first actor, in which something bad is planned, or an end."""
        ends = [one.path for one in self.operations if one.kind == "cancel actor"]
        paths = [*ends, *(fault.path for fault in self.faults)]
        return frozenset(path.partition(".")[0] for path in paths)

    @property
    def actors(self) -> int:
        """How many there are below the root."""
        return sum(1 for branch in self.branches for _ in branch.node.walk())


def plan_round(seed: str, *, own_processes: bool = True) -> Plan:
    """The round of a seed.

    Args:
        seed: any text; the same one gives the same plan, on every Python and platform.
        own_processes: whether each actor has a process of its own, which may be killed.
    """
    rng = random.Random(seed)
    branches = _random_branches(rng)
    kinds = {k: w for k, w in FAULTS.items() if own_processes or k in HARMLESS_TO_PARENT}
    faults = tuple(
        _random_fault(rng, branches, kinds) for _ in range(rng.choice((0, 1, 2, 2, 3, 4)))
    )
    count = rng.randint(10, 30)
    operations = tuple(_random_operation(rng, branches) for _ in range(count))
    return Plan(
        seed,
        branches,
        tuple(sorted(operations, key=lambda one: one.at)),
        tuple(sorted(faults, key=lambda one: one.at)),
    )


def _random_branches(rng: random.Random) -> tuple[Branch, ...]:
    left = rng.randint(1, MOST_ACTORS)
    width = min(left, rng.randint(1, MOST_WIDE))
    left -= width
    below: dict[str, list[str]] = {str(number): [] for number in range(width)}
    open_ends = list(below)
    while left and open_ends:
        parent = rng.choice(open_ends)
        child = f"{parent}.{len(below[parent])}"
        below[parent].append(child)
        below[child] = []
        left -= 1
        if child.count(".") + 1 < MOST_DEEP:
            open_ends.append(child)
        if len(below[parent]) == MOST_WIDE:
            open_ends.remove(parent)

    def node(path: str) -> Node:
        return Node(path, tuple(map(node, below[path])))

    return tuple(
        Branch(node(str(number)), rng.choice(ENDINGS), rng.random() < 0.6)
        for number in range(width)
    )


def _random_fault(rng: random.Random, branches: tuple[Branch, ...], kinds: dict[str, int]) -> Fault:
    proxied = [branch.node.path for branch in branches if branch.proxied]
    usable = {kind: weight for kind, weight in kinds.items() if proxied or kind not in LINKS}
    (kind,) = rng.choices(list(usable), list(usable.values()))
    everyone = [node.path for branch in branches for node in branch.node.walk()]
    return _fault_of(rng, kind, rng.choice(proxied if kind in LINKS else everyone))


def _fault_of(rng: random.Random, kind: str, path: str, at: float | None = None) -> Fault:
    return Fault(
        at=round(rng.uniform(0, SPAN) if at is None else at, 3),
        kind=kind,
        path=path,
        seconds=round(rng.uniform(0.002, 0.02) if kind == "delay" else rng.uniform(0.1, 1.5), 3),
        size=rng.choice((0, 1, 3, 5, 40, 1000, 100_000)),
        towards=rng.choice(("child", "root")),
    )


def _random_operation(rng: random.Random, branches: tuple[Branch, ...]) -> Operation:
    (kind,) = rng.choices(list(OPERATIONS), list(OPERATIONS.values()))
    branch = rng.choice(branches)
    if kind == "start":
        # By the root, in a branch's nursery.
        path, via = branch.node.path, "portal"
    else:
        path = rng.choice([node.path for node in branch.node.walk()])
        vias = ("look-up", "dial") if path != branch.node.path else ("portal", "look-up", "dial")
        via = rng.choice(vias)
    breaks: Fault | None = None
    if via == "dial" and rng.random() < 0.5:
        breaks = _fault_of(rng, rng.choice(LINKS), path, at=rng.uniform(0, 0.1))
    return Operation(
        at=round(rng.uniform(0, SPAN), 3),
        kind=kind,
        path=path,
        size=rng.randint(1, 200),
        via=via,
        inside=rng.random() < 0.3,
        breaks=breaks,
    )
