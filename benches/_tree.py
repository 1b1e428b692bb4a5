"""Booting a root for a bench, out of the way of every other program's registrar."""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import tractor
from benches._rows import Options, Series

__all__ = ["ENDPOINTS", "open_root", "run"]

ENDPOINTS = "benches._endpoints"


def _registry(transport: str, folder: str) -> tuple[str, int] | tuple[str, str]:
    if transport == "uds":
        return folder, "registry.sock"
    if transport == "shm":
        return f"shm://{folder}", "registry.sock"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return "127.0.0.1", port


@asynccontextmanager
async def open_root(
    options: Options, start_method: str | None = None, limits: tractor.Limits | None = None
) -> AsyncIterator[tractor.ActorNursery]:
    """A nursery of a root that is its own registrar, over the transport that is measured."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o700)
        async with tractor.open_nursery(
            registry_addrs=[_registry(options.transport, folder)],
            authkey=secrets.token_bytes(32) if options.transport == "tcp" else None,
            start_method=start_method,
            limits=limits,
        ) as an:
            yield an


def run(main: Callable[[], Awaitable[Series]]) -> Series:
    """``trio.run()`` of a row."""
    return trio.run(main)
