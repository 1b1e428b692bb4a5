"""Endpoints that pause in sync code."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import trio

import tractor
from tractor.devx.debug import pause_from_sync


def hook_and_variable() -> tuple[str, str | None]:
    return getattr(sys.breakpointhook, "__name__", ""), os.environ.get("PYTHONBREAKPOINT")


async def breakpoint_settings() -> tuple[str, str | None, bool]:
    """What ``breakpoint()`` would do in this actor, and the runtime var."""
    name, variable = hook_and_variable()
    settings: Any = tractor.get_runtime_vars()
    return name, variable, settings["use_greenback"]


async def call_builtin() -> None:
    breakpoint()


async def call_sync_pause() -> None:
    pause_from_sync()


def pause_here(label: str) -> str:
    """Sync code with a pause in it."""
    said = f"{label} pauses"
    breakpoint()
    said = f"{label} goes on"
    print(said, flush=True)
    return said


async def pause_in_task(label: str) -> str:
    return pause_here(label)


async def pause_in_worker(label: str) -> str:
    return await trio.to_thread.run_sync(pause_here, label)


async def pause_in_own_thread(label: str) -> None:
    thread = threading.Thread(target=pause_here, args=(label,), name=f"thread of {label}")
    thread.start()
    await trio.to_thread.run_sync(thread.join)


async def pause_in_thread_with_loop(label: str) -> None:
    """An asyncio loop of the user's own, in a thread of the user's own."""
    import asyncio

    async def main() -> None:
        pause_here(label)
        await asyncio.sleep(0)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name=f"loop of {label}")
    thread.start()
    await trio.to_thread.run_sync(thread.join)


WAYS: dict[str, Any] = {
    "task": pause_in_task,
    "worker": pause_in_worker,
    "thread": pause_in_own_thread,
    "loop": pause_in_thread_with_loop,
}


async def pause_by(way: str, label: str) -> None:
    await WAYS[way](label)


async def ping() -> str:
    return "pong"
