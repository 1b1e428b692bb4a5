"""The table of backends and parts of the suite: what it counts, and that it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backend_table
from backend_table import PARTS, TESTS, Cell, read_report, table


def test_every_part_exists() -> None:
    assert all((TESTS / name).exists() for names in PARTS.values() for name in names)


def test_a_report_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="a" name="passes" />'
        '<testcase classname="a" name="fails"><failure message="assert&#10; 1 == 2" /></testcase>'
        '<testcase classname="a" name="leaks"><error message="left behind" /></testcase>'
        '<testcase classname="a" name="no"><skipped message="no signals" /></testcase>'
        '<testcase classname="b" name="no"><skipped message="no signals" /></testcase>'
        "</testsuite></testsuites>"
    )
    cell = read_report(path)
    assert cell.passed == 1
    assert cell.failed == ["a::fails: assert 1 == 2", "a::leaks: left behind"]
    assert cell.skipped == {"no signals": 2}


def test_the_table_has_sums() -> None:
    cells = {"trio": {"one": Cell(passed=2, seconds=1.4), "two": Cell(failed=["x"], seconds=2.0)}}
    head, _, row = table(cells).splitlines()
    assert [word.strip() for word in head.split("|")[1:-1]] == ["backend", "one", "two", "all"]
    assert [word.strip() for word in row.split("|")[1:-1]] == [
        "trio",
        "2 / 0 / 0 / 1 s",
        "0 / 1 / 0 / 2 s",
        "2 / 1 / 0 / 3 s",
    ]


def test_a_part_that_does_not_end_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "slow", ("test_lifecycle.py",))
    cell = backend_table.run_part("trio", "slow", 0.01, [])
    assert "slow on trio: did not end within 0 s" in cell.failed[0]


def test_a_backend_that_cannot_run_here() -> None:
    script = [sys.executable, backend_table.__file__, "--backends", "subint_fork"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'subint_fork' can't run here" in done.stderr
    assert "trio" in done.stderr
