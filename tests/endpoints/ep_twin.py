"""A tree in a pid namespace of its own, which a test asks by lines: one of two with equal pids and one /tmp."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

import tractor
from tractor.process._stat import ProcessId
from tractor.process.host._host_id import host_id
from tractor.runtime.dialog._caller import request
from tractor.shm._segment import Segment

FIRST_PID = 4000
"""What the process of the child has, in either namespace."""

_kept: list[Segment] = []


async def ping() -> int:
    return os.getpid()


async def keep_segment(key: str) -> None:
    _kept.append(Segment.create(key, 4096))


@tractor.context
async def claim(ctx: tractor.Context, below: list[Any]) -> None:
    """Say that processes are below this one; be there until killed."""
    chan = tractor.current_actor().parent_chan
    assert chan is not None
    reply = await request(chan, "_descendants", up=below, gone=[]).wait()
    await ctx.started(type(reply).__name__)
    await trio.sleep_forever()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def main(key: str) -> None:
    tree = tractor.open_nursery(
        registry_addrs=[(str(tractor.discovery.UDSAddress.def_bindspace), f"{key}.sock")],
        enable_transports=["uds"],
    )
    # Its process gets an equal number in either namespace: pids are given in turn.
    async with tree as an:
        with contextlib.suppress(OSError):
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(FIRST_PID - 1))
        twin = await an.start_actor("twin", enable_modules=[__name__])
        await twin.run(keep_segment, key=key)
        info = next(iter(an.children.values()))
        actor = tractor.current_actor()
        child: Any = next(iter(actor.children.values()))
        say(
            host=host_id(),
            root=ProcessId.of(os.getpid()),
            child=ProcessId.of(info.pid or 0),
            socket=str(Path(*child.accept_addrs[0])),
        )
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            order, *args = json.loads(line)
            if order == "ping":
                say(pid=await twin.run(ping))
            elif order == "reap":
                command = [sys.executable, "-m", "tractor.reap", "--uds", "--shm", "-g", "0.1"]
                done = await trio.run_process(
                    command, capture_stdout=True, stderr=subprocess.STDOUT, check=False
                )
                say(status=done.returncode, text=done.stdout.decode())
            elif order == "claim":
                say(**await _claim_and_kill(an, args[0]))
            else:
                break
        await an.cancel()
    say(over=True)


async def _claim_and_kill(an: tractor.ActorNursery, below: list[Any]) -> dict[str, Any]:
    """Start another child that claims these processes, kill it, and tell what was believed."""
    portal = await an.start_actor("liar", enable_modules=[__name__])
    child: Any = tractor.current_actor().children[portal.chan.aid.uid]  # type: ignore[union-attr]
    child.keeper = lambda exc: None
    answer = ""
    with contextlib.suppress(tractor.TransportClosed):
        async with portal.open_context(claim, below=below) as (_, answer):
            believed = sorted(child.descendants)
            child.process.kill()
            await child.exited.wait()
    return {"answer": answer, "believed": believed}


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
