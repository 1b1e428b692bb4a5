"""What an attack by somebody who holds the key costs an actor, and a rightful caller beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ep_tree import Tree, in_tree

import tractor
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from attacks import ATTACKS, BOMBS
from raw_peer import RETURN
from stage import Seen, attacked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

ON_TCP = ("a frame in pieces", "half a frame", "400 MB", "one after the other")
"""Beginnings or parts of the names of those in which the transport has a say."""


@pytest.fixture(name="tree", scope="module", params=["uds", "tcp"])
def _tree(request: pytest.FixtureRequest, private_dir: Path) -> Iterator[Tree]:
    # A slow machine, too, sees so many within a second.
    limits = tractor.Limits(max_refused=100)
    with Tree(get_rando_addr(request.param), "ep_victim", limits=limits).opened() as tree:
        yield tree


BUSY = 5
"""How many times longer than on a free machine a rightful caller may wait on one that is busy."""


def check(name: str, seen: Seen) -> None:
    """Hold an attack to its bounds."""
    attack = ATTACKS[name]
    assert seen.memory < attack.memory, seen
    assert seen.kept < attack.kept, seen
    assert seen.maps < attack.maps, seen
    assert seen.lag < attack.lag, seen.lag
    assert seen.latency < BUSY * attack.latency, seen.latency
    assert len(seen.latencies) > 1


def is_told_of_its_credit(seen: Seen) -> None:
    assert "sent beyond its credit" in seen.facts["text"]


def is_hung_up_on(seen: Seen) -> None:
    assert seen.facts["closed"]
    assert seen.limits["max_refused"] == 1


def has_its_answers_in_the_end(seen: Seen) -> None:
    assert seen.facts["answers"] == 300
    assert seen.limits["max_unsent"] > 0


def is_served_as_far_as_the_limit(seen: Seen) -> None:
    assert seen.facts["served"] == 3 * 4096


def is_refused(seen: Seen) -> None:
    """A bomb costs its own dialog; the same channel goes on."""
    assert seen.facts["text"]
    assert seen.facts.get("value", [8]) == [8]


def lets_others_run(seen: Seen) -> None:
    """All is read, and between two messages the others have their turn."""
    assert seen.lag < seen.facts["took"] / 3
    assert seen.facts["type"] == RETURN, seen.facts["text"]
    assert seen.facts["count"] in ([17], [1001])


JUDGES: dict[str, Callable[[Seen], None]] = {
    "a stream of 300,000 messages beyond its credit": is_told_of_its_credit,
    "a stream of 400 MB beyond its credit": is_told_of_its_credit,
    "requests that are refused": is_hung_up_on,
    "requests to the runtime that are refused": is_hung_up_on,
    "300 replies of 1 MB one after the other, not read": has_its_answers_in_the_end,
    "12,000 dialogs that are left at once": is_served_as_far_as_the_limit,
    **dict.fromkeys((name for name in ATTACKS if ", read " in name), lets_others_run),
    **dict.fromkeys((name for name in ATTACKS if " reset by " in name), is_hung_up_on),
    **dict.fromkeys((name for name in ATTACKS if name.split()[0] in BOMBS), is_refused),
}


@pytest.mark.parametrize("name", ATTACKS)
@in_tree
async def test_an_attack_costs_no_more_than_its_bounds(
    tree: Tree, name: str, private_dir: Path
) -> None:
    if tree.portal.chan.raddr.proto_key == "tcp" and not any(part in name for part in ON_TCP):
        pytest.skip("the transport has no say in this")
    seen = await attacked(tree.portal, name, private_dir)
    check(name, seen)
    if judge := JUDGES.get(name):
        judge(seen)
