"""Record the sessions of the guide from real runs: ``python tests/devx/pty_record.py``.

Writes `docs/guide/debugging_session.txt` and `docs/guide/tutorial_debugging.txt`. Ids and addresses differ from run to
run; `stable()` leaves that out.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pty_terminal import CRASHED, IGNORED, PAUSED, Terminal, python

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "debugging" / "multi_daemon_subactors.py"
SESSION = ROOT / "docs" / "guide" / "debugging_session.txt"
TUTORIAL = ROOT / "examples" / "tutorial" / "step_5_debugger.py"
TUTORIAL_SESSION = ROOT / "docs" / "guide" / "tutorial_debugging.txt"


def record() -> str:
    """Play it, and return what the terminal shows."""
    with tempfile.TemporaryDirectory() as home, Terminal(python(SCRIPT), Path(home)) as t:
        t.stop("paused", "bp_forever")
        t.command("p number", "3")
        t.insist_on_ctrl_c(IGNORED)
        t.prompt()
        t.leave("c")
        t.stop("crashed", "name_error")
        t.leave("c")
        t.stop("paused", "bp_forever")
        t.command("p number * number", "16")
        t.leave("c")
        t.stop("crashed", "name_error")
        t.leave("q")
        t.stop("crashed", "root")
        shown = t.transcript
        t.leave("c")
        t.end(1)
    return written(SCRIPT.relative_to(ROOT), f"{shown}c").replace(f"{ROOT}/", "")


def record_tutorial() -> str:
    """Play the step of the tutorial, and return what the terminal shows."""
    with tempfile.TemporaryDirectory() as home, Terminal(python(TUTORIAL), Path(home)) as t:
        t.stop("crashed", "reader")
        t.command("p line", r"'10:05:21 POST /ord\n'")
        t.command("u", "follow()")
        t.command("p log.name", "'thursday.log'")
        t.leave("c")
        t.stop("crashed", "root", "ValueError in reader@")
        shown = t.transcript
        t.leave("c")
        t.end(1)
    # What is said where an optional package is missing.
    shown = re.sub(r"^`greenback` is not installed.*\n", "", shown, flags=re.MULTILINE)
    return written(Path(TUTORIAL.name), f"{shown}c").replace(f"{TUTORIAL.parent}/", "")


def written(script: Path, shown: str) -> str:
    """A session as it is kept: the command, then what the terminal has shown."""
    lines = [f"$ python {script}", *shown.splitlines()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def stable(text: str) -> list[str]:
    """What a session consists of, without what differs from run to run and from Python to Python."""
    kept = re.findall(
        rf"^\$ .*|{PAUSED}|{CRASHED}|{IGNORED}|\('\w+', |^-> .*|^\(Pdb\+\) (?!\w{{3}} \d)\w.*|^handled.*|^\d squared.*",
        text,
        re.MULTILINE,
    )
    return kept


if __name__ == "__main__":
    for path, session in ((SESSION, record), (TUTORIAL_SESSION, record_tutorial)):
        path.write_text(session())
        print(f"written: {path}")
