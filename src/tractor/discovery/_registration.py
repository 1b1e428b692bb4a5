"""Keeping an actor registered with its registrars for as long as it lives.

Theory of operation.  One task for each registrar holds one channel to it, over which all addresses of this actor are
registered.  A registration lives as long as that channel: when the registrar ends, or the connection breaks, the task
connects anew, with growing pauses, and registers again, soon enough for what a registrar that comes back relies on
(`SETTLING_TIME`).  The start of the actor waits for the first of them that has it.  At the end all of them say goodbye
at the same time, each within a limit; a goodbye that does not arrive is made good by the end of the channel.
A parent that is one of the registrars is told over its own channel, which is there anyway.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, RuntimeFailure, TransportClosed
from tractor._proto.deadlines import UNREGISTER_TIMEOUT
from tractor._proto.registrars import ANSWER_TIME, RETRY_LIMIT, Down
from tractor._proto.retry import RetryPauses
from tractor.address._policy import from_this_host
from tractor.address._types import TCPAddress, UnwrappedAddress
from tractor.discovery._places import end_of
from tractor.discovery._registrars import far_registrars, tree_registry_addrs
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal
from tractor.runtime._reader import serve_channel
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._caller import request, result_of
from tractor.transport._addresses import wrap_address

log = _log.get_logger()

CONNECT_TIMEOUT = 1.0
ATTEMPT_TIMEOUT = 3.0
"""Seconds in which a registrar must accept, and have registered this actor."""

VOUCH_TIMEOUT = 1.0
"""Seconds in which the channels that there are must have vouched for a new one."""

BACKOFF_FIRST = 0.1
BACKOFF_LIMIT = RETRY_LIMIT
"""Seconds between the tries to register with a registrar that is lost: the first pause and the longest."""


class Registration:
    """Registers every address of an actor with every registrar, over one channel to each, again when one is lost."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        # Those of the registrars that do not answer.
        self.down: Down[Any] = Down()
        self._links: dict[UnwrappedAddress, _RegistryLink] = {}
        # A registrar has this actor.
        self._taken = trio.Event()
        self._at_parent = False
        self._stopped = False

    def link(self, addr: UnwrappedAddress) -> Channel | None:
        """The channel that keeps the registration at an address; ``None`` when there is none now."""
        link = self._links.get(addr)
        return None if link is None else link.chan

    async def start(self) -> None:
        """Register everywhere, and wait until one registrar has it, at most 1 s.

        Where that fails it is tried again in the background.
        """
        actor = self._actor
        actor.registration = self
        if actor.is_registrar:
            await self.enter_itself()
        elif self._parent_wanted():
            # A registrar listens on all of its tree's registry addresses: one channel is one to each of them.
            self._at_parent = True
            actor.io_nursery.start_soon(self._keep_trying_at_parent)
        self._follow()
        if self._at_parent or self._links:
            with trio.move_on_after(ANSWER_TIME):
                await self._taken.wait()

    async def enter_itself(self) -> None:
        """Enter this actor, which is a registrar, into its own table."""
        actor = self._actor
        own = LocalPortal(actor)
        for addr in actor.accept_addrs:
            where = published(addr, None)
            await own.run_from_ns(
                "self", "register_actor", uid=actor.aid.uid, addr=where, started=actor.started
            )
        self._taken.set()

    def reg_addrs_changed(self) -> None:
        """Register with the registrars that are new in the actor's list, leave those that are gone from it."""
        if self._stopped:
            return
        actor = self._actor
        self._follow()
        wanted = self._parent_wanted()
        if wanted is not self._at_parent:
            self._at_parent = wanted
            actor.io_nursery.start_soon(self._change_at_parent)

    def report_lost(self, uid: Uid) -> None:
        """Tell every registrar that the host of a subactor is lost, as its lease says; needs no answer."""
        actor = self._actor
        if actor.registry is not None:
            actor.registry.note_host_lost(uid)
        chans = [link.chan for link in self._links.values()]
        for chan in [*chans, actor.parent_chan if self._at_parent else None]:
            if chan is not None and chan.connected():
                with suppress(TransportClosed):
                    request(chan, "_host_lost", uid=uid)

    def _parent_wanted(self) -> bool:
        """Whether the parent is one of the actor's registrars."""
        parent = self._actor.parent_chan
        is_registrar = parent is not None and parent.aid is not None and parent.aid.is_registrar
        return bool(is_registrar) and not tree_registry_addrs().isdisjoint(self._actor.reg_addrs)

    @trio.lowlevel.enable_ki_protection
    async def _change_at_parent(self) -> None:
        actor = self._actor
        assert actor.parent_chan is not None
        if self._at_parent:
            await self._keep_trying_at_parent()
        else:
            await unregister(actor, actor.parent_chan)

    async def _try_at_parent(self) -> bool:
        """Register there; whether that is settled.  Raises TransportClosed."""
        actor = self._actor
        assert actor.parent_chan is not None
        try:
            await register(actor, actor.parent_chan)
        except (RemoteActorError, RuntimeFailure) as exc:
            log.warning("the parent refuses the registration: %s", exc)
            return False
        self._taken.set()
        return True

    @trio.lowlevel.enable_ki_protection
    async def _keep_trying_at_parent(self) -> None:
        """Register there, until the parent takes it, is lost, or is not to be registered with any more."""
        backoff = RetryPauses(BACKOFF_FIRST, BACKOFF_LIMIT, random.random)
        try:
            while self._at_parent and not self._stopped:
                if await self._try_at_parent():
                    return
                await trio.sleep(backoff.next())
        except TransportClosed as exc:
            log.transport("the parent is lost: %s", exc)

    def _follow(self) -> None:
        """Have one link for each registrar that is neither this actor nor its parent."""
        actor = self._actor
        wanted = far_registrars(actor)
        for addr in [a for a in self._links if a not in wanted]:
            self._links.pop(addr).drop()
        for addr in wanted:
            if addr not in self._links:
                link = self._links[addr] = _RegistryLink(actor, addr, self._taken.set)
                actor.io_nursery.start_soon(link.run, name=f"registration at {addr}")

    async def stop(self) -> None:
        """Unregister everywhere, at most 0.5 s for each registrar, and close the channels.

        Afterwards nothing registers this actor any more.  It may be called again, also before that is done: each
        channel is closed by one call.
        """
        self._stopped = True
        actor = self._actor
        if actor.is_registrar:
            await actor.unregister_actor(actor.aid.uid)  # type: ignore[attr-defined]
        async with trio.open_nursery() as tn:
            for link in self._links.values():
                tn.start_soon(link.stop)
            parent = actor.parent_chan
            if parent is not None and parent.aid is not None and parent.aid.is_registrar:
                tn.start_soon(unregister, actor, parent)


