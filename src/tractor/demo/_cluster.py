"""What runs in the root: start the workers, hand out the files, collect reports, crash one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import trio

import tractor
from tractor.demo import _workers
from tractor.demo._progress import Progress
from tractor.demo._report import Summary
from tractor.discovery import Address, TCPAddress, get_address_cls

IN_FLIGHT = 8
"""Files that each worker has been sent and has not reported on.

A few, so that no worker waits for its next file, and that none sits on many when the others are
done.
"""

CRASH_MESSAGE = "crashed on purpose, to show what the root gets to see"


@dataclass
class Run:
    """What is known of a run so far; filled in as it goes, and so there when it is interrupted."""

    summary: Summary = field(default_factory=Summary)
    pids: dict[str, int] = field(default_factory=dict)
    """Every worker that was started, by name."""
    act_pids: dict[str, int] = field(default_factory=dict)
    """Every actor of the later acts, by name."""
    start_seconds: float = 0.0
    index_seconds: float = 0.0
    returned: int = 0
    """Files that the workers say they indexed: the sum of what their endpoints returned."""
    victim: tuple[str, str] | None = None
    """Uid of the worker that was told to crash."""
    crash: tractor.RemoteActorError | None = None
    """What came back from it, as it left the cluster's block."""


def registry_of_our_own(transport: str) -> Address:
    """An address that no other program uses: whatever else runs on this machine, the demo works."""
    if transport == "tcp":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            host, port = probe.getsockname()
        return TCPAddress(host, port)
    return get_address_cls(transport).get_random()


async def run_cluster(
    paths: list[str], *, workers: int, transport: str, crash: bool, run: Run, progress: Progress
) -> None:
    """Index the files with a cluster of actors; when this returns or raises, no worker is left.

    Args:
        paths: the files.
        workers: how many actors, at least 1.
        transport: ``'tcp'`` or ``'uds'``.
        crash: when all is indexed, let one worker fail.
        run: where results go.
        progress: told of each report.
    """
    began = time.perf_counter()
    try:
        async with tractor.open_actor_cluster(
            modules=[_workers.__name__],
            count=workers,
            names=[f"indexer_{number}" for number in range(workers)],
            registry_addrs=[registry_of_our_own(transport)],
        ) as portals:
            run.start_seconds = time.perf_counter() - began
            uids = {}
            for name, portal in portals.items():
                aid = portal.chan.aid
                assert aid is not None
                assert aid.pid is not None
                uids[name] = aid.uid
                run.pids[name] = aid.pid
                run.summary.add_worker(name, aid.pid)
            await _index_all(portals, paths, run, progress)
            if crash:
                name, portal = next(iter(portals.items()))
                run.victim = uids[name]
                # Nobody handles it here: it leaves the block, and so takes all the workers with it.
                await portal.run(_workers.crash_on_purpose, message=CRASH_MESSAGE)
    except tractor.RemoteActorError as exc:
        if run.victim is None:
            raise
        run.crash = exc


async def _index_all(
    portals: dict[str, tractor.Portal], paths: list[str], run: Run, progress: Progress
) -> None:
    began = time.perf_counter()
    # Shared by all drivers: each takes the next file when its worker has room, so fast ones do
    # more.
    remaining = iter(paths)
    try:
        async with trio.open_nursery() as nursery:
            for name, portal in portals.items():
                nursery.start_soon(_drive, name, portal, remaining, run, progress)
    finally:
        run.index_seconds = time.perf_counter() - began
        progress.close()


async def _drive(
    name: str, portal: tractor.Portal, remaining: Iterator[str], run: Run, progress: Progress
) -> None:
    """Keep one worker busy until no file remains."""
    async with portal.open_context(_workers.index_files) as (ctx, _):
        async with ctx.open_stream() as stream:
            in_flight = 0
            for path in islice(remaining, IN_FLIGHT):
                await stream.send(os.fsencode(path))
                in_flight += 1
            while in_flight:
                run.summary.add(name, await stream.receive())
                progress.show(run.summary.files)
                in_flight -= 1
                for path in islice(remaining, 1):
                    await stream.send(os.fsencode(path))
                    in_flight += 1
        done = await ctx.wait_for_result()
    # Not `+= await`: that reads the sum first, and loses what other drivers add meanwhile.
    run.returned += done
