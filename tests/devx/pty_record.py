"""Record the session of the guide from a real run: ``python tests/devx/pty_record.py``.

Writes `docs/guide/debugging_session.txt`. Ids and addresses differ from run to run; `stable()` leaves that out.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pty_terminal import CRASHED, IGNORED, PAUSED, Terminal, python

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "debugging" / "multi_daemon_subactors.py"
SESSION = ROOT / "docs" / "guide" / "debugging_session.txt"


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
    lines = [f"$ python {SCRIPT.relative_to(ROOT)}", *f"{shown}c".splitlines()]
    return "\n".join(line.rstrip() for line in lines).replace(f"{ROOT}/", "") + "\n"


def stable(text: str) -> list[str]:
    """What a session consists of, without what differs from run to run and from Python to Python."""
    kept = re.findall(
        rf"^\$ .*|{PAUSED}|{CRASHED}|{IGNORED}|\('\w+', |^-> .*|^\(Pdb\+\) (?!\w{{3}} \d)\w.*|^handled.*|^\d squared.*",
        text,
        re.MULTILINE,
    )
    return kept


if __name__ == "__main__":
    SESSION.write_text(record())
    print(f"written: {SESSION}")
