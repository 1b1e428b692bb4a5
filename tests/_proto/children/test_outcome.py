"""What becomes of each error that a nursery has collected: every cell, and the errors that fill them."""

from __future__ import annotations

import pytest

from tractor._proto.children.outcome import ORDER, TABLE, Fact, Part, Verdict

R, C, D, G = Verdict.RAISE, Verdict.CAUSE, Verdict.DROP, Verdict.GO_ON

EXPECTED: dict[Part, dict[Fact, Verdict]] = {
    Part.ERROR: {Fact.NEW: R, Fact.TOLD: R, Fact.OURS: R},
    Part.LOSS: {Fact.NEW: R, Fact.TOLD: C, Fact.OURS: D},
    Part.CTXC: {Fact.NEW: R, Fact.TOLD: D, Fact.OURS: D},
    Part.CANCELLED: {Fact.NEW: G, Fact.TOLD: G, Fact.OURS: G},
}


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("fact", Fact)
def test_cell(part: Part, fact: Fact) -> None:
    assert TABLE[part, fact] is EXPECTED[part][fact]


def test_what_is_raised_has_a_place_in_the_order() -> None:
    raised = {part for (part, _), verdict in TABLE.items() if verdict is Verdict.RAISE}
    assert set(ORDER) == raised
    assert len(TABLE) == len(Part) * len(Fact)
