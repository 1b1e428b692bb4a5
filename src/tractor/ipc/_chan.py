"""One connection to one peer actor, carrying many dialogs."""

from __future__ import annotations

import itertools
import math
import os
import socket
import warnings
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

import msgspec
import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.connection.auth import Handshake, Role
from tractor._util._names import is_presentable
from tractor._util._waiters import Waiters
from tractor.address._policy import require_connectable
from tractor.address._types import Addr, Address, UDSAddress
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._codec import MsgCodec, apply_codec
from tractor.msg.types import Aid, MsgType, Uid
from tractor.process._state import ProcessVar
from tractor.process.host._host_id import host_id, is_here
from tractor.transport._addresses import wrap_address
from tractor.transport._settings import wire_settings
from tractor.transport._stream import MsgpackTransport, MsgTransport
from tractor.transport._table import needs_key, transport_of, transport_of_stream
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()

_plain_encoder = msgspec.msgpack.Encoder()

_numbers = ProcessVar(lambda: itertools.count(1))
"""Of the channels that this process connects."""


class PeerProcess(Protocol):
    """What is known of the process at the other end of a channel, where it is a child of this actor."""

    async def wait_ended(self) -> None:
        """Wait, at most 0.5 s and shielded, until its end is known."""

    def note_loss(self, exc: TransportClosed, what: str) -> None:
        """Add what is known of its end to the error of a dialog with it, ``what``."""


