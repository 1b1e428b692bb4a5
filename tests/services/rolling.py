"""A rolling restart of replicas under load: ``python tests/services/rolling.py --rate 2000 --seconds 30``.

Calls are begun at a fixed rate, by a clock, whatever becomes of those before.  Two ways: with ``drain``, where no call
of ``Service.run()`` may fail; and by a kill, where a call may fail only if it was sent to a process that was killed.
Prints what was achieved, and the delays.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path

import msgspec
import trio

import tractor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "endpoints"))

import ep_services

WAYS = ("drain", "kill")


class Load(msgspec.Struct):
    """What was asked for, and what came of it.

    Attributes:
        calls: that were begun.
        delays: seconds of each that ended well.
        errors: of those that must not have failed.
        killed: processes that were.
        late: seconds by which the clock was ahead of the call that was begun, at most.
    """

    calls: int = 0
    delays: list[float] = []
    errors: list[BaseException] = []
    killed: list[int] = []
    late: float = 0.0

    def percentile(self, share: float) -> float:
        """Of the delays, in milliseconds."""
        ranked = sorted(self.delays)
        return 1e3 * ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else math.nan


async def call(service: tractor.Service, load: Load) -> None:
    """One call, whose end is noted."""
    began = trio.current_time()
    try:
        assert await service.run(ep_services.double, x=load.calls) % 2 == 0
    except (tractor.RuntimeFailure, tractor.TransportClosed, tractor.RemoteActorError) as exc:
        was_killed = any(f"@{pid}" in str(exc) for pid in load.killed)
        if not (isinstance(exc, tractor.TransportClosed) and was_killed):
            load.errors.append(exc)
    else:
        load.delays.append(trio.current_time() - began)


async def press(service: tractor.Service, load: Load, rate: float, over: trio.Event) -> None:
    """Begin calls by the clock until ``over``."""
    began = trio.current_time()
    async with trio.open_nursery() as tn:
        while not over.is_set():
            due = began + load.calls / rate
            await trio.sleep_until(due)
            load.late = max(load.late, trio.current_time() - due)
            tn.start_soon(call, service, load)
            load.calls += 1


async def roll(way: str, rate: float, seconds: float, replicas: int, method: str | None) -> Load:
    """The load, and one restart after the other, for so many seconds; raises if a call failed that must not."""
    load, over, restarts = Load(), trio.Event(), 0
    async with tractor.open_supervisor(
        max_restarts=None, backoff=tractor.Backoff(initial=0.05, factor=1), start_method=method
    ) as sup:
        service = await sup.start_service(
            "double",
            enable_modules=[ep_services.__name__],
            replicas=replicas,
            drain=10.0 if way == "drain" else 0.0,
        )
        async with trio.open_nursery() as tn:
            tn.start_soon(press, service, load, rate, over)
            with trio.move_on_after(seconds):
                while True:
                    if way == "drain":
                        await service.restart()
                        restarts += replicas
                    else:
                        await _kill_one(service.replicas[restarts % replicas], load)
                        restarts += 1
                    await trio.sleep(0.2)
            over.set()
    answered = len(load.delays)
    lost = load.calls - answered - len(load.errors)
    print(
        f"{way}: {load.calls} calls at {rate:g}/s, {answered} answered, {lost} lost with their process, "
        f"{len(load.errors)} failed, {restarts} replicas restarted; "
        f"delay p50 {load.percentile(0.5):.1f} ms, p99 {load.percentile(0.99):.1f} ms, worst "
        f"{load.percentile(1.0):.0f} ms; the clock was at most {load.late * 1e3:.0f} ms behind"
    )
    assert restarts
    if load.errors:
        raise BaseExceptionGroup(f"{len(load.errors)} calls failed", load.errors[:5])
    return load


async def _kill_one(replica: tractor.Service, load: Load) -> None:
    portal = await replica.portal()
    assert portal.chan.aid is not None
    assert portal.chan.aid.pid is not None
    before = replica.incarnation
    load.killed.append(portal.chan.aid.pid)
    os.kill(portal.chan.aid.pid, signal.SIGKILL)
    async for _ in replica.portals():
        if replica.incarnation > before:
            return


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2000.0, help="calls begun in a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each way")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument(
        "--start-method", default=None, help="spawn backend; default: fresh processes"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    args = parser.parse_args()
    for way in args.ways:
        trio.run(roll, way, args.rate, args.seconds, args.replicas, args.start_method)


if __name__ == "__main__":
    main()
