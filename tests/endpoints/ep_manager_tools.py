"""Runs `tractor run` for a test, and reads along."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tractor.control._client import Asked, runtime_dirs
from tractor.control._protocol import Refusal

LIMIT = 40.0
"""Seconds for whatever is waited for; a machine may be busy."""


class Run:
    """A manager that runs, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()

    @property
    def text(self) -> str:
        """All that was printed."""
        return "\n".join(self.lines)

    def of(self, name: str) -> list[str]:
        """The lines of one service."""
        return [
            one.removeprefix(f"{name} | ") for one in self.lines if one.startswith(f"{name} | ")
        ]

    def wait_for(self, what: str, count: int = 1) -> list[str]:
        """Wait until so many lines have ``what`` in them; these."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in list(self.lines) if what in line]
            return len(found) >= count

        self.wait_until(look, f"{count} lines with {what!r}")
        return found

    def wait_until(self, look: Callable[[], Any], what: str = "it") -> Any:
        """Wait until ``look`` gives something true."""
        deadline = time.monotonic() + LIMIT
        while not (found := look()):
            with self._changed:
                self._changed.wait(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come:\n{self.text}")
        return found

    def wait_until_it_takes(self, number: int) -> None:
        """Wait until a signal is held or caught: from then on it ends the program in order.

        Before, the program's code has not begun: Python itself starts, and dies by it.
        """
        status = Path(f"/proc/{self.process.pid}/status")

        def look() -> bool:
            masks = re.findall(r"^Sig(?:Blk|Cgt):\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
            return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)

        self.wait_until(look, f"a handler of signal {number}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Have it end by a signal; its exit status."""
        self.send(number)
        return self.status()

    def status(self) -> int:
        """Wait for its end; its exit status."""
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.text}") from None
        self._reader.join(LIMIT)
        return status

    def pid_of(self, name: str) -> int:
        """The process of a service that is ready, as `tractor services` says."""
        return int(self.wait_until(lambda: self.services().get(name, {}).get("pid"), name))

    def services(self) -> dict[str, dict[str, Any]]:
        """All replicas, by name, with their service's restarts; none before the manager can be asked."""
        try:
            with Asked(control_socks_of(self.process.pid)[0], LIMIT) as asked:
                listed = asked.ask("service", action="list")["services"]
        except (IndexError, OSError, Refusal):
            return {}
        return {
            one["name"]: {**one, "restarts": service["restarts"], "error": service["last_error"]}
            for service in listed
            for one in service["replicas"]
        }


def control_socks_of(pid: int) -> list[Path]:
    """The control socket's file of a process."""
    name = f"*@{pid}.sock"
    return [path for top in runtime_dirs() for path in (top / "control").glob(name)]


def ask(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the package."""
    return subprocess.run(
        [sys.executable, "-m", "tractor", *argv],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@contextlib.contextmanager
def running(
    directory: Path,
    text: str,
    *,
    argv: Sequence[str] = (),
    env: dict[str, str] | None = None,
    before: Sequence[str] = (),
    python: str = sys.executable,
    **options: Any,
) -> Iterator[Run]:
    """Run a manager in a directory with a file ``x.toml``; it is gone afterwards."""
    (directory / "x.toml").write_text(text)
    process = subprocess.Popen(
        [*before, python, "-m", "tractor", "run", "x.toml", *argv],
        cwd=directory,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    run = Run(process)
    try:
        yield run
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        run.status()
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def notify_socket(path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A socket that stands for systemd's; its path, and what it was told so far."""
    told: list[dict[str, str]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))

        def read() -> None:
            while data := sock.recv(8192):
                told.append(dict(line.split("=", 1) for line in data.decode().splitlines()))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield str(path), told
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(path))
            reader.join()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A runtime directory of its own, for a manager among other processes; short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="tr-", dir="/tmp") as path:
        yield Path(path)
