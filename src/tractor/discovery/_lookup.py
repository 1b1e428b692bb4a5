"""Finding other actors by name."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, RuntimeFailure, TransportClosed
from tractor.ipc._addr import (
    Address,
    UnwrappedAddress,
    rank_addrs,
    wrap_address,
)
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.runtime._state import current_actor
from tractor.runtime._vars import runtime_vars

__all__ = [
    "find_actor",
    "get_arbiter",
    "get_peer_by_name",
    "get_registry",
    "get_root",
    "maybe_open_portal",
    "open_portal",
    "query_actor",
    "wait_for_actor",
]

log = _log.get_logger()

Addr = UnwrappedAddress | Address | str
QUERY_TIMEOUT = 3.0
"""Seconds in which a registrar must answer."""

RETRY_PAUSE = 0.1
"""Seconds until an actor that was registered but did not answer is tried again."""

CONNECT_TIMEOUT = 3.0
"""Seconds that connecting to one address, handshake included, may take."""


@asynccontextmanager
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
    if channel.aid is None:
        await channel.handshake(actor.aid)
    if start_msg_loop:
        await (tn or actor.io_nursery).start(actor.serve_channel, channel)
    try:
        with trio.CancelScope(shield=shield):
            yield Portal(channel, actor)
    finally:
        with trio.CancelScope(shield=True):
            await channel.aclose()


async def _connect(addr: Addr, actor: Actor) -> Channel:
    """A channel to the actor at an address, handshake done.

    Raises:
        OSError, TransportClosed: no actor answers there.
    """
    with trio.move_on_after(CONNECT_TIMEOUT):
        chan = Channel(await transport_from_addr(addr), "connect")
        try:
            await chan.handshake(actor.aid)
        except BaseException:
            chan.abort()
            raise
        return chan
    raise TransportClosed(f"no actor answered at {addr} within {CONNECT_TIMEOUT} s")


@asynccontextmanager
async def get_registry(addr: Addr | None = None) -> AsyncIterator[Portal | LocalPortal]:
    """A portal to a registrar.

    Args:
        addr: where it listens; ``None``: this actor's own (first) registrar.

    Raises:
        NoRuntime: no runtime is open.
        RuntimeFailure: no registrar answers there.
    """
    actor = current_actor()
    target = None if addr is None else wrap_address(addr).unwrap()
    if actor.is_registrar and (target is None or target in actor.accept_addrs):
        yield LocalPortal(actor)
        return
    if target is None:
        known = _registrar_channel(actor)
        if known is not None:
            yield Portal(known, actor)
            return
        if not actor.reg_addrs:
            raise RuntimeFailure(f"{actor.aid.reprol()} knows no registrar; set `registry_addrs`")
        target = actor.reg_addrs[0]
    for kept in actor.ipc_server.peer_channels():
        if kept.role == "connect" and kept.is_registration and kept.raddr.unwrap() == target:
            yield Portal(kept, actor)
            return
    try:
        chan = await _connect(target, actor)
    except (OSError, TransportClosed) as exc:
        raise RuntimeFailure(f"no registrar answers at {target}: {exc}") from exc
    async with open_portal(chan) as portal:
        yield portal


def _registrar_channel(actor: Actor) -> Channel | None:
    """A channel to one of the actor's registrars that lives as long as the actor does."""
    parent = actor.parent_chan
    if parent is not None and parent.connected() and parent.aid and parent.aid.is_registrar:
        return parent
    for chan in actor.ipc_server.peer_channels():
        if chan.role == "connect" and chan.is_registration and chan.connected():
            return chan
    return None


@asynccontextmanager
async def get_arbiter(addr: Addr | None = None, **_kw: Any) -> AsyncIterator[Portal | LocalPortal]:
    """The outdated name of :func:`get_registry`."""
    warnings.warn(
        "`get_arbiter()` is outdated; use `get_registry()`", DeprecationWarning, stacklevel=3
    )
    async with get_registry(addr) as portal:
        yield portal


def get_peer_by_name(name: str) -> list[Channel] | None:
    """The channels to connected peers of that name; ``None`` when there are none."""
    actor = current_actor()
    found = [
        chan
        for chan in actor.ipc_server.peer_channels()
        if chan.aid is not None and chan.aid.name == name and chan.connected()
    ]
    return found or None


def _lasting_peer(actor: Actor, name: str) -> Channel | None:
    """A connected peer's channel that lives as long as that peer: to a child, the parent, or for a registration.

    A channel that somebody opened for the length of a block would end with that block, under its other users.
    """
    for chan in get_peer_by_name(name) or ():
        assert chan.aid is not None
        if chan is actor.parent_chan or chan.is_registration:
            return chan
        # A child that is still being configured serves nobody.
        if getattr(actor.children.get(chan.aid.uid), "ready", False):
            return chan
    return None


