"""Endpoints of infected actors."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import trio

import tractor
from tractor import to_asyncio


async def is_infected() -> tuple[bool, bool]:
    settings = tractor.get_runtime_vars(as_dict=False)
    assert isinstance(settings, tractor.RuntimeVars)
    return tractor.current_actor().is_infected_aio(), settings._is_infected_aio


def _blocked() -> list[int]:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _blocked_in_program() -> list[int]:
    """What a program that is started by the calling thread has blocked."""
    code = "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=True)
    return [int(number) for number in out.stdout.split()]


async def blocked_signals() -> dict[str, list[int]]:
    """The signals that are blocked where user code runs."""
    found = {
        "main": _blocked(),
        "to_thread": await trio.to_thread.run_sync(_blocked),
        "program": await trio.to_thread.run_sync(_blocked_in_program),
    }
    if tractor.current_actor().is_infected_aio():
        found["asyncio"] = await to_asyncio.run_task(functools.partial(asyncio.to_thread, _blocked))
    # Threads of ours that wait for the parent's end and for users who ask, and run nobody else's code.
    ours = {
        thread.native_id
        for thread in threading.enumerate()
        if any(word in thread.name for word in ("lifeline", "control"))
    }
    # A sub-interpreter's process is the test's, whose threads are not ours to judge.
    parent = tractor.current_actor().get_parent().chan.aid
    readable = sys.platform == "linux" and parent is not None and parent.pid != os.getpid()
    for tid in os.listdir("/proc/self/task") if readable else ():
        if int(tid) not in ours:
            with open(f"/proc/self/task/{tid}/status") as file:
                (mask,) = [int(line.split()[1], 16) for line in file if "SigBlk" in line]
            found[f"thread {tid}"] = [n + 1 for n in range(64) if mask >> n & 1]
    return found


kept: list[asyncio.Task[Any]] = []


async def keep_a_failed_task(text: str) -> None:
    """Leave a task behind that nobody has linked, and whose error nobody looks at."""

    async def fail() -> None:
        raise ValueError(text)

    kept.append(asyncio.create_task(fail()))
    while not kept[-1].done():
        await trio.sleep(0)


async def loop_class() -> str:
    return type(asyncio.get_running_loop()).__module__


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def run_double(value: int) -> Any:
    return await to_asyncio.run_task(double, value=value)


async def echo(chan: to_asyncio.LinkedTaskChannel) -> str:
    chan.started_nowait("ready")
    try:
        while True:
            chan.send_nowait(await chan.get())
    except to_asyncio.TrioTaskExited:
        return "done"


@tractor.context
async def serve_echo(ctx: tractor.Context) -> Any:
    async with to_asyncio.open_channel_from(echo) as (chan, first):
        await ctx.started(first)
        async with ctx.open_stream() as stream:
            async for value in stream:
                await chan.send(value)
                await stream.send(await chan.receive())
    return await chan.wait_for_result()


async def noting_sleep(chan: to_asyncio.LinkedTaskChannel, path: str) -> None:
    """Sleeps, and writes what has ended that to a file."""
    chan.started_nowait()
    try:
        await asyncio.sleep(60)
    except BaseException as exc:
        note(path, type(exc).__name__)
        raise


def note(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(f"{text}\n")


async def hold_link(path: str) -> None:
    tractor.current_actor().lifetime_stack.callback(note, path, "lifetime stack closed")
    async with to_asyncio.open_channel_from(noting_sleep, path=path):
        await trio.sleep_forever()


@tractor.context
async def hold_link_in_context(ctx: tractor.Context, path: str) -> None:
    async with to_asyncio.open_channel_from(noting_sleep, path=path):
        await ctx.started(os.getpid())
        await trio.sleep_forever()


@tractor.context
async def hang_shielded(ctx: tractor.Context) -> None:
    await ctx.started(os.getpid())
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def swallow_cancels(chan: to_asyncio.LinkedTaskChannel) -> None:
    chan.started_nowait()
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.sleep(60)


@tractor.context
async def hold_stubborn_link(ctx: tractor.Context) -> None:
    async with to_asyncio.open_channel_from(swallow_cancels):
        await ctx.started(os.getpid())
        await trio.sleep_forever()


@tractor.context
async def stop_the_loop(ctx: tractor.Context) -> None:
    await ctx.started()
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)
    await trio.sleep_forever()


@tractor.context
async def block_the_loop(ctx: tractor.Context, marker: str) -> None:
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        # It has all been sent.
        await stream.receive()
    await to_asyncio.run_task(block, marker=marker)


async def block(marker: str) -> None:
    Path(marker).touch()
    time.sleep(60)


async def fail_main() -> None:
    await to_asyncio.run_task(fail_soon)


async def fail_soon() -> None:
    await asyncio.sleep(0)
    raise ValueError("from asyncio")


async def double_below(value: int) -> Any:
    """Ask an infected subactor of this one."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=["ep_asyncio"], infect_asyncio=True)
        got = await portal.run(run_double, value=value)
        await portal.cancel_actor()
        return got


async def ask_trio(chan: to_asyncio.LinkedTaskChannel) -> None:
    """Echoes, and has trio do something for each value."""
    chan.started_nowait()
    while True:
        value = await chan.get()
        await to_asyncio.run_trio_task_in_future(trio.sleep, 0)
        chan.send_nowait(value)


@tractor.context
async def keep_busy(ctx: tractor.Context) -> None:
    """Links in both directions, nested and side by side, until somebody ends it."""
    async with (
        to_asyncio.open_channel_from(echo) as (one, _),
        to_asyncio.open_channel_from(ask_trio) as (two, _),
        trio.open_nursery() as tn,
    ):
        await ctx.started(os.getpid())
        tn.start_soon(double_for_ever)
        async with ctx.open_stream() as stream:
            async for value in stream:
                await one.send(value)
                await two.send(await one.receive())
                await stream.send(await two.receive())
        tn.cancel_scope.cancel()


async def double_for_ever() -> None:
    value = 1
    while True:
        value = await to_asyncio.run_task(double, value=value) % 1000 + 1
