"""The listening server of an actor: its endpoints, and the peers that connected to them.

Theory of operation.  One task accepts at each endpoint, and each connection has a task of its own, which first proves
the key and exchanges identities, within a limit.  Until then it is *half open*; of too many of these one is dropped
(`_proto/connection/half_open.py`), so a flood can't keep rightful peers out.  Where the process is out of descriptors
accepting pauses instead of failing, and goes on when a connection has ended.

Channels of one uid stand in the order in which they came.  The first speaks for the uid; a uid is free again when all
its channels have ended.  Whoever waits for a peer or for its departure looks first and waits then, without an await
in between.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor.address._types import Addr, Address, UDSAddress, UnwrappedAddress
from tractor.ipc._chan import Channel
from tractor.ipc._doorstep import Doorstep
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg.types import Aid, Uid
from tractor.process._stat import pid_alive
from tractor.process.host._host_id import host_id
from tractor.transport._addresses import wrap_addresses
from tractor.transport.tls._words import is_tls_mismatch
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a peer has for the key's proof and its identity together."""

MAX_WARNINGS = 16
"""How many kinds of TLS mismatch a server warns of; strangers can make up any number."""

PeerHandler = Callable[[Channel], Awaitable[None]]


class ServerStatistics(msgspec.Struct, frozen=True):
    """Counters of a server."""

    endpoints: int
    peers: int
    accepted: int
    refused: int
    half_open: int = 0
    """Connections that have not yet shown who they are."""


