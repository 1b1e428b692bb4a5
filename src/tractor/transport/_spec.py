"""The record that describes a transport, built in or of another package."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from tractor.address._types import Address
from tractor.transport._stream import MsgpackTransport


def _nothing() -> None:
    """The clean-up of a listener that leaves nothing behind."""


class Listener(msgspec.Struct, frozen=True, eq=False):
    """A bound address that accepts.

    Attributes:
        sock: bound, listening and non-blocking; closed by its endpoint.
        addr: the address that was really bound, such as the port that the system picked.
        clean_up: called once, right before the socket is closed: removes what binding has left in the file system.
            It must neither wait nor raise, and may be called outside of ``trio.run``.
    """

    sock: socket.socket
    addr: Address
    clean_up: Callable[[], None] = _nothing


class WrapSocket(Protocol):
    """Makes a transport of a connected socket."""

    def __call__(
        self, sock: socket.socket, local: Any, max_frame_size: int, /
    ) -> MsgpackTransport: ...


class TransportSpec(msgspec.Struct, frozen=True, eq=False):
    """One transport: what the runtime must know to connect, listen and accept over it.

    A package adds a transport by an entry point of the group ``tractor.transports`` whose name is the transport's
    key and whose value names an instance of this class.  It is loaded when that key is first met: in
    ``enable_transports``, or in an address.  The built-in keys can't be replaced.

    Attributes:
        key: lower-case letters, digits, ``_``, ``-`` and ``.``, beginning with a letter; the address class's
            ``proto_key`` and the name of the entry point are the same.
        address_type: the class of its addresses, see :class:`tractor.discovery.Address`: hashable, and equal where
            they name the same place.  An unwrapped one is a pair ``('<key>://<anything>', int or str)``, which is how
            it is recognised wherever it comes from.  It may have a property ``is_loopback``: whether only this
            machine can connect to the address; without, an explicit key is needed to listen.
        stream_type: the class of its transports, a subclass of :class:`tractor.ipc.MsgpackTransport` whose
            ``address_type`` is the one above.
        connect: ``await connect(addr, max_frame_size)`` gives a connected transport; raises OSError where nothing
            accepts.
        bind: ``await bind(addr)`` listens and gives the :class:`Listener`; raises OSError where it can't.
        wrap: ``wrap(sock, local, max_frame_size)`` makes a transport of a connected socket, which it owns when it
            returns and leaves alone when it raises (OSError, TransportClosed); ``local`` is the listener's address,
            ``None`` for a stream that a user has connected.  It does not wait: what takes time belongs into
            ``authenticate`` of the stream class.
        families: socket families whose connected streams are taken to be of this transport by
            ``transport_from_stream``; the built-in transports are asked first.
        authenticates: whether ``connect`` and ``wrap`` (or ``authenticate``) themselves make sure that the peer may
            talk here, as Unix sockets do by asking the kernel.  Where not, which is the default, both sides prove the
            tree's key as on TCP before any message is decoded.
    """

    key: str
    address_type: type[Address]
    stream_type: type[MsgpackTransport]
    connect: Callable[[Any, int], Awaitable[MsgpackTransport]]
    bind: Callable[[Any], Awaitable[Listener]]
    wrap: WrapSocket
    families: tuple[int, ...] = ()
    authenticates: bool = False
