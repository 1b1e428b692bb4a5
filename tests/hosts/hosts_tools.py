"""Places that every machine has: an agent behind a plain command, with which nothing of a network is tested."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

from tractor.process._stat import pid_alive

HERE = Path(__file__).parent
ENDPOINTS = str(HERE.parent / "endpoints")
MARK = os.environ.setdefault("TRACTOR_TEST_RELAYS", f"of-{os.getpid()}")
"""Tells this process's relays, and those of the programs that it starts, from those of tests beside it."""

LIMIT = 40.0
"""Seconds for whatever is waited for; a machine may be busy."""


def plain(**options: Any) -> dict[str, Any]:
    """Options of ``command://`` that run the agent as a child of the link process."""
    given = {
        "python": sys.executable,
        "env": {"PYTHONPATH": ENDPOINTS},
        "options": {"command": ["env"]},
    }
    return given | options


def relayed(**options: Any) -> dict[str, Any]:
    """The same with a process between them, which a test can stop: a link that is cut."""
    return plain(options={"command": [sys.executable, str(HERE / "relay.py"), MARK]}) | options


def relays() -> list[int]:
    """The pids of the processes between, of this test."""
    found = subprocess.run(
        ["pgrep", "-f", f"{HERE / 'relay.py'} {MARK}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def signal_relays(number: int) -> None:
    for pid in relays():
        os.kill(pid, number)


async def gone(pids: list[int], within: float = LIMIT) -> None:
    """Wait until none of them runs."""
    with trio.fail_after(within):
        while any(pid_alive(pid) for pid in pids):
            await trio.sleep(0.01)


STOP, CONT = signal.SIGSTOP, signal.SIGCONT
