"""The demo on hosts: index Python's library on three hosts over ssh, one of which is cut off on the way.

``make demo-hosts``.  The hosts are namespaces of this machine (`bed.py`), so it needs Linux, root and
`openssh-server iproute2`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import tractor
from tractor.demo.__main__ import SKIPPED_IN_STDLIB
from tractor.demo._index import FileReport, find_files, index_file
from tractor.trionics import WorkerDied, WorkerPool, open_worker_pool

if TYPE_CHECKING:
    from bed import Bed, Process

DEADLINE = 3.0
PER_HOST = 2
CUT_AFTER = 0.25
"""Of the work."""
LOST = "h2"


class Index:
    """What is known of the work so far."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.files = self.lines = self.tokens = 0
        self.by_host: dict[str, int] = {}
        self.lost: list[str] = []
        self.known_after = 0.0
        self.why = ""

    def add(self, report: FileReport, host: str) -> None:
        self.files += 1
        self.lines += report.lines
        self.tokens += report.tokens
        self.by_host[host] = self.by_host.get(host, 0) + 1


def index_there(path: str) -> tuple[FileReport, str]:
    """Run on one of the hosts."""
    return index_file(path), os.uname().nodename


async def index_all(bed: Bed, index: Index) -> None:
    hosts = [
        tractor.hosts.Place(
            name=name,
            engine="ssh",
            target=name,
            python=bed.python,
            ship=("main",),
            deadline=DEADLINE,
            start_timeout=20.0,
        )
        for name in bed.hosts
    ]
    began = time.monotonic()
    async with open_worker_pool(hosts=hosts, per_host=PER_HOST) as pool:
        print(
            f"{pool.size} workers on {len(hosts)} hosts were ready after {time.monotonic() - began:.2f} s"
        )
        async with trio.open_nursery() as tn:
            paths = iter(index.paths)
            for _ in range(4 * pool.size):
                tn.start_soon(work_off, pool, paths, index)
            while index.files < CUT_AFTER * len(index.paths):
                await trio.sleep(0.01)
            print(f"{index.files} files are indexed; now {LOST} is cut off", flush=True)
            bed.cut(LOST)
            tn.start_soon(watch_lost, bed, index, time.monotonic())
        print(f"{len(index.lost)} files that {LOST} had are indexed by the others")
        for path in index.lost:
            index.add(*await pool.run(index_there, path))


async def work_off(pool: WorkerPool, paths: Iterator[str], index: Index) -> None:
    for path in paths:
        try:
            report, host = await pool.run(index_there, path)
        except WorkerDied as exc:
            index.lost.append(path)
            index.why = str(exc.__cause__)
        else:
            index.add(report, host)


def is_ours(process: Process) -> bool:
    return "tractor" in " ".join(process.argv)


async def watch_lost(bed: Bed, index: Index, cut: float) -> None:
    """Look at both sides, as nobody of them can."""

    def still_there() -> bool:
        return any(map(is_ours, bed.processes(LOST)))

    while await trio.to_thread.run_sync(still_there):
        await trio.sleep(0.05)
    print(f"over there all is gone {time.monotonic() - cut:.1f} s after the cut", flush=True)
    while not index.lost:
        await trio.sleep(0.01)
    print(f"here that is known {time.monotonic() - cut:.1f} s after it: {index.why}", flush=True)


def main() -> int:
    # Not on the hosts, where this script runs, too.
    sys.path.insert(0, str(Path(__file__).parent))
    from bed import missing, open_bed

    reason = missing()
    if reason is not None:
        print(f"no hosts can be made here: {reason}", file=sys.stderr)
        return 1
    paths = list(find_files(sysconfig.get_path("stdlib"), SKIPPED_IN_STDLIB))
    index = Index(paths)
    print(f"{len(paths)} Python files; the lease is {DEADLINE:g} s", flush=True)
    with open_bed() as bed:
        os.environ.update(bed.environ)
        began = time.monotonic()
        trio.run(index_all, bed, index)
        seconds = time.monotonic() - began
        # An sshd that was cut off waits for its other end as long as its own configuration says.
        left = [name for name in bed.hosts for process in bed.processes(name) if is_ours(process)]
    print(f"{index.files} files, {index.lines} lines, {index.tokens} tokens in {seconds:.1f} s")
    for host, count in sorted(index.by_host.items()):
        print(f"  {host}: {count} files")
    if index.files != len(paths) or left:
        print(
            f"NOT PROVEN: {len(paths) - index.files} files are missing, {len(left)} processes left",
            file=sys.stderr,
        )
        return 1
    print("every file was indexed once, and no process is left on any host")
    return 0


if __name__ == "__main__":
    sys.exit(main())
