"""The two contracts of a transport: a pipe of bytes, and the transport that carries messages over one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Protocol, runtime_checkable

from tractor.address._types import Address
from tractor.msg.types import MsgType


class ByteIO(Protocol):
    """A non-blocking, bidirectional byte pipe."""

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there, at most ``max_bytes``; ``b''`` at the end; ``None`` when it would block.  Raises OSError."""

    def send_nowait(self, buffers: list[bytes | bytearray | memoryview]) -> int:
        """Write a prefix of the joined buffers; the bytes taken, 0 when it would block.  Raises OSError.

        What was not taken is offered again, unchanged and before anything else: a part of it may be on its way.
        """

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""

    def send_eof(self) -> None:
        """Close the sending half.  Raises OSError."""

    def close(self) -> None:
        """Close at once; idempotent, never raises."""


@runtime_checkable
class MsgTransport(Protocol):
    """What a Channel needs of the transport that it takes."""

    codec_key: ClassVar[str]
    layer_key: ClassVar[int]
    address_type: ClassVar[type[Address]]

    async def send(self, msg: MsgType) -> None:
        """Send one message.  Raises TransportClosed, MessagingError (too large), TypeError (can't be encoded)."""

    async def recv(self) -> MsgType:
        """The next message.  Raises TransportClosed at the end of the stream, however it came."""

    def drain(self) -> list[MsgType]:
        """The messages that have arrived and that nobody took."""

    def __aiter__(self) -> AsyncIterator[MsgType]:
        """Messages until the end; a graceful end stops the iteration."""

    def connected(self) -> bool:
        """Whether both directions are believed to be open."""

    @classmethod
    def key(cls) -> tuple[str, str]:
        """``(codec, protocol)`` of this transport."""

    @classmethod
    async def connect_to(cls, addr: Any) -> MsgTransport:
        """Connect to an address of :attr:`address_type`.  Raises OSError."""

    @classmethod
    def get_stream_addrs(cls, stream: Any) -> tuple[Address, Address]:
        """The local and the peer's address of a connected stream."""

    @property
    def laddr(self) -> Address:
        """The local address."""

    @property
    def raddr(self) -> Address:
        """The peer's address."""

    @property
    def maddr(self) -> str:
        """The peer's address as a multiaddr string."""
