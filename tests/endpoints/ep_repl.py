"""A REPL whose user is a test: each prompt is a connection to the test's socket, over which a command comes back.

Imported by children, which then have this REPL in place of the real one; in the test's own process the fixture does
that.
"""

from __future__ import annotations

import bdb
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import trio
import trio.testing

import tractor
from tractor.devx.debug import Lock
from tractor.devx.debug.repl import _opening
from tractor.runtime._state import current_actor

VARIABLE = "TRACTOR_TEST_TTY"


class FakeREPL:
    """Stands for `PdbREPL`."""

    def __init__(self, on_release: Callable[[], None] | None = None, **_kwargs: Any) -> None:
        self.on_release = on_release
        self.redrawn = 0
        self.is_interacting = True

    def redraw_prompt(self) -> bool:
        self.redrawn += 1
        return True

    def detach(self) -> None:
        self.leave()

    def leave(self) -> None:
        if self.on_release is not None:
            self.on_release()

    def prompt(self, **facts: Any) -> str:
        """Let the user decide; blocks this thread, as a prompt does."""
        actor = current_actor(err_on_no_runtime=False)
        facts |= {"actor": actor.name if actor else None, "pid": os.getpid()}
        facts["sigint"] = getattr(signal.getsignal(signal.SIGINT), "__name__", "?")
        with socket.socket(socket.AF_UNIX) as tty:
            tty.connect(os.environ[VARIABLE])
            tty.sendall(json.dumps(facts).encode() + b"\n")
            command = tty.makefile().readline().strip()
        if command == "hang up" and actor is not None and actor.parent_chan is not None:
            actor.parent_chan.transport.abort()
        return command


def open_at(repl: FakeREPL, frame: FrameType) -> None:
    command = repl.prompt(kind="pause", function=frame.f_code.co_name)
    repl.leave()
    if command == "q":
        raise bdb.BdbQuit


def open_post_mortem(repl: FakeREPL, tb: TracebackType) -> bool:
    exc = sys.exc_info()[1]
    frames = [frame.name for frame in traceback.extract_tb(tb)]
    command = repl.prompt(
        kind="crash", error=type(exc).__name__ if exc else None, function=frames[-1], text=str(exc)
    )
    repl.leave()
    return command != "q"


FAKES = {"mk_pdb": FakeREPL, "open_at": open_at, "open_post_mortem": open_post_mortem}

if VARIABLE in os.environ:
    for name, fake in FAKES.items():
        setattr(_opening, name, fake)


# -- endpoints --


async def pid() -> int:
    return os.getpid()


async def pause(times: int = 1) -> str:
    """Pause, and say who did."""
    for _ in range(times):
        await tractor.pause()
    return tractor.current_actor().name


@tractor.context
async def pause_then_start(ctx: tractor.Context) -> None:
    """Pause before it is ready."""
    await tractor.pause()
    await ctx.started()
    await trio.sleep_forever()


async def pause_refused() -> str:
    """Pause where that is refused."""
    try:
        await tractor.pause()
    except tractor.DebugRequestError as exc:
        return str(exc)
    return "not refused"


async def pause_for(seconds: float) -> str:
    """Wait so long for the terminal."""
    with trio.move_on_after(seconds):
        await tractor.pause()
        return "paused"
    return "gave up"


async def crash(text: str = "boom") -> None:
    raise ValueError(text)


async def manual_then_crash() -> None:
    """A post-mortem by hand does not count."""
    try:
        raise ValueError("by hand")
    except ValueError:
        await tractor.post_mortem()
        raise


async def nap() -> None:
    await trio.sleep_forever()


async def raise_after_nap() -> None:
    """Fail while being cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("on the way out")


async def pause_after_nap() -> None:
    """Pause while being cancelled, shielded."""
    try:
        await trio.sleep_forever()
    finally:
        await tractor.pause(shield=True)


async def lock_state() -> Any:
    """What this actor knows of the terminal."""
    stats = Lock.statistics()
    return stats.holder, len(stats.waiting), stats.state


async def sigint_handler() -> str:
    return str(getattr(signal.getsignal(signal.SIGINT), "__name__", "?"))


async def interrupt_self() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def hold_lock(times: int = 1) -> str:
    """Have the terminal without a REPL."""
    for _ in range(times):
        async with tractor.devx.acquire_debug_lock(tractor.current_actor().aid.uid) as dialog:
            assert dialog is not None
            assert dialog.chan is tractor.current_actor().parent_chan
    return str(Lock.statistics().state)


async def below(depth: int, what: str, **kwargs: Any) -> Any:
    """Run an endpoint of this module `depth` actors further down, in one-shot actors."""
    async with tractor.open_nursery() as an:
        if depth > 1:
            portal = await an.run_in_actor(
                below, name=f"level{depth}", depth=depth - 1, what=what, **kwargs
            )
        else:
            portal = await an.run_in_actor(globals()[what], name=f"bottom_{what}", **kwargs)
        return await portal.wait_for_result()


async def two_tasks() -> list[str]:
    """Two tasks of one actor want the terminal at once."""
    done: list[str] = []

    async def one(name: str) -> None:
        await tractor.pause()
        done.append(name)

    async with trio.open_nursery() as tn:
        tn.start_soon(one, "a")
        await trio.testing.wait_all_tasks_blocked()
        tn.start_soon(one, "b")
    return done


@tractor.context
async def context_pause(ctx: tractor.Context) -> None:
    await ctx.started()
    await tractor.pause()


@tractor.context
async def context_crash(ctx: tractor.Context) -> None:
    await ctx.started()
    raise ValueError("in a context")


@tractor.context
async def context_nap(ctx: tractor.Context) -> None:
    await ctx.started()
    await trio.sleep_forever()


async def start_deeper() -> int:
    """Start a daemon below this actor, which lives as long as it does; its pid."""
    actor = tractor.current_actor()
    found: list[int] = []
    up = trio.Event()

    async def host() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("deeper", enable_modules=["ep_repl"])
            found.append(await portal.run(pid))
            up.set()
            await trio.sleep_forever()

    actor.service_nursery.start_soon(host)
    await up.wait()
    return found[0]


async def loaded() -> list[str]:
    """Modules that only the debugger needs."""
    return [name for name in ("pdb", "pdbp", "greenback", "asyncio") if name in sys.modules]
