"""The link of an agent that an engine has started somewhere: it dials back."""

from __future__ import annotations

import socket
import sys

from tractor.hosts.agent._link import Link
from tractor.hosts.agent._main import main, null_device

TIMEOUT = 15.0
"""Seconds in which the other side must have answered the call."""


def dial(host: str, port: int, token: str) -> None:
    """Be an agent over a connection whose first line says, by a one-time token, which start it belongs to.

    Where nobody answers, the start was withdrawn: the process ends with a line on stderr.
    """
    try:
        sock = socket.create_connection((host, port), TIMEOUT)
    except OSError as exc:
        sys.exit(f"tractor agent: nobody waits for it at {host}:{port} ({exc})")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A new connection's buffer takes a line at once.
    sock.sendall(token.encode() + b"\n")
    sock.setblocking(False)
    fd = sock.detach()
    # Nobody reads what is printed to stdout, and stdin's program has been read.
    null_device(0, 1)
    main(Link(fd, fd))
