"""Kill either side of rings and shared arrays at random points: no hang, no segment, no descriptor, no process left.

``python tests/shm/shm_storm.py --runs 200 --seed 1``

Each round has one of the kinds below, and a victim that gets SIGKILL after a random time: while the two sides meet, or
while bytes flow.  What arrived until then is checked byte by byte, row by row.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "endpoints"))

import ep_shm
import trio

import tractor
from tractor.ipc import open_ringbuf
from tractor.testing import find_orphaned_shm, find_orphaned_uds, reap_shm, reap_uds
from tractor.testing._leaks import Resources, leaks_since

LIMIT = 30.0
"""Seconds that a round may take on a loaded machine; one that hangs takes for ever."""

LATEST = 0.25
"""Seconds after which the victim is killed at the latest."""

KEY = ep_shm.PREFIX

EXPECTED = (tractor.TransportClosed, tractor.ContextCancelled, trio.Cancelled)

killed: list[int] = []
"""Victims of the round; one in which nobody was killed, say because no actor could start, shows nothing."""


def is_expected(exc: BaseException) -> bool:
    """Whether an error is what a death looks like, and nothing worse."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_expected(part) for part in exc.exceptions)
    if isinstance(exc, EXPECTED):
        return True
    # An actor that ended in any other way is a failure of this round, not its subject.
    if isinstance(exc, tractor.ActorFailure):
        return "SIGKILL" in str(exc)
    # The other side tells of its own: a broken ring, or a lost peer.
    return isinstance(exc, tractor.RemoteActorError) and exc.boxed_type in (
        trio.BrokenResourceError,
        tractor.TransportClosed,
        # A maker that was killed before its array was attached.
        FileNotFoundError,
    )


async def _kill_later(rng: random.Random, pids: list[int]) -> None:
    delay, victim = rng.uniform(0, LATEST), rng.randrange(len(pids))
    await trio.sleep(delay)
    os.kill(pids[victim], signal.SIGKILL)
    killed.append(pids[victim])


async def _pids(*portals: tractor.Portal) -> list[int]:
    return [await portal.run(ep_shm.my_pid) for portal in portals]


async def _both(
    rng: random.Random, a: tractor.Portal, b: tractor.Portal, kwargs: dict[str, Any]
) -> None:
    """A sender and a receiver; one of their processes dies."""
    pids = await _pids(a, b)
    async with trio.open_nursery() as tn:
        tn.start_soon(_kill_later, rng, pids)
        async with (
            a.open_context(ep_shm.storm_send, **kwargs) as (to_sender, _),
            b.open_context(ep_shm.storm_receive, **kwargs) as (to_receiver, _),
            trio.open_nursery() as waiting,
        ):
            waiting.start_soon(to_sender.wait_for_result)
            await to_receiver.wait_for_result()


async def inherited_ring(rng: random.Random) -> None:
    """A ring whose descriptors were inherited."""
    with open_ringbuf(KEY, rng.choice([64, 1000, 65_536])) as token:
        async with tractor.open_nursery() as an:
            how: Any = {"enable_modules": ["ep_shm"], "proc_kwargs": {"pass_fds": token.fds}}
            a, b = await an.start_actor("a", **how), await an.start_actor("b", **how)
            await _both(rng, a, b, {"name": "", "size": token.buf_size, "token": token.as_msg()})


async def shared_ring(rng: random.Random) -> None:
    """A ring of the actor 'ringd'."""
    async with tractor.open_nursery() as an:
        await an.start_actor("ringd", enable_modules=["tractor.ipc.fd_share"])
        a = await an.start_actor("a", enable_modules=["ep_shm"])
        b = await an.start_actor("b", enable_modules=["ep_shm"])
        await _both(rng, a, b, {"name": KEY, "size": rng.choice([64, 1000, 65_536])})


async def transport(rng: random.Random) -> None:
    """Messages, small and large, over the transport 'shm'."""
    async with tractor.open_nursery(enable_transports=["shm"]) as an:
        portal = await an.start_actor("a", enable_modules=["ep_shm"])
        pids = await _pids(portal)
        async with trio.open_nursery() as tn:
            tn.start_soon(_kill_later, rng, pids)
            tn.start_soon(_echo_for_ever, portal)
            async with portal.open_stream_from(ep_shm.count_up, n=10**9) as stream:
                async for _ in stream:
                    pass


