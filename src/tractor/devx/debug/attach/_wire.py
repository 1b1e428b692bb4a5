"""Between an actor and the terminal that is attached to it: one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

MAX_LINE = 2**20
"""Bytes."""

SEND_LIMIT = 10
"""Seconds after which a peer that does not read counts as gone."""


class Wire:
    """A connected socket; may be sent to from any thread, and read in one.

    A peer that is gone is the end of what is read; what is sent to it is dropped.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_LIMIT, 0))
        self._sock = sock
        self._read = bytearray()
        self._sending = threading.Lock()

    def send(self, op: str, **fields: Any) -> bool:
        """Whether it was sent; else the peer is gone, or does not read, and the connection is over."""
        data = json.dumps({"op": op, **fields}).encode("ascii") + b"\n"
        with self._sending:
            try:
                self._sock.sendall(data)
            except OSError:
                self.shut()
                return False
        return True

    def recv(self) -> dict[str, Any] | None:
        """The next message; ``None`` when the peer is gone, or sends what is none."""
        while (end := self._read.find(b"\n")) < 0:
            try:
                more = self._sock.recv(65536)
            except OSError:
                return None
            if not more or len(self._read) + len(more) > MAX_LINE:
                return None
            self._read += more
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def shut(self) -> None:
        """End the connection, so that who reads it, in any thread, meets its end."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; by the thread that reads it."""
        self._sock.close()
