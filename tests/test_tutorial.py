"""Every step of the tutorial does what its page shows; that of the debugger is a recorded session (tests/devx)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS = ROOT / "examples" / "tutorial"
PAGES = sorted((ROOT / "docs" / "guide").glob("tutorial*.rst"))
ON_A_TERMINAL = "step_5_debugger.py"
LIMIT = 55
"""Seconds that a step may take; on a free machine the longest takes 2."""

SHOWN = re.compile(
    r"^\.\. code-block:: console\n\n {3}\$ python (\w+\.py)\n((?:(?: {3}.*)?\n)+)", re.MULTILINE
)
LEFT_OUT = "  ...\n"
"""Stands for lines that a page leaves out."""


def shown() -> dict[str, str]:
    """What the pages say that each step prints, by its name."""
    found: dict[str, str] = {}
    for page in PAGES:
        for name, text in SHOWN.findall(page.read_text() + "\n"):
            assert name not in found, name
            found[name] = re.sub(r"^ {3}", "", text, flags=re.MULTILINE).strip("\n") + "\n"
    return found


def stable(text: str) -> str:
    """Without what differs from run to run, and from machine to machine."""
    # What marks the place in a line is Python's, and other ones mark another part.
    text = re.sub(r"^\| +[~^]+\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"(\w+)@\d+", r"\1@PID", text)
    text = re.sub(r"\([0-9a-f]{8}\)", "(UUID)", text)
    return re.sub(r"/[\w./-]+/(step_\w+\.py)", r"\1", text)


@pytest.mark.parametrize("step", sorted(path.name for path in STEPS.glob("*.py")))
def test_a_step_prints_what_its_page_shows(step: str, tmp_path: Path) -> None:
    if step == ON_A_TERMINAL:
        text = "".join(page.read_text() for page in PAGES)
        assert ":: tutorial_debugging.txt" in text
        assert step in text
        return
    expected, _, status = shown()[step].partition("$ echo $?\n")
    run = subprocess.run(
        [sys.executable, str(STEPS / step)],
        cwd=tmp_path,
        # Both streams are one, as on a terminal; a pipe would keep back what is printed.
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == int(status or 0), run.stdout
    parts = [re.escape(part) for part in stable(expected).split(LEFT_OUT)]
    assert re.fullmatch(r"(?:.*\n)*".join(parts), stable(run.stdout)), run.stdout


def test_the_pages_show_each_step_once() -> None:
    assert {*shown(), ON_A_TERMINAL} == {path.name for path in STEPS.glob("*.py")}


def test_the_debuggers_step_differs_by_one_word() -> None:
    crash = (STEPS / "step_4_crash.py").read_text()
    debugged = (STEPS / ON_A_TERMINAL).read_text()
    assert debugged == crash.replace("open_nursery()", "open_nursery(debug_mode=True)")
