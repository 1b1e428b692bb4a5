"""The benches run, as a user would run them; what they measure is no matter of tests."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

TIME_LIMIT = 200
"""Seconds that a smoke run may take; the test has a limit of its own, too."""

JUDGED = {
    "call",
    "concurrent",
    "context",
    "ping_pong",
    "one_way",
    "one_way_large",
    "typed_one_way",
    "typed_ping_pong",
    "import",
    "start",
    "start_8",
    "start_main_thread_forkserver",
    "start_zygote",
    "cancel_tree",
    "memory",
    "find_actor",
}
"""A row for each line of the targets that exists."""


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-m", "benches", *args],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )


def test_a_smoke_run_measures_every_row_and_judges_none(
    tpt_proto: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    file = tmp_path / "bench.json"
    # What starts processes is alike on every transport, and takes long.
    every = tpt_proto == "uds" and pytestconfig.getoption("soak")
    some = () if every else ("call", "ping_pong", "one_way")
    done = bench(*some, "--smoke", "--transport", tpt_proto, "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(file.read_text())
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in record["rows"]}
    assert rows.keys() >= (set(some) or JUDGED)
    for name, row in rows.items():
        assert name in done.stdout
        assert row["error"] is None, name
        assert row["met"] is None, name
        assert len(row["samples"]) == 1, name
        assert row["measured"] > 0, name
        assert len(row["floor_samples"]) == (row["floor_is"] is not None), name
    assert "MISSED" not in done.stdout
    assert record["options"]["transport"] == tpt_proto
    assert record["machine"]["PYTHONDONTWRITEBYTECODE"] == "unset"
    assert record["machine"]["python"].endswith(".".join(map(str, sys.version_info[:3])))


def test_rows_are_selected_and_judged(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("import", "find_actor", "--repeat", "2", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert list(rows) == ["import", "find_actor"]
    for row in rows.values():
        assert len(row["samples"]) == len(row["floor_samples"]) == 2
        assert row["measured"] == min(row["samples"])
        assert row["floor"] == min(row["floor_samples"])
        limit = float(row["target"].split()[1])
        assert row["met"] is (row["measured"] <= limit * row["floor"])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("nonsense",), "no such rows: nonsense"),
        (("--repeat", "0"), "--repeat must be at least 1, not 0"),
    ],
)
def test_bad_options_are_named(args: tuple[str, ...], text: str) -> None:
    done = bench(*args)
    assert done.returncode == 2
    assert text in done.stderr


def test_each_judged_row_is_one_to_choose() -> None:
    _, _, there_are = bench("nonsense").stderr.partition("there are: ")
    assert {*there_are.strip().split(", ")} >= JUDGED


def test_peers_that_are_not_installed_are_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("find_actor", "--smoke", "--peers", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    peers = json.loads(file.read_text())["peers"]
    assert peers.keys() == {"multiprocessing", "ray", "xoscar"}
    assert peers["multiprocessing"].keys() >= {"call", "one_way", "start"}
    for figures in peers.values():
        assert figures == {"error": "not installed"} or "call" in figures


def test_growth_is_measured_and_a_slope_is_what_it_says() -> None:
    done = bench("growth", "registrar", "contexts", "broadcast", "--smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("registrar", "contexts", "broadcast"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(name)]
        assert "FAILED" not in line
    assert "STEEP" not in done.stdout
    wrong = bench("growth", "nothing")
    assert wrong.returncode == 2
    assert "no such rows: nothing" in wrong.stderr


def test_a_slope_is_the_power_of_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    slope = importlib.import_module("benches._growth").slope
    numbers = [10, 100, 1000]
    assert slope(numbers, [n * 3e-6 for n in numbers]) == pytest.approx(1)
    assert slope(numbers, [n * n * 1e-9 for n in numbers]) == pytest.approx(2)
    assert slope(numbers, [0.5] * 3) == pytest.approx(0)
