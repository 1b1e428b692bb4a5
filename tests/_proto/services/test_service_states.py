"""The states of a service, drawn from the table: ``python tests/_proto/services/test_service_states.py`` draws anew.

The drawing is in docs/guide/supervisor_rules.rst.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tractor._proto.machine import IllegalEvent
from tractor._proto.services.restarts import Intensity
from tractor._proto.services.service_life import MOVES, ServiceRules, ServiceState, Unit

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs" / "guide" / "supervisor_rules.rst"
BEGIN, END = ".. drawn from the table\n\n.. code-block:: text\n\n", "\n.. end of the drawing\n"


def drawing() -> str:
    lines: list[str] = []
    for state, moves in MOVES.items():
        for number, (target, what) in enumerate(moves.items()):
            begin = f"{state.value:8} ──" if number == 0 else " " * 11
            is_last = number == len(moves) - 1
            corner = {(True, True): "──▶", (True, False): "┬─▶", (False, True): "└─▶"}.get(
                (number == 0, is_last), "├─▶"
            )
            lines.append(f"    {begin}{corner} {target.value:8}   {what}\n")
        lines.append("\n")
    return "".join(lines[:-1])


def shown() -> str:
    match = re.search(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", PAGE.read_text(), re.DOTALL)
    assert match is not None, f"{PAGE.name} has no drawing"
    return match[1]


def test_the_drawing_is_that_of_the_table() -> None:
    assert shown() == drawing(), f"draw it anew: python {Path(__file__).name}"


def test_every_test_that_the_page_names_exists() -> None:
    sources = "\n".join(path.read_text() for path in TESTS.rglob("test_super*.py"))
    sources += "\n".join(path.read_text() for path in (TESTS / "services").glob("test_*.py"))
    named = set(re.findall(r"\btest_\w+", PAGE.read_text()))
    assert len(named) > 30
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []


@pytest.mark.parametrize(
    ("state", "target"), list(itertools.product(ServiceState, ServiceState)), ids=str
)
def test_no_step_beside_the_table(state: ServiceState, target: ServiceState) -> None:
    unit = Unit(ServiceRules(name="s"), Intensity(None, 1.0), first=False)
    member = unit.members[0]
    member._state = state
    if state is target or target in MOVES[state]:
        member.state = target
        assert member.state is target
    else:
        with pytest.raises(IllegalEvent, match=target.value):
            member.state = target


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text.replace(shown(), drawing()))
