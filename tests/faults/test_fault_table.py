"""A few of the shortages that `make faults` goes through: a clear error, no hang, nothing left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import faults
from faults import FAULTS, Ended, is_clear, judged, largest_that_bites, run


def _may_unshare() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    probe = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="namespaces of one's own need Linux and root")
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        # Ample: the program itself is sound, and the judge can tell.
        ("descriptors", 200, "fine"),
        ("descriptors", 30, "clear"),
        ("descriptors", 20, "clear"),
        ("inodes", 6, "clear"),
        ("shm", 4096, "clear"),
        ("proc", 1, "clear"),
        # Less than it has by then: nothing more is to be had.
        ("memory", 96 << 20, "clear"),
    ],
)
def test_a_shortage(
    name: str, value: int, wanted: str, repeats: Callable[[int, int], int], spawn_backend: str
) -> None:
    for less in range(repeats(1, 5)):
        ended = run(name, max(1, value - less * FAULTS[name].step), spawn_backend)
        assert ended.kind == wanted, ended
        assert ended.left == []


@pytest.mark.parametrize(
    ("family", "boxed", "text", "clear"),
    [
        ("OSError", "", "no room", True),
        ("OSError", "", "", False),
        ("MemoryError", "", "", True),
        ("RuntimeError", "", "can't start new thread", True),
        ("RuntimeError", "", "deque mutated during iteration", False),
        ("RemoteActorError", "OSError", "x", True),
        ("RemoteActorError", "EOFError", "x", False),
        ("ActorFailure", "", "died", True),
        ("", "", "a bare EOFError", False),
    ],
)
def test_what_is_a_clear_error(family: str, boxed: str, text: str, clear: bool) -> None:
    assert is_clear({"family": family, "boxed": boxed, "text": text}) is clear


def test_a_program_that_says_nothing_is_found_out() -> None:
    assert judged("", -11, "Segmentation fault").kind == "no word"
    assert judged("", None, "").kind == "hang"
    assert judged("[]", 0, "").kind == "fine"
    assert Ended("fine", left=["process x"]).bad


def test_the_largest_value_that_bites_is_found() -> None:
    fault = faults.Fault(80, least=8)
    assert largest_that_bites(fault, lambda value: value <= 33) == 33
    assert largest_that_bites(fault, lambda value: False) == 8
