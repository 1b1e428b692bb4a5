"""What it costs an actor to be looked at."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tractor
from benches import _endpoints as endpoints
from benches._placement import on_one_cpu
from benches._rows import Options, Series, Target, alternate, row
from benches._tree import ENDPOINTS, open_root, run

READER = """
import select, socket, sys
socks = []
for path in sys.argv[1:]:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(b'{"v":1,"op":"record","events":1000000}\\n')
    socks.append(sock)
for sock in socks:
    assert sock.recv(1).startswith(b"{")
print("reads", flush=True)
size = 0
while True:
    for sock in select.select([*socks, sys.stdin], [], [])[0]:
        if sock is sys.stdin:
            sys.exit(f"{size} bytes" if not size else 0)
        size += len(sock.recv(1 << 20))
"""
"""Reads the recordings of actors, as `tractor trace` does, and does nothing with them."""


def _sockets() -> list[str]:
    """Where users ask this actor and its subactors."""
    me = tractor.current_actor()
    found = [one.socket for one in me.statistics().children if one.socket is not None]
    return [str(Path(found[0]).with_name(f"{me.name}@{me.pid}.sock")), *found]


@contextmanager
def _recorded(paths: list[str]) -> Iterator[None]:
    """Record the actors that have these sockets, within the block."""
    argv = [sys.executable, "-c", READER, *paths]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reads\n"
        yield
        reader.stdin.close()


async def _call(portal: tractor.Portal, n: int) -> None:
    for _ in range(n):
        await portal.run(endpoints.nothing)


@row("recorded_call", "call, both sides recorded", "us", "call", Target(1.03, times_floor=True))
def recorded_call(options: Options) -> Series:
    """One after the other, while somebody reads what both actors tell, and while nobody does."""
    n = options.count(2000)

    async def main() -> Series:
        with on_one_cpu(options.placement):
            async with open_root(options) as an:
                portal = await an.start_actor("callee", enable_modules=[ENDPOINTS])
                paths = _sockets()

                async def calls() -> float:
                    began = time.perf_counter()
                    await _call(portal, n)
                    return (time.perf_counter() - began) / n * 1e6

                async def recorded() -> float:
                    with _recorded(paths):
                        # The loops add what records at their next turn.
                        await _call(portal, 20)
                        return await calls()

                series = await alternate(options, recorded, calls)
                await an.cancel()
                return series
        raise AssertionError("not reached")

    return run(main)
