"""Finding other actors by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from tractor._errors import RemoteActorError, RuntimeFailure, TransportClosed
from tractor._proto.backoff import Backoff
from tractor.discovery._portals import Addr, lasting_peer, portal_over
from tractor.discovery._registrar import checked_name
from tractor.discovery._registrars import Source, ask, reached
from tractor.discovery._several import Found, from_each, sources_of
from tractor.discovery._stale import addresses, connect_to_first
from tractor.ipc._addr import (
    UnwrappedAddress,
    from_this_host,
    known_transports,
    rank_addrs,
    wrap_address,
)
from tractor.ipc._chan import Channel
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.runtime._state import current_actor

__all__ = ["find_actor", "query_actor", "wait_for_actor"]

RETRY_FIRST = 0.1
RETRY_LIMIT = 1.0
"""Seconds between the tries to connect to an actor that is registered but does not answer."""


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def find_actor(
    name: str,
    registry_addrs: Sequence[Addr] | None = None,
    enable_transports: Sequence[str] | None = None,
    only_first: bool = True,
    raise_on_none: bool = False,
) -> AsyncIterator[Portal | list[Portal] | None]:
    """Find an actor by name: among the connected peers, then at the registrars, all of them at once.

    Args:
        name: the actor's; uuids are never matched.  Where several actors share it, each registrar gives its newest.
        registry_addrs: the registrars to ask; ``None``: this actor's own.
        enable_transports: connect over these only; ``None``: over every one.
        only_first: give the first portal that there is, without waiting for slower registrars; ``False``: the
            list of all.
        raise_on_none: raise instead of giving ``None``.

    Yields:
        A portal to an actor that has answered, ``None`` when there is none; or a list of portals, one for each
        actor that is the newest of that name at one of the registrars.  They live as long as the block.

    Raises:
        RuntimeError: nobody of that name, with ``raise_on_none``.
        RuntimeFailure: no registrar answers (3 s each, all at once).
        TypeError, ValueError: an address that is none, or a name that is no string.
        NotImplementedError: an unknown transport.
        NoRuntime: no runtime is open.

    An address where nothing accepts is deleted at its registrar, and the next one is tried.  Each address has
    3 s; one where an actor accepts but does not answer, say because it is stopped, is left in the table.
    """
    actor = current_actor()
    name = checked_name(name)
    if enable_transports:
        enable_transports = known_transports(enable_transports)
    if only_first and registry_addrs is None:
        peer = lasting_peer(actor, name, enable_transports)
        if peer is not None:
            yield portal_over(peer, actor)
            return
    sources = sources_of(actor, registry_addrs)
    async with Found() as found, AsyncExitStack() as stack:

        async def visit(source: Source) -> Channel | None:
            async with reached(source, actor) as registrar:
                addrs = addresses(await ask(registrar, "find_actor", name=name))
                chan = await connect_to_first(registrar, actor, name, addrs, enable_transports)
                return None if chan is None else found.add(chan)

        chans = await from_each(sources, visit, only_first)
        portals = await found.portals(stack, chans, only_first)
        if not portals and raise_on_none:
            asked = list(actor.reg_addrs if registry_addrs is None else registry_addrs)
            raise RuntimeError(f"no actor {name!r} that answers is registered at {asked}")
        if only_first:
            yield portals[0] if portals else None
        else:
            yield portals or None


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def wait_for_actor(name: str, registry_addr: Addr | None = None) -> AsyncIterator[Portal]:
    """Wait until an actor of that name is registered and answers; a portal to it, for the length of the block.

    Args:
        name: the actor's.
        registry_addr: the registrar to wait at; ``None``: all of this actor's own at once.

    Raises:
        RuntimeFailure: no registrar answers within 3 s, or every one was lost while waiting.
        TypeError, ValueError: no address, or a name that is no string.
        NoRuntime: no runtime is open.

    The wait itself has no bound; a caller that is cancelled leaves no waiter behind at any registrar.
    """
    actor = current_actor()
    name = checked_name(name)
    peer = lasting_peer(actor, name) if registry_addr is None else None
    if peer is not None:
        yield portal_over(peer, actor)
        return
    sources = sources_of(actor, None if registry_addr is None else [registry_addr])
    async with Found() as found, AsyncExitStack() as stack:

        async def visit(source: Source) -> Channel:
            async with reached(source, actor) as registrar:
                return found.add(await _wait_at(registrar, actor, name))

        chans = await from_each(sources, visit, only_first=True)
        (portal,) = await found.portals(stack, chans, only_first=True)
        yield portal


async def _wait_at(registrar: Portal | LocalPortal, actor: Actor, name: str) -> Channel:
    """A channel to the actor, once the registrar knows it and it answers.  Raises RuntimeFailure."""
    backoff = Backoff(RETRY_FIRST, RETRY_LIMIT, lambda: 0.0)
    # An answer that has a bound comes first: a registrar that answers nobody must not be waited at.
    addrs = addresses(await ask(registrar, "find_actor", name=name))
    while True:
        if not addrs:
            addrs = addresses(await _arrival(registrar, name))
            backoff.reset()
        chan = await connect_to_first(registrar, actor, name, addrs, None)
        if chan is not None:
            return chan
        addrs = addresses(await ask(registrar, "find_actor", name=name))
        if addrs:
            await trio.sleep(backoff.next())


async def _arrival(registrar: Portal | LocalPortal, name: str) -> Any:
    """The addresses of the first actor of that name to come.  Raises RuntimeFailure when the registrar is lost."""
    try:
        return await registrar.run_from_ns("self", "wait_for_actor", name=name)
    except (TransportClosed, RemoteActorError) as exc:
        raise RuntimeFailure(f"{registrar!r}, waited at for {name!r}, is lost: {exc}") from exc


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def query_actor(
    name: str, regaddr: Addr | None = None
) -> AsyncIterator[tuple[UnwrappedAddress | None, Portal | LocalPortal | None]]:
    """Look an actor's address up without connecting to it.

    Args:
        name: the actor's.
        regaddr: the registrar to ask; ``None``: all of this actor's own at once.

    Yields:
        An address that the newest actor of that name listens on (the best one), unwrapped, or ``None``; and a
        portal to the registrar that has answered, or ``None`` when a connected peer was meant.  That somebody
        listens there is not tried.

    Raises:
        RuntimeFailure: no registrar answers (3 s each, all at once).
        TypeError, ValueError: no address, or a name that is no string.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    name = checked_name(name)
    near = _peer_addr(actor, name) if regaddr is None else None
    if near is not None:
        yield near, None
        return
    sources = sources_of(actor, None if regaddr is None else [regaddr])
    if len(sources) == 1:
        async with reached(sources[0], actor) as registrar:
            addrs = addresses(await ask(registrar, "find_actor", name=name))
            yield (rank_addrs(addrs)[0] if addrs else None), registrar
        return
    answered: list[Source] = []

    async def visit(source: Source) -> tuple[Source, list[UnwrappedAddress]] | None:
        async with reached(source, actor) as registrar:
            addrs = addresses(await ask(registrar, "find_actor", name=name))
        answered.append(source)
        return (source, addrs) if addrs else None

    known = await from_each(sources, visit, only_first=True)
    source, addrs = known[0] if known else (answered[0], [])
    async with reached(source, actor) as registrar:
        yield (rank_addrs(addrs)[0] if addrs else None), registrar


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
