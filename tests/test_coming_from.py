"""The programs of other libraries in the guide print the same as ours beside them, which tests/test_docs.py runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "guide" / "coming_from.rst"
THEIRS = ROOT / "examples" / "coming_from"
LIMIT = 55
"""Seconds that a program may take."""

RAY_CLUSTER = "TRACTOR_TEST_RAY"
"""Names a cluster, as for tests/hosts: nobody wants one started beside the suite."""

SHOWN = re.compile(
    r"^\.\. literalinclude:: \.\./\.\./examples/coming_from/(\w+\.py)$[\s\S]*?"
    r"^Here\b[\s\S]*?^\.\. code-block:: text\n\n((?:(?: {3}.*)?\n)+)",
    re.MULTILINE,
)


def shown() -> dict[str, str]:
    """What ours prints, by the name of theirs."""
    return {
        name: re.sub(r"^ {3}", "", text, flags=re.MULTILINE).strip("\n") + "\n"
        for name, text in SHOWN.findall(PAGE.read_text())
    }


def skip_reason(name: str) -> str | None:
    text = (THEIRS / name).read_text()
    for module in ("joblib", "numpy", "ray"):
        imported = re.search(rf"^(import|from) {module}\b", text, re.MULTILINE)
        if imported and importlib.util.find_spec(module) is None:
            return f"needs {module}, which is not installed"
    if name == "of_ray.py" and RAY_CLUSTER not in os.environ:
        return f"{RAY_CLUSTER} names no cluster"
    return None


@pytest.mark.parametrize("name", sorted(path.name for path in THEIRS.glob("*.py")))
def test_theirs_prints_what_ours_does(name: str, tmp_path: Path) -> None:
    if reason := skip_reason(name):
        pytest.skip(reason)
    run = subprocess.run(
        [sys.executable, str(THEIRS / name)],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": os.environ.get(RAY_CLUSTER, "")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == shown()[name], run.stderr


def test_the_page_shows_each_of_them() -> None:
    assert {*shown()} == {path.name for path in THEIRS.glob("*.py")}
