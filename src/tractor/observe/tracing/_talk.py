"""A connection to an actor's control socket that does not block, for who has many."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from tractor.control._protocol import MAX_ANSWER, VERSION, Code, Refusal
from tractor.transport._uds import check_peer_uid, peer_credentials

_NOTHING = msgspec.Raw()


class Line(msgspec.Struct):
    """An answer, or one of those that go on.

    Attributes:
        ok: what it says, as JSON; empty: it is an error.
        error: that.
    """

    v: int
    ok: msgspec.Raw = msgspec.Raw()
    error: dict[str, Any] | None = None


class Talk:
    """A connection.

    Args:
        path: of the socket.

    Attributes:
        sock: to be selected.
        pid: who listens, by the kernel's word.
        is_over: the actor has hung up, or the connection is closed.

    Raises:
        OSError: nobody listens there; BlockingIOError: too many want to connect at once.
        TransportClosed: it is another user's.
    """

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # type: ignore[attr-defined, unused-ignore]
        self.is_over = False
        self._out = bytearray()
        self._line = bytearray()
        self._decoder = msgspec.json.Decoder(Line)
        try:
            self.sock.setblocking(False)
            self.sock.connect(str(path))
            check_peer_uid(self.sock, may_be_anyone=os.geteuid() == 0)  # type: ignore[attr-defined, unused-ignore]
            self.pid = peer_credentials(self.sock)[0]
        except BaseException:
            self.sock.close()
            raise

    def say(self, op: str, **fields: Any) -> None:
        """Make a request."""
        self._out += msgspec.json.encode({"v": VERSION, "op": op, **fields}) + b"\n"
        try:
            while self._out:
                del self._out[: self.sock.send(self._out)]
        except BlockingIOError:
            # A few hundred bytes at a time: it has taken none of those before.
            raise OSError(errno.EAGAIN, "it takes no requests") from None

    def heard(self) -> list[bytes | Refusal]:
        """The answers that have come since, as JSON; sets :attr:`is_over`."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.is_over = True
            return []
        *lines, rest = (self._line + data).split(b"\n") if self._line else data.split(b"\n")
        self._line = bytearray(rest)
        if len(rest) > MAX_ANSWER:
            self.is_over = True
        return [self._read(bytes(line)) for line in lines]

    def _read(self, line: bytes) -> bytes | Refusal:
        try:
            found = self._decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as exc:
            return Refusal(Code.FAILED, f"its answer can't be read: {exc}")
        if found.ok != _NOTHING:
            # A copy: the line goes.
            return bytes(found.ok)
        error = found.error or {}
        code = error.get("code")
        known = Code(code) if code in set(Code) else Code.FAILED
        return Refusal(known, str(error.get("text")))

    def enough(self) -> None:
        """Say that no further request comes."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            # It has hung up; that is read next.
            return

    def close(self) -> None:
        """Hang up."""
        self.is_over = True
        self.sock.close()
