"""Two programs and three registrars under churn: ``python tests/discovery/churn.py --seconds 60 --seed 1``.

Registrars and services are started, killed, stopped and restarted, by a seeded plan, while both programs look actors
up. Every look-up must end in a live portal (verified by a call), ``None``, or a named error; no stale address may be
returned twice; and nothing may be left at the end. Prints the counts; the exit status is 1 if anything else has
happened.

An address is *returned twice* when a registrar gives it to a process after that registrar has confirmed its deletion to
this very process, which had found that nothing accepts there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import trio

PROGRAM = Path(__file__).parents[1] / "endpoints" / "ep_discovery_churn.py"

GRACE = 30.0
"""Seconds that the programs may need to end after their time."""


class RegistrarProcess:
    """One of the registrars: always at the same address, not always there."""

    def __init__(self, name: str, addr: str, env: dict[str, str]) -> None:
        self.name = name
        self.addr = addr
        self._env = env
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = process = spawn(["registrar", self.name, self.addr], self._env)
        assert process.stdout is not None
        line = await trio.to_thread.run_sync(process.stdout.readline)
        if not line:
            raise RuntimeError(f"{self.name} did not start: status {process.wait()}")

    async def end(self, number: int) -> None:
        """Send it a signal and wait for its end."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        process.send_signal(number)
        await trio.to_thread.run_sync(process.wait)
        process.stdout.close()

    async def pause(self, seconds: float) -> None:
        """Keep it from running for a while."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        await trio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Whatever has happened, it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def spawn(args: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *args], stdout=subprocess.PIPE, text=True, env=env
    )


class Churn:
    """One run."""

    def __init__(self, seconds: float, seed: str, directory: Path) -> None:
        self.seconds = seconds
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.looked: Counter[str] = Counter()
        self.faults: list[str] = []
        self.slowest = 0.0
        self._dir = directory
        self._env = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(directory / "r"),
            "XDG_STATE_HOME": str(directory / "s"),
            "TRACTOR_LOGLEVEL": "critical",
        }
        runtime = directory / "r" / "tractor"
        for path in (directory / "r", directory / "s", runtime):
            path.mkdir(mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        addrs = [f"{runtime}|reg_0.sock", f"127.0.0.1|{port}", f"{runtime}|reg_2.sock"]
        self.registrars = [
            RegistrarProcess(f"registrar_{n}", addr, self._env) for n, addr in enumerate(addrs)
        ]

    async def run(self) -> None:
        """All of it; what was found is in the attributes afterwards."""
        try:
            async with trio.open_nursery() as tn:
                for one in self.registrars:
                    tn.start_soon(one.start)
            async with trio.open_nursery() as tn:
                end = trio.current_time() + self.seconds
                for number, one in enumerate(self.registrars):
                    tn.start_soon(self._churn, one, random.Random(f"{self.seed}/r{number}"), end)
                for number in range(2):
                    tn.start_soon(self._program, number)
            await self._observe()
            async with trio.open_nursery() as tn:
                for one in self.registrars:
                    tn.start_soon(one.end, signal.SIGTERM)
        finally:
            for one in self.registrars:
                one.close()
        self.faults += self._left_over()

    async def _churn(self, one: RegistrarProcess, rng: random.Random, end: float) -> None:
        """End and restart a registrar until the time is over; it is there then."""
        while (left := end - trio.current_time()) > 0:
            await trio.sleep(min(rng.uniform(0.5, 3.5), left))
            how = rng.choice(["SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "pause"])
            self.counts[f"registrar: {how}"] += 1
            if how == "pause":
                await one.pause(rng.uniform(0.2, 2.0))
                continue
            await one.end(getattr(signal, how))
            await trio.sleep(rng.uniform(0, 1.2))
            await one.start()

    async def _program(self, number: int) -> None:
        addrs = [one.addr for one in self.registrars]
        args = ["program", str(number), self.seed, str(self.seconds), *addrs]
        told = await self._told(args, self.seconds + GRACE)
        if told is None:
            return
        self.counts.update(told["services"])
        for report in told["lookers"]:
            self.looked.update(report["counts"])
            self.faults += report["faults"]
            self.slowest = max(self.slowest, report["slowest"])
            self.counts["stale addresses deleted"] += report["deleted"]

    async def _observe(self) -> None:
        left = await self._told(["observer", *(one.addr for one in self.registrars)], GRACE)
        self.faults += [f"left in a table: {entry}" for entry in left or ()]

    async def _told(self, args: list[str], limit: float) -> Any:
        """What a process prints at its end."""
        process = spawn(args, self._env)
        with trio.move_on_after(limit) as bound:
            try:
                out, _ = await trio.to_thread.run_sync(process.communicate, abandon_on_cancel=True)
            except trio.Cancelled:
                process.kill()
                raise
        if bound.cancelled_caught:
            self.faults.append(f"{args[:2]} did not end within {limit} s")
            return None
        if process.returncode:
            self.faults.append(f"{args[:2]} ended with status {process.returncode}")
            return None
        return json.loads(out.splitlines()[-1])

    def _left_over(self) -> list[str]:
        """Processes and socket files of this run; a process has a second to vanish."""
        deadline = time.monotonic() + 1
        while (pids := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        files = [path for path in (self._dir / "r" / "tractor").iterdir() if path.is_socket()]
        return [f"left: process {pid}" for pid in pids] + [f"left: {path}" for path in files]

    def _processes(self) -> list[int]:
        mark = os.fsencode(self._env["XDG_RUNTIME_DIR"])
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def report(self) -> str:
        """The figures, one a line."""
        lines = [f"{self.seconds:g} s, seed {self.seed}: {self.looked['look-ups']} look-ups"]
        for counts in (self.looked, self.counts):
            lines += [f"  {n:6}  {what}" for what, n in sorted(counts.items())]
        lines.append(f"  {self.slowest:6.2f}  s, the slowest look-up (waits apart)")
        lines += [f"FAULT: {fault}" for fault in self.faults]
        return "\n".join(lines)


def churn(seconds: float, seed: str) -> Churn:
    """Run it in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp"))
    try:
        run = Churn(seconds, seed, directory)
        trio.run(run.run)
        return run
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default="1")
    args = parser.parse_args()
    run = churn(args.seconds, args.seed)
    print(run.report())
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
