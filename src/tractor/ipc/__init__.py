"""Connections between actors: channels, the server, and the transports below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.address._types import HAS_UDS as HAS_UDS
    from tractor.ipc._chan import Channel as Channel
    from tractor.ipc._chan import connect_chan as connect_chan
    from tractor.ipc._chan import transport_from_addr as transport_from_addr
    from tractor.ipc._chan import transport_from_stream as transport_from_stream
    from tractor.ipc._endpoint import Endpoint as Endpoint
    from tractor.ipc._server import IPCServer as IPCServer
    from tractor.ipc._server import Server as Server
    from tractor.ipc._server import open_ipc_server as open_ipc_server
    from tractor.process._dirs import get_rt_dir as get_rt_dir
    from tractor.shm._array import ShmArray as ShmArray
    from tractor.shm._array import attach_shm_ndarray as attach_shm_ndarray
    from tractor.shm._array import maybe_open_shm_ndarray as maybe_open_shm_ndarray
    from tractor.shm._array import open_shm_ndarray as open_shm_ndarray
    from tractor.shm._int import SharedInt as SharedInt
    from tractor.shm._list import ShmList as ShmList
    from tractor.shm._list import attach_shm_list as attach_shm_list
    from tractor.shm._list import open_shm_list as open_shm_list
    from tractor.shm._token import NDToken as NDToken
    from tractor.shm._token import get_shm_token as get_shm_token
    from tractor.shm.ring._eventfd import EventFD as EventFD
    from tractor.shm.ring._eventfd import close_eventfd as close_eventfd
    from tractor.shm.ring._eventfd import open_eventfd as open_eventfd
    from tractor.shm.ring._eventfd import read_eventfd as read_eventfd
    from tractor.shm.ring._eventfd import write_eventfd as write_eventfd
    from tractor.shm.ring._stream import RBToken as RBToken
    from tractor.shm.ring._stream import RingBuffReceiver as RingBuffReceiver
    from tractor.shm.ring._stream import RingBuffSender as RingBuffSender
    from tractor.shm.ring._stream import open_ringbuf as open_ringbuf
    from tractor.transport._contract import ByteIO as ByteIO
    from tractor.transport._contract import MsgTransport as MsgTransport
    from tractor.transport._memory import MemoryTransport as MemoryTransport
    from tractor.transport._memory import memory_pair as memory_pair
    from tractor.transport._sockio import SocketIO as SocketIO
    from tractor.transport._spec import Listener as Listener
    from tractor.transport._spec import TransportSpec as TransportSpec
    from tractor.transport._stream import MsgpackTransport as MsgpackTransport
    from tractor.transport._tcp import MsgpackTCPStream as MsgpackTCPStream
    from tractor.transport._uds import MsgpackUDSStream as MsgpackUDSStream
    from tractor.transport.tls._config import TLSConfig as TLSConfig

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.process._dirs": ("get_rt_dir",),
        "tractor.address._types": ("HAS_UDS",),
        "tractor.ipc._chan": (
            "Channel",
            "connect_chan",
            "transport_from_addr",
            "transport_from_stream",
        ),
        "tractor.transport._contract": (
            "ByteIO",
            "MsgTransport",
        ),
        "tractor.ipc._endpoint": ("Endpoint",),
        "tractor.shm.ring._eventfd": (
            "EventFD",
            "close_eventfd",
            "open_eventfd",
            "read_eventfd",
            "write_eventfd",
        ),
        "tractor.transport._memory": (
            "MemoryTransport",
            "memory_pair",
        ),
        "tractor.shm.ring._stream": (
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
        "tractor.shm._array": (
            "ShmArray",
            "attach_shm_ndarray",
            "maybe_open_shm_ndarray",
            "open_shm_ndarray",
        ),
        "tractor.shm._int": ("SharedInt",),
        "tractor.shm._list": (
            "ShmList",
            "attach_shm_list",
            "open_shm_list",
        ),
        "tractor.shm._token": (
            "NDToken",
            "get_shm_token",
        ),
        "tractor.transport._sockio": ("SocketIO",),
        "tractor.transport._tcp": ("MsgpackTCPStream",),
        "tractor.transport.tls._config": ("TLSConfig",),
        "tractor.transport._stream": ("MsgpackTransport",),
        "tractor.transport._spec": (
            "Listener",
            "TransportSpec",
        ),
        "tractor.transport._uds": ("MsgpackUDSStream",),
    },
    submodules=("fd_share",),
)
