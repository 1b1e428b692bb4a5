"""The table of transports: everything that is done to an address or a stream by its kind is looked up here."""

from __future__ import annotations

import socket
from typing import Any

import trio

from tractor.address._policy import HAS_UDS, Address, TCPAddress
from tractor.address._types import transport_keys
from tractor.transport._plugins import load_plugin, loaded_plugins
from tractor.transport._settings import wire_settings
from tractor.transport._spec import Listener, TransportSpec
from tractor.transport._tcp import (
    MsgpackTCPStream,
    bind_tcp,
    connect_tcp,
    tcp_addr,
    tcp_from_socket,
)
from tractor.transport._uds import UDS
from tractor.transport.tls._stream import connect_tls, tls_from_socket

__all__ = ["needs_key", "transport_by_key", "transport_of", "transport_of_stream"]


async def _connect_tcp(addr: TCPAddress, max_frame_size: int) -> MsgpackTCPStream:
    contexts = wire_settings().connection_tls()
    if contexts is None:
        return await connect_tcp(addr, max_frame_size=max_frame_size)
    return await connect_tls(addr, contexts.connect, max_frame_size=max_frame_size)


async def _listen_tcp(addr: TCPAddress) -> Listener:
    # Unusable certificates are found before anything is bound.
    wire_settings().tls_contexts()
    sock = await bind_tcp(addr)
    return Listener(sock, tcp_addr(sock.getsockname()))


def _wrap_tcp(
    sock: socket.socket, local: TCPAddress | None, max_frame_size: int, /
) -> MsgpackTCPStream:
    contexts = wire_settings().tls_contexts()
    if contexts is None:
        return tcp_from_socket(sock, max_frame_size=max_frame_size)
    return tls_from_socket(sock, contexts.accept, max_frame_size=max_frame_size)


TCP = TransportSpec(
    key="tcp",
    address_type=TCPAddress,
    stream_type=MsgpackTCPStream,
    connect=_connect_tcp,
    bind=_listen_tcp,
    wrap=_wrap_tcp,
    families=(socket.AF_INET, socket.AF_INET6),
)
"""TCP, inside TLS where the tree's settings say so."""

_BUILT_IN: dict[str, TransportSpec] = {"tcp": TCP, **({"uds": UDS} if HAS_UDS else {})}


def transport_by_key(key: str) -> TransportSpec:
    """The transport with that key, built in or of another package.

    Raises:
        NotImplementedError: there is none on this platform.
        ImportError: another package has it, but it can't be loaded.
    """
    spec = _BUILT_IN.get(key) or load_plugin(key)
    if spec is None:
        raise NotImplementedError(
            f"no transport {key!r} on this platform: known are {transport_keys()}"
        )
    return spec


def transport_of(addr: Address) -> TransportSpec:
    """The transport of a wrapped address.  Raises as :func:`transport_by_key`."""
    return transport_by_key(addr.proto_key)


def transport_of_stream(stream: trio.SocketStream) -> TransportSpec:
    """The transport of a connected stream, by the family of its socket.

    Raises:
        NotImplementedError: it has no socket, or one of a family that no transport in use claims.
    """
    sock: Any = getattr(stream, "socket", None)
    family = getattr(sock, "family", None)
    if family is not None:
        for spec in (*_BUILT_IN.values(), *loaded_plugins()):
            if family in spec.families:
                return spec
    raise NotImplementedError(f"no transport for a {type(stream).__name__!r} ({family!r})")


def needs_key(key: str) -> bool:
    """Whether peers over the transport ``key`` prove the tree's key.  Raises as :func:`transport_by_key`."""
    return not transport_by_key(key).authenticates
