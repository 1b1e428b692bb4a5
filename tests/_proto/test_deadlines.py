"""The waits that stand inside each other, and the programs that have a copy of one."""

from __future__ import annotations

import inspect

import pytest

from tractor._proto import deadlines
from tractor._proto.deadlines import ORDER
from tractor.process.sentinel import _sentinel_main
from tractor.spawn._lifeline import Lifeline


@pytest.mark.parametrize(("what", "shorter", "longer"), ORDER, ids=[row[0] for row in ORDER])
def test_the_inner_wait_ends_first(what: str, shorter: float, longer: float) -> None:
    # A busy machine lets a process wait for a fifth of a second.
    assert shorter + 0.2 <= longer, what


def test_the_sentinel_has_the_same_grace() -> None:
    """It is a program of its own, that imports nothing of the package."""
    assert _sentinel_main.GRACE == deadlines.SENTINEL_GRACE


def test_a_lifeline_leaves_in_time() -> None:
    grace = inspect.signature(Lifeline).parameters["grace"]
    assert grace.default == deadlines.LEAVE_AFTER


def test_every_time_has_its_reason() -> None:
    source = inspect.getsource(deadlines).split("ORDER:")[0]
    names = [name for name in vars(deadlines) if name.isupper() and name != "ORDER"]
    assert len(names) > 15
    for name in names:
        _, _, after = source.partition(f"{name}: Final")
        assert after.partition("\n")[2].startswith('"""'), name
