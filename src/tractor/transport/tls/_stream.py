"""TCP inside TLS: between hosts whose network is not to be trusted."""

from __future__ import annotations

import socket
import ssl

import trio

from tractor._errors import TransportClosed
from tractor._proto.connection.auth import Handshake
from tractor.address._hosts import plain_ip
from tractor.address._types import Address, TCPAddress
from tractor.msg.types import MsgType
from tractor.transport._contract import ByteIO
from tractor.transport._settings import wire_settings
from tractor.transport._sockio import SocketIO
from tractor.transport._tcp import MsgpackTCPStream, open_tcp, tcp_addresses, tune_tcp
from tractor.transport.tls._io import TLSIO
from tractor.transport.tls._words import why_tls_failed


class MsgpackTLSStream(MsgpackTCPStream):
    """msgpack over TLS over TCP; its addresses and its key are those of TCP.

    Args:
        io: the pipe that carries the ciphertext.
        context: for this side of a connection.
        server_hostname: the connecting side: what the peer's certificate must be valid for; ``None``: the other side.
        laddr, raddr: the local and the peer's address.
        max_frame_size: bytes; bound for one message, both ways.
    """

    def __init__(
        self,
        io: ByteIO,
        context: ssl.SSLContext,
        server_hostname: str | None,
        laddr: Address,
        raddr: Address,
        *,
        max_frame_size: int,
    ) -> None:
        self._tls = TLSIO(io, context, server_hostname)
        self._host = server_hostname
        self._secured = False
        super().__init__(self._tls, laddr, raddr, max_frame_size=max_frame_size)

    async def secure(self) -> None:
        """Carry out the TLS handshake, unless that was done.

        Raises:
            TransportClosed: the peer failed it or refused this side, or left; the connection is closed.
        """
        if self._secured:
            return
        try:
            await self._tls.handshake()
        except OSError as exc:
            raise self._fail(f"the TLS handshake failed: {self._why(exc)}", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._fail("the connection was closed on this side", exc) from exc
        self._secured = True

    async def authenticate(self, machine: Handshake, early: MsgType | None = None) -> None:
        """The TLS handshake, then the opening exchange inside of it; see :meth:`MsgpackTransport.authenticate`.

        From TLS 1.3 on the acceptor checks the other side's certificate when that takes the handshake for done.
        """
        await self.secure()
        try:
            await super().authenticate(machine, early)
        except TransportClosed as exc:
            if isinstance(exc.src_exc, ssl.SSLError):
                why = self._why(exc.src_exc)
                raise self._fail(f"the TLS handshake failed: {why}", exc.src_exc) from exc.src_exc
            raise

    def _why(self, exc: OSError) -> str:
        config = wire_settings().tls
        return why_tls_failed(exc, self._tls.first, self._host, config.cafile if config else None)


def tls_from_socket(
    sock: socket.socket,
    context: ssl.SSLContext,
    server_hostname: str | None = None,
    *,
    max_frame_size: int,
) -> MsgpackTLSStream:
    """A transport over a connected socket, whose TLS handshake is still to come.

    Raises:
        OSError: the peer has gone already.
    """
    laddr, raddr = tcp_addresses(sock)
    tune_tcp(sock)
    return MsgpackTLSStream(
        SocketIO(sock), context, server_hostname, laddr, raddr, max_frame_size=max_frame_size
    )


async def connect_tls(
    addr: TCPAddress, context: ssl.SSLContext, *, max_frame_size: int
) -> MsgpackTLSStream:
    """Connect; the TLS handshake comes with ``authenticate``, which is bounded by its caller.

    Raises:
        OSError: the name does not resolve (socket.gaierror), or nothing accepts there.
    """
    sock = await open_tcp(addr)
    try:
        return tls_from_socket(sock, context, _certified(addr.host), max_frame_size=max_frame_size)
    except BaseException:
        sock.close()
        raise


def _certified(host: str) -> str:
    """The host as certificates name it.

    That is without the dot of an absolute DNS name, or an IPv6 address's interface; and an IPv4 address mapped into
    IPv6 is the IPv4 one.
    """
    ip = plain_ip(host)
    return host.removesuffix(".") if ip is None else str(ip).partition("%")[0]
