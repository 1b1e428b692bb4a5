"""Asking a child's control socket for the other side: a child whose event loop is blocked says by it what it does.

The agent waits for none of that: a look is a connection beside the others of its loop, with a limit.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from tractor.hosts.agent._facts import lease_clock

MOST = 16
"""Looks at a time."""

MAX_ANSWER = 900 * 1024
"""Bytes of an answer: with what is around it, it is one frame."""

LONGEST = 30.0
"""Seconds of a look."""


class Look:
    """One question to a child, until it is answered, or refused.

    Args:
        number: what the other side calls it.
        sock: connected to the child's control socket; the question was sent.
        limit: seconds for the answer.

    Attributes:
        fd: readable when there is something to take.
        ends_at: when it is given up.
    """

    def __init__(self, number: int, sock: socket.socket, limit: float) -> None:
        self.number = number
        self.fd = sock.fileno()
        self.ends_at = lease_clock() + limit
        self._sock = sock
        self._line = bytearray()

    def read(self) -> dict[str, Any] | None:
        """Take what there is; the answer, once it is whole."""
        try:
            data = self._sock.recv(256 * 1024)
        except BlockingIOError:
            return None
        except OSError as exc:
            return {"error": f"its control socket failed: {exc}"}
        if not data:
            return {"error": "it has hung up"}
        self._line += data
        if len(self._line) > MAX_ANSWER:
            return {"error": f"its answer has more than {MAX_ANSWER} bytes"}
        if not self._line.endswith(b"\n"):
            return None
        try:
            return {"error": "", "answer": json.loads(self._line)}
        except (ValueError, RecursionError) as exc:
            return {"error": f"its answer is no JSON: {exc}"}

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


def open_look(
    number: int, pid: int, request: dict[str, Any], limit: float, dirs: Sequence[str]
) -> Look:
    """Connect to the control socket of a child, and ask.

    Args:
        number: what the other side calls the look.
        pid: the child's.
        request: what is asked.
        limit: seconds for the answer.
        dirs: where its runtime directory may be, beside the usual places.

    Raises:
        OSError: nobody listens there.
        ValueError: the question is none.
    """
    line = json.dumps(request, allow_nan=False).encode() + b"\n"
    for path in _sockets_of(pid, dirs):
        sock = socket.socket(socket.AF_UNIX)  # type: ignore[attr-defined, unused-ignore]
        try:
            sock.setblocking(False)
            sock.connect(path)
            # A file may be another one's, of a pid that was used before.
            if _listener_of(sock) not in (None, pid):
                sock.close()
                continue
            if sock.send(line) != len(line):
                raise ValueError(f"a question of {len(line)} bytes is too long")
        except BaseException:
            sock.close()
            raise
        return Look(number, sock, min(limit, LONGEST))
    raise OSError(errno.ENOENT, "it has no control socket there")


def _sockets_of(pid: int, dirs: Sequence[str]) -> list[str]:
    uid = os.getuid()  # type: ignore[attr-defined, unused-ignore]
    tops = [*dirs, os.environ.get("XDG_RUNTIME_DIR", "") + "/tractor"]
    tops += [f"/run/user/{uid}/tractor", f"/tmp/tractor-{uid}"]
    return [
        path
        for top in dict.fromkeys(tops)
        if top.startswith("/")
        for path in glob.glob(f"{glob.escape(top)}/control/*@{pid}.sock")
    ]


def _listener_of(sock: socket.socket) -> int | None:
    number = getattr(socket, "SO_PEERCRED", None)
    if number is None:
        return None
    size = struct.calcsize("3i")
    pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, number, size))[0]
    return pid
