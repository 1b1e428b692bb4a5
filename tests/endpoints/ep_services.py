"""What services of the tests do; their actors import it."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import trio

import tractor

ERRORS: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (ValueError, KeyError, SystemExit, KeyboardInterrupt)
}

orders: list[str] = []
told = trio.Event()


def note(path: str) -> int:
    """Add a line with this process's pid; its number, from 1, which no other process gets."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(b"%d\n" % os.getpid())
        # Where the own line ends, whatever others add behind it.
        end = file.tell()
    return Path(path).read_bytes()[:end].count(b"\n")


async def order(what: str) -> None:
    """Have the service of this actor do something; see `carry_out()`."""
    orders.append(what)
    told.set()


async def carry_out(what: str) -> Any:
    """``return 7``, ``raise ValueError``, ``group``, ``exit 0``, ``block 30``, ``spin_in_c``."""
    word, _, rest = what.partition(" ")
    if word == "return":
        return int(rest)
    if word == "raise":
        raise ERRORS[rest]("as ordered")
    if word == "group":
        async with trio.open_nursery() as tn:
            tn.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise KeyError("in a group")
    if word == "exit":
        os._exit(int(rest))
    if word == "eat":
        eat(int(rest))
    if word == "block":
        time.sleep(float(rest))
    if word == "spin_in_c":
        spin_in_c()
    return None


def spin_in_c() -> None:
    """C code that computes for ever, and lets no Python run meanwhile."""
    deque(itertools.repeat(None), maxlen=0)


def eat(limit: int) -> None:
    """All memory that there is, so many bytes more than now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + limit
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))


async def obey(path: str = "") -> Any:
    """A task that waits for its order."""
    if path:
        note(path)
    await told.wait()
    return await carry_out(orders[0])


async def do(what: str, path: str = "") -> Any:
    """A task that does it at once."""
    if path:
        note(path)
    return await carry_out(what)


async def returns(restart: int) -> int:
    """Its argument is called like an option of `start_service()`."""
    return restart


async def keep(values: list[int], path: str) -> None:
    """A task that writes down its argument."""
    with Path(path).open("a") as file:
        file.write(f"{values}\n")
    await trio.sleep_forever()


async def fail_at_end(what: str = "raise ValueError", path: str = "") -> None:
    """A task whose cleanup fails."""
    if path:
        note(path)
    try:
        await trio.sleep_forever()
    finally:
        await carry_out(what)


async def stay(seconds: float, path: str = "", ignore_sigterm: bool = False) -> None:
    """A task that does not go when it is asked to."""
    if ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if path:
        note(path)
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def pid() -> int:
    return os.getpid()


async def with_a_child(path: str) -> None:
    """A task with an actor of its own, whose pid it writes down."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=["ep_services"])
        with Path(path).open("a") as file:
            file.write(f"{await portal.run(pid)}\n")
        await trio.sleep_forever()


async def supervise(path: str) -> None:
    """A task with a supervisor that gives up."""
    note(path)
    async with tractor.open_supervisor(max_restarts=1, backoff=None) as sup:
        sup.start_soon("inner", do, what="raise KeyError")
        await sup.wait()


async def supervise_calmly() -> None:
    """A task with a supervisor that has nothing to do."""
    async with tractor.open_supervisor() as sup:
        await sup.start_service("leaf", obey)
        await sup.wait()


async def supervise_stubborn(path: str, seconds: float = 60.0) -> None:
    """A task with a supervisor whose services would have a long time to go."""
    async with tractor.open_supervisor() as sup:
        for name in ("one", "two"):
            await sup.start_service(name, stay, seconds=seconds, path=path, shutdown=60.0)
        await sup.wait()


@tractor.context
async def talk(ctx: tractor.Context, path: str = "") -> Any:
    """A dialog that gives its pid, and waits for its order."""
    if path:
        note(path)
    await ctx.started(os.getpid())
    return await obey()


@tractor.context
async def fail_some(ctx: tractor.Context, path: str, times: tuple[int, ...]) -> None:
    """A dialog whose starts of these numbers, from 1, fail."""
    number = note(path)
    if number in times:
        raise ValueError(f"start {number}")
    await ctx.started(os.getpid())
    await obey()


@tractor.context
async def fail_at_times(ctx: tractor.Context, path: str, odds: float) -> Any:
    """A dialog whose starts fail now and then."""
    note(path)
    if random.random() < odds:
        raise ValueError("a start that fails")
    await ctx.started(os.getpid())
    return await obey()


@tractor.context
async def keep_shop(ctx: tractor.Context, path: str) -> Any:
    """A dialog with a supervisor of its own, which never gives up."""
    note(path)
    async with tractor.open_supervisor("rest_for_one", max_restarts=None, backoff=None) as sup:
        for name in ("shelf", "till"):
            await sup.start_service(name, obey, path=f"{path}.{name}")
        await ctx.started(os.getpid())
        return await obey()


@tractor.context
async def wait_for_gate(
    ctx: tractor.Context, gate: str, from_start: int = 1, path: str = ""
) -> None:
    """A dialog that is ready when a file exists; its first starts don't wait for that."""
    number = note(path) if path else from_start
    while number >= from_start and not Path(gate).exists():
        await trio.sleep(0.01)
    await ctx.started(os.getpid())
    await trio.sleep_forever()


@tractor.context
async def hang_before_started(ctx: tractor.Context, path: str) -> None:
    """A dialog that is never ready, and does not go."""
    with trio.CancelScope(shield=True):
        note(path)
        await trio.sleep(60)


@tractor.context
async def hold(ctx: tractor.Context, path: str) -> None:
    """A client's dialog, which counts its runs in a file."""
    note(path)
    await ctx.started()
    await trio.sleep_forever()


async def grow(size: int) -> None:
    """A task with so many bytes resident."""
    block = bytearray(size)
    block[::4096] = b"x" * len(block[::4096])
    await trio.sleep_forever()


async def double(x: int) -> int:
    """What a rolling restart is put under load with."""
    return 2 * x
