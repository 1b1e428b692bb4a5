"""Connections between actors: channels, the server, and the transports below."""

from __future__ import annotations

from tractor.ipc._addr import HAS_UDS as HAS_UDS
from tractor.ipc._chan import Channel as Channel
from tractor.ipc._chan import connect_chan as connect_chan
from tractor.ipc._chan import transport_from_addr as transport_from_addr
from tractor.ipc._chan import transport_from_stream as transport_from_stream
from tractor.ipc._memory import MemoryTransport as MemoryTransport
from tractor.ipc._memory import memory_pair as memory_pair
from tractor.ipc._server import Endpoint as Endpoint
from tractor.ipc._server import IPCServer as IPCServer
from tractor.ipc._server import Server as Server
from tractor.ipc._server import open_ipc_server as open_ipc_server
from tractor.ipc._tcp import MsgpackTCPStream as MsgpackTCPStream
from tractor.ipc._transport import MsgTransport as MsgTransport
from tractor.ipc._uds import MsgpackUDSStream as MsgpackUDSStream
