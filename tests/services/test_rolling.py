"""A moment of the load that `make rolling` presses on for longer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import trio
from ep_marks import gets_signals

spec = importlib.util.spec_from_file_location("rolling", Path(__file__).with_name("rolling.py"))
assert spec is not None
assert spec.loader is not None
rolling = importlib.util.module_from_spec(spec)
sys.modules["rolling"] = rolling
spec.loader.exec_module(rolling)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("way", ["drain", pytest.param("kill", marks=gets_signals)])
def test_replicas_are_restarted_under_load(way: str) -> None:
    """With a drain no call fails; with a kill none that was not sent to the process that was killed."""
    load = trio.run(rolling.roll, way, 100.0, 2.0, 2, None)
    assert load.calls > 100
    assert len(load.delays) > load.calls // 2
