"""Finding other actors by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import trio

from tractor import log as _log
from tractor._errors import ActorTooSlowError, RemoteActorError, RuntimeFailure, TransportClosed
from tractor._proto.retry import RetryPauses
from tractor.address._policy import from_this_host, one_or_several
from tractor.address._types import Addr, UnwrappedAddress
from tractor.discovery._ask_all import from_each, sources_of
from tractor.discovery._bounds import LOOKUP_TIMEOUT, Bound, bound_of
from tractor.discovery._dead_addresses import LookUp, Unanswered, registered
from tractor.discovery._places import checked_name
from tractor.discovery._portals import FoundChannels, lasting_peer, portal_over
from tractor.discovery._registrars import Source, reached
from tractor.ipc._chan import Channel
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.runtime._state import current_actor
from tractor.transport._addresses import rank_addrs, wrap_address
from tractor.transport._table import known_transports
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
        only_first: give the first portal that there is, without waiting for slower registrars; ``False``: the
            list of all actors of the name, newest first, those of the first registrar before those of the next.
        raise_on_none: raise instead of giving ``None``.
        timeout: seconds for everything together, the registrars' answers and all connections; ``None``: no bound.
        registry_addr: the one registrar to ask: the same as ``registry_addrs`` with one in it.

    Yields:
        A portal to an actor that has answered, or a list of them; ``None`` when nobody of that name is registered
        (or nobody that listens on one of ``enable_transports``).  They live as long as the block.

    Raises:
        ActorTooSlowError: the actor is registered, but did not answer in time; names it, its addresses, and since
            when it is registered.  With ``only_first=False``: none of them did; else those that did not are logged.
        RuntimeFailure: it is registered, but can't be reached, say because its host is away, or its key or
            certificate is another; or no registrar answers in time; or nothing can be connected to from here.
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
        peer = lasting_peer(actor, name, enable_transports)
        if peer is not None:
            yield portal_over(peer, actor)
            return
    sources = sources_of(actor, registry_addrs)
    # What is registered and could not be had: no answer while another registrar may have a better one.
    missed: list[RuntimeFailure] = []
    async with FoundChannels() as found, AsyncExitStack() as stack:

        async def visit(source: Source) -> list[Channel] | None:
            async with reached(source, actor, bound) as registrar:
                look_up = LookUp(registrar, actor, name, enable_transports, found.add)
                try:
                    outcomes = (
                        [await look_up.newest(bound)] if only_first else await look_up.all(bound)
                    )
                except RuntimeFailure as exc:
                    if exc is not look_up.own_failure:
                        raise
                    missed.append(exc)
                    return None
            missed.extend(one.error() for one in outcomes if isinstance(one, Unanswered))
            return [one for one in outcomes if isinstance(one, Channel)] or None

        chans = [chan for chans in await from_each(sources, visit, only_first) for chan in chans]
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
        timeout: seconds until it must be registered and have answered; ``None``: the wait has no bound.  A registrar
            must answer within 3 s in any case.

    Raises:
        ActorTooSlowError: the time is over; says whether the actor was registered.
        RuntimeFailure: no registrar answers, or every one was lost while waiting.
        TypeError, ValueError: no address, a name that is not a string, or a ``timeout`` that is not a number of
            seconds.
        NoRuntime: no runtime is open.

    A caller that is cancelled leaves no waiter behind at any registrar.
    """
    actor = current_actor()
    name = checked_name(name)
    bound = bound_of(timeout)
    peer = lasting_peer(actor, name) if registry_addr is None else None
    if peer is not None:
        yield portal_over(peer, actor)
        return
    sources = sources_of(actor, None if registry_addr is None else [registry_addr])
    missed: list[Unanswered] = []
    async with FoundChannels() as found, AsyncExitStack() as stack:

        async def visit(source: Source) -> Channel | None:
            async with reached(source, actor, bound.step()) as registrar:
                return await _wait_at(registrar, actor, name, bound, found, missed)

        chans = await from_each(sources, visit, only_first=True)
        if not chans:
            raise _nobody_came(name, bound, missed)
        (portal,) = await found.portals(stack, chans, only_first=True)
        yield portal