class _RegistryLink:
    """The registration with one registrar.

    Attributes:
        chan: the channel that keeps it; ``None`` while there is none.
    """

    def __init__(self, actor: Actor, addr: UnwrappedAddress, on_taken: Callable[[], None]) -> None:
        self.chan: Channel | None = None
        self._on_taken = on_taken
        self._actor = actor
        self._addr = addr
        self._over = trio.Event()
        self._scope = trio.CancelScope()
        self._dropped = False

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Register, wait for the loss of the registrar, and register again, with growing pauses."""
        try:
            with self._scope:
                await self._keep()
        finally:
            if self._dropped and self.chan is not None:
                self.chan.abort()
                self.chan = None
            self._over.set()

    async def _keep(self) -> None:
        backoff = RetryPauses(BACKOFF_FIRST, BACKOFF_LIMIT, random.random)
        while True:
            self.chan = await self._try()
            if self.chan is not None:
                self._on_taken()
                backoff.reset()
                await self._actor.ipc_server.wait_for_departure(self.chan)
                self.chan = None
                log.warning("the registrar at %s is lost; registering again", self._addr)
            await trio.sleep(backoff.next())

    async def _try(self) -> Channel | None:
        """A channel over which this actor is registered, within 3 s; 1 s where nothing accepts."""
        actor, addr = self._actor, self._addr
        chan: Channel | None = None
        try:
            with trio.fail_after(ATTEMPT_TIMEOUT):
                with trio.fail_after(CONNECT_TIMEOUT):
                    chan = Channel(await transport_from_addr(addr), "connect")
                aid = await chan.handshake(actor.aid)
                if not aid.is_registrar:
                    raise TransportClosed(f"{aid.reprol()} at {addr} is not a registrar")
                chan.is_registration = True
                await actor.io_nursery.start(serve_channel, actor, chan)
                await vouch_for(actor, chan)
                await register(actor, chan)
                return chan
        except OSError as exc:
            log.transport("no registrar answers at %s: %r", addr, exc)
        except trio.TooSlowError:
            log.warning("the registrar at %s did not answer in time", addr)
        except (TransportClosed, RemoteActorError, RuntimeFailure, NotImplementedError) as exc:
            log.warning("registration at %s failed: %s", addr, exc)
        except BaseException:
            # An end that the registrar sees: what it may have entered by then goes with the channel.
            if chan is not None:
                chan.abort()
            raise
        if chan is not None:
            chan.abort()
        return None

    def drop(self) -> None:
        """Leave this registrar in the background: with the channel it drops what that keeps."""
        self._dropped = True
        self._scope.cancel()

    async def stop(self) -> None:
        """Unregister and close the channel; takes at most 0.5 s and the closing."""
        self._scope.cancel()
        await self._over.wait()
        chan, self.chan = self.chan, None
        if chan is not None:
            await unregister(self._actor, chan)
            await chan.aclose()


async def _request(actor: Actor, chan: Channel, func: str, **kwargs: object) -> None:
    """A request that need not be cancelled at the other side when it is here: the channel ends then, or the actor.

    Raises:
        TransportClosed: the registrar is lost.
        RemoteActorError: it refuses.
    """
    pending = request(chan, func, **kwargs)
    try:
        result_of(await pending.wait(), chan, actor)
    finally:
        chan.forget(pending.cid)


async def vouch_for(actor: Actor, chan: Channel) -> None:
    """Tell a registrar, over the channels to it that there are, that the new one is of this actor, too.

    A registrar takes a registration over the first of an actor's channels alone, and that may be a portal's, or the
    parent's.
    """
    end = end_of(chan.laddr)
    others = [
        other
        for other in actor.ipc_server.peer_channels()
        if other is not chan and other.aid == chan.aid and other.connected()
    ]
    if end is None or not others:
        return

    async def vouch(other: Channel) -> None:
        try:
            await _request(actor, other, "_vouch", end=end)
        except (TransportClosed, RemoteActorError, RuntimeFailure) as exc:
            # Not the first one, or lost: then another one counts.
            log.transport("%s does not hear of a new channel over this one: %s", other.peer, exc)

    with trio.move_on_after(VOUCH_TIMEOUT):
        async with trio.open_nursery() as tn:
            for other in others:
                tn.start_soon(vouch, other)


async def register(actor: Actor, chan: Channel) -> None:
    """Register every address of the actor.

    Raises:
        TransportClosed: the registrar is lost.
        RemoteActorError, RuntimeFailure: it refuses.
    """
    above = None if actor.parent_chan is None else actor.parent_chan.aid
    for addr in actor.accept_addrs:
        where = published(addr, chan)
        await _request(
            actor,
            chan,
            "register_actor",
            uid=actor.aid.uid,
            addr=where,
            started=actor.started,
            parent=None if above is None else above.uid,
        )


async def unregister(actor: Actor, chan: Channel) -> None:
    """Unregister the actor, as far as that can be done within 0.5 s."""
    with trio.move_on_after(UNREGISTER_TIMEOUT) as bound:
        try:
            await _request(actor, chan, "unregister_actor", uid=actor.aid.uid)
        except (TransportClosed, RemoteActorError) as exc:
            log.transport("not unregistered at %s: %s", chan.peer, exc)
    if bound.cancelled_caught:
        log.warning("%s did not unregister this actor within %s s", chan.peer, UNREGISTER_TIMEOUT)


def published(addr: UnwrappedAddress, chan: Channel | None) -> UnwrappedAddress:
    """What to register for a bound address: for a wildcard the local address of the way to the registrar.

    Where that way is of another family, or no TCP at all, only this host's own address is known.  Where peers know the
    host by another name than it has itself (``advertise``), that one, unless the address is one of this host alone.
    """
    wrapped = wrap_address(addr)
    known_as = runtime_vars()._advertise
    if isinstance(wrapped, TCPAddress) and known_as and not wrapped.is_loopback:
        return TCPAddress(known_as, wrapped.port).unwrap()
    if not isinstance(wrapped, TCPAddress) or not wrapped.is_wildcard:
        return addr
    here = chan.laddr if chan is not None else None
    if isinstance(here, TCPAddress) and (":" in here.host) == (":" in wrapped.host):
        return TCPAddress(here.host, wrapped.port).unwrap()
    return from_this_host(wrapped).unwrap()
