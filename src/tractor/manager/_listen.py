"""Sockets that the manager listens on for its services, kept across their restarts and across reloads."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping

from tractor.address._types import TCPAddress, UDSAddress
from tractor.process._stdio import move_above_stdio
from tractor.services.file._tables import ServiceTable
from tractor.transport._addresses import wrap_address
from tractor.transport._uds import bind_uds

BACKLOG = 4096
"""Connections that wait while a service is down, as far as the kernel allows."""


class KeptSockets:
    """Listening sockets by address: a service that is restarted gets the same again, and nobody is refused meanwhile.

    Args:
        handed_down: name and descriptor of sockets that were opened for this process, as systemd does. One is used
            where a service wants its address, or has given its own the same name.
    """

    def __init__(self, handed_down: Iterable[tuple[str, int]] = ()) -> None:
        self._given = [(name, _adopted(fd)) for name, fd in handed_down]
        # By what tells it from others: its address, and where the port is any, whose it is.
        self._socks: dict[tuple[str, ...], socket.socket] = {}
        self._own_files: dict[tuple[str, ...], str] = {}

    def open_for(self, services: Mapping[str, ServiceTable]) -> dict[str, dict[str, int]]:
        """Have a socket for each that the services want.

        Returns:
            By service and name: the descriptor.

        Raises:
            OSError: one can't be had, with its service and address; those that were opened for this call are closed.
        """
        before = set(self._socks)
        found: dict[str, dict[str, int]] = {}
        try:
            for service, table in services.items():
                found[service] = {
                    name: self._get(service, name, addr).fileno()
                    for name, addr in table.listen.items()
                }
        except OSError:
            self._close(set(self._socks) - before)
            raise
        return found

    def keep_only(self, services: Mapping[str, ServiceTable]) -> None:
        """Close those that none of the services wants."""
        wanted = {
            _key(service, name, addr)
            for service, table in services.items()
            for name, addr in table.listen.items()
        }
        self._close(set(self._socks) - wanted)

    def close(self) -> None:
        """Close all, and remove the socket files that were made here.  Idempotent."""
        self._close(set(self._socks))
        for _, sock in self._given:
            sock.close()
        self._given = []

    def _close(self, keys: Iterable[tuple[str, ...]]) -> None:
        for key in keys:
            self._socks.pop(key).close()
            path = self._own_files.pop(key, None)
            if path is not None:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _get(self, service: str, name: str, text: str) -> socket.socket:
        key = _key(service, name, text)
        sock = self._socks.get(key)
        if sock is None:
            addr = wrap_address(text)
            sock = self._taken(name, addr)
            if sock is None:
                try:
                    sock = self._bound(key, addr)
                except OSError as exc:
                    exc.add_note(f"for listen.{name} of service {service!r}, {text}")
                    raise
            self._socks[key] = sock
        return sock

    def _taken(self, name: str, addr: object) -> socket.socket | None:
        """One that was handed down, by its address, else by its name."""
        for fits in (
            lambda given, sock: _is_at(sock, addr),
            lambda given, sock: given == name,
        ):
            for i, (given, sock) in enumerate(self._given):
                if fits(given, sock):
                    del self._given[i]
                    return sock
        return None

    def _bound(self, key: tuple[str, ...], addr: object) -> socket.socket:
        if isinstance(addr, UDSAddress):
            # It replaces a file that a dead process has left.
            sock = bind_uds(addr)
            self._own_files[key] = str(addr.sockpath)
        else:
            assert isinstance(addr, TCPAddress)
            sock = _bind_tcp(addr)
        # Non-blocking or not is of the socket, not of the descriptor: as most programs expect it.
        sock.setblocking(True)
        sock.listen(BACKLOG)
        return _above_stdio(sock)


def _bind_tcp(addr: TCPAddress) -> socket.socket:
    found = socket.getaddrinfo(
        addr.host, addr.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, proto, _, where = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _key(service: str, name: str, text: str) -> tuple[str, ...]:
    addr = wrap_address(text)
    is_any = isinstance(addr, TCPAddress) and addr.port == 0
    return (text, service, name) if is_any else (repr(addr.unwrap()),)


def _above_stdio(sock: socket.socket) -> socket.socket:
    return socket.socket(fileno=move_above_stdio(sock.detach()))


def _adopted(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _is_at(sock: socket.socket, addr: object) -> bool:
    try:
        bound = sock.getsockname()
    except OSError:
        return False
    if isinstance(addr, UDSAddress):
        return bool(bound == str(addr.sockpath))
    return isinstance(addr, TCPAddress) and isinstance(bound, tuple) and bound[:2] == addr.unwrap()