def _portal_over(chan: Channel, actor: Actor) -> Portal:
    """A portal over a lasting channel; the nursery's own for a child, so that it knows who has the child cancelled."""
    record = actor.children.get(chan.aid.uid) if chan.aid else None
    own: Portal | None = getattr(record, "portal", None)
    return own or Portal(chan, actor)


@asynccontextmanager
async def maybe_open_portal(addr: Addr, name: str) -> AsyncIterator[Portal | None]:
    """A portal to the actor ``name`` at ``addr``, or ``None`` when nothing answers there or it is another actor."""
    actor = current_actor()
    chan: Channel | None = None
    try:
        chan = await _connect(addr, actor)
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


async def _open_best(
    stack: AsyncExitStack,
    registrar: Portal | LocalPortal,
    addrs: Iterable[UnwrappedAddress],
    name: str,
) -> tuple[Portal | None, bool]:
    """A portal over the best of the addresses, and whether asking the registrar again could give others.

    An address where nothing accepts, or another actor does, is deleted at the registrar; one that accepts but
    does not answer in time is left alone: its actor may be busy.
    """
    actor = current_actor()
    deleted = False
    for addr in rank_addrs([wrap_address(a).unwrap() for a in addrs]):
        try:
            chan = await _connect(addr, actor)
        except TransportClosed as exc:
            log.transport("%r does not answer at %s: %s", name, addr, exc)
            continue
        except OSError as exc:
            log.transport("nothing accepts at %s: %r", addr, exc)
        else:
            if chan.aid is not None and chan.aid.name == name:
                return await stack.enter_async_context(open_portal(chan)), False
            await chan.aclose()
        await registrar.run_from_ns("self", "delete_addr", addr=addr)
        deleted = True
    return None, deleted


def _of_transports(
    addrs: Iterable[UnwrappedAddress], transports: Sequence[str] | None
) -> list[UnwrappedAddress]:
    if transports is None:
        return list(addrs)
    return [a for a in addrs if wrap_address(a).proto_key in transports]


async def _find_at(
    stack: AsyncExitStack,
    registrar_addr: Addr | None,
    name: str,
    transports: Sequence[str] | None,
    found: list[UnwrappedAddress],
) -> Portal | None:
    """Connect to what a registrar has found; ask it again when that was stale."""
    if not found:
        return None
    registrar = await stack.enter_async_context(get_registry(registrar_addr))
    while usable := _of_transports(found, transports):
        portal, changed = await _open_best(stack, registrar, usable, name)
        if portal is not None or not changed:
            return portal
        found = await _query(registrar, name)
    return None


async def _query(registrar: Portal | LocalPortal, name: str) -> list[UnwrappedAddress]:
    """The addresses of the newest registration of a name.  Raises RuntimeFailure when no answer comes in time."""
    with trio.move_on_after(QUERY_TIMEOUT):
        return await registrar.run_from_ns("self", "find_actor", name=name) or []
    raise RuntimeFailure(f"the registrar {registrar!r} did not answer within {QUERY_TIMEOUT} s")


@asynccontextmanager
async def find_actor(
    name: str,
    registry_addrs: Sequence[Addr] | None = None,
    enable_transports: Sequence[str] | None = None,
    only_first: bool = True,
    raise_on_none: bool = False,
) -> AsyncIterator[Portal | list[Portal] | None]:
    """Find an actor by name: among the connected peers, then at the registrars.

    Args:
        name: the actor's; uuids are never matched.
        registry_addrs: the registrars to ask; ``None``: this actor's own.
        enable_transports: connect over these only.
        only_first: give the first portal that there is; ``False``: the list of all.
        raise_on_none: raise instead of giving ``None``.

    Yields:
        A portal to the newest registration that answers, ``None`` when there is none; or a list of portals, one
        for each registrar that knows the name.  They live as long as the block.

    Raises:
        RuntimeError: nobody of that name, with ``raise_on_none``.
        RuntimeFailure: no registrar answers.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    if only_first and registry_addrs is None and enable_transports is None:
        peer = _lasting_peer(actor, name)
        if peer is not None:
            yield _portal_over(peer, actor)
            return
    asked: list[Addr | None] = (
        list(registry_addrs) if registry_addrs is not None else _own_registrars(actor)
    )
    async with AsyncExitStack() as stack:
        portals = await _ask_all(stack, asked, name, enable_transports)
        if not portals and raise_on_none:
            raise RuntimeError(
                f"no actor {name!r} is registered at {asked if asked != [None] else actor.reg_addrs}"
            )
        if only_first:
            yield portals[0] if portals else None
        else:
            yield portals or None


def _own_registrars(actor: Actor) -> list[Addr | None]:
    """This actor's registrars; ``None`` stands for itself or its parent."""
    parent = actor.parent_chan
    if actor.is_registrar or (parent is not None and parent.aid and parent.aid.is_registrar):
        return [None]
    return list(actor.reg_addrs) or [None]


