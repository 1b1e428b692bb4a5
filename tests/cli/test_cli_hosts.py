"""`tractor hosts`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="agents need POSIX")

TABLE = f"""\
[here]
url = "command://here"
python = {json.dumps(sys.executable)}
options = {{ command = ["env"] }}

[broken]
url = "command://broken"
options = {{ command = ["sh", "-c", "echo no way >&2; exit 1"] }}
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    file = tmp_path / "hosts.toml"
    file.write_text(TABLE)
    return str(file)


def hosts(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tractor", "hosts", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_table_is_shown(table: str) -> None:
    done = hosts("--hosts", table)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["here    command://here", "broken  command://broken"]


def test_each_is_tried(table: str) -> None:
    done = hosts("--hosts", table, "--check")
    assert done.returncode == 1, done.stderr
    here, broken = done.stdout.split("\nbroken")
    assert here.startswith("here    command://here  ok: tractor ")
    assert "Python {}.{}.{}".format(*sys.version_info[:3]) in here
    assert "FAILED: host 'broken'" in broken
    assert "no way" in broken


def test_for_programs(table: str) -> None:
    done = hosts("--hosts", table, "--check", "--json", "here")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    assert (one["host"], one["engine"]) == ("here", "command")
    assert one["round_trip"] > 0
    assert one["statistics"]["hostname"] == os.uname().nodename


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        ((), 1, "there is no hosts table"),
        (("gpu",), 2, "no host is named 'gpu'"),
        (("ssh:/x",), 2, "no host is named 'ssh:/x'"),
        (("--hosts", "/no/such/file"), 2, "/no/such/file"),
    ],
)
def test_what_is_wrong(argv: tuple[str, ...], code: int, says: str) -> None:
    done = hosts(*argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
