"""A bed's number, which no other bed on this machine has, and its directory.

Everything that a bed makes is named after the number: the directory, the subnet, the link to the switch. So two beds
are never in each other's way, and what a bed has left whose owner was killed can be told and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tractor.process._stat import pid_alive, process_start_time

if sys.platform != "win32":
    import fcntl

BEDS = Path("/run/tractor-beds")

MOST_BEDS = 254


@dataclass(frozen=True)
class Claim:
    """What belongs to one bed."""

    number: int

    @property
    def directory(self) -> Path:
        """All of its files."""
        return BEDS / str(self.number)

    @property
    def share(self) -> Path:
        """The part of it that hosts see, and can't change."""
        return self.directory / "share"

    @property
    def local(self) -> Path:
        """A directory that each host has one of, the machine itself, too, at the same path."""
        return self.directory / "local"

    @property
    def link(self) -> str:
        """The network interface of the machine that leads to the switch."""
        return f"trbed{self.number}"

    def address(self, last: int) -> str:
        """An address of the bed's subnet, which is of a range that is reserved for tests of networks (RFC 2544)."""
        return f"198.18.{self.number}.{last}"

    def note_keeper(self, pid: int) -> None:
        """Write down a process that must not outlive the bed."""
        with (self.directory / "keepers").open("a") as file:
            file.write(json.dumps([pid, process_start_time(pid)]) + "\n")


@contextlib.contextmanager
def claimed() -> Iterator[Claim]:
    """A number for the block; what dead beds have left is removed first.

    Raises:
        RuntimeError: every number is taken.
    """
    BEDS.mkdir(exist_ok=True)
    with _locked():
        for claim in _claims():
            if not _has_owner(claim):
                remove(claim)
        taken = {claim.number for claim in _claims()}
        free = [number for number in range(1, MOST_BEDS + 1) if number not in taken]
        if not free:
            raise RuntimeError(f"there are {MOST_BEDS} beds in {BEDS} already")
        claim = Claim(free[0])
        for folder in (claim.share, claim.local):
            folder.mkdir(parents=True, mode=0o755)
        me = os.getpid()
        (claim.directory / "owner").write_text(json.dumps([me, process_start_time(me)]))
    try:
        yield claim
    finally:
        with _locked():
            remove(claim)


def remove(claim: Claim) -> None:
    """End and remove all that a bed has left; the kernel has done most, see :mod:`bed_keeper`."""
    with contextlib.suppress(FileNotFoundError):
        for line in (claim.directory / "keepers").read_text().splitlines():
            pid, start_time = json.loads(line)
            kill(pid, start_time)
    # It goes with the switch's namespace, which the kernel takes apart in its own time.
    if Path("/sys/class/net", claim.link).exists():
        subprocess.run(["ip", "link", "del", claim.link], capture_output=True, check=False)
    shutil.rmtree(claim.directory)


def kill(pid: int, start_time: float | None) -> None:
    """Kill a process, if it still runs, and no later one with its number."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            # Looked at with the descriptor open: what that means is the process meant.
            if pid_alive(pid, start_time):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Nobody else claims or removes meanwhile."""
    with (BEDS / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _claims() -> list[Claim]:
    return [Claim(int(path.name)) for path in BEDS.iterdir() if path.name.isdecimal()]


def _has_owner(claim: Claim) -> bool:
    try:
        pid, start_time = json.loads((claim.directory / "owner").read_text())
    except (FileNotFoundError, ValueError):
        return False  # it was killed in the middle of its claim
    return pid_alive(pid, start_time)
