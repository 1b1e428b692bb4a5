"""The core test suite on every spawn backend that this Python can run: a table of backend and part of the suite.

``python tests/spawn/backend_table.py``, or ``make backends ARGS='--backends mp_spawn subint --parts runtime'``

The core test suite are the tests that start actors without choosing how. Those that test one backend, or nothing but
rules, are the same on each. The exit status is 1 if a test failed anywhere; what failed, and what did not run and why,
is printed.
"""

from __future__ import annotations

import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from tractor.spawn._contract import known_start_methods, usable_start_methods

__all__ = ["PARTS", "Cell", "main", "read_report", "table"]

TESTS = Path(__file__).resolve().parents[1]

PARTS = {
    "runtime": ("runtime",),
    "supervise": ("supervise",),
    "discovery": ("discovery",),
    "tree": (
        "test_cluster.py",
        "test_daemon.py",
        "test_lifecycle.py",
        "test_roads.py",
        "test_root.py",
        "test_tls_tree.py",
    ),
    "trionics": ("trionics",),
    "chaos": ("chaos",),
}
"""Parts of the core test suite, and where they are below `tests/`."""


@dataclass
class Cell:
    """What one part did on one backend."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    """Test and first line of the reason."""
    skipped: collections.Counter[str] = field(default_factory=collections.Counter)
    """How many tests for each reason."""
    seconds: float = 0.0

    def text(self) -> str:
        """Passed, failed, skipped, seconds."""
        return f"{self.passed} / {len(self.failed)} / {self.skipped.total()} / {self.seconds:.0f} s"

    def add(self, other: Cell) -> None:
        """Count another one's tests, too."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.seconds += other.seconds


def read_report(path: Path) -> Cell:
    """What pytest's report in JUnit's format says."""
    cell = Cell()
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        faults = [one for one in case if one.tag in ("failure", "error")]
        if faults:
            told = " ".join((faults[0].get("message") or "").split())
            cell.failed.append(f"{name}: {told[:200]}")
        elif (skipped := case.find("skipped")) is not None:
            cell.skipped[skipped.get("message") or "no reason given"] += 1
        else:
            cell.passed += 1
    return cell


def run_part(backend: str, part: str, limit: float, extra: list[str]) -> Cell:
    """Run one part on one backend, in a pytest of its own."""
    with tempfile.TemporaryDirectory(prefix="bt-") as directory:
        report, printed = Path(directory, "report.xml"), Path(directory, "printed")
        argv = [sys.executable, "-m", "pytest", "-q", "--spawn-backend", backend]
        # A forked actor would write into the files in which pytest captures descriptors.
        argv += ["--capture=sys", f"--junitxml={report}", *extra]
        argv += [str(TESTS / name) for name in PARTS[part]]
        # The option chooses; the variable would beat what a test chooses for itself.
        environ = {k: v for k, v in os.environ.items() if k != "TRACTOR_SPAWN_METHOD"}
        began = time.monotonic()
        fault = None
        with printed.open("w") as output:
            try:
                done = subprocess.run(
                    argv,
                    cwd=TESTS.parent,
                    env=environ,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=limit,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                fault = f"did not end within {limit:.0f} s"
            else:
                # 5: pytest ran no test, say because of `-k` after the `--`.
                if done.returncode not in (0, 1, 5):
                    fault = f"pytest ended with exit status {done.returncode}"
        cell = read_report(report) if report.exists() else Cell()
        cell.seconds = time.monotonic() - began
        if fault:
            tail = printed.read_text(errors="replace")[-2000:]
            cell.failed.append(f"{part} on {backend}: {fault}; the end of its output:\n{tail}")
        return cell


def table(cells: dict[str, dict[str, Cell]]) -> str:
    """Backends below one another, parts side by side, and all parts together."""
    parts = list(dict.fromkeys(part for row in cells.values() for part in row))
    lines = [["backend", *parts, "all"]]
    for backend, row in cells.items():
        total = Cell()
        for cell in row.values():
            total.add(cell)
        lines.append([backend, *(row[part].text() for part in parts), total.text()])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def skipped_text(cells: dict[str, dict[str, Cell]]) -> str:
    """What did not run on each backend, and why."""
    lines = []
    for backend, row in cells.items():
        total = Cell()
        for cell in row.values():
            total.add(cell)
        for reason, count in sorted(total.skipped.items()):
            lines.append(f"  {backend}: {count} skipped: {reason}")
    return "\n".join(lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", nargs="+", metavar="KEY", default=usable_start_methods())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--limit", type=float, default=900.0, metavar="SECONDS", help="for one part on one backend"
    )
    parser.add_argument(
        "pytest_args", nargs="*", metavar="-- PYTEST_ARG", help="say: -- -x -k stream"
    )
    args = parser.parse_args()
    for key in args.backends:
        if key not in usable_start_methods():
            parser.error(
                f"spawn backend {key!r} can't run here; of {', '.join(known_start_methods())} "
                f"these can: {', '.join(usable_start_methods())}"
            )
    return args


def main() -> int:
    args = parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a script.  Programs under test take that over, and no ctrl-c would reach them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cells: dict[str, dict[str, Cell]] = {}
    for backend in args.backends:
        cells[backend] = {}
        for part in args.parts:
            cell = run_part(backend, part, args.limit, args.pytest_args)
            cells[backend][part] = cell
            print(f"{backend:24} {part:12} {cell.text()}", flush=True)
            for line in cell.failed:
                print(f"    FAILED {line}", flush=True)
    print(f"\nPython {sys.version.split()[0]}; passed / failed / skipped / seconds")
    print(f"{table(cells)}\n{skipped_text(cells)}")
    return 1 if any(cell.failed for row in cells.values() for cell in row.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
