"""Portals to peers: the connected ones, and those that an address leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._policy import from_this_host, is_within_host
from tractor.address._types import Addr, Address, UnwrappedAddress
from tractor.discovery._bounds import LOOKUP_TIMEOUT, Bound, bound_of, first_of
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.process.host._host_id import host_id, is_here
from tractor.runtime._actor import Actor
from tractor.runtime._portal import Portal
from tractor.runtime._reader import serve_channel
from tractor.runtime._state import current_actor
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._caller import ask
from tractor.transport._addresses import rank_addrs, wrap_address
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()

SIGN_TIMEOUT = 0.25
"""Seconds in which a child that is not busy gives a sign of life."""


@ki_protected_manager
async def open_portal(
    channel: Channel,
    tn: trio.Nursery | None = None,
    start_msg_loop: bool = True,
    shield: bool = False,
) -> AsyncIterator[Portal]:
    """A portal over a channel at hand, which is closed at the end of the block.

    Args:
        channel: connected; the identity handshake is done here if it was not yet.
        tn: hosts the channel's message loop; ``None``: the actor's own nursery for channels.
        start_msg_loop: run the channel's message loop; ``False`` when one runs already.
        shield: keep the block out of reach of cancellation from outside.

    Raises:
        NoRuntime: no runtime is open.
        TransportClosed: the handshake failed.
    """
    actor = current_actor()
    try:
        if channel.aid is None:
            await channel.handshake(actor.aid)
        if start_msg_loop:
            await (tn or actor.io_nursery).start(serve_channel, actor, channel)
        with trio.CancelScope(shield=shield):
            yield Portal(channel, actor)
    finally:
        with trio.CancelScope(shield=True):
            await channel.aclose()


async def connect(
    addr: Addr, actor: Actor, bound: Bound, on_accept: Callable[[], None] | None = None
) -> Channel:
    """A channel to the actor at an address, handshake done.

    Args:
        addr: where it listens.
        actor: this actor.
        bound: until when.
        on_accept: called as soon as something accepts there.

    Raises:
        OSError: nothing accepts there, or it can't be reached.
        TransportClosed: what accepts there is no actor that lets us in, or does not answer in time; then its
            ``src_exc`` is a ``trio.TooSlowError``.
        RuntimeFailure: this actor's own key or certificate can't be used.
        NotImplementedError: a transport that this platform does not have.
    """
    with trio.move_on_at(bound.deadline):
        chan = Channel(await transport_from_addr(addr), "connect")
        if on_accept is not None:
            on_accept()
        try:
            await chan.handshake(actor.aid)
        except BaseException:
            chan.abort()
            raise
        return chan
    text = f"no actor answered at {addr} within {bound.seconds:g} s"
    raise TransportClosed(text, src_exc=trio.TooSlowError(text))


def is_away(addr: Address) -> bool:
    """Whether an address that the tree's root has given is one of that root's host alone, and this is another host."""
    return is_within_host(addr) and not is_here(runtime_vars()._root_host)


def get_peer_by_name(name: str) -> list[Channel] | None:
    """The channels to connected peers of that name, oldest first; ``None`` when there are none."""
    actor = current_actor()
    found = [
        chan
        for chan in actor.ipc_server.peer_channels()
        if chan.aid is not None and chan.aid.name == name and chan.connected()
    ]
    return found or None


def lasting_peer(
    actor: Actor, name: str, transports: Sequence[str] | None = None
) -> Channel | None:
    """The channel to the newest connected peer of a name that lives as long as that peer.

    That is one to a child, to the parent, or for a registration.  A channel that somebody opened for the length of a
    block would end with that block, under its other users.  A peer that this actor has asked to cancel serves nobody
    any more.
    """
    for chan in reversed(get_peer_by_name(name) or ()):
        assert chan.aid is not None
        if chan.cancel_called or (
            transports is not None and chan.raddr.proto_key not in transports
        ):
            continue
        if chan is actor.parent_chan or chan.is_registration:
            return chan
        # A child that is still being configured serves nobody; and anybody may claim to be one.
        is_ready = getattr(actor.children.get(chan.aid.uid), "ready", False)
        if is_ready and actor.ipc_server.speaks_for(chan):
            return chan
    return None


async def living_peer(
    actor: Actor, name: str, transports: Sequence[str] | None = None
) -> Channel | None:
    """As :func:`lasting_peer`, once it is not known to be dead: a child that was just killed looks connected still.

    A child is asked for a sign of life; one that gives none for a moment, and is not lost, may be busy.
    """
    while (chan := lasting_peer(actor, name, transports)) is not None:
        # Also lets the readers of channels that have ended find that.
        await trio.lowlevel.checkpoint()
        if actor.child_at(chan) is None or await _seems_alive(chan):
            return chan
        if chan.connected():
            # It can't be asked, and is not lost yet: then the registrars are to tell.
            return None
    return None


async def _seems_alive(chan: Channel) -> bool:
    try:
        await ask(chan, "_ping", SIGN_TIMEOUT)
    except TransportClosed:
        return False
    return chan.connected()


def portal_over(chan: Channel, actor: Actor) -> Portal:
    """A portal over a lasting channel; the nursery's own for a child, so that it knows who has the child cancelled."""
    record = actor.children.get(chan.aid.uid) if chan.aid else None
    own: Portal | None = getattr(record, "portal", None)
    return own or Portal(chan, actor)


