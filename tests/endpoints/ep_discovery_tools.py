"""What the tests of discovery share; not imported by children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ep_supervise_tools
import trio
from ep_supervise_tools import Program, free_uds, spoken

import tractor

PROGRAM = Path(__file__).with_name("ep_discovery_prog.py")

Addr = Any


def free_addr(proto: str) -> Addr:
    """An address of the transport at which nobody listens."""
    if proto == "uds":
        return free_uds()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


class RegistrarProgram(Program):
    """A registrar in a process, and a tree, of its own."""

    def __init__(self, name: str, addr: Addr) -> None:
        super().__init__("registrar", name, spoken(addr), script=PROGRAM)
        self.name = name
        self.addr = addr
        self.uid = tuple(json.loads(self.read_line()))


@contextmanager
def registrar(name: str, addr: Addr) -> Iterator[RegistrarProgram]:
    started = RegistrarProgram(name, addr)
    try:
        yield started
    finally:
        stop(started)


def stop(program: Program, number: int = signal.SIGTERM) -> None:
    """End a program and remove what a killed one can't remove itself."""
    with contextlib.suppress(ProcessLookupError):
        if program.process.poll() is None:
            os.kill(program.pid, signal.SIGCONT)
            os.kill(program.pid, number)
            program.process.wait(10)
    program.close()
    addr = getattr(program, "addr", None)
    if addr is not None and isinstance(addr[1], str):
        Path(*addr).unlink(missing_ok=True)


@contextmanager
def stopped(program: Program) -> Iterator[None]:
    """Keep a process from running for the length of the block."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program.pid, signal.SIGCONT)


@contextmanager
def half_open(addr: Addr) -> Iterator[None]:
    """Something that accepts and never says a word."""
    is_path = isinstance(addr[1], str)
    where = os.path.join(*addr) if is_path else addr
    with socket.socket(socket.AF_UNIX if is_path else socket.AF_INET) as listener:
        if not is_path:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
        yield
    if is_path:
        os.unlink(where)


async def table(addr: Addr) -> dict[str, list[Any]]:
    """The table of the registrar at an address."""
    async with tractor.get_registry(addr) as portal:
        found: dict[str, list[Any]] = await portal.run_from_ns("self", "get_registry")
        return found


async def names(addr: Addr) -> list[str]:
    """The names in the table of the registrar at an address, in order of registration."""
    return [key.rpartition(".")[0] for key in await table(addr)]


async def enter(addr: Addr, uid: tuple[str, str], where: Addr) -> None:
    """Register somebody else at the registrar at ``addr``."""
    async with tractor.get_registry(addr) as portal:
        await portal.run_from_ns("self", "register_actor", uid=uid, addr=where)


async def remove(addr: Addr, uid: tuple[str, str]) -> None:
    async with tractor.get_registry(addr) as portal:
        await portal.run_from_ns("self", "unregister_actor", uid=uid)


async def until(condition: Callable[[], Any], limit: float = 10.0) -> None:
    """Wait for what no event tells: something in another process."""
    with trio.fail_after(limit):
        while not await condition():
            await trio.sleep(0.02)


run = ep_supervise_tools.run
