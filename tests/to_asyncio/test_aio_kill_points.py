"""A few rounds of what `make asyncio-kills` runs for long: signals to either side at random points."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kill_points

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def test_nothing_hangs_and_nothing_is_left() -> None:
    counts, wrong = kill_points.kill_points(runs=4, seed=2)
    assert wrong == []
    assert sum(counts.values()) == 4


def test_a_seed_gives_the_same_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    for name in ("run_here", "run_program", "interrupt_here"):
        monkeypatch.setattr(kill_points, name, lambda *args: seen.append(args))
    first = [kill_points.one_run(random.Random(f"3/{index}")) for index in range(20)]
    once, seen[:] = list(seen), []
    assert [kill_points.one_run(random.Random(f"3/{index}")) for index in range(20)] == first
    assert seen == once
    assert len(set(map(str, seen))) > 10
