"""The floors, each with a process of its own at the far end, as an actor is."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import trio

__all__ = ["IMPORTS", "imported_time", "open_echo", "open_pipe", "process_time", "start_at_once"]

IMPORTS = "import trio, msgspec"
"""What every actor has to import at least."""

MESSAGE = bytes(32)
"""About as large as a small message."""


@contextmanager
def _child(*args: str, fds: list[int]) -> Iterator[subprocess.Popen[bytes]]:
    """``benches._floor_child`` with some descriptors, for the length of the block; it ends at their end."""
    command = [sys.executable, "-m", "benches._floor_child", *args, *map(str, fds)]
    with subprocess.Popen(command, pass_fds=fds) as process:
        yield process


def _socket_pair(transport: str) -> tuple[socket.socket, socket.socket]:
    if transport != "tcp":
        return socket.socketpair(socket.AF_UNIX)
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


@contextmanager
def open_echo(transport: str) -> Iterator[Callable[[int], Awaitable[float]]]:
    """Something that does ``n`` round trips and gives the µs of one: sockets and trio, nothing else.

    It waits with ``trio.lowlevel`` and is about half of what ``trio.SocketStream`` takes.
    """
    near, far = _socket_pair(transport)

    async def trips(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            near.send(MESSAGE)
            await trio.lowlevel.wait_readable(near)
            near.recv(65536)
        return (time.perf_counter() - began) / n * 1e6

    with near, _child("echo", fds=[far.fileno()]):
        far.close()
        near.setblocking(False)
        try:
            yield trips
        finally:
            near.close()


@contextmanager
def open_pipe() -> Iterator[PipeFloor]:
    """A ``multiprocessing.Pipe`` from another process."""
    data, far_data = multiprocessing.Pipe(duplex=False)
    both, far_both = multiprocessing.Pipe()
    with _child("pipe", fds=[far_both.fileno(), far_data.fileno()]):
        far_both.close()
        far_data.close()
        with data, both:
            yield PipeFloor(both, data)


class PipeFloor:
    """Blocking, as a program with pipes would be."""

    def __init__(self, commands: Connection, data: Connection) -> None:
        self.commands = commands
        self.data = data

    def ints(self, n: int) -> float:
        """Integers received in a second; checks that all came."""
        began = time.perf_counter()
        self.commands.send(("ints", n))
        recv = self.data.recv
        total = 0
        for _ in range(n):
            total += recv()
        took = time.perf_counter() - began
        check_sum(n, n, total)
        return n / took

    def payloads(self, n: int, each: int = 2**20) -> float:
        """GB received in a second, as payloads of ``each`` bytes."""
        if each != 2**20:
            # Made before the clock runs.
            self.commands.send(("size", each))
        began = time.perf_counter()
        self.commands.send(("payloads", n))
        recv = self.data.recv_bytes
        size = 0
        for _ in range(n):
            size += len(recv())
        took = time.perf_counter() - began
        check_size(n, size, each)
        return size / took / 1e9

    def echo(self, n: int) -> float:
        """µs of one round trip of a small object."""
        self.commands.send(("echo", n))
        began = time.perf_counter()
        for i in range(n):
            self.commands.send(i)
            self.data.recv()
        return (time.perf_counter() - began) / n * 1e6


def check_sum(n: int, came: int, total: int) -> None:
    """Raise AssertionError unless the integers below ``n`` came, each once."""
    if came != n or total != n * (n - 1) // 2:
        raise AssertionError(f"{came} integers came with the sum {total}, of those below {n}")


def check_size(n: int, size: int, each: int = 2**20) -> None:
    """Raise AssertionError unless ``n`` times ``each`` bytes came."""
    if size != n * each:
        raise AssertionError(f"{size} bytes came of {n * each}")


def start_at_once(code: str, n: int) -> float:
    """ms until ``n`` processes that were started together have run ``code`` and ended."""
    command = [sys.executable, "-c", code]
    began = time.perf_counter()
    started = [subprocess.Popen(command) for _ in range(n)]
    codes = [process.wait() for process in started]
    took = (time.perf_counter() - began) * 1e3
    if any(codes):
        raise AssertionError(f"{code!r} ended with the statuses {codes}")
    return took


def process_time(code: str) -> float:
    """ms until a process that runs ``code`` has ended."""
    return start_at_once(code, 1)


def imported_time(code: str) -> float:
    """ms until a process has run ``code``; its end is not waited for within that time."""
    command = [sys.executable, "-c", f"{code}; print(flush=True)"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return (time.perf_counter() - began) * 1e3
