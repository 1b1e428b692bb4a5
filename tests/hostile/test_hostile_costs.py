"""What an attack by somebody who holds the key costs an actor, and a rightful caller beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ep_tree import Tree, in_tree

from tractor.testing import get_rando_addr

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attacks import ATTACKS, BOMBS
from stage import Seen, attacked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

ON_TCP = ("a frame in pieces", "half a frame", "400 MB", "one after the other")
"""Beginnings or parts of the names of those in which the transport has a say."""


@pytest.fixture(name="tree", scope="module", params=["uds", "tcp"])
def _tree(request: pytest.FixtureRequest, private_dir: Path) -> Iterator[Tree]:
    with Tree(get_rando_addr(request.param), "ep_victim").opened() as tree:
        yield tree


def check(name: str, seen: Seen) -> None:
    """Hold an attack to its bounds."""
    attack = ATTACKS[name]
    assert seen.memory < attack.memory, seen
    assert seen.kept < attack.kept, seen
    assert seen.maps < attack.maps, seen
    assert seen.lag < attack.lag, seen.lag
    assert seen.latency < attack.latency, seen.latency
    assert len(seen.latencies) > 1


@pytest.mark.parametrize("name", ATTACKS)
@in_tree
async def test_an_attack_costs_no_more_than_its_bounds(
    tree: Tree, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (addr,) = tree.portal.chan.raddr.proto_key, 
    if addr == "tcp" and not any(part in name for part in ON_TCP):
        pytest.skip("the transport has no say in this")
    if any(name.startswith(bomb) for bomb in BOMBS):
        pytest.skip("bombs are not refused yet")
    seen = await attacked(tree.portal, name, tmp_path)
    check(name, seen)
    judge = JUDGES.get(name)
    if judge is not None:
        judge(seen)