@ki_protected
class Channel:
    """One connection to one peer actor.

    Not built by users: see :meth:`from_addr` and :func:`connect_chan`.  A dialog's id is an integer, unique on
    its channel: odd from the side that connected, even from the side that accepted.

    Attributes:
        transport: the transport below.
    """

    __slots__ = ("__dict__", "__weakref__", "transport")

    def __init__(self, transport: MsgpackTransport, role: Role) -> None:
        self.transport = transport
        self._role: Role = role
        self._last_cid = -1 if role == "connect" else 0
        # With the uuid of the side that has connected it names the channel; that side tells it at the handshake.
        self._number = next(_numbers.value) if role == "connect" else 0
        self.aid: Aid | None = None
        # The secret that came with it, until this actor has compared it.
        self.claim: bytes | None = None
        # The first number that `dialog_of()` counts from; below zero: not known yet.
        self._serial = -1
        # This side's identity as the peer knows it; every request carries it.
        self.local_uid: Uid = ("", "")
        # Who gets what comes.  By `open()` and `forget()`, but where a call's own ends save a call of Python's.
        self.dialogs: dict[int, DialogEnd] = {}
        self.cancel_called = False
        self.process: PeerProcess | None = None
        self._closed = False
        self._authenticated = False
        # For messages sent and received by hand; dialogs have codecs of their own.
        self._codec: MsgCodec | None = None
        # A channel that only keeps a registration alive is no reason to wait for its peer.
        self.is_registration = False
        # It is being looked whether the peer's host is still there.
        self.is_doubted = False
        # Messages for dialogs that have ended; normal after a cancel, worth a look when many.
        self.late_messages = 0
        # Dialogs that this side has opened and the peer serves, and how many of them it serves at a time: with more a
        # call comes after `wait_for_room()`.
        self.opened = 0
        self.may_open: float = math.inf
        self._may_call = Waiters()

    @classmethod
    async def from_addr(cls, addr: Addr) -> Channel:
        """Connect, and prove the key where the transport asks for it; the identity handshake is not done.

        Raises:
            OSError: nothing accepts there.
            TransportClosed: the peer failed the opening exchange.
            RuntimeFailure: the own key, or a file of ``tls``, can't be used.
            TypeError, ValueError: no address.
        """
        chan = cls(await transport_from_addr(addr), "connect")
        try:
            await chan.transport.authenticate(_machine(chan.transport, "connect"))
            chan._authenticated = True
        except BaseException:
            chan.transport.abort()
            raise
        return chan

    @classmethod
    def from_stream(cls, stream: trio.SocketStream) -> Channel:
        """A channel over a connected socket stream, which is used up; ``handshake()`` comes first.

        Raises:
            NotImplementedError: the stream's kind is not one that tractor can frame.
            OSError, TransportClosed: the peer has gone already, or may not talk here; the connection is closed.
        """
        return cls(transport_from_stream(stream), "accept")

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Which side of the connection this is."""
        return self._role

    @property
    def laddr(self) -> Address:
        """The local address."""
        return self.transport.laddr

    @property
    def raddr(self) -> Address:
        """The peer's address."""
        return self.transport.raddr

    @property
    def maddr(self) -> str:
        """The peer's address as a multiaddr string."""
        return self.transport.maddr

    def connected(self) -> bool:
        """Whether both directions are believed to be open."""
        return self.transport.connected()

    @property
    def closed(self) -> bool:
        """Whether this side has closed the channel."""
        return self._closed

    @property
    def peer(self) -> str:
        """The peer in words: its name and pid, or its address before the handshake."""
        return self.aid.reprol(sin_uuid=False) if self.aid else str(self.raddr)

    @property
    def uid(self) -> Uid | None:
        """The outdated name of ``aid.uid``; ``None`` before the handshake."""
        warnings.warn("`Channel.uid` is outdated; use `aid.uid`", DeprecationWarning, stacklevel=2)
        return self.aid.uid if self.aid is not None else None

    @property
    def msgstream(self) -> MsgTransport:
        """The outdated name of ``transport``."""
        warnings.warn(
            "`Channel.msgstream` is outdated; use `transport`", DeprecationWarning, stacklevel=2
        )
        return self.transport

    def pformat(self) -> str:
        """A description on one line."""
        state = "closed" if self._closed else "open" if self.connected() else "lost"
        return f"<Channel to {self.peer} over {self.raddr.proto_key}: {state}, {len(self.dialogs)} dialogs>"

    __repr__ = pformat

    def statistics(self) -> ChannelStatistics:
        """A frozen record of plain values."""
        return ChannelStatistics(
            dialogs=len(self.dialogs),
            sent=self.transport.sent,
            received=self.transport.received,
            unsent_bytes=self.transport.unsent,
            late_messages=self.late_messages,
        )

    # -- messages -------------------------------------------------------------------------------------

    def new_cid(self) -> int:
        """A dialog id that was never used on this channel."""
        self._last_cid += 2
        return self._last_cid

    def dialog_of(self, cid: int) -> tuple[str, int]:
        """What names a dialog beyond this channel: who has opened it, and a number; equal at both ends.

        The number is made of what both ends know, so that nothing has to travel for it.
        """
        own, peer = self.local_uid[1], self.aid.uuid if self.aid is not None else ""
        connected = self._role == "connect"
        if self._serial < 0:
            by = own if connected else peer
            self._serial = (zlib.crc32(f"{by}/{self._number}".encode()) & 0x7FFFFFFF) << 21
        return own if bool(cid & 1) is connected else peer, self._serial + cid

    def open(self, end: DialogEnd, cid: int | None = None) -> int:
        """Have ``end`` get the messages of a dialog, which the peer has opened as ``cid``, or of a new one; its id."""
        if cid is None:
            self._last_cid += 2
            cid = self._last_cid
        self.dialogs[cid] = end
        return cid

    def forget(self, cid: int) -> None:
        """A dialog is over here: what comes for it is late.  Idempotent."""
        self.dialogs.pop(cid, None)

    def tell(self, msg: MsgType, now: bool = False) -> None:
        """Send a message if the peer is there; one that is gone gets none, and the channel's reader ends the dialogs.

        Args:
            msg: the message.
            now: it is written before this returns; else it may be gathered with what follows.

        Raises:
            MessagingError: the message is over the frame limit; nothing was sent.
            TypeError: it can't be encoded; nothing was sent.
        """
        try:
            if now:
                self.transport.put_now(msg)
            else:
                self.transport.put(msg)
        except TransportClosed as exc:
            log.transport("%s could not be told %s: %s", self.peer, type(msg).__name__, exc)

    def set_room(self, dialogs: int) -> None:
        """Note how many dialogs of this side the peer serves at a time."""
        self.may_open = dialogs

    async def wait_for_room(self) -> None:
        """Wait until the peer serves another dialog of this side; for calls, which can."""
        while self.opened >= self.may_open and self.connected():
            await self._may_call.park()

    def note_closed(self) -> None:
        """A dialog that this side had opened is over."""
        self.opened -= 1
        if self._may_call:
            self._may_call.wake()

    async def send(self, msg: MsgType, hide_tb: bool = True) -> None:
        """Send one message.

        Args:
            msg: the message.
            hide_tb: hide the runtime's frames in a traceback.

        Raises:
            TransportClosed: the connection is gone.
            MessagingError: the message is over the frame limit; nothing was written.
            TypeError: the message can't be encoded; nothing was written.
            RuntimeError: the peer still has to prove the key: see :meth:`handshake`.
        """
        __tracebackhide__ = hide_tb
        self._require_proof()
        self._require_open("send")
        await self.transport.send(msg, None if self._codec is None else self._codec.enc)

    async def recv(self) -> MsgType:
        """The next message.

        Raises:
            TransportClosed: the connection has ended, however that came.
            msgspec.ValidationError: the message is not one of the applied codec's; the channel lives on.
            RuntimeError: the peer still has to prove the key: see :meth:`handshake`.
        """
        self._require_proof()
        self._require_open("recv")
        return self._by_codec(await self.transport.recv())

    def __aiter__(self) -> AsyncIterator[MsgType]:
        return self

    async def __anext__(self) -> MsgType:
        self._require_proof()
        return self._by_codec(await anext(self.transport))

    def _require_proof(self) -> None:
        """Keep messages by hand off a peer that may be anyone.  Raises RuntimeError."""
        if not self._authenticated and _is_keyed(self.transport):
            raise RuntimeError(
                f"the peer at {self.raddr} has not proven the key yet: await `handshake()` before messages"
            )

    def _require_open(self, what: str) -> None:
        """Log a use after the close on this side, which the transport then raises for."""
        if self._closed:
            log.error("%s() on the channel to %s, which was closed on this side", what, self.peer)

    def _by_codec(self, msg: MsgType) -> MsgType:
        """A message as the applied codec decodes it; without one a payload stays ``msgspec.Raw``."""
        codec = self._codec
        return msg if codec is None else codec.decode(_plain_encoder.encode(msg))

    def apply_codec(self, codec: MsgCodec) -> AbstractContextManager[MsgCodec]:
        """Use ``codec`` for what :meth:`send` and :meth:`recv` carry, for the length of a ``with`` block.

        Dialogs on the channel (calls, contexts) keep the codecs of their own.

        Args:
            codec: made by ``tractor.msg.mk_codec()``.
        """
        return apply_codec(codec, self)

    async def handshake(
        self, aid: Aid, key: bytes | None = None, claim: bytes | None = None
    ) -> Aid:
        """Prove the key where the transport asks for it, then exchange identities: send ours, read the peer's.

        Args:
            aid: this actor's identity.
            key: used instead of the process's own, for tests.
            claim: a subactor's secret, for its parent.

        Returns:
            The peer's identity, also kept as :attr:`aid`.

        Raises:
            TransportClosed: the peer failed, sent something else first, or left; or it is an actor of another host that
                was reached over a socket file, and neither is the other one's child.
            RuntimeFailure: the own key can't be used.
        """
        self.local_uid = aid.uid
        most = wire_settings().limits.max_served
        number = self._number if self._role == "connect" else None
        takes = self.transport.can_share
        aid = msgspec.structs.replace(
            aid, max_served=most, claim=claim, channel=number, shares=takes
        )
        if self._authenticated:
            await self.transport.send(aid)
        else:
            machine = _machine(self.transport, self._role, key)
            await self.transport.authenticate(machine, early=aid)
            self._authenticated = True
        first = await self.transport.recv()
        if not isinstance(first, Aid):
            self.transport.abort()
            raise TransportClosed(
                f"the peer at {self.raddr} began with a {type(first).__name__!r} message instead of its identity"
            )
        most = wire_settings().limits.max_name
        if not is_presentable(first.name, most) or not is_presentable(first.uuid, most):
            self.transport.abort()
            raise TransportClosed(
                f"the peer at {self.raddr} gave a name that is refused: {first.name[:80]!r}; it must be 1 to {most}"
                " bytes of printable text"
            )
        if claim is None and first.claim is None:
            # Between a process and its parent nobody has chosen the way but the parent.
            self._require_same_host(first)
        self.claim = first.claim
        if self._role == "accept" and first.channel is not None:
            self._number = first.channel
        shares = first.shares
        self.aid = first = msgspec.structs.replace(first, claim=None, channel=None, shares=None)
        if first.max_served is not None:
            self.set_room(first.max_served)
        self._share_memory(first, shares)
        return first

    def _share_memory(self, peer: Aid, shares: bool | None) -> None:
        """Hand large messages over in shared memory, where the peer is the process at the other end of the socket."""
        raddr = self.raddr
        if isinstance(raddr, UDSAddress):
            direct = raddr.maybe_pid is not None and raddr.maybe_pid == peer.pid
            may_share = bool(shares) and direct and is_here(peer.host)
            self.transport.share_memory(peer.pid if may_share else None)

    def _require_same_host(self, peer: Aid) -> None:
        """Keep a socket file from leading to another host.  Raises TransportClosed."""
        if isinstance(self.raddr, UDSAddress) and not is_here(peer.host):
            self.transport.abort()
            raise TransportClosed(
                f"{peer.reprol()} at {self.raddr} is on host {peer.host}, and this actor on {host_id()}: Unix sockets, "
                "rings and shared memory are for actors of one host and pid namespace. Connect over TCP, and give "
                "each pid namespace a runtime directory of its own (XDG_RUNTIME_DIR)"
            )

    # -- the end --------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Flush what waits to leave (at most 0.2 s), then close; idempotent."""
        self._closed = True
        await self.transport.aclose()

    async def send_eof(self) -> None:
        """Send what waits to leave, then say that nothing follows; the peer answers by closing."""
        try:
            await self.transport.flush()
            self.transport.io.send_eof()
        except (TransportClosed, OSError) as exc:
            log.transport("the end could not be told to %s: %r", self.peer, exc)

    def abort(self) -> None:
        """Close at once, without flushing; idempotent."""
        self._closed = True
        self.transport.abort()

    def lose_dialogs(self, exc: TransportClosed, most: float = math.inf) -> bool:
        """End dialogs, at most so many, because the connection is gone; whether there are more."""
        while self.dialogs and most > 0:
            _, dialog = self.dialogs.popitem()
            dialog.on_lost(exc)
            most -= 1
        self._may_call.wake_all()
        return bool(self.dialogs)

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None
    ) -> None:
        await self.aclose()


