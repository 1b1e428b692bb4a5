"""An address that is listened on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import trio

from tractor import log as _log
from tractor.address._policy import require_bindable
from tractor.address._types import Addr, Address
from tractor.msg.types import Aid
from tractor.process._at_fork import close_in_child
from tractor.process._proc import OUT_OF_RESOURCES
from tractor.transport._addresses import wrap_address
from tractor.transport._authkey import check_bind_allowed
from tractor.transport._settings import wire_settings
from tractor.transport._stream import MsgpackTransport
from tractor.transport._table import needs_key, transport_of

log = _log.get_logger()

ACCEPT_RETRY = 0.1
"""Seconds until the next try when the process is out of descriptors or memory."""


class Endpoint:
    """One bound address and its listener."""

    def __init__(self, addr: Address) -> None:
        self.addr = addr
        # Who listens there to its peers; `None`: the actor as it is everywhere.
        self.aid: Callable[[], Aid] | None = None
        self.peer_tpts: dict[Address, MsgpackTransport] = {}
        # Closes what can be spared when the process is out of descriptors; returns how many.
        self.make_room: Callable[[], int] = int
        # Called when a connection can't be accepted for want of descriptors or memory, again and again.
        self.on_starved: Callable[[OSError], None] = lambda _exc: None
        self._listener: socket.socket | None = None
        self._clean_up: Callable[[], None] | None = None

    async def start_listener(self) -> socket.socket:
        """Bind and listen; :attr:`addr` becomes the bound address.

        Raises:
            ConnectionError: a socket file that another process listens on.
            OSError: the address is in use or can't be bound.
            RuntimeError: this endpoint listens already.
        """
        if self._listener is not None:
            raise RuntimeError(f"the endpoint {self.addr} listens already")
        bound = await transport_of(self.addr).bind(self.addr)
        self._listener, self._clean_up = bound.sock, bound.clean_up
        close_in_child(bound.sock)
        self.addr = bound.addr
        return self._listener

    def close_listener(self) -> None:
        """Stop listening; a socket file that is still ours is removed.  Idempotent."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        assert self._clean_up is not None
        self._clean_up()
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(listener)
        listener.close()

    def wrap(self, sock: socket.socket) -> MsgpackTransport:
        """A transport over an accepted socket.  Raises OSError, TransportClosed."""
        limit = wire_settings().limits.max_frame_size
        return transport_of(self.addr).wrap(sock, self.addr, limit)

    async def accept(self) -> socket.socket | None:
        """The next connection; ``None`` when the listener was closed."""
        while True:
            listener = self._listener
            if listener is None:
                return None
            try:
                await trio.lowlevel.wait_readable(listener)
                return listener.accept()[0]
            except trio.ClosedResourceError:
                return None
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as exc:
                if self._listener is None:
                    return None
                if exc.errno not in OUT_OF_RESOURCES:
                    log.warning("can't accept at %s: %r", self.addr, exc)
                elif self.make_room():
                    continue
                else:
                    self.on_starved(exc)
                await trio.sleep(ACCEPT_RETRY)

    def pformat(self) -> str:
        """A description on one line."""
        state = "listening" if self._listener is not None else "closed"
        return f"<Endpoint {self.addr}: {state}, {len(self.peer_tpts)} peers>"

    __repr__ = pformat


async def bind_endpoints(addrs: Sequence[Addr]) -> list[Endpoint]:
    """Bind and listen on addresses; all of them, or none.

    Raises:
        RuntimeFailure: an address beyond loopback without an explicit key or TLS.
        ValueError: an address that can't be listened on; or a key, or a file of ``tls``, that can't be used.
        ConnectionError: a socket file that another process listens on.
        OSError: an address is in use, or is none of this host's; or the key file, or one of ``tls``, can't be read.
    """
    wanted = [wrap_address(addr) for addr in addrs]
    for addr in wanted:
        require_bindable(addr)
        if needs_key(addr.proto_key):
            # Read before anything is bound; only then it is known whether somebody chose it.
            wire_settings().key()
            check_bind_allowed(
                addr, wire_settings().key_is_explicit, wire_settings().tls is not None
            )
    bound: list[Endpoint] = []
    try:
        for addr in wanted:
            endpoint = Endpoint(addr)
            bound.append(endpoint)
            await endpoint.start_listener()
    except BaseException:
        for endpoint in bound:
            endpoint.close_listener()
        raise
    return bound
