"""A few seconds of the churn that `make churn` runs for a minute."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from ep_marks import gets_signals

spec = importlib.util.spec_from_file_location(
    "discovery_churn", Path(__file__).with_name("churn.py")
)
assert spec is not None
assert spec.loader is not None
churn = importlib.util.module_from_spec(spec)
sys.modules["discovery_churn"] = churn
spec.loader.exec_module(churn)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to tell what is left")
@gets_signals
def test_a_few_seconds_of_churn() -> None:
    # The longer one is for a machine that gets next to nothing done in the other.
    run = churn.churn(4.0, "test")
    if not run.faults and not (run.looked["portal"] and run.looked["None, stale"]):
        run = churn.churn(20.0, "test")
    assert run.faults == []
    assert run.looked["look-ups"] > 0
    assert run.looked["portal"] > 0
    assert run.looked["None, stale"] > 0
    # The plan of this seed ends registrars and services, so that there was something to survive.
    assert run.counts["registrar: SIGKILL"] > 0
    assert any(run.counts[f"service: {how}"] for how in ("SIGKILL", "os._exit", "SIGTERM"))