class ChannelStatistics(msgspec.Struct, frozen=True):
    """Counters of one channel."""

    dialogs: int
    sent: int
    received: int
    unsent_bytes: int
    late_messages: int


def _is_keyed(transport: MsgTransport) -> bool:
    """Whether the peer has to prove the key; else the kernel, or the transport itself, vouches for it."""
    in_memory = getattr(transport, "in_memory", False)
    return not in_memory and needs_key(transport.address_type.proto_key)


def _machine(transport: MsgTransport, role: Role, key: bytes | None = None) -> Handshake:
    """The opening exchange for a transport: only the version where it makes sure of the peer, else the key's proof."""
    if not _is_keyed(transport):
        return Handshake(role, None, b"")
    return Handshake(
        role, key if key is not None else wire_settings().connection_key(), os.urandom(32)
    )


async def transport_from_addr(addr: Addr) -> MsgpackTransport:
    """Connect to an address.

    Raises:
        OSError: nothing accepts there.
        TransportClosed: the listener is another user (UDS).
        RuntimeFailure: a file of ``tls`` can't be used.
        TypeError, ValueError: no address, or one that can't be connected to.
        NotImplementedError: a transport that this platform does not have.
        ImportError: another package's transport, which can't be loaded.
    """
    target = wrap_address(addr)
    require_connectable(target)
    return await transport_of(target).connect(target, wire_settings().limits.max_frame_size)


