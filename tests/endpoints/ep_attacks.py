"""What strangers do to a listening TCP actor, below all protocol; and what that actor tells of it.

Imported by the tests and by the actor that is attacked.
"""

from __future__ import annotations

import hmac
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import trio

import tractor
from tractor._proto.connection.auth import MAGIC, PROTOCOL_VERSION
from tractor._proto.connection.framing import HEADER
from tractor.ipc import Channel
from tractor.ipc._chan import transport_from_addr
from tractor.msg.types import Aid, Start

if sys.platform != "win32":
    import resource

HELLO = MAGIC + PROTOCOL_VERSION.to_bytes(2, "little")
OPENING = len(HELLO) + 32
"""Bytes that an actor sends to anybody: its hello and its nonce."""

Address = tuple[str, int]


# -- endpoints ----------------------------------------------------------------------------------------


async def double(x: int) -> int:
    """A rightful peer's call."""
    return 2 * x


async def listens_on() -> list[Any]:
    """This actor's addresses, unwrapped."""
    return list(tractor.current_actor().accept_addrs)


async def counts(held: bool) -> dict[str, int]:
    """The counters of this actor's server, and what the process holds: that takes a free descriptor."""
    found: dict[str, int] = msgspec.structs.asdict(tractor.current_actor().ipc_server.statistics())
    if held and sys.platform == "linux":
        found["fds"] = len(os.listdir("/proc/self/fd"))
        with open("/proc/self/statm") as statm:
            found["kib"] = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return found


async def leave_few_descriptors(spare: int) -> None:
    """Let this process have that many descriptors more than it has open now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/dev/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (top + spare, hard))


# -- a stranger's connection ----------------------------------------------------------------------------


class Stranger:
    """A bare connection, and every byte that came over it."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.got = b""

    async def send(self, data: bytes) -> None:
        """Send; that the peer has closed meanwhile does not matter."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def read(self, size: int) -> bytes:
        """What comes, until it is that much in all."""
        while len(self.got) < size:
            data = await self.stream.receive_some(size - len(self.got))
            assert data, f"closed after {self.got!r}"
            self.got += data
        return self.got

    async def read_to_the_end(self) -> bytes:
        """Everything until the peer closes; a reset is a close, too."""
        try:
            while data := await self.stream.receive_some(65_536):
                self.got += data
        except trio.BrokenResourceError:
            pass
        return self.got

    async def end(self) -> None:
        """Close this half."""
        with suppress(trio.BrokenResourceError, OSError):
            if isinstance(self.stream, trio.SocketStream):
                await self.stream.send_eof()


@asynccontextmanager
async def stranger(addr: Address) -> AsyncIterator[Stranger]:
    """Connect for the length of the block."""
    async with await trio.open_tcp_stream(*addr) as stream:
        yield Stranger(stream)


def frame(msg: Any) -> bytes:
    """A message as it looks on the wire."""
    body = msgspec.msgpack.encode(msg)
    return HEADER.pack(len(body)) + body


def mk_aid(name: str = "intruder") -> Aid:
    """An identity."""
    return Aid(name, "0" * 32, os.getpid())


def proof(key: bytes, role: bytes, first: bytes, second: bytes, hello: bytes = HELLO) -> bytes:
    """What a holder of that key would send."""
    return hmac.digest(key, hello + role + first + second, "sha256")


def pipelined() -> bytes:
    """Messages: an identity, and a request to end the actor."""
    request = Start(1, "self", "cancel", {}, ("intruder", "0" * 32))
    return frame(mk_aid()) + frame(request)


# -- attacks ---------------------------------------------------------------------------------------------

Attack = Callable[[Stranger, bytes], Awaitable[None]]
"""Gets a fresh connection and a key, which is not the actor's unless the attack says so."""

NONCE = b"n" * 32
TRUE_KEY: set[str] = set()
"""Attacks by somebody who holds the actor's key, but breaks the rules."""

ATTACKS: dict[str, Attack] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    """Add it to the table."""

    def add(run: Attack) -> Attack:
        ATTACKS[name] = run
        return run

    return add


@attack("wrong key")
async def _wrong_key(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE)
    theirs = (await it.read(OPENING))[len(HELLO) :]
    await it.send(proof(key, b"C", NONCE, theirs) + pipelined())


@attack("no key, as on a Unix socket")
async def _no_key(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + pipelined())


