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
    from tractor.ipc._dirs import get_rt_dir as get_rt_dir
    from tractor.ipc._endpoint import Endpoint as Endpoint
    from tractor.ipc._eventfd import EventFD as EventFD
    from tractor.ipc._eventfd import close_eventfd as close_eventfd
    from tractor.ipc._eventfd import open_eventfd as open_eventfd
    from tractor.ipc._eventfd import read_eventfd as read_eventfd
    from tractor.ipc._eventfd import write_eventfd as write_eventfd
    from tractor.ipc._memory import MemoryTransport as MemoryTransport
    from tractor.ipc._memory import memory_pair as memory_pair
    from tractor.ipc._ringbuf import RBToken as RBToken
    from tractor.ipc._ringbuf import RingBuffReceiver as RingBuffReceiver
    from tractor.ipc._ringbuf import RingBuffSender as RingBuffSender
    from tractor.ipc._ringbuf import open_ringbuf as open_ringbuf
    from tractor.ipc._server import IPCServer as IPCServer
    from tractor.ipc._server import Server as Server
    from tractor.ipc._server import open_ipc_server as open_ipc_server
    from tractor.ipc._shm_array import ShmArray as ShmArray
    from tractor.ipc._shm_array import attach_shm_ndarray as attach_shm_ndarray
    from tractor.ipc._shm_array import maybe_open_shm_ndarray as maybe_open_shm_ndarray
    from tractor.ipc._shm_array import open_shm_ndarray as open_shm_ndarray
    from tractor.ipc._shm_int import SharedInt as SharedInt
    from tractor.ipc._shm_list import ShmList as ShmList
    from tractor.ipc._shm_list import attach_shm_list as attach_shm_list
    from tractor.ipc._shm_list import open_shm_list as open_shm_list
    from tractor.ipc._shm_token import NDToken as NDToken
    from tractor.ipc._shm_token import get_shm_token as get_shm_token
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
        "tractor.ipc._dirs": ("get_rt_dir",),
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
        "tractor.ipc._eventfd": (
            "EventFD",
            "close_eventfd",
            "open_eventfd",
            "read_eventfd",
            "write_eventfd",
        ),
        "tractor.ipc._memory": (
            "MemoryTransport",
            "memory_pair",
        ),
        "tractor.ipc._ringbuf": (
            "RBToken",
            "RingBuffReceiver",
            "RingBuffSender",
            "open_ringbuf",
        ),
        "tractor.ipc._server": (
            "IPCServer",
            "Server",
            "open_ipc_server",
        ),
        "tractor.ipc._shm_array": (
            "ShmArray",
            "attach_shm_ndarray",
            "maybe_open_shm_ndarray",
            "open_shm_ndarray",
        ),
        "tractor.ipc._shm_int": ("SharedInt",),
        "tractor.ipc._shm_list": (
            "ShmList",
            "attach_shm_list",
            "open_shm_list",
        ),
        "tractor.ipc._shm_token": (
            "NDToken",
            "get_shm_token",
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
    submodules=("fd_share",),
)
