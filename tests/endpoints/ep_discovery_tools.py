"""What the tests of discovery share; not imported by children."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ep_supervise_tools
import msgspec
import trio
from ep_supervise_tools import Program, free_uds, spoken

import tractor
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg.types import Aid, CancelAck, Error, Return, Start
from tractor.runtime._portal import LocalPortal
from tractor.testing import get_rando_addr

PROGRAM = Path(__file__).with_name("ep_discovery_prog.py")

Addr = Any


def free_addr(proto: str) -> Addr:
    """An address of the transport at which nobody listens; no port that the system gives to who wants any."""
    return free_uds() if proto == "uds" else get_rando_addr(proto)


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


class RawPeer:
    """A peer that says what it wants of itself, made of nothing but a channel."""

    def __init__(self, chan: Channel, aid: Aid) -> None:
        self.chan = chan
        self.aid = aid

    @classmethod
    async def connect(cls, addr: Addr, uid: tuple[str, str] | None = None) -> RawPeer:
        """Connect and claim to be ``uid``; ``None``: nobody that there was before."""
        name, uuid = uid or ("raw", secrets.token_hex(8))
        chan = Channel(await transport_from_addr(addr), "connect")
        aid = Aid(name, uuid, os.getpid())
        try:
            await chan.handshake(aid)
        except BaseException:
            chan.abort()
            raise
        return cls(chan, aid)

    async def send(self, func: str, **kwargs: Any) -> int:
        """Make a request to the runtime; its dialog id."""
        cid = self.chan.new_cid()
        await self.chan.send(Start(cid, "self", func, kwargs, self.aid.uid))
        return cid

    async def reply(self) -> tuple[int, Any]:
        """The next answer, and to which request; an error's text as a `Refused`."""
        msg = await self.chan.recv()
        if isinstance(msg, Error):
            assert msg.cid is not None
            return msg.cid, Refused(msg.boxed_type_str, msg.message)
        assert isinstance(msg, Return)
        return msg.cid, msgspec.msgpack.decode(msg.pld)

    async def ask(self, func: str, **kwargs: Any) -> Any:
        """Make a request and give its answer."""
        cid = await self.send(func, **kwargs)
        answered, value = await self.reply()
        assert answered == cid
        return value

    async def cancel(self, cid: int) -> None:
        """Have a request of ours that waits cancelled, and wait until it is."""
        ack = await self.send("_cancel_task", cid=cid)
        while True:
            msg = await self.chan.recv()
            if isinstance(msg, CancelAck) and msg.cid == ack:
                return

    async def register(self, where: Addr, uid: Any = None) -> Any:
        return await self.ask("register_actor", uid=uid or self.aid.uid, addr=where)

    async def gone(self) -> bool:
        """Whether the other side closes the channel."""
        try:
            await self.chan.recv()
        except tractor.TransportClosed:
            return True
        return False

    def close(self) -> None:
        self.chan.abort()


class Refused(NamedTuple):
    """An error that a request was answered with."""

    type: str
    text: str


@asynccontextmanager
async def raw_peer(addr: Addr, uid: tuple[str, str] | None = None) -> AsyncIterator[RawPeer]:
    peer = await RawPeer.connect(addr, uid)
    try:
        yield peer
    finally:
        peer.close()


_entered: dict[tuple[str, str], list[RawPeer]] = {}


async def enter(addr: Addr, uid: tuple[str, str], where: Addr) -> None:
    """Have an actor ``uid`` registered at the registrar at ``addr``, until :func:`remove` or the end of :func:`run`."""
    async with tractor.get_registry(addr) as portal:
        if isinstance(portal, LocalPortal):
            await portal.run_from_ns("self", "register_actor", uid=uid, addr=where)
            return
    peer = await RawPeer.connect(addr, uid)
    _entered.setdefault(uid, []).append(peer)
    assert await peer.register(where) is None


async def remove(addr: Addr, uid: tuple[str, str]) -> None:
    """Have the registrar at ``addr`` forget an actor of :func:`enter`."""
    for peer in _entered.pop(uid, ()):
        await peer.ask("unregister_actor", uid=uid)
        peer.close()


async def until(condition: Callable[[], Any], limit: float = 10.0) -> None:
    """Wait for what no event tells: something in another process."""
    with trio.fail_after(limit):
        while not await condition():
            await trio.sleep(0.02)


def run(*args: Any, **kwargs: Any) -> Any:
    """As ``ep_supervise_tools.run``; then who was entered by hand is gone."""
    try:
        return ep_supervise_tools.run(*args, **kwargs)
    finally:
        for peers in _entered.values():
            for peer in peers:
                peer.close()
        _entered.clear()