async def _echo_for_ever(portal: tractor.Portal) -> None:
    data = bytes(range(256)) * 5000
    while True:
        assert await portal.run(ep_shm.echo, data=data) == data


async def array(rng: random.Random) -> None:
    """An array; its maker dies, or who reads it."""
    async with tractor.open_nursery() as an:
        a = await an.start_actor("a", enable_modules=["ep_shm"])
        b = await an.start_actor("b", enable_modules=["ep_shm"])
        pids = await _pids(a, b)
        async with trio.open_nursery() as tn:
            tn.start_soon(_kill_later, rng, pids)
            size = 30_000
            async with (
                a.open_context(ep_shm.storm_write, key=KEY, size=size) as (_, (_, token)),
                b.open_context(ep_shm.watch_rows, token=token, until=size) as (reader, _),
            ):
                await reader.wait_for_result()


ROOT = """
    import sys

    import ep_shm, tractor, trio
    from tractor.ipc import open_ringbuf, open_shm_list
    from tractor.shm._segment import Segment

    key = sys.argv[1]

    async def main():
        async with tractor.open_nursery() as an:
            kept = open_shm_list(key + "-list", size=8), Segment.create(key + "-plain", 400_000)
            with open_ringbuf(key, 64) as token:
                portal = await an.start_actor(
                    "a", enable_modules=["ep_shm"], proc_kwargs={"pass_fds": token.fds}
                )
                async with portal.open_context(ep_shm.own_segments, key=key + "-a") as (ctx, pid):
                    print(pid, flush=True)
                    await trio.sleep_forever()

    trio.run(main)
"""


async def root(rng: random.Random) -> None:
    """The root of a tree with segments at both levels dies; `tractor-reap` is the net for what it had made itself."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(ROOT), KEY]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tree:
        await trio.sleep(rng.uniform(0, 1.2))
        tree.kill()
        killed.append(tree.pid)
        tree.communicate()
    before = trio.current_time()
    while (left := [key for key in find_orphaned_shm() if key.startswith(KEY)]) or any(
        name.startswith(KEY) for name in os.listdir("/dev/shm")
    ):
        # What a process still holds is not removed: its own end comes first, within 2 s.
        reap_shm(left)
        assert trio.current_time() - before < LIMIT, left
        await trio.sleep(0.02)
    # A root that had no child yet had no sentinel either.
    reap_uds(find_orphaned_uds())


KINDS: list[Callable[[random.Random], Awaitable[None]]] = [
    inherited_ring,
    shared_ring,
    transport,
    root,
    # Needs numpy.
    *([array] if find_spec("numpy") else []),
]


def one_round(seed: int, kinds: list[Callable[[random.Random], Awaitable[None]]]) -> str:
    """Run it.  Raises what went wrong; gives the kind."""
    rng = random.Random(seed)
    kind = rng.choice(kinds)

    async def main() -> None:
        with trio.fail_after(LIMIT):
            await kind(rng)

    killed.clear()
    before, segments = Resources.now(), ep_shm.segments()
    try:
        trio.run(main)
    except BaseException as exc:
        if not is_expected(exc):
            raise
    if not killed:
        raise AssertionError("nobody was killed")
    left = [*leaks_since(before, 5.0), *sorted(ep_shm.segments() - segments)]
    if left:
        raise AssertionError(f"left behind: {left}")
    return kind.__name__


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=[kind.__name__ for kind in KINDS], action="append")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if not options.kind or kind.__name__ in options.kind]
    if sys.platform != "linux":
        print("rings are Linux's: nothing to do")
        return 0
    seen: collections.Counter[str] = collections.Counter()
    failures = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tr-storm-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        for seed in range(options.seed, options.seed + options.runs):
            try:
                seen[one_round(seed, kinds)] += 1
            except BaseException as exc:
                if isinstance(exc, KeyboardInterrupt):
                    raise
                failures += 1
                print(f"seed {seed}: {type(exc).__name__}: {exc}", flush=True)
                traceback.print_exc(file=sys.stdout)
    took = time.monotonic() - began
    print(f"{options.runs} runs in {took:.0f} s: {dict(seen)}, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
