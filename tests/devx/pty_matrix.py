"""The debugger's complete matrix on real terminals: ``python tests/devx/pty_matrix.py --repeat 10 --load 2``.

Every debugging example and the trees of depth one to three, over TCP and UDS, with and without ctrl-c at each prompt.
The cases are dealt to `--jobs` sessions of pytest that run side by side. `--load` adds processes that do nothing but
burn CPU. Prints what failed, and counts; the exit status is 1 if anything has failed. Arguments after ``--`` select
cases, as with pytest (``-- -k multi``).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

FILES = sorted(Path(__file__).parent.glob("test_examples_debugging*.py"))
ROOT = Path(__file__).parents[2]

# The cases' own limits are what counts, also under load.
OPTIONS = (
    "-o",
    "faulthandler_timeout=600",
    "-o",
    "junit_family=xunit1",
    "-o",
    "junit_logging=system-out",
)

TO_NEXT = "seconds to the next prompt"
"""The property of a test that measures how fast the terminal is handed on."""


def pytest_command(*args: str) -> list[str]:
    """The command that runs pytest on these."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]


def cases(extra: list[str]) -> list[str]:
    """The ids of all cases that need a terminal."""
    done = subprocess.run(
        pytest_command("--collect-only", *extra, *map(str, FILES)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if "::" in line]
    if done.returncode or not found:
        raise SystemExit(f"pytest found no case:\n{done.stdout}{done.stderr}")
    return [case for case in found if re.search(r"[\[-](tcp|uds)[\]-]", case)]


def run_round(ids: list[str], jobs: int, folder: Path) -> list[ElementTree.Element]:
    """Run each case once; what is reported of it."""
    sessions = []
    for number in range(jobs):
        report = folder / f"{number}.xml"
        report.unlink(missing_ok=True)
        output = (folder / f"{number}.txt").open("w")
        command = pytest_command(f"--junit-xml={report}", *OPTIONS, *ids[number::jobs])
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        sessions.append((process, report, output))
    reported = []
    for process, report, output in sessions:
        process.wait()
        output.close()
        if not report.exists():
            raise SystemExit(f"a session of pytest broke down:\n{Path(output.name).read_text()}")
        reported += list(ElementTree.parse(report).getroot().iter("testcase"))
    return reported


def main() -> int:
    """Run the rounds and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=1, help="rounds of the whole matrix")
    parser.add_argument("--load", type=int, default=0, help="processes that burn CPU meanwhile")
    parser.add_argument("--jobs", type=int, default=1, help="sessions of pytest side by side")
    parser.add_argument("pytest", nargs="*", help="arguments for the selection of cases")
    options = parser.parse_args()
    os.environ["TRACTOR_TEST_DEBUG_MATRIX"] = "1"
    ids = cases(options.pytest)
    counts: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    to_next: list[float] = []
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.load)
    ]
    began = time.monotonic()
    try:
        for number in range(1, options.repeat + 1):
            with tempfile.TemporaryDirectory() as folder:
                for case in run_round(ids, options.jobs, Path(folder)):
                    problems = [part for part in case if part.tag in ("failure", "error")]
                    skipped = any(part.tag == "skipped" for part in case)
                    verdict = "failed" if problems else "skipped" if skipped else "passed"
                    counts[verdict] += 1
                    for part in case.iter("property"):
                        if part.get("name") == TO_NEXT:
                            to_next.append(float(part.get("value", "nan")))
                    if problems:
                        name = f"{case.get('classname')}::{case.get('name')}"
                        failed[name] += 1
                        terminal = case.findtext("system-out", "")
                        print(f"--- {name}\n{problems[0].text}\n{terminal}", flush=True)
            print(f"round {number}: {dict(counts)} in {time.monotonic() - began:.0f} s", flush=True)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    print(
        f"{len(ids)} cases × {options.repeat} under load {options.load}, {options.jobs} at a time: {dict(counts)}"
    )
    if to_next:
        print(f"from SIGKILL of the holder to the next prompt: {max(to_next):.2f} s at most")
    for name, times in failed.most_common():
        print(f"failed {times} of {options.repeat}: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
