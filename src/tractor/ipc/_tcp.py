"""TCP: the road between hosts, and on one host where there are no Unix sockets."""

from __future__ import annotations

import contextlib
import socket
from typing import ClassVar

import trio

from tractor._proto.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.ipc._addr import TCPAddress
from tractor.ipc._sockio import SocketIO, connect_socket
from tractor.ipc._transport import MsgpackTransport

__all__ = ["MsgpackTCPStream", "bind_tcp", "connect_tcp", "tcp_from_socket"]

BACKLOG = 128

# A host that vanishes without a word is a lost peer after about 20 s.
KEEPALIVE_IDLE = 10
KEEPALIVE_INTERVAL = 5
KEEPALIVE_TRIES = 2
USER_TIMEOUT_MS = 20_000


class MsgpackTCPStream(MsgpackTransport):
    """msgpack over TCP."""

    address_type: ClassVar[type[TCPAddress]] = TCPAddress

    @classmethod
    async def connect_to(
        cls, addr: TCPAddress, *, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    ) -> MsgpackTCPStream:
        """Connect; see :func:`connect_tcp`."""
        return await connect_tcp(addr, max_frame_size=max_frame_size)

    @classmethod
    def get_stream_addrs(cls, stream: trio.SocketStream) -> tuple[TCPAddress, TCPAddress]:
        """The local and the peer's address of a connected stream."""
        return _addresses(stream.socket)


def _addresses(sock: socket.socket | trio.socket.SocketType) -> tuple[TCPAddress, TCPAddress]:
    return TCPAddress(*sock.getsockname()[:2]), TCPAddress(*sock.getpeername()[:2])


def _tune(sock: socket.socket) -> None:
    """No delay for small frames; keepalive so that a vanished host is noticed."""
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", KEEPALIVE_IDLE),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_TRIES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ]
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            # A platform may define an option that its kernel refuses; none of them is vital.
            with contextlib.suppress(OSError):
                sock.setsockopt(level, number, value)


def tcp_from_socket(sock: socket.socket, *, max_frame_size: int) -> MsgpackTCPStream:
    """A transport over a connected socket.

    Raises:
        OSError: the peer has gone already.
    """
    laddr, raddr = _addresses(sock)
    _tune(sock)
    return MsgpackTCPStream(SocketIO(sock), laddr, raddr, max_frame_size=max_frame_size)


async def connect_tcp(addr: TCPAddress, *, max_frame_size: int) -> MsgpackTCPStream:
    """Connect; a DNS name is resolved now, and its addresses are tried in order.

    Raises:
        OSError: the name does not resolve (socket.gaierror), or nothing accepts there.
    """
    failure: OSError | None = None
    for family, _, _, _, sockaddr in await trio.socket.getaddrinfo(
        addr.host, addr.port, type=socket.SOCK_STREAM
    ):
        try:
            sock = await connect_socket(family, sockaddr)
        except OSError as exc:
            failure = exc
            continue
        try:
            return tcp_from_socket(sock, max_frame_size=max_frame_size)
        except BaseException:
            sock.close()
            raise
    raise failure or ConnectionRefusedError(f"{addr.host!r} has no address to connect to")


async def bind_tcp(addr: TCPAddress) -> socket.socket:
    """A listening, non-blocking socket at the address; port 0 lets the system pick one.

    Raises:
        OSError: the address is in use, or is none of this host's.
    """
    found = await trio.socket.getaddrinfo(
        addr.host, addr.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, sockaddr = found[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if socket.has_ipv6 and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "SO_REUSEADDR"):
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