@ki_protected
class Server:
    """Accepts peers on any number of endpoints.

    Args:
        aid: gives this actor's identity.
        handler: runs one peer's channel from after the handshake to its end.
        listener_nursery: hosts the accept loops.
        handler_nursery: hosts one task for each connection.
    """

    def __init__(
        self,
        aid: Callable[[], Aid],
        handler: PeerHandler,
        listener_nursery: trio.Nursery,
        handler_nursery: trio.Nursery,
    ) -> None:
        self._aid = aid
        self._handler = handler
        self._listener_nursery = listener_nursery
        self._handler_nursery = handler_nursery
        self._endpoints: list[Endpoint] = []
        self._peers: dict[Uid, list[Channel]] = {}
        self._arrivals: dict[Uid, trio.Event] = {}
        self._departures = trio.lowlevel.ParkingLot()
        self._shutdown = trio.Event()
        self._shutting_down = False
        self._accepted = 0
        self._refused = 0
        # Told where, and why, when a connection did not become a peer.
        self.on_refused: Callable[..., None] = lambda **_: None
        self._mismatches: set[str] = set()
        self.doorstep = Doorstep()

    # -- listening ------------------------------------------------------------------------------------

    async def listen_on(
        self,
        *,
        accept_addrs: Sequence[Addr] | None = None,
        stream_handler_nursery: trio.Nursery | None = None,
    ) -> list[Endpoint]:
        """Bind and serve addresses; all of them, or none.

        Args:
            accept_addrs: where to listen; ``None``: one random loopback TCP port.
            stream_handler_nursery: hosts these endpoints' connection tasks instead of the server's own.

        Returns:
            The new endpoints, in the order of the addresses; each tells the address that was really bound.

        Raises:
            RuntimeError: the server was shut down.
            RuntimeFailure: an address beyond loopback without an explicit key or TLS.
            TypeError, ValueError: what is not an address, or one that can't be listened on; or a key, or a file of
                ``tls``, that can't be used.
            ConnectionError: a socket file that another process listens on.
            OSError: an address can't be bound; or the key file, or one of ``tls``, can't be read.
        """
        if self._shutting_down:
            raise RuntimeError("this IPC server was shut down; it can't listen again")
        wanted = wrap_addresses(accept_addrs, "accept_addrs")
        endpoints = await bind_endpoints(wanted or [("127.0.0.1", 0)])
        if self._shutting_down:
            for endpoint in endpoints:
                endpoint.close_listener()
            raise RuntimeError("this IPC server was shut down while it was binding its addresses")
        self.serve_endpoints(endpoints, stream_handler_nursery)
        return endpoints

    def serve_endpoints(
        self, endpoints: Sequence[Endpoint], handlers: trio.Nursery | None = None
    ) -> None:
        """Accept peers on endpoints that are bound already."""
        for endpoint in endpoints:
            endpoint.make_room = self.doorstep.make_room
            endpoint.on_starved = self.doorstep.note_starved
            self._endpoints.append(endpoint)
            self._listener_nursery.start_soon(
                self._serve, endpoint, handlers or self._handler_nursery
            )

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, endpoint: Endpoint, handlers: trio.Nursery) -> None:
        try:
            while (sock := await endpoint.accept()) is not None:
                self._accepted += 1
                handlers.start_soon(self._receive_peer, endpoint, sock)
        finally:
            endpoint.close_listener()
            if endpoint in self._endpoints:
                self._endpoints.remove(endpoint)
            if self._shutting_down and not self._endpoints:
                self._shutdown.set()

    @trio.lowlevel.enable_ki_protection
    async def _receive_peer(self, endpoint: Endpoint, sock: socket.socket) -> None:
        """One connection's task: wrap, authenticate, identify, then the handler until the end."""
        try:
            transport = endpoint.wrap(sock)
        except Exception as exc:
            # OSError and TransportClosed mean the peer; but whatever it is, it costs this connection only.
            sock.close()
            if not isinstance(exc, (OSError, TransportClosed)):
                log.exception("a connection at %s can't be used", endpoint.addr)
            self._refuse(endpoint, exc)
            return
        chan = Channel(transport, "accept")
        self.doorstep.add(chan)
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                aid = await chan.handshake((endpoint.aid or self._aid)())
        except trio.TooSlowError:
            chan.abort()
            self._refuse(endpoint, f"no identity within {HANDSHAKE_TIMEOUT} s")
            return
        except TransportClosed as exc:
            chan.abort()
            self._refuse(endpoint, exc)
            return
        except Exception as exc:
            # Whatever a stranger brings about costs its own connection only.
            chan.abort()
            log.exception("the handshake with %s at %s failed here", chan.raddr, endpoint.addr)
            self._refuse(endpoint, exc)
            return
        except BaseException:
            chan.abort()
            raise
        finally:
            self.doorstep.discard(chan)
        if aid.is_probe:
            await chan.aclose()
            return
        if self._is_taken(chan):
            chan.abort()
            self._refuse(endpoint, f"{chan.peer} is connected already, from another process")
            return
        endpoint.peer_tpts[transport.raddr] = transport
        try:
            await self._handler(chan)
        finally:
            # On UDS the connections of one process share an address; the newest is listed.
            if endpoint.peer_tpts.get(transport.raddr) is transport:
                del endpoint.peer_tpts[transport.raddr]

    def _refuse(self, endpoint: Endpoint, why: object) -> None:
        self._refused += 1
        self.on_refused(at=str(endpoint.addr), why=str(why))
        tell = log.transport
        if isinstance(why, TransportClosed) and is_tls_mismatch(why.src_exc):
            # Most likely somebody's mistake, and a riddle on the other side: told once for each kind.
            kind = str(why).partition("; peer ")[0]
            if kind not in self._mismatches and len(self._mismatches) < MAX_WARNINGS:
                self._mismatches.add(kind)
                tell = log.warning
        tell("a connection at %s did not become a peer: %s", endpoint.addr, why)

    def cancel(self) -> bool:
        """Stop listening on every endpoint and remove socket files; peers stay connected.

        Returns:
            Whether there was anything to stop.  Idempotent.
        """
        had = bool(self._endpoints)
        self._shutting_down = True
        for endpoint in self._endpoints:
            endpoint.close_listener()
        if not self._endpoints:
            self._shutdown.set()
        return had

    async def wait_for_shutdown(self) -> None:
        """Wait until every listener of a cancelled server has ended."""
        await self._shutdown.wait()

    def is_shutdown(self) -> bool:
        """Whether the server was cancelled and every listener has ended."""
        return self._shutdown.is_set()

    # -- peers ----------------------------------------------------------------------------------------

    def add_peer(self, chan: Channel) -> None:
        """Count a channel whose handshake is done as a peer; wakes who waits for it."""
        assert chan.aid is not None
        uid = chan.aid.uid
        known = self._peers.setdefault(uid, [])
        others = [other for other in known if other is not chan]
        if any(other.connected() and not other.is_registration for other in others):
            log.warning("%s connected a second time", chan.peer)
        if chan not in known:
            known.append(chan)
        arrival = self._arrivals.pop(uid, None)
        if arrival is not None:
            arrival.set()

    def remove_peer(self, chan: Channel) -> None:
        """Forget a channel; wakes who waits for peers to leave."""
        assert chan.aid is not None
        chans = self._peers.get(chan.aid.uid)
        if chans and chan in chans:
            chans.remove(chan)
            if not chans:
                del self._peers[chan.aid.uid]
        self.note_departure()

    def speaks_for(self, chan: Channel) -> bool:
        """Whether what only the actor itself may say counts on this channel of its uid.

        Anybody who may connect can claim any uid.  So it counts on the first of the uid's living channels, and on
        those of which the kernel says that the same process is at their other end.
        """
        first = self.first_of(chan.aid.uid) if chan.aid is not None else None
        if first is None or first is chan:
            return first is chan
        pid = _kernel_pid(chan)
        return pid is not None and pid == _kernel_pid(first)

    def first_of(self, uid: Uid) -> Channel | None:
        """The first of a uid's living channels; ``None``: it has none.

        A channel that this side has opened is its first only where it has opened none: who listens at an address has
        not come of itself, and must not keep out who does.
        """
        living = [chan for chan in self._peers.get(uid, ()) if chan.connected()]
        accepted = (chan for chan in living if chan.role == "accept")
        return next(accepted, living[0] if living else None)

    def put_first(self, chan: Channel) -> None:
        """Make a channel the first of its uid, because it has proven a secret; also one that is not a peer's yet."""
        assert chan.aid is not None
        known = self._peers.setdefault(chan.aid.uid, [])
        if chan in known:
            known.remove(chan)
        known.insert(0, chan)

    def _is_taken(self, chan: Channel) -> bool:
        """Whether another process is at the first channel of a new channel's uid, by the kernel's word."""
        assert chan.aid is not None
        first = self.first_of(chan.aid.uid)
        pid = _kernel_pid(chan)
        if first is None or first.role != "accept" or pid is None:
            return False
        if chan.claim is not None:
            # It comes with a secret, which decides.
            return False
        owner = _kernel_pid(first)
        # One that has just died may not have been noticed yet.
        return owner is not None and owner != pid and pid_alive(owner)

    def note_departure(self) -> None:
        """Let who waits for peers to leave look again."""
        self._departures.unpark_all()

    def peer_channels(self) -> list[Channel]:
        """Every connected peer's channels."""
        return [chan for chans in self._peers.values() for chan in chans]

    async def wait_for_peer(self, uid: Uid) -> tuple[trio.Event, Channel]:
        """Wait until the actor ``uid`` has connected.

        Returns:
            The event of its arrival and its newest channel.
        """
        while not (chans := self._peers.get(uid)):
            await self._arrivals.setdefault(uid, trio.Event()).wait()
        event = trio.Event()
        event.set()
        await trio.lowlevel.checkpoint()
        return event, chans[-1]

    def _counted(self) -> list[Channel]:
        return [c for c in self.peer_channels() if c.role == "accept" and not c.is_registration]

    async def wait_for_no_more_peers(self) -> None:
        """Wait until no peer is connected; channels that only keep a registration do not count."""
        await trio.lowlevel.checkpoint()
        while self._counted():
            await self._departures.park()

    async def wait_for_departure(self, chan: Channel) -> None:
        """Wait until a peer's channel has ended and all that came over it was delivered."""
        await trio.lowlevel.checkpoint()
        while chan in self.peer_channels():
            await self._departures.park()

    async def wait_for_no_more_peers_but(self, chan: Channel | None) -> None:
        """As :meth:`wait_for_no_more_peers`, not counting ``chan``."""
        await trio.lowlevel.checkpoint()
        while any(c is not chan for c in self._counted()):
            await self._departures.park()

    def has_peers(self, check_chans: bool = False) -> bool:
        """Whether a peer is connected; with ``check_chans`` only channels believed to be open count."""
        return any(c.connected() for c in self._counted()) if check_chans else bool(self._counted())

    def len_peers(self) -> int:
        """How many peers are connected."""
        return len({c.aid.uid for c in self._counted() if c.aid is not None})

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints that listen."""
        return list(self._endpoints)

    @property
    def addrs(self) -> list[Address]:
        """The bound addresses."""
        return [endpoint.addr for endpoint in self._endpoints]

    @property
    def accept_addrs(self) -> list[UnwrappedAddress]:
        """The bound addresses, unwrapped, but for those at which the actor is found in another capacity."""
        return [e.addr.unwrap() for e in self._endpoints if e.aid is None]

    @property
    def proto_keys(self) -> list[str]:
        """The transports that are listened on."""
        return [endpoint.addr.proto_key for endpoint in self._endpoints]

    def epsdict(self) -> dict[Address, Endpoint]:
        """The endpoints by bound address."""
        return {endpoint.addr: endpoint for endpoint in self._endpoints}

    @property
    def repr_state(self) -> str:
        """A description in one word."""
        if self.is_shutdown():
            return "shutdown"
        if self._shutting_down:
            return "shutting-down"
        return "listening" if self._endpoints else "idle"

    def statistics(self) -> ServerStatistics:
        """A frozen record of plain values."""
        return ServerStatistics(
            endpoints=len(self._endpoints),
            peers=self.len_peers(),
            accepted=self._accepted,
            refused=self._refused,
            half_open=len(self.doorstep),
        )

    def pformat(self) -> str:
        """A description on one line."""
        where = ", ".join(str(a) for a in self.addrs)
        return f"<Server {self.repr_state} on [{where}], {self.len_peers()} peers>"

    __repr__ = pformat


IPCServer = Server


def _kernel_pid(chan: Channel) -> int | None:
    """The process at the other end, where the kernel tells; not for one of another pid namespace, which is 0."""
    addr = chan.raddr
    return addr.maybe_pid or None if isinstance(addr, UDSAddress) else None


async def _drop_messages(server: Server, chan: Channel) -> None:
    """The default handler: count the peer, and drop what it sends, until it leaves."""
    server.add_peer(chan)
    try:
        async for _ in chan:
            pass
    except TransportClosed as exc:
        log.transport("%s was lost: %s", chan.peer, exc)
    finally:
        chan.abort()
        server.remove_peer(chan)


@ki_protected_manager
async def open_ipc_server(
    parent_tn: trio.Nursery | None = None,
    stream_handler_tn: trio.Nursery | None = None,
    *,
    aid: Callable[[], Aid] | None = None,
    handler: PeerHandler | None = None,
) -> AsyncIterator[Server]:
    """A server for the length of the block; it listens nowhere until ``listen_on``.

    Args:
        parent_tn: hosts the accept loops; ``None``: a nursery of the block's own.
        stream_handler_tn: hosts the connection tasks; ``None``: ``parent_tn``.
        aid: gives the identity for handshakes; ``None``: an anonymous one.
        handler: runs each peer's channel; ``None``: what arrives is dropped.
    """
    anonymous = Aid("server", os.urandom(16).hex(), os.getpid(), host=host_id())

    async def drop(chan: Channel) -> None:
        await _drop_messages(server, chan)

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(collapse_eg())
        listeners: trio.Nursery
        if parent_tn is None:
            listeners = await stack.enter_async_context(trio.open_nursery())
        else:
            listeners = parent_tn
        server = Server(
            aid or (lambda: anonymous),
            handler or drop,
            listeners,
            stream_handler_tn or listeners,
        )
        try:
            yield server
        finally:
            server.cancel()
            with trio.CancelScope(shield=True):
                await server.wait_for_shutdown()
            if parent_tn is None:
                listeners.cancel_scope.cancel()
