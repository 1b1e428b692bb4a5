"""TCP: between hosts, and on one host where there are no Unix sockets."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import Any, ClassVar

import trio

from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.address._hosts import plain_ip
from tractor.address._types import TCPAddress
from tractor.transport._silence import is_silent, limit_probe_pause, watch_silence
from tractor.transport._sockio import SocketIO, connect_socket
from tractor.transport._stream import MsgpackTransport

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted; it may keep fewer.  Who comes when it is full tries again
after a second."""

# A host that vanishes without a word is a lost peer after about 20 s; while bytes are under way `_silence.py` finds it.
KEEPALIVE_IDLE = 10
KEEPALIVE_INTERVAL = 5
KEEPALIVE_TRIES = 2


class MsgpackTCPStream(MsgpackTransport):
    """msgpack over TCP."""

    address_type: ClassVar[type[TCPAddress]] = TCPAddress

    @classmethod
    async def connect_to(
        cls, addr: TCPAddress, *, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    ) -> MsgpackTCPStream:
        """Connect; see :func:`connect_tcp`."""
        return await connect_tcp(addr, max_frame_size=max_frame_size)

    has_watch: ClassVar[bool] = True

    async def watch(self) -> None:
        """Give the connection up when the peer's host has vanished while bytes are under way."""
        self.give_up(await watch_silence(self._sock))

    def is_unheard(self, limit: float) -> bool:
        """Whether the peer's host has acknowledged nothing of what is due for ``limit`` seconds; known on Linux."""
        if sys.platform != "linux":
            return False
        try:
            return is_silent(self._sock, limit)
        except OSError:
            # Closed; its reader knows.
            return False

    @property
    def _sock(self) -> socket.socket:
        # What is below TLS has one, too.
        sock: socket.socket = getattr(self.io, "sock")  # noqa: B009
        return sock

    @classmethod
    def get_stream_addrs(cls, stream: trio.SocketStream) -> tuple[TCPAddress, TCPAddress]:
        """The local and the peer's address of a connected stream."""
        return tcp_addresses(stream.socket)


def tcp_addresses(
    sock: socket.socket | trio.socket.SocketType,
) -> tuple[TCPAddress, TCPAddress]:
    """The local and the peer's address of a connected socket.  Raises OSError: the peer has gone already."""
    return tcp_addr(sock.getsockname()), tcp_addr(sock.getpeername())


def tcp_addr(sockaddr: tuple[Any, ...]) -> TCPAddress:
    """The address that the system means by a socket's address."""
    host, port = sockaddr[:2]
    if len(sockaddr) == 4 and sockaddr[3]:
        # A link-local address means nothing without its interface.
        host = f"{host}%{socket.if_indextoname(sockaddr[3])}"
    return TCPAddress(host, port)


def tune_tcp(sock: socket.socket) -> None:
    """No delay for small frames; keepalive so that a vanished host is noticed."""
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_TRIES),
    ]
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            # A platform may define an option that its kernel refuses; none of them is vital.
            with contextlib.suppress(OSError):
                sock.setsockopt(level, number, value)
    limit_probe_pause(sock)


def tcp_from_socket(sock: socket.socket, *, max_frame_size: int) -> MsgpackTCPStream:
    """A transport over a connected socket.

    Raises:
        OSError: the peer has gone already.
    """
    laddr, raddr = tcp_addresses(sock)
    tune_tcp(sock)
    return MsgpackTCPStream(SocketIO(sock), laddr, raddr, max_frame_size=max_frame_size)


async def connect_tcp(addr: TCPAddress, *, max_frame_size: int) -> MsgpackTCPStream:
    """Connect in plain; raises as :func:`open_tcp`."""
    sock = await open_tcp(addr)
    try:
        return tcp_from_socket(sock, max_frame_size=max_frame_size)
    except BaseException:
        sock.close()
        raise


async def open_tcp(addr: TCPAddress) -> socket.socket:
    """A connected socket; a DNS name is resolved now, and its addresses are tried in order.

    Raises:
        OSError: the name does not resolve (socket.gaierror), or nothing accepts there.
    """
    failure: OSError | None = None
    for family, _, _, _, sockaddr in await trio.socket.getaddrinfo(
        addr.host, addr.port, type=socket.SOCK_STREAM
    ):
        try:
            return await connect_socket(family, sockaddr)
        except OSError as exc:
            failure = exc
    raise failure or ConnectionRefusedError(f"{addr.host!r} has no address to connect to")


async def bind_tcp(addr: TCPAddress) -> socket.socket:
    """A listening, non-blocking socket at the address; port 0 lets the system pick one.

    A DNS name is resolved now; it is the first of its addresses that can be bound, of ``localhost`` a loopback one.

    Raises:
        OSError: the address is in use, or is none of this host's; or the name does not resolve (socket.gaierror).
    """
    failure: OSError | None = None
    for family, _, _, _, sockaddr in await trio.socket.getaddrinfo(
        addr.host, addr.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        found = plain_ip(str(sockaddr[0]).partition("%")[0])
        if addr.is_loopback and not (found is not None and found.is_loopback):
            # That it is loopback is why no key was asked for; a resolver must not be able to open it to others.
            continue
        try:
            return _bind(addr, family, sockaddr)
        except OSError as exc:
            # In use is in use: another address of the name would be another place.
            if exc.errno == errno.EADDRINUSE:
                raise
            failure = failure or exc
    raise failure or OSError(errno.EADDRNOTAVAIL, f"{addr.host!r} has no address to listen on")


def _bind(addr: TCPAddress, family: int, sockaddr: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if socket.has_ipv6 and family == socket.AF_INET6:
            # An IPv4 address in IPv6 clothes ('::ffff:127.0.0.1') is bound as what it is.
            only_v6 = addr.ip is None or addr.ip.version == 6
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        if sys.platform == "win32":
            # There SO_REUSEADDR would let any other process take the port over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(sockaddr)
        except OSError as exc:
            raise OSError(
                exc.errno, f"can't listen on {addr.host}:{addr.port}: {exc.strerror}"
            ) from exc
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
