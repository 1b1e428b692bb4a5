"""The link of an agent that a scheduler has started somewhere: it dials back."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from typing import Any

from tractor.hosts.agent._link import READ_SIZE, Link, Wrapping
from tractor.hosts.agent._main import main, null_device
from tractor.hosts.agent._seal import AGENT, NONCE, PROOF, Seal

TIMEOUT = 15.0
"""Seconds in which the other side must have answered each step of the call."""


def dial(host: str, port: int, token: str, ca: str | None = None, tls: bool = False) -> None:
    """Be an agent over a connection to the side that has made this start; see :mod:`tractor.hosts.agent._seal`.

    Where nobody answers who has the token, the start was withdrawn: the process ends with a line on stderr.

    Args:
        host, port: where it waits.
        token: the start's own, in hexadecimal.
        ca: certificates that vouch for the other side's, in PEM form; ``None``: the system's.
        tls: whether the connection is by TLS.
    """
    try:
        sock = socket.create_connection((host, port), TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outer = Tls(sock, host, ca) if tls else Plain()
        seal = _greeted(sock, outer, bytes.fromhex(token))
    # The errors of TLS are of this kind, too.
    except OSError as exc:
        sys.exit(f"tractor agent: nobody waits for it at {host}:{port} ({exc})")
    sock.setblocking(False)
    fd = sock.detach()
    # Nobody reads what is printed to stdout, and stdin's program has been read.
    null_device(0, 1)
    main(Link(fd, fd, Sealed(seal, outer)))


def _greeted(sock: socket.socket, outer: Wrapping, token: bytes) -> Seal:
    """Prove that this is the start's agent, and have that proven of the other side.  Raises OSError."""
    nonce = os.urandom(NONCE)
    sock.sendall(outer.wrap(nonce))
    answer = bytearray()
    _fill(sock, outer, answer, NONCE)
    seal = Seal(token, AGENT, nonce + answer)
    sock.sendall(outer.wrap(seal.proof))
    # Nothing comes behind it before the agent has spoken.
    _fill(sock, outer, answer, NONCE + PROOF)
    if not seal.is_proven(bytes(answer[NONCE:])):
        raise ConnectionError("who answers does not have the token of this start")
    return seal


def _fill(sock: socket.socket, outer: Wrapping, buffer: bytearray, size: int) -> None:
    while len(buffer) < size:
        data = sock.recv(size)
        if not data:
            raise ConnectionError("it hung up")
        buffer += outer.unwrap(data)


class Plain:
    """No layer."""

    def wrap(self, data: bytes) -> bytes:
        """As it is."""
        return data

    def unwrap(self, data: bytes) -> bytes:
        """As it is."""
        return data


class Tls:
    """The layer of TLS, once its handshake is done.  Raises OSError: it fails, or the certificate is another's."""

    def __init__(self, sock: socket.socket, host: str, ca: str | None) -> None:
        # A fifth of the agent's start, where nobody needs it.
        ssl: Any = importlib.import_module("ssl")
        self._wants_more = ssl.SSLWantReadError
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cadata=ca)
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(self._out.read())
                data = sock.recv(READ_SIZE)
                if not data:
                    raise ConnectionError("it hung up within the handshake of TLS") from None
                self._in.write(data)
        sock.sendall(self._out.read())

    def wrap(self, data: bytes) -> bytes:
        """Bytes as they travel."""
        at = 0
        while at < len(data):
            at += self._tls.write(data[at:])
        return bytes(self._out.read())

    def unwrap(self, data: bytes) -> bytes:
        """What is whole by now.  Raises OSError: it was changed."""
        self._in.write(data)
        found = bytearray()
        try:
            while chunk := self._tls.read(READ_SIZE):
                found += chunk
        except self._wants_more:
            pass
        return bytes(found)


class Sealed:
    """Records within another layer."""

    def __init__(self, seal: Seal, outer: Wrapping) -> None:
        self._seal, self._outer = seal, outer

    def wrap(self, data: bytes) -> bytes:
        """Bytes as they travel."""
        return self._outer.wrap(self._seal.seal(data))

    def unwrap(self, data: bytes) -> bytes:
        """What is whole by now.  Raises ValueError, OSError: it was changed."""
        return self._seal.open(self._outer.unwrap(data))