def transport_from_stream(stream: trio.SocketStream) -> MsgpackTransport:
    """A transport over a connected socket stream, which is used up.

    Raises:
        NotImplementedError: the stream's kind is not one that tractor can frame.
        OSError, TransportClosed: the peer has gone already, or may not talk here; the connection is closed.
    """
    spec = transport_of_stream(stream)
    sock = socket.socket(fileno=stream.socket.detach())
    try:
        return spec.wrap(sock, None, wire_settings().limits.max_frame_size)
    except BaseException:
        sock.close()
        raise


@ki_protected_manager
async def connect_chan(addr: Addr, close_timeout: float | None = None) -> AsyncIterator[Channel]:
    """Connect for the length of the block; the identity handshake is not done.

    Args:
        addr: where to connect to.
        close_timeout: seconds that the close may take; ``None``: its own bound of 0.2.

    Raises:
        OSError: nothing accepts there.
        TransportClosed: the peer failed the opening exchange.
        RuntimeFailure: the own key, or a file of ``tls``, can't be used.
    """
    chan = await Channel.from_addr(addr)
    try:
        yield chan
    finally:
        with trio.CancelScope(shield=True) as scope:
            if close_timeout is not None:
                scope.deadline = trio.current_time() + close_timeout
            await chan.aclose()
        chan.abort()