@ki_protected_manager
async def maybe_open_portal(
    addr: Addr, name: str, timeout: float | None = LOOKUP_TIMEOUT
) -> AsyncIterator[Portal | None]:
    """A portal to the actor ``name`` at ``addr``, or ``None`` when nothing answers there or it is another actor.

    Args:
        addr: where to connect to.
        name: whom to expect there.
        timeout: seconds in which it must have answered; ``None``: no bound.

    Raises:
        TypeError, ValueError: no address, or no number of seconds.
        RuntimeFailure: this actor's own key or certificate can't be used.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    chan: Channel | None = None
    try:
        chan = await connect(addr, actor, bound_of(timeout))
    except (OSError, TransportClosed) as exc:
        log.transport("no actor %r answers at %s: %s", name, addr, exc)
    if chan is not None and chan.aid is not None and chan.aid.name != name:
        await chan.aclose()
        chan = None
    if chan is None:
        yield None
        return
    async with open_portal(chan) as portal:
        yield portal


@ki_protected_manager
async def get_root(timeout: float | None = LOOKUP_TIMEOUT, **kwargs: Any) -> AsyncIterator[Portal]:
    """A portal to the root of this actor's tree, over a channel of its own, for the length of the block.

    Args:
        timeout: seconds in which the root must have answered, at whichever of its addresses; ``None``: no bound.
        kwargs: for :func:`open_portal`.

    Raises:
        RuntimeFailure: the root does not answer, or this actor is it; or no address of it leads there from this host.
        TypeError, ValueError: ``timeout`` is not a number of seconds.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    bound = bound_of(timeout)
    if actor.is_root:
        raise RuntimeFailure(f"{actor.aid.reprol()} is the root itself")
    listens = [from_this_host(wrap_address(a)) for a in runtime_vars()._root_addrs]
    addrs = [a.unwrap() for a in listens if not is_away(a)]
    if not addrs:
        raise RuntimeFailure(
            "the root of the tree listens at addresses of its own host alone, which is "
            f"{runtime_vars()._root_host}, and this one is {host_id()}: have it listen at a TCP address of its "
            "network (`tpt_bind_addrs`)"
        )
    failures: dict[Any, Exception] = {}
    async with FoundChannels() as found:

        async def attempt(addr: UnwrappedAddress) -> Channel | None:
            try:
                return found.add(await connect(addr, actor, bound))
            except (OSError, TransportClosed, NotImplementedError) as exc:
                log.transport("the root does not answer at %s: %s", addr, exc)
                failures[addr] = exc
                return None

        chan = await first_of(rank_addrs(addrs), attempt, bound)
        if chan is None:
            why = "; ".join(f"at {addr}: {exc}" for addr, exc in failures.items())
            raise RuntimeFailure(f"the root of the tree does not answer: {why}")
        await found.close_but(chan)
        async with open_portal(chan, **kwargs) as portal:
            yield portal


class FoundChannels:
    """Channels to actors that were found; those that nobody has taken are closed at the end of the block."""

    def __init__(self) -> None:
        self._chans: list[Channel] = []

    def add(self, chan: Channel) -> Channel:
        self._chans.append(chan)
        return chan

    async def __aenter__(self) -> FoundChannels:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        # Closing one that its portal has closed is nothing.
        for chan in self._chans:
            chan.abort()

    async def close_but(self, *chosen: Channel) -> None:
        for chan in self._chans:
            if chan not in chosen:
                await chan.aclose()

    async def portals(
        self, stack: AsyncExitStack, chans: Sequence[Channel], only_first: bool
    ) -> list[Portal]:
        """Portals over channels, one for each actor; the other channels are closed."""
        chosen: dict[str, Channel] = {}
        for chan in chans[:1] if only_first else chans:
            assert chan.aid is not None
            chosen.setdefault(chan.aid.uuid, chan)
        await self.close_but(*chosen.values())
        return [await stack.enter_async_context(open_portal(chan)) for chan in chosen.values()]
