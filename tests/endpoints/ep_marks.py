"""Markers of tests that can't apply to every spawn backend; not imported by children."""

from __future__ import annotations

import pytest

__all__ = ["gets_signals", "gets_stuck", "outlives_its_root"]

gets_signals = pytest.mark.skipon_spawn_backend(
    "subint",
    reason="an actor in a sub-interpreter is not a process of its own that a signal or os._exit() could end",
)

gets_stuck = pytest.mark.skipon_spawn_backend(
    "subint",
    reason="a stuck actor in a sub-interpreter can only be abandoned: tests/spawn/test_subint_actors.py",
)

outlives_its_root = pytest.mark.skipon_spawn_backend(
    "subint",
    reason="sub-interpreters end with their process, and nobody outlives it to remove its socket files",
)