def _nobody_came(name: str, bound: Bound, missed: list[Unanswered]) -> RuntimeFailure:
    if missed:
        return missed[-1]._replace(bound=bound).error()
    return ActorTooSlowError(f"no actor {name!r} was registered within {bound.seconds:g} s")


async def _wait_at(
    registrar: Portal | LocalPortal,
    actor: Actor,
    name: str,
    bound: Bound,
    chans: FoundChannels,
    missed: list[Unanswered],
) -> Channel | None:
    """A channel to the actor, once the registrar knows it and it answers; ``None`` when the time is over.

    Raises:
        RuntimeFailure: the registrar is lost, or too slow; or nothing can be connected to from here.
    """
    backoff = RetryPauses(RETRY_FIRST, RETRY_LIMIT, lambda: 0.0)
    arrived = False
    while True:
        # An answer that has a bound comes first: a registrar that answers nobody must not be waited at.
        found = await LookUp(registrar, actor, name, None, chans.add).newest(bound.step())
        if isinstance(found, Channel):
            return found
        if isinstance(found, Unanswered):
            missed[:] = [found]
        with trio.move_on_at(bound.deadline) as scope:
            if found is None and not arrived:
                await _arrival(registrar, name)
                arrived = True
                backoff.reset()
            else:
                arrived = False
                await trio.sleep(backoff.next())
        if scope.cancelled_caught:
            return None


async def _arrival(registrar: Portal | LocalPortal, name: str) -> None:
    """Wait until the first actor of that name comes.  Raises RuntimeFailure when the registrar is lost."""
    try:
        await registrar.run_from_ns("self", "wait_for_actor", name=name)
    except (TransportClosed, RemoteActorError) as exc:
        raise RuntimeFailure(f"{registrar!r}, waited at for {name!r}, is lost: {exc}") from exc


@ki_protected_manager
async def query_actor(
    name: str, regaddr: Addr | None = None, timeout: float | None = LOOKUP_TIMEOUT
) -> AsyncIterator[tuple[UnwrappedAddress | None, Portal | LocalPortal | None]]:
    """Look an actor's address up without connecting to it.

    Args:
        name: the actor's.
        regaddr: the registrar to ask; ``None``: all of this actor's own at once.
        timeout: seconds in which a registrar must have answered; ``None``: no bound.

    Yields:
        An address that the newest actor of that name listens on (the best one), unwrapped, or ``None``; and a
        portal to the registrar that has answered, or ``None`` when a connected peer was meant.  That somebody
        listens there is not tried.

    Raises:
        RuntimeFailure: no registrar answers in time.
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
    if len(sources) == 1:
        async with reached(sources[0], actor, bound) as registrar:
            yield await _best_addr(registrar, name, bound), registrar
        return
    answered: list[Source] = []

    async def visit(source: Source) -> tuple[Source, UnwrappedAddress] | None:
        async with reached(source, actor, bound) as registrar:
            addr = await _best_addr(registrar, name, bound)
        answered.append(source)
        return None if addr is None else (source, addr)

    known = await from_each(sources, visit, only_first=True)
    source, addr = known[0] if known else (answered[0], None)
    async with reached(source, actor, bound) as registrar:
        yield addr, registrar


async def _best_addr(
    registrar: Portal | LocalPortal, name: str, bound: Bound
) -> UnwrappedAddress | None:
    """The best address of the newest actor of a name that has one for this platform.  Raises RuntimeFailure."""
    for entry in await registered(registrar, name, bound):
        if entry.addrs:
            return rank_addrs(entry.addrs)[0]
    return None


def _peer_addr(actor: Actor, name: str) -> UnwrappedAddress | None:
    """An address that a connected peer listens on, where this actor knows one."""
    peer = lasting_peer(actor, name)
    if peer is None or peer.aid is None:
        return None
    record = actor.children.get(peer.aid.uid)
    addrs = getattr(record, "accept_addrs", None)
    if addrs:
        # A child's addresses are as bound; it is on this host.
        return rank_addrs([from_this_host(wrap_address(addr)) for addr in addrs])[0].unwrap()
    # What this actor has connected to is where the peer listens.
    return peer.raddr.unwrap() if peer.role == "connect" else None
