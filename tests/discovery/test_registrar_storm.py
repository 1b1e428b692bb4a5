"""A while of what `make registrar-storm` runs for a minute."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from ep_marks import gets_signals

spec = importlib.util.spec_from_file_location(
    "registrar_storm", Path(__file__).with_name("registrar_storm.py")
)
assert spec is not None
assert spec.loader is not None
registrar_storm = importlib.util.module_from_spec(spec)
sys.modules["registrar_storm"] = registrar_storm
spec.loader.exec_module(registrar_storm)


@gets_signals
@pytest.mark.usefixtures("forked_actors")
def test_a_while_of_look_ups_while_two_of_three_registrars_die(tpt_proto: str) -> None:
    run = registrar_storm.storm(5.0, "test", tpt_proto, None)
    assert run.faults == []
    assert run.counts["find_steady: portal"] > 0
    assert run.counts["find_nobody: None"] > 0
    assert run.counts["find_mortal: portal"] > 0
    # The plan of this seed ends registrars, so that there was something to survive.
    assert run.ends["registrar: SIGKILL"] > 0
    assert run.ends["service: SIGKILL"] > 0