async def _ask_all(
    stack: AsyncExitStack,
    asked: Sequence[Addr | None],
    name: str,
    transports: Sequence[str] | None,
) -> list[Portal]:
    """Ask several registrars, all at once; one that does not answer is no error while another does."""
    found: dict[int, list[UnwrappedAddress]] = {}
    failures: list[Exception] = []

    async def ask(number: int, addr: Addr | None) -> None:
        try:
            async with get_registry(addr) as registrar:
                found[number] = await _query(registrar, name)
        except (RuntimeFailure, TransportClosed, RemoteActorError) as exc:
            failures.append(exc)

    async with trio.open_nursery() as tn:
        for number, addr in enumerate(asked):
            tn.start_soon(ask, number, addr)
    if failures and not found:
        raise failures[0]
    portals: dict[str, Portal] = {}
    for number in sorted(found):
        portal = await _find_at(stack, asked[number], name, transports, found[number])
        if portal is not None and portal.chan.aid is not None:
            portals.setdefault(portal.chan.aid.uuid, portal)
    return list(portals.values())


@asynccontextmanager
async def wait_for_actor(name: str, registry_addr: Addr | None = None) -> AsyncIterator[Portal]:
    """Wait until an actor of that name is registered, then give a portal to it, for the length of the block.

    Args:
        name: the actor's.
        registry_addr: the registrar to ask; ``None``: this actor's own.

    Raises:
        RuntimeFailure: no registrar answers.
        TransportClosed: the registrar was lost while waiting.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    peer = _lasting_peer(actor, name) if registry_addr is None else None
    if peer is not None:
        yield _portal_over(peer, actor)
        return
    async with AsyncExitStack() as stack:
        registrar = await stack.enter_async_context(get_registry(registry_addr))
        portal: Portal | None = None
        while portal is None:
            addrs = await registrar.run_from_ns("self", "wait_for_actor", name=name)
            portal, changed = await _open_best(stack, registrar, addrs, name)
            if portal is None and not changed:
                await trio.sleep(RETRY_PAUSE)
        yield portal


@asynccontextmanager
async def query_actor(
    name: str, regaddr: Addr | None = None
) -> AsyncIterator[tuple[UnwrappedAddress | None, Portal | LocalPortal | None]]:
    """Look an actor's address up without connecting to it.

    Args:
        name: the actor's.
        regaddr: the registrar to ask; ``None``: this actor's own.

    Yields:
        An address that the actor listens on (the best one), unwrapped, or ``None``; and a portal to the registrar
        that was asked, or ``None`` when a connected peer answered.

    Raises:
        RuntimeFailure: no registrar answers.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    if regaddr is None:
        for uid, record in actor.children.items():
            addrs = getattr(record, "accept_addrs", None)
            if uid[0] == name and addrs:
                yield rank_addrs(addrs)[0], None
                return
    async with get_registry(regaddr) as registrar:
        found = await registrar.run_from_ns("self", "find_actor", name=name)
        addrs = [wrap_address(a).unwrap() for a in found or ()]
        yield (rank_addrs(addrs)[0] if addrs else None), registrar


@asynccontextmanager
async def get_root(**kwargs: Any) -> AsyncIterator[Portal]:
    """A portal to the root of this actor's tree.

    Args:
        kwargs: for :func:`open_portal`.

    Raises:
        RuntimeFailure: the root does not answer, or this actor is it.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    if actor.is_root:
        raise RuntimeFailure(f"{actor.aid.reprol()} is the root itself")
    addrs = runtime_vars()._root_addrs
    for addr in rank_addrs([wrap_address(a).unwrap() for a in addrs]):
        try:
            chan = await _connect(addr, actor)
        except (OSError, TransportClosed) as exc:
            log.transport("the root does not answer at %s: %s", addr, exc)
            continue
        async with open_portal(chan, **kwargs) as portal:
            yield portal
        return
    raise RuntimeFailure(f"the root of the tree does not answer at any of {addrs}")
