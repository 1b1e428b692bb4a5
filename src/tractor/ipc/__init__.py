"""Connections between actors: channels, the server, and the transports below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.ipc._addr import HAS_UDS as HAS_UDS
    from tractor.ipc._chan import Channel as Channel
    from tractor.ipc._chan import connect_chan as connect_chan
    from tractor.ipc._chan import transport_from_addr as transport_from_addr
    from tractor.ipc._chan import transport_from_stream as transport_from_stream
    from tractor.ipc._contract import ByteIO as ByteIO
    from tractor.ipc._contract import MsgTransport as MsgTransport
    from tractor.ipc._endpoint import Endpoint as Endpoint
    from tractor.ipc._memory import MemoryTransport as MemoryTransport
    from tractor.ipc._memory import memory_pair as memory_pair
    from tractor.ipc._server import IPCServer as IPCServer
    from tractor.ipc._server import Server as Server
    from tractor.ipc._server import open_ipc_server as open_ipc_server
    from tractor.ipc._sockio import SocketIO as SocketIO
    from tractor.ipc._tcp import MsgpackTCPStream as MsgpackTCPStream
    from tractor.ipc._tls_config import TLSConfig as TLSConfig
    from tractor.ipc._transport import MsgpackTransport as MsgpackTransport
    from tractor.ipc._transport_spec import Listener as Listener
    from tractor.ipc._transport_spec import TransportSpec as TransportSpec
    from tractor.ipc._uds import MsgpackUDSStream as MsgpackUDSStream

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.ipc._addr": ("HAS_UDS",),
        "tractor.ipc._chan": (
            "Channel",
            "connect_chan",
            "transport_from_addr",
            "transport_from_stream",
        ),
        "tractor.ipc._contract": (
            "ByteIO",
            "MsgTransport",
        ),
        "tractor.ipc._endpoint": ("Endpoint",),
        "tractor.ipc._memory": (
            "MemoryTransport",
            "memory_pair",
        ),
        "tractor.ipc._server": (
            "IPCServer",
            "Server",
            "open_ipc_server",
        ),
        "tractor.ipc._sockio": ("SocketIO",),
        "tractor.ipc._tcp": ("MsgpackTCPStream",),
        "tractor.ipc._tls_config": ("TLSConfig",),
        "tractor.ipc._transport": ("MsgpackTransport",),
        "tractor.ipc._transport_spec": (
            "Listener",
            "TransportSpec",
        ),
        "tractor.ipc._uds": ("MsgpackUDSStream",),
    },
)
