"""Building trees of actors in bad states and killing some; for the tests and for ``kill_storm.py``."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("ep_sentinel.py")
PROMISE = 2.0
"""Seconds after SIGKILL of an ancestor in which every descendant is gone, on a machine that is free for it."""

BUSY = 15.0
"""The same on one that is busy: only what would stay for good is still there after this."""

STATES = ("idle", "shielded", "blocked", "busy", "stopped", "gil")

Node = tuple[str, list[Any]]


def below(place: str, places: Iterable[str]) -> list[str]:
    """The places of an actor's descendants."""
    return [one for one in places if one.startswith(place) and one != place]


class Tree:
    """A running tree of the program `ep_sentinel`; as a context manager it leaves nothing behind.

    Attributes:
        pids: by place.
        states: by place.
        sentinels: by the place of their actor.
        servers: fork servers, by the place of their actor.

    Args:
        spec: the tree.
        limit: seconds until all must be in their states.
        backend: how its actors start; default: as this process's environment says.
    """

    def __init__(self, spec: Node, limit: float = 40.0, backend: str | None = None) -> None:
        self.spec = spec
        self._backend = backend
        self.pids: dict[str, int] = {}
        self.states: dict[str, str] = {}
        self.sentinels: dict[str, int] = {}
        self.servers: dict[str, int] = {}
        self._fds: dict[int, int] = {}
        self._deadline = time.monotonic() + limit
        self._note_states("", spec)

    def _note_states(self, place: str, node: Node) -> None:
        self.states[place] = node[0]
        for index, one in enumerate(node[1]):
            self._note_states(f"{place}{index}", one)

    def __enter__(self) -> Tree:
        self._directory = tempfile.TemporaryDirectory()
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), self._directory.name, json.dumps(self.spec)],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=os.environ | ({"TRACTOR_SPAWN_METHOD": self._backend} if self._backend else {}),
        )
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, f"the program ended: {self.stderr()}"
            self.pids = json.loads(line)
            parents = {pid: place for place, pid in self.pids.items()}
            for found, mark in (
                (self.sentinels, b"_sentinel_main.py"),
                (self.servers, b"multiprocessing.forkserver"),
            ):
                for pid, parent in running_with(mark).items():
                    if parent in parents and pid not in parents:
                        found[parents[parent]] = pid
            for pid in (*self.pids.values(), *self.sentinels.values(), *self.servers.values()):
                self._fds[pid] = os.pidfd_open(pid)
        except BaseException:
            self.__exit__()
            raise
        return self

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def enter_states(self) -> None:
        """Have every actor enter its state; all are in it on return."""
        directory = Path(self._directory.name)
        (directory / "go").touch()
        while not all((directory / str(pid)).exists() for pid in self.pids.values()):
            assert time.monotonic() < self._deadline, "an actor does not enter its state"
            time.sleep(0.01)
        for place, state in self.states.items():
            if state == "stopped":
                os.kill(self.pids[place], signal.SIGSTOP)
        wanted = {
            self.pids[place]: "T" if state == "stopped" else "R" if state == "busy" else "S"
            for place, state in self.states.items()
        }
        while any(state_of(pid) != state for pid, state in wanted.items() if state != "R"):
            assert time.monotonic() < self._deadline, "an actor is not in its state"
            time.sleep(0.01)
        # From the file that it makes to the C call it is a few instructions.
        time.sleep(0.02)

    def kill(self, places: Iterable[str]) -> float:
        """SIGKILL; returns how many seconds it took until all their descendants, sentinels too, were gone."""
        chosen = list(places)
        doomed = {pid for place in chosen for pid in self._with_helpers(below(place, self.pids))}
        doomed |= {pid for place in chosen for pid in self._helpers(place)}
        return self._kill([self.pids[place] for place in chosen], doomed)

    def kill_server(self, place: str) -> float:
        """SIGKILL of an actor's fork server; seconds until all that it has forked, and what is below, were gone."""
        doomed = self._with_helpers(below(place, self.pids))
        return self._kill([self.servers[place]], doomed)

    def _kill(self, chosen: list[int], doomed: set[int]) -> float:
        start = time.monotonic()
        for pid in chosen:
            # An actor may be at its end already, since the loss of a fork server has reached it.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fds[pid], signal.SIGKILL)
        left = self.wait_gone(doomed)
        took = time.monotonic() - start
        assert not left, f"{self.describe(left)} still there {took:.1f} s later: {self.stderr()}"
        return took

    def _helpers(self, place: str) -> list[int]:
        return [found[place] for found in (self.sentinels, self.servers) if place in found]

    def _with_helpers(self, places: list[str]) -> set[int]:
        helpers = {pid for place in places for pid in self._helpers(place)}
        return {self.pids[place] for place in places} | helpers

    def wait_gone(self, pids: Iterable[int], limit: float = BUSY + 5) -> set[int]:
        """Wait for the end of processes; those that are left."""
        deadline = time.monotonic() + limit
        left = {self._fds[pid]: pid for pid in pids}
        while left:
            poll = select.poll()
            for fd in left:
                poll.register(fd, select.POLLIN)
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                break
            for fd, _ in ready:
                del left[fd]
        return set(left.values())

    def describe(self, pids: Iterable[int]) -> str:
        names = {pid: f"{self.states[place]} {place!r}" for place, pid in self.pids.items()}
        names |= {pid: f"sentinel of {place!r}" for place, pid in self.sentinels.items()}
        names |= {pid: f"fork server of {place!r}" for place, pid in self.servers.items()}
        return ", ".join(f"{names[pid]} ({pid})" for pid in pids)

    def __exit__(self, *exc_info: object) -> None:
        for fd in self._fds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.wait_gone(self._fds, limit=5.0)
        for fd in self._fds.values():
            os.close(fd)
        self._stderr.close()
        self._directory.cleanup()


def state_of(pid: int) -> str:
    """One letter, as ``ps`` shows it; ``X`` when there is no process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def running_with(mark: bytes) -> dict[int, int]:
    """The parent of each process on this machine with these words on its command line, by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{entry}/cmdline").read_bytes():
                    stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    found[int(entry)] = int(stat[1])
    return found
