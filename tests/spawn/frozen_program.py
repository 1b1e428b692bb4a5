"""Freezes a program with PyInstaller, as a folder and as one file, and runs it on every backend: `make frozen`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from test_frozen import METHODS, PROGRAM


def main() -> int:
    """The number of runs that were wrong."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(PROGRAM)
        for shape in ("--onedir", "--onefile"):
            command = [
                sys.executable,
                "-m",
                "PyInstaller",
                "-y",
                "--log-level=ERROR",
                shape,
                program,
            ]
            subprocess.run(command, cwd=folder, check=True)
            built = Path(folder, "dist", "program")
            for method in METHODS:
                wrong += not run(built / "program" if built.is_dir() else built, method, folder)
            if built.is_dir():
                built.rename(Path(folder, "dist", "folder"))
    return wrong


def run(program: Path, method: str, folder: str) -> bool:
    """Whether it does what it should, with the call of `freeze_support()` and without."""
    runs = Path(folder, "runs")
    good = True
    for more in ("supported", "unsupported"):
        runs.unlink(missing_ok=True)
        done = subprocess.run(
            [program, method, more],
            env={**os.environ, "RUNS": str(runs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        if more == "supported" or method == "main_thread_forkserver":
            right = done.stdout == f"hi ['{method}', '{more}']\n" * 2 and done.returncode == 0
        else:
            started = len(runs.read_text().splitlines())
            right = "Call `tractor.freeze_support()`" in done.stdout and started == 1
        print(
            program.parent.name,
            method,
            more,
            "ok" if right else f"WRONG:\n{done.stdout}",
            flush=True,
        )
        good &= right
    return good


if __name__ == "__main__":
    sys.exit(main())
