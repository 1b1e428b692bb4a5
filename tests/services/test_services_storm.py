"""A short run of `make storm`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_short_storm() -> None:
    script = Path(__file__).with_name("services_storm.py")
    options = ["--seconds", "6", "--seed", "7", "--samples", "1"]
    done = subprocess.run(
        [sys.executable, str(script), *options, "--backend", "main_thread_forkserver"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout.splitlines()[-1]
    for what in ("daemon: cold start", "task: from death to ready", "multiprocessing.Pool", "Ray"):
        assert what in done.stdout
