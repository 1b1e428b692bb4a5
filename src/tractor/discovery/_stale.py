"""Connecting to an actor that a registrar knows, and deleting addresses there that lead nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure, TransportClosed
from tractor.discovery._portals import connect
from tractor.discovery._registrars import OUT_OF_RESOURCES, ask
from tractor.ipc._addr import UnwrappedAddress, rank_addrs, require_connectable, wrap_address
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal

__all__ = ["addresses", "connect_to_first"]

log = _log.get_logger()

NOTHING_ACCEPTS = (ConnectionRefusedError, FileNotFoundError, NotADirectoryError)
"""The only errors that tell that nobody listens at an address; a host or a network may just be away.

Systems of the BSD family, macOS too, also refuse a Unix socket's connection while the listener's queue is full, where
Linux lets it wait: a stopped actor with 128 waiting connections can't be told from a dead one there.
"""

STALE = "stale"
SILENT = "silent"


def addresses(answer: Any) -> list[UnwrappedAddress]:
    """The addresses in a registrar's answer that this platform can make something of."""
    found: list[UnwrappedAddress] = []
    for addr in answer if isinstance(answer, (list, tuple)) else ():
        try:
            wrapped = wrap_address(addr)
            # What another platform's registrar takes, say a longer path, need not be one here.
            require_connectable(wrapped)
            found.append(wrapped.unwrap())
        except (TypeError, ValueError) as exc:
            log.warning("a registrar gave an address that is none: %s", exc)
    return found


async def connect_to_first(
    registrar: Portal | LocalPortal,
    actor: Actor,
    name: str,
    addrs: list[UnwrappedAddress],
    transports: Sequence[str] | None,
) -> Channel | None:
    """A channel to the actor ``name`` over the best address that answers.

    Stale ones, where nothing accepts or another actor does, are deleted at the registrar, which is then asked
    again: an older actor of the name may be there.  One that accepts but does not answer is left alone: its actor
    may be busy, or stopped.

    Args:
        registrar: who has given the addresses.
        actor: this actor.
        name: whom to expect.
        addrs: the registrar's answer.
        transports: use only these; ``None``: all.

    Raises:
        RuntimeFailure: the registrar is lost; or this process can't connect to anybody: it is out of descriptors or
            memory, or its key or certificate can't be used.
    """
    # Whatever the table says, nothing is tried again in one look-up that has led nowhere: it ends.
    left_alone: set[UnwrappedAddress] = set()
    deleted: set[tuple[Uid | None, UnwrappedAddress]] = set()
    while True:
        changed = False
        for addr in rank_addrs(addrs):
            key = wrap_address(addr).proto_key
            if addr in left_alone or (transports is not None and key not in transports):
                continue
            found = await _attempt(addr, actor, name)
            if found is STALE:
                found = await _retire(registrar, actor, name, addr, deleted)
                changed = changed or found is STALE
            if isinstance(found, Channel):
                return found
            if found is SILENT:
                left_alone.add(addr)
        if not changed:
            return None
        addrs = addresses(await ask(registrar, "find_actor", name=name))


async def _attempt(addr: UnwrappedAddress, actor: Actor, name: str) -> Channel | str:
    """Connect; the channel, or what is there instead."""
    for last in (False, True):
        try:
            chan = await connect(addr, actor)
        except TransportClosed as exc:
            log.transport("%r does not answer at %s: %s", name, addr, exc)
            if last or isinstance(exc.src_exc, trio.TooSlowError):
                return SILENT
            # Closed while we were let in: an actor that just ends; then the next try tells.
            continue
        except NOTHING_ACCEPTS as exc:
            log.transport("nothing accepts at %s: %r", addr, exc)
            return STALE
        except OSError as exc:
            if exc.errno in OUT_OF_RESOURCES:
                raise RuntimeFailure(f"can't connect to {name!r} at {addr}: {exc}") from exc
            log.transport("%s can't be reached: %r", addr, exc)
            return SILENT
        except NotImplementedError as exc:
            log.transport("%s can't be used: %s", addr, exc)
            return SILENT
        if chan.aid is not None and chan.aid.name == name:
            return chan
        log.transport("at %s there is %s instead of %r", addr, chan.peer, name)
        await chan.aclose()
        return STALE
    return SILENT


async def _retire(
    registrar: Portal | LocalPortal,
    actor: Actor,
    name: str,
    addr: UnwrappedAddress,
    deleted: set[tuple[Uid | None, UnwrappedAddress]],
) -> Channel | str:
    """Have a stale address deleted.

    Who owns it is asked first, and then it is tried once more: an actor that registered the same address
    meanwhile, say a restarted service on a port of its own, listens there by then, and is not deleted.

    Returns:
        A channel, if the second try leads to the actor; ``STALE`` when the registrar's answer has changed;
        ``SILENT`` when it is to be left alone.
    """
    owner = _owner(await ask(registrar, "get_registry"), name, addr)
    if (owner, addr) in deleted:
        log.warning("%r gives %s of %r again, though it is deleted", registrar, addr, name)
        return SILENT
    if owner is None:
        deleted.add((None, addr))
        return STALE
    found = await _attempt(addr, actor, name)
    if found is not STALE:
        return found
    deleted.add((owner, addr))
    gone = await ask(registrar, "delete_addr", addr=addr, uid=owner)
    if gone is None and _owner(await ask(registrar, "get_registry"), name, addr) == owner:
        # On another host than this one: only its own host can tell.
        return SILENT
    return STALE


def _owner(table: Any, name: str, addr: UnwrappedAddress) -> Uid | None:
    """Who of that name has registered the address."""
    for key, addrs in table.items() if isinstance(table, dict) else ():
        if key.startswith(f"{name}.") and addr in addresses(addrs):
            return name, key[len(name) + 1 :]
    return None
