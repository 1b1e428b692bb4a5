"""The tests in the guide pass as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def default_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another one, which is in the environment then."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


PAGE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "testing.rst"


def test_the_guide_names_everything(pytester: pytest.Pytester) -> None:
    page = PAGE.read_text()
    shown = pytester.runpytest_subprocess("-p", "tractor.testing.pytest", "--help").stdout.str()
    group = shown.partition("actors (tractor):")[2].partition("\n\n")[0]
    options = re.findall(r"(?<![\w-])--[\w-]+", group)
    assert len(options) >= 9
    assert [option for option in options if option not in page] == []
    shown = pytester.runpytest_subprocess("-p", "tractor.testing.pytest", "--fixtures").stdout.str()
    fixtures = re.findall(r"^(\w+).*-- .*tractor/testing/plugin/_fixtures", shown, re.M)
    assert len(fixtures) == 16
    assert [fixture for fixture in fixtures if f"``{fixture}``" not in page] == []
