"""What type checkers are told of dialogs: the files of `tests/types/` are as they say, for mypy and for pyright.

Lines that must be refused carry a comment for each checker; both report a comment without need as an error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "tests" / "types").glob("*.py"))

TIME_LIMIT = 120
"""Seconds that a checker may take, with nothing in its cache."""

pytestmark = pytest.mark.timeout(2 * TIME_LIMIT)


def check(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def test_mypy_agrees() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; it comes with the group `dev`")
    done = check("mypy", "--strict", "--warn-unused-ignores", *map(str, FILES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no issues found in {len(FILES)} source file" in done.stdout


def test_pyright_agrees() -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed; it comes with the group `dev`")
    version = check("pyright", "--version")
    if version.returncode:
        # The package may have to fetch the checker itself, on first use.
        pytest.skip(f"pyright can't be run here: {(version.stderr or version.stdout)[-300:]}")
    config = ROOT / "tests" / "types" / "pyrightconfig.json"
    done = check("pyright", "-p", str(config), "--pythonpath", sys.executable, "--outputjson")
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    found = [
        f"{Path(d['file']).name}:{d['range']['start']['line'] + 1}: {d['message']}"
        for d in report["generalDiagnostics"]
    ]
    assert found == []
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    assert done.returncode == 0, done.stderr
