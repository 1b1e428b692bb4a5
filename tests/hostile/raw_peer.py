"""A peer that is not built on the package: sockets, msgpack, and the words of the protocol.

It holds the key, and keeps to nothing that it does not want to keep to.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import Any

import msgspec

__all__ = [
    "AID",
    "CANCEL_ACK",
    "CREDIT",
    "ERROR",
    "MAGIC",
    "RETURN",
    "SPAWN_SPEC",
    "START",
    "STARTED",
    "START_ACK",
    "STOP",
    "UID",
    "YIELD",
    "RawPeer",
    "cid_of",
    "error",
    "frame",
    "listen",
    "start",
    "text_of",
]

MAGIC = b"\xb0TRC"
VERSION = 1
HELLO = MAGIC + struct.pack("<H", VERSION)
NONCE_SIZE = PROOF_SIZE = 32

# Tags of messages.
AID, SPAWN_SPEC, START, START_ACK, STARTED, YIELD, STOP, RETURN, CANCEL_ACK, CREDIT, ERROR = range(
    1, 12
)

UID = ("intruder", "1" * 32)

Address = tuple[str, int] | tuple[str, str]
Message = list[Any]

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


def frame(*messages: Any) -> bytes:
    """Messages as they look on the wire; ``bytes`` are taken for an encoded one."""
    bodies = [m if isinstance(m, bytes) else encode(m) for m in messages]
    return b"".join(struct.pack("<I", len(body)) + body for body in bodies)


def start(
    cid: int,
    ns: str,
    func: str,
    kwargs: Any = None,
    *,
    kind: str = "call",
    uid: tuple[str, str] = UID,
) -> Message:
    """A request; ``kwargs`` may be ``msgspec.Raw``."""
    return [START, cid, ns, func, {} if kwargs is None else kwargs, uid, None, kind]


def error(cid: int | None, text: str = "!", uid: tuple[str, str] = UID) -> Message:
    """An exception as data."""
    return [ERROR, uid, "E", "E", "", "", [uid], text, "", None, None, cid]


def cid_of(message: Message) -> Any:
    """The dialog that a message belongs to."""
    return message[11] if message[0] == ERROR else message[1]


def text_of(message: Message) -> str:
    """The text of an ``Error``; of any other message none."""
    return str(message[7]) if message[:1] == [ERROR] else ""


def user_key() -> bytes:
    """The bytes of the user's key file."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state, "tractor", "authkey").read_bytes()


def _connected(address: Address) -> socket.socket:
    host, port = address
    if isinstance(port, int):
        sock = socket.create_connection((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.path.join(host, port))
    return sock


class RawPeer:
    """One connection.

    Args:
        address: where an actor listens, unwrapped; or a socket that an actor has connected to.
        key: to be proven over TCP; default: the user's key file.
        timeout: seconds that any send or receive may take.
    """

    def __init__(
        self, address: Address | socket.socket, key: bytes | None = None, timeout: float = 20.0
    ) -> None:
        self.accepts = isinstance(address, socket.socket)
        self.sock = address if isinstance(address, socket.socket) else _connected(address)
        self.sock.settimeout(timeout)
        self.keyed = self.sock.family != socket.AF_UNIX
        self._key = key
        self._got = bytearray()
        self.uid = UID
        self.peer: Message = []

    # -- the opening --

    def prove(self) -> None:
        """Hello, and where there is a key both proofs; identities come next."""
        if not self.keyed:
            self.sock.sendall(HELLO)
            assert self.take(len(HELLO)) == HELLO
            return
        key = self._key or user_key()
        nonce = os.urandom(NONCE_SIZE)
        self.sock.sendall(HELLO + nonce)
        assert self.take(len(HELLO)) == HELLO
        theirs = self.take(NONCE_SIZE)
        first, second = (theirs, nonce) if self.accepts else (nonce, theirs)

        def proof(role: bytes) -> bytes:
            return hmac.digest(key, HELLO + role + first + second, "sha256")

        if self.accepts:
            assert self.take(PROOF_SIZE) == proof(b"C")
            self.sock.sendall(proof(b"A"))
        else:
            self.sock.sendall(proof(b"C"))
            assert self.take(PROOF_SIZE) == proof(b"A")

    def identify(self, uid: tuple[str, str] = UID, pid: int | None = None, *more: Any) -> Message:
        """Exchange identities: as ``uid``; returns the peer's."""
        self.uid = uid
        self.send([AID, *uid, os.getpid() if pid is None else pid, *more])
        self.peer = self.recv()
        assert self.peer[0] == AID, self.peer
        return self.peer

    def open(self, uid: tuple[str, str] = UID) -> RawPeer:
        """All of the opening."""
        self.prove()
        self.identify(uid)
        return self

    # -- bytes and messages --

    def send(self, *messages: Any) -> None:
        """Send whole messages."""
        self.sock.sendall(frame(*messages))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def pour(self, data: bytes, seconds: float = 10.0) -> int:
        """Send as much as the peer takes, until it takes nothing for 0.3 s or has closed; returns how much."""
        end = time.monotonic() + seconds
        sent = 0
        view = memoryview(data)
        self.sock.settimeout(0.3)
        try:
            while sent < len(data) and time.monotonic() < end:
                sent += self.sock.send(view[sent : sent + 262_144])
        except OSError:
            # A time-out, or a reset.
            pass
        finally:
            self.sock.settimeout(20.0)
        return sent

    def take(self, size: int) -> bytes:
        """So many bytes.  Raises ConnectionError: it has closed before."""
        while len(self._got) < size:
            data = self.sock.recv(1 << 18)
            if not data:
                raise ConnectionError(f"closed after {bytes(self._got)[:80]!r}")
            self._got += data
        out = bytes(self._got[:size])
        del self._got[:size]
        return out

    def recv(self) -> Message:
        """The next message.  Raises ConnectionError: it has closed."""
        (size,) = struct.unpack("<I", self.take(4))
        message: Message = decode(self.take(size))
        return message

    def answer(self, cid: int) -> Message:
        """The next message of that dialog, other ones being dropped; ``[]``: it has closed."""
        try:
            while cid_of(message := self.recv()) != cid:
                pass
        except ConnectionError:
            return []
        return message

    def end(self, cid: int) -> Message:
        """The result or error of that dialog; ``[]``: the peer has closed."""
        while (message := self.answer(cid)) and message[0] not in (RETURN, ERROR):
            pass
        return message

    def call(self, cid: int, ns: str, func: str, **kwargs: Any) -> Message:
        """A request, and its answer; ``[]``: it has closed."""
        try:
            self.send(start(cid, ns, func, kwargs, uid=self.uid))
        except ConnectionError:
            return []
        return self.end(cid)

    def is_closed(self, within: float = 10.0) -> bool:
        """Whether the peer closes in time; what it still says is dropped."""
        end = time.monotonic() + within
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                return False
            try:
                if not self.sock.recv(1 << 18):
                    return True
            except ConnectionError:
                return True
        return False

    def close(self) -> None:
        """Hang up."""
        self.sock.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def listen(proto: str, directory: str) -> tuple[socket.socket, Address]:
    """A listener, and its address as an actor knows it."""
    if proto == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        host, port = server.getsockname()
        return server, (host, port)
    name = f"raw-{os.urandom(4).hex()}.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.join(directory, name))
    server.listen()
    return server, (directory, name)
