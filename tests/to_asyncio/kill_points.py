"""Infected actors at work, and signals to either side at random points: no hang, nothing left.

``python tests/to_asyncio/kill_points.py --runs 200 --seed 1``
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "endpoints"))

import ep_asyncio
import trio

import tractor
from tractor.discovery import UDSAddress
from tractor.process._dirs import runtime_dir_path
from tractor.testing._leaks import Resources, clean_up, leaks_since
from tractor.to_asyncio import run_as_asyncio_guest

LIMIT = 15.0
"""Seconds in which everything must have ended; the teardown ladder with all its rungs takes 4."""
LEAK_GRACE = 2.0
BOOT = 0.7
"""Seconds in which points lie: a start, and some work."""

SIGNALS = {"SIGKILL": 6, "SIGTERM": 2, "SIGINT": 2}
CASES = ("the child", "the root", "ctrl-c in the root")


async def tree(on_up: Callable[[], object] = bool) -> None:
    """A root, an infected actor, and traffic until somebody ends it."""
    addr = UDSAddress.get_random().unwrap()
    async with tractor.open_nursery(registry_addrs=[addr], loglevel="critical") as an:
        pids.update({"an": an})
        portal = await an.start_actor(
            "infected", enable_modules=["ep_asyncio"], infect_asyncio=True
        )
        on_up()
        async with portal.open_context(ep_asyncio.keep_busy) as (ctx, _), ctx.open_stream() as s:
            value = 0
            while True:
                await s.send(value)
                assert await s.receive() == value
                value += 1


pids: dict[str, tractor.ActorNursery] = {}


async def tree_whose_child_is_hit(number: int, delay: float) -> None:
    async def hit() -> None:
        await trio.sleep(delay)
        while not pids:
            await trio.sleep(0.001)
        for info in pids["an"].children.values():
            if info.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(info.pid, number)
        await trio.sleep(1.0)
        # One that ended as cancelled ends its context alone.
        tn.cancel_scope.cancel()

    async with trio.open_nursery() as tn:
        tn.start_soon(hit)
        await tree()
        tn.cancel_scope.cancel()


def run_here(guest: bool, number: int, delay: float) -> None:
    """A tree in this process; the signal goes to the child."""
    pids.clear()

    async def main() -> None:
        with trio.fail_after(LIMIT):
            await tree_whose_child_is_hit(number, delay)

    try:
        (run_as_asyncio_guest if guest else trio.run)(main)
    except BaseException as exc:
        if has(exc, trio.TooSlowError) or not only_expected(exc):
            raise


def interrupt_here(guest: bool, delays: list[float]) -> None:
    """A tree in this process, which gets SIGINT."""
    pids.clear()
    timers = [threading.Timer(d, os.kill, (os.getpid(), signal.SIGINT)) for d in delays]

    async def main() -> None:
        with trio.fail_after(LIMIT):
            await tree()

    for timer in timers:
        timer.start()
    try:
        (run_as_asyncio_guest if guest else trio.run)(main)
    except BaseException as exc:
        if not (has(exc, KeyboardInterrupt) or only_expected(exc)):
            raise
    finally:
        for timer in timers:
            # One that comes after the end is this script's.
            with contextlib.suppress(KeyboardInterrupt):
                timer.join()


EXPECTED = (
    tractor.RemoteActorError,
    tractor.TransportClosed,
    tractor.RuntimeFailure,
    trio.Cancelled,
    trio.EndOfChannel,
    trio.ClosedResourceError,
    RuntimeError,
)


def only_expected(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(map(only_expected, exc.exceptions))
    return isinstance(exc, EXPECTED)


def has(exc: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(kind) is not None
    return isinstance(exc, kind)


def run_program(guest: bool, number: int, delay: float) -> None:
    """A tree in a process of its own, whose root gets the signal."""
    command = [sys.executable, __file__, "--program", "guest" if guest else "plain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            time.sleep(delay)
            process.send_signal(number)
            out, _ = process.communicate(timeout=LIMIT)
            if number == signal.SIGKILL and not out:
                # It had no subactor yet, and so nobody who could remove its own socket file.
                for path in runtime_dir_path().glob(f"*@{process.pid}.sock"):
                    path.unlink()
        except BaseException:
            process.kill()
            raise


def one_run(rng: random.Random) -> str:
    case, guest = rng.choice(CASES), rng.random() < 0.5
    name = rng.choices(list(SIGNALS), list(SIGNALS.values()))[0]
    number, delay = getattr(signal, name), rng.uniform(0, BOOT)
    if case == "the child":
        run_here(guest, number, delay)
    elif case == "the root":
        run_program(guest, number, delay + 0.3)
    else:
        name = "SIGINT"
        # Two at different times: two in one instant are for a loop that is blocked.
        later = [delay + rng.uniform(0.05, 0.5)] if rng.random() < 0.3 else []
        interrupt_here(guest, [delay, *later])
    return f"{name} to {case}, {'infected root' if guest else 'plain root'}"


def kill_points(runs: int, seed: int, verbose: bool = False) -> tuple[dict[str, int], list[str]]:
    """Runs with the same seed have the same victims and times.

    Returns:
        How many there were of each kind, and what went wrong.
    """
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    for index in range(runs):
        before = Resources.now()
        # A hang ends the script, with the stacks.
        faulthandler.dump_traceback_later(3 * LIMIT, exit=True)
        kind = f"run {index}"
        try:
            kind = one_run(random.Random(f"{seed}/{index}"))
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                raise
            wrong.append(f"run {index}: {exc!r}")
        counts[kind] += 1
        if left := leaks_since(before, LEAK_GRACE):
            clean_up(before)
            wrong.append(f"run {index}: {kind}: left {left}")
        if verbose and (index + 1) % 20 == 0:
            print(f"{index + 1} runs, {len(wrong)} wrong", flush=True)
    faulthandler.cancel_dump_traceback_later()
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", choices=("guest", "plain"))
    args = parser.parse_args()
    if args.program:
        program = partial(tree, partial(print, "up", flush=True))
        (run_as_asyncio_guest if args.program == "guest" else trio.run)(program)
        return 0
    with tempfile.TemporaryDirectory(prefix="kp-", dir="/tmp") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        began = time.monotonic()
        counts, wrong = kill_points(args.runs, args.seed, verbose=True)
        took = time.monotonic() - began
    for kind, count in sorted(counts.items()):
        print(f"{count:5} {kind}")
    print(f"{args.runs} runs in {took:.0f} s, seed {args.seed}; wrong: {len(wrong)}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