@attack("no key, all zeros")
async def _zeros(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + bytes(64) + pipelined())


@attack("an empty key")
async def _empty_key(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE)
    theirs = (await it.read(OPENING))[len(HELLO) :]
    await it.send(proof(b"", b"C", NONCE, theirs) + pipelined())


@attack("reflection: all that comes is sent back")
async def _mirror(it: Stranger, key: bytes) -> None:
    theirs = await it.read(OPENING)
    await it.send(theirs)
    await it.send(theirs[len(HELLO) :] + pipelined())


@attack("messages before any hello")
async def _messages_first(it: Stranger, key: bytes) -> None:
    await it.send(pipelined())


@attack("messages instead of the proof")
async def _messages_for_proof(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE + pipelined())


def _plain(name: str, data: bytes) -> None:
    async def run(it: Stranger, key: bytes) -> None:
        await it.send(data)

    ATTACKS[name] = run


def _cut(size: int) -> None:
    async def run(it: Stranger, key: bytes) -> None:
        await it.send((HELLO + NONCE + bytes(32))[:size])
        await it.end()

    ATTACKS[f"cut after {size} bytes"] = run


_plain("an older version", MAGIC + b"\0\0" + bytes(64) + pipelined())
_plain("a newer version", MAGIC + b"\2\0" + bytes(64) + pipelined())
_plain("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
_plain("a TLS client", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
_plain("an SSH client", b"SSH-2.0-OpenSSH_9.6\r\n")
_plain("a megabyte of rubbish", b"\xff" * 2**20)
_plain("a megabyte behind the hello", HELLO + b"\xff" * 2**20)
for _size in (0, 3, len(HELLO), len(HELLO) + 1, OPENING - 1, OPENING, OPENING + 1, OPENING + 31):
    _cut(_size)


@attack("the actor's own role")
async def _own_role(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE)
    theirs = (await it.read(OPENING))[len(HELLO) :]
    await it.send(proof(key, b"A", NONCE, theirs) + pipelined())


@attack("nonces in the wrong order")
async def _order(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE)
    theirs = (await it.read(OPENING))[len(HELLO) :]
    await it.send(proof(key, b"C", theirs, NONCE) + pipelined())


@attack("a proof for another version")
async def _other_version(it: Stranger, key: bytes) -> None:
    await it.send(HELLO + NONCE)
    theirs = (await it.read(OPENING))[len(HELLO) :]
    await it.send(proof(key, b"C", NONCE, theirs, MAGIC + b"\0\0") + pipelined())


TRUE_KEY |= {"the actor's own role", "nonces in the wrong order", "a proof for another version"}


# -- a rightful peer, overheard ---------------------------------------------------------------------------


async def recorded_peer(addr: Address) -> bytes:
    """Every byte that a rightful peer sends, from its hello to its identity; it passes."""
    sent = b""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    async def relay(source: trio.SocketStream, to: trio.SocketStream, record: bool) -> None:
        nonlocal sent
        async for data in source:
            if record:
                sent += data
            await to.send_all(data)
        await to.send_eof()

    async def wire_tap() -> None:
        client, _ = await listener.accept()
        async with (
            trio.SocketStream(client) as here,
            await trio.open_tcp_stream(*addr) as there,
            trio.open_nursery() as tn,
        ):
            tn.start_soon(relay, here, there, True)
            tn.start_soon(relay, there, here, False)

    with listener:
        async with trio.open_nursery() as tn:
            tn.start_soon(wire_tap)
            await visit(listener.getsockname())
    return sent


async def visit(addr: Address) -> None:
    """Connect as a rightful peer, and leave: the key is this process's."""
    chan = Channel(await transport_from_addr(addr), "connect")
    async with chan:
        await chan.handshake(Aid("visitor", os.urandom(16).hex(), os.getpid()))


async def connect_silently(addr: Address) -> socket.socket:
    """A connection that says nothing, as cheap as can be."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        try:
            sock.connect(addr)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def half_open(addr: Address, count: int) -> AsyncIterator[list[socket.socket]]:
    """So many connections that say nothing, for the length of the block."""
    socks: list[socket.socket] = []

    async def connect(number: int) -> None:
        for _ in range(number):
            socks.append(await connect_silently(addr))

    try:
        async with trio.open_nursery() as tn:
            for part in range(10):
                tn.start_soon(connect, (count + part) // 10)
        yield socks
    finally:
        for sock in socks:
            sock.close()
