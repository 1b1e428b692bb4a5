"""Finding other actors by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import trio

from tractor import log as _log
from tractor._errors import ActorTooSlowError, RemoteActorError, RuntimeFailure, TransportClosed
from tractor._proto.retry import RetryPauses
from tractor.address._policy import from_this_host, one_or_several, reaches_further
from tractor.address._types import Addr, UnwrappedAddress
from tractor.discovery._bounds import LOOKUP_TIMEOUT, Bound, bound_of
from tractor.discovery._dead_addresses import (
    Known,
    LookUp,
    Registered,
    Unanswered,
    on_another_host,
    settled,
)
from tractor.discovery._panel import open_panel, sources_of
from tractor.discovery._places import checked_name
from tractor.discovery._portals import FoundChannels, lasting_peer, living_peer, portal_over
from tractor.discovery._registrars import Key, Source, reached
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.process.host._host_id import is_here
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.runtime._state import current_actor
from tractor.transport._addresses import rank_addrs, wrap_address
from tractor.transport._table import known_transports
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()

RETRY_FIRST = 0.1
RETRY_LIMIT = 1.0
"""Seconds between the tries to connect to an actor that is registered but does not answer."""


@ki_protected_manager
async def find_actor(
    name: str,
    registry_addrs: Sequence[Addr] | None = None,
    enable_transports: Sequence[str] | None = None,
    only_first: bool = True,
    raise_on_none: bool = False,
    timeout: float | None = LOOKUP_TIMEOUT,
    *,
    registry_addr: Addr | None = None,
) -> AsyncIterator[Portal | list[Portal] | None]:
    """Find an actor by name: among the connected peers, then at the registrars, all of them at once.

    Args:
        name: the actor's; uuids are never matched.  Where several actors share it, the newest is meant.
        registry_addrs: the registrars to ask; ``None``: this actor's own.
        enable_transports: connect over these only; ``None``: over every one.
        only_first: ``False``: give the list of all actors of the name, newest first: whichever was started last.
        raise_on_none: raise instead of giving ``None``.
        timeout: seconds for everything together, the registrars' answers and all connections; ``None``: no bound.
            A registrar has 1 s of it to answer, where there are several at most half of it.
        registry_addr: the one registrar to ask: the same as ``registry_addrs`` with one in it.

    Yields:
        A portal to an actor that has answered, or a list of them; ``None`` when nobody of that name is registered
        (or nobody that listens on one of ``enable_transports``).  They live as long as the block.

    Raises:
        ActorTooSlowError: the actor is registered, but did not answer in time; names it, its addresses, and since
            when it is registered.  With ``only_first=False``: none of them did; else those that did not are logged.
        RuntimeFailure: it is registered, but can't be reached, say because its host is away, its key or certificate is
            another, or it is on another host and listens at addresses of that host alone; or no registrar answers in
            time; or nothing can be connected to from here.
        RuntimeError: nobody of that name, with ``raise_on_none``.
        TypeError, ValueError: an address that is none, a name that is not a string, or a ``timeout`` that is not a
            number of seconds.
        NotImplementedError: an unknown transport.
        NoRuntime: no runtime is open.

    An address where nothing accepts is deleted at its registrar, and the next one is tried; one where an actor accepts
    but does not answer, say because it is stopped, is left in the table.
    """
    actor = current_actor()
    name = checked_name(name)
    bound = bound_of(timeout)
    registry_addrs = one_or_several(registry_addrs, registry_addr)
    if enable_transports:
        enable_transports = known_transports(enable_transports)
    if only_first and registry_addrs is None:
        peer = await living_peer(actor, name, enable_transports)
        if peer is not None:
            yield portal_over(peer, actor)
            return
    async with FoundChannels() as found, AsyncExitStack() as stack:
        async with open_panel(actor, sources_of(actor, registry_addrs), bound) as panel:
            look_up = LookUp(panel, name, enable_transports, found.add)
            outcomes = [await look_up.newest(bound)] if only_first else await look_up.all(bound)
        missed = [one.error() for one in outcomes if isinstance(one, Unanswered)]
        chans = [one for one in outcomes if isinstance(one, Channel)]
        portals = await found.portals(stack, chans, only_first)
        if missed and not portals:
            raise missed[0]
        for exc in missed:
            log.warning("%s", exc)
        if not portals and raise_on_none:
            asked = list(actor.reg_addrs if registry_addrs is None else registry_addrs)
            raise RuntimeError(f"no actor {name!r} is registered at {asked}")
        if only_first:
            yield portals[0] if portals else None
        else:
            yield portals or None


@ki_protected_manager
async def wait_for_actor(
    name: str, registry_addr: Addr | None = None, timeout: float | None = None
) -> AsyncIterator[Portal]:
    """Wait until an actor of that name is registered and answers; a portal to it, for the length of the block.

    Args:
        name: the actor's.
        registry_addr: the registrar to wait at; ``None``: all of this actor's own at once.
        timeout: seconds until it must be registered and have answered; ``None``: the wait has no bound.

    Raises:
        ActorTooSlowError: the time is over; says whether the actor was registered.
        RuntimeFailure: at its beginning no registrar answers, within 1 s.  Later the wait outlives the loss of any of
            them, also of all for a time.
        TypeError, ValueError: no address, a name that is not a string, or a ``timeout`` that is not a number of
            seconds.
        NoRuntime: no runtime is open.

    A caller that is cancelled leaves no waiter behind at any registrar.
    """
    actor = current_actor()
    name = checked_name(name)
    bound = bound_of(timeout)
    peer = await living_peer(actor, name) if registry_addr is None else None
    if peer is not None:
        yield portal_over(peer, actor)
        return
    missed: list[Unanswered] = []
    async with FoundChannels() as found, AsyncExitStack() as stack:
        there = await _Wait(actor, name, registry_addr, bound, found, missed).run()
        if there is None:
            raise _nobody_came(name, bound, missed)
        if isinstance(there, Channel):
            (there,) = await found.portals(stack, [there], only_first=True)
        yield there


def _nobody_came(name: str, bound: Bound, missed: list[Unanswered]) -> RuntimeFailure:
    if missed:
        return missed[-1]._replace(bound=bound).error()
    return ActorTooSlowError(f"no actor {name!r} was registered within {bound.seconds:g} s")


class _Wait:
    """One :func:`wait_for_actor`: look-ups, between which it waits at all registrars at once.

    A round ends when a registrar has news, or a moment after one could not be waited at; the next begins with a
    look-up, so that nobody who comes in between is missed.
    """

    def __init__(
        self,
        actor: Actor,
        name: str,
        at: Addr | None,
        bound: Bound,
        chans: FoundChannels,
        missed: list[Unanswered],
    ) -> None:
        self._actor = actor
        self._name = name
        self._at = at
        self._bound = bound
        self._chans = chans
        self._missed = missed
        # A registrar has answered in the last round; or in any.
        self._heard = self._known = False

    def _sources(self) -> dict[Key, Source]:
        # Looked up anew in each round: the ways to registrars that are lost and come back are others then.
        return sources_of(self._actor, None if self._at is None else [self._at])

    async def run(self) -> Channel | Portal | None:
        """A channel to the actor, once a registrar knows it and it answers; ``None`` when the time is over.

        A portal, where it has become a peer while there was no registrar.

        Raises:
            RuntimeFailure: no registrar answers at the beginning; or nothing can be connected to from here.
        """
        pauses = RetryPauses(RETRY_FIRST, RETRY_LIMIT, lambda: 0.0)
        while True:
            found: Channel | Unanswered | None = None
            try:
                found = await self._look()
            except RuntimeFailure:
                if self._heard or not self._known:
                    raise
                peer = await living_peer(self._actor, self._name) if self._at is None else None
                if peer is not None:
                    return portal_over(peer, self._actor)
            if isinstance(found, Channel):
                return found
            # The look-up keeps the bound by itself, and says what has kept it from an answer.
            with trio.move_on_at(self._bound.deadline) as scope:
                if isinstance(found, Unanswered):
                    self._missed[:] = [found]
                    await trio.sleep(pauses.next())
                elif await self._arrival(pauses.next()):
                    pauses.reset()
            if scope.cancelled_caught:
                return None

    async def _look(self) -> Channel | Unanswered | None:
        bound = self._bound.step()
        async with open_panel(self._actor, self._sources(), bound) as panel:
            look_up = LookUp(panel, self._name, None, self._chans.add, patient=False)
            try:
                return await look_up.newest(bound)
            finally:
                self._heard = panel.heard
                self._known = self._known or panel.ever_heard

    async def _arrival(self, pause: float) -> bool:
        """Wait until a registrar has an actor of that name, or one can't be waited at; whether one has.

        Args:
            pause: seconds that it lasts at least where one can't be waited at.
        """
        arrived = False
        news = trio.Event()
        began = trio.current_time()

        async def wait_at(source: Source) -> None:
            nonlocal arrived
            try:
                async with reached(source, self._actor, bound_of(None)) as registrar:
                    await registrar.run_from_ns("self", "wait_for_actor", name=self._name)
                arrived = True
            except (TransportClosed, RemoteActorError, RuntimeFailure) as exc:
                log.transport("%r can't be waited for at a registrar: %s", self._name, exc)
                await trio.sleep_until(began + pause)
            news.set()

        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for source in self._sources().values():
                tn.start_soon(wait_at, source)
            await news.wait()
            tn.cancel_scope.cancel()
        return arrived


@ki_protected_manager
async def query_actor(
    name: str, regaddr: Addr | None = None, timeout: float | None = LOOKUP_TIMEOUT
) -> AsyncIterator[tuple[UnwrappedAddress | None, Portal | LocalPortal | None]]:
    """Look an actor's address up without connecting to it.

    Args:
        name: the actor's.
        regaddr: the registrar to ask; ``None``: all of this actor's own at once.
        timeout: seconds in which a registrar must have answered; at most 1 s, and longer only where those that answer
            have just begun and don't know everybody yet.  ``None``: no bound.

    Yields:
        An address that the newest actor of that name listens on (the best one), unwrapped, or ``None``; and a
        portal to the registrar that has answered, or ``None`` when a connected peer was meant.  That somebody
        listens there is not tried.

    Raises:
        RuntimeFailure: no registrar answers in time; or it listens at addresses of its own host alone, another one.
        TypeError, ValueError: no address, a name that is not a string, or a ``timeout`` that is not a number of
            seconds.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    name = checked_name(name)
    bound = bound_of(timeout)
    near = _peer_addr(actor, name) if regaddr is None else None
    if near is not None:
        yield near, None
        return
    sources = sources_of(actor, None if regaddr is None else [regaddr])
    async with open_panel(actor, sources, bound) as panel:
        told_by: dict[Key, set[tuple[Uid, UnwrappedAddress]]] = {}

        def choose(known: Registered) -> list[Known]:
            told_by.update(known.told_by)
            return [entry for entry in known.entries if entry.addrs or entry.host]

        entries = await settled(panel, name, bound, choose)
        if entries and not entries[0].addrs:
            raise on_another_host(entries[0])
        addr = rank_addrs(entries[0].addrs)[0] if entries else None
        knows = (
            key for key, told in told_by.items() if addr is None or (entries[0].uid, addr) in told
        )
        yield addr, panel.portal(next(knows))


def _peer_addr(actor: Actor, name: str) -> UnwrappedAddress | None:
    """An address that a connected peer listens on, where this actor knows one."""
    peer = lasting_peer(actor, name)
    if peer is None or peer.aid is None:
        return None
    record = actor.children.get(peer.aid.uid)
    addrs = getattr(record, "accept_addrs", None)
    host = peer.aid.host
    bound = [wrap_address(addr) for addr in addrs or ()]
    # A child's addresses are as bound.
    leads = [from_this_host(a) for a in bound if is_here(host) or reaches_further(a)]
    if leads:
        return rank_addrs(leads)[0].unwrap()
    # What this actor has connected to is where the peer listens.
    return peer.raddr.unwrap() if peer.role == "connect" else None
