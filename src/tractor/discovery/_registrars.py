"""Which registrars an actor asks, and how: each within a bound, each failure with the registrar's name in it."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator, Set
from contextlib import contextmanager
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, RuntimeFailure, TransportClosed
from tractor._proto.registrars import ANSWER_TIME, Down
from tractor.address._policy import require_connectable
from tractor.address._types import Addr, UnwrappedAddress
from tractor.discovery._bounds import Bound, bound_of, first_of
from tractor.discovery._portals import FoundChannels, connect, is_away, open_portal
from tractor.ipc._chan import Channel
from tractor.process._proc import OUT_OF_RESOURCES
from tractor.process.host._host_id import host_id, is_here
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.runtime._reader import serve_channel
from tractor.runtime._state import current_actor
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._caller import request, result_of
from tractor.transport._addresses import wrap_address
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()

Source = LocalPortal | Portal | UnwrappedAddress
"""A registrar to ask: this actor itself, one that it has a lasting channel to, or an address."""


Key = Any
"""What tells registrars apart: the channel, the address; ``None``: this actor itself."""


def key_of(source: Source) -> Key:
    """What tells a registrar from others."""
    if isinstance(source, Portal):
        return source.chan
    return None if isinstance(source, LocalPortal) else source


def down_of(actor: Actor) -> Down[Key]:
    """Which of its registrars this actor knows not to answer."""
    return actor.registration.down if actor.registration is not None else Down()


def tree_registry_addrs() -> set[UnwrappedAddress]:
    """The addresses of the tree's root, which are a registrar's where the root is one."""
    values = runtime_vars()
    return {wrap_address(a).unwrap() for a in [*values._registry_addrs, *values._root_addrs]}


def _parent_registrar(actor: Actor) -> Channel | None:
    """The channel to the parent, where that was elected; one that runs `tractor.registrar` is found at its address."""
    parent = actor.parent_chan
    is_one = parent is not None and parent.aid is not None and parent.aid.is_registrar
    return parent if is_one else None


def _own_home(actor: Actor) -> Set[UnwrappedAddress]:
    return actor.registry.home() if actor.registry is not None else frozenset()


def _parents_home(actor: Actor) -> Set[UnwrappedAddress]:
    return tree_registry_addrs() if _parent_registrar(actor) is not None else frozenset()


def home_addrs(actor: Actor) -> Set[UnwrappedAddress]:
    """The addresses of the registrars that this actor is itself, or has as its parent."""
    return _own_home(actor) | _parents_home(actor)


def own_registrars(actor: Actor) -> list[Source]:
    """This actor's registrars, each by the nearest way: itself, the parent, a channel that keeps a registration.

    Several addresses of one registrar count once where that can be told.
    """
    sources: list[Source] = []
    parent = _parent_registrar(actor)
    if actor.is_registrar:
        sources.append(LocalPortal(actor))
    if parent is not None and not _parents_home(actor).isdisjoint(actor.reg_addrs):
        sources.append(Portal(parent, actor))
    return sources + [_nearest(actor, addr) for addr in far_registrars(actor)]


def far_registrars(actor: Actor) -> list[UnwrappedAddress]:
    """The addresses of those registrars of this actor that are neither itself nor its parent, each once.

    One that its tree has of the root, and that is one of the root's host alone, leads nowhere on another host.
    """
    home, given, values = home_addrs(actor), tree_registry_addrs(), runtime_vars()
    # On another host than the root's the parent has given addresses of the actor's own one.
    own = values._registry_host is not None and is_here(values._registry_host)
    here = {wrap_address(a).unwrap() for a in values._registry_addrs if own}
    return [
        addr
        for addr in dict.fromkeys(actor.reg_addrs)
        if addr not in home
        and not (addr in given and addr not in here and is_away(wrap_address(addr)))
    ]


def _nearest(actor: Actor, addr: UnwrappedAddress) -> Source:
    """The channel that keeps this actor registered at an address, or the address where there is none now."""
    link = actor.registration.link(addr) if actor.registration is not None else None
    return Portal(link, actor) if link is not None and link.connected() else addr


def given_registrar(actor: Actor, addr: Addr) -> Source:
    """The registrar at an address that the user gave.  Raises TypeError, ValueError for what is none."""
    wrapped = wrap_address(addr)
    target = wrapped.unwrap()
    if target in _own_home(actor):
        return LocalPortal(actor)
    parent = _parent_registrar(actor)
    if parent is not None and parent.connected() and target in _parents_home(actor):
        return Portal(parent, actor)
    require_connectable(wrapped)
    return _nearest(actor, target)


def _named(source: Source) -> str:
    """A registrar, as messages name it."""
    if isinstance(source, LocalPortal):
        return "in this actor"
    return f"{source.chan.peer}" if isinstance(source, Portal) else f"at {source}"


def no_answer(failures: list[RuntimeFailure]) -> RuntimeFailure:
    """The error of a look-up that no registrar has answered, of each registrar's own."""
    if len(failures) == 1:
        return failures[0]
    error = RuntimeFailure("no registrar answers: " + "; ".join(str(exc) for exc in failures))
    error.__cause__ = failures[0]
    return error


@contextmanager
def answer_in_time(source: Source, bound: Bound) -> Iterator[None]:
    """Bound what is asked of one registrar.  Raises RuntimeFailure when the time is over."""
    with trio.move_on_at(bound.deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise RuntimeFailure(
            f"the registrar {_named(source)} did not answer within {bound.seconds:g} s"
        )


async def ask(registrar: Portal | LocalPortal, bound: Bound, func: str, **kwargs: Any) -> Any:
    """Make one registry request.

    Unlike a call it is not cancelled at the other side when the caller is: it is answered at once or not at all.

    Raises:
        RuntimeFailure: the registrar is lost, refuses, or does not answer in time.
    """
    if isinstance(registrar, LocalPortal):
        return await registrar.run_from_ns("self", func, **kwargs)
    chan = registrar.chan
    with answer_in_time(registrar, bound):
        try:
            pending = request(chan, func, **kwargs)
            try:
                return result_of(await pending.wait(), chan, registrar.actor)
            finally:
                chan.forget(pending.cid)
        except TransportClosed as exc:
            raise RuntimeFailure(f"the registrar {chan.peer} is lost: {exc}") from exc
        except RemoteActorError as exc:
            raise RuntimeFailure(
                f"the registrar {chan.peer} refuses {func!r}: {exc.message}"
            ) from exc


async def _open_channel(addr: UnwrappedAddress, actor: Actor, bound: Bound) -> Channel:
    """A channel to the registrar at an address, its message loop running.  Raises RuntimeFailure."""
    try:
        chan = await connect(addr, actor, bound)
    except OSError as exc:
        # Such an error says nothing of the one that was to be connected to.
        if exc.errno in OUT_OF_RESOURCES:
            raise RuntimeFailure(f"can't connect to the registrar at {addr}: {exc}") from exc
        raise RuntimeFailure(f"no registrar answers at {addr}: {exc}") from exc
    except (TransportClosed, NotImplementedError) as exc:
        raise RuntimeFailure(f"no registrar answers at {addr}: {exc}") from exc
    assert chan.aid is not None
    if not chan.aid.is_registrar:
        chan.abort()
        raise RuntimeFailure(f"no registrar answers at {addr}, but the actor {chan.aid.reprol()}")
    try:
        await actor.io_nursery.start(serve_channel, actor, chan)
    except BaseException:
        chan.abort()
        raise
    return chan


@ki_protected_manager
async def reached(
    source: Source, actor: Actor, bound: Bound
) -> AsyncIterator[Portal | LocalPortal]:
    """A portal to a registrar for the length of the block, over the channel that there is or a new one.

    Raises:
        RuntimeFailure: no registrar answers there in time.
    """
    if isinstance(source, (LocalPortal, Portal)):
        yield source
        return
    with answer_in_time(source, bound):
        chan = await _open_channel(source, actor, bound)
    try:
        yield Portal(chan, actor)
    finally:
        with trio.CancelScope(shield=True):
            await chan.aclose()


@ki_protected_manager
async def get_registry(
    addr: Addr | None = None, timeout: float | None = ANSWER_TIME
) -> AsyncIterator[Portal | LocalPortal]:
    """A portal to a registrar.

    Args:
        addr: where it listens; ``None``: this actor's own.  Where it has several: one that it is connected to, or
            else the first that answers, tried in the order of ``Actor.reg_addrs``, each a moment after the other.
            One that has left a look-up without an answer is the last choice.
        timeout: seconds in which one must have answered; ``None``: no bound.

    Raises:
        RuntimeFailure: no registrar answers there in time.
        TypeError, ValueError: ``addr`` is not an address, or ``timeout`` no number of seconds.
        NoRuntime: no runtime is open.
    """
    actor = current_actor()
    bound = bound_of(timeout)
    if addr is not None:
        async with reached(given_registrar(actor, addr), actor, bound) as portal:
            yield portal
        return
    sources = own_registrars(actor)
    if not sources:
        raise no_registrars(actor)
    down = down_of(actor)
    at_hand = [source for source in sources if isinstance(source, (LocalPortal, Portal))]
    elsewhere = [source for source in sources if source not in at_hand]
    answering = [source for source in at_hand if key_of(source) not in down]
    if answering or not elsewhere:
        yield (answering or at_hand)[0]
        return
    failures: list[RuntimeFailure] = []
    async with FoundChannels() as found:

        async def attempt(source: Any) -> Channel | None:
            try:
                with answer_in_time(source, bound):
                    return found.add(await _open_channel(source, actor, bound))
            except RuntimeFailure as exc:
                failures.append(exc)
                return None

        chan = await first_of(elsewhere, attempt, bound)
        if chan is not None:
            await found.close_but(chan)
        elif at_hand:
            yield at_hand[0]
            return
        else:
            raise no_answer(failures)
        async with open_portal(chan, start_msg_loop=False) as portal:
            yield portal


def no_registrars(actor: Actor) -> RuntimeFailure:
    """The error of an actor that has no registrar to ask."""
    text = f"{actor.aid.reprol()} knows no registrar; set `reg_addrs`"
    if actor.reg_addrs:
        text += (
            f": those at {', '.join(map(str, actor.reg_addrs))} are on the root's host alone, which is "
            f"{runtime_vars()._root_host}, and this one is {host_id()}"
        )
    return RuntimeFailure(text)


@ki_protected_manager
async def get_arbiter(addr: Addr | None = None, **_kw: Any) -> AsyncIterator[Portal | LocalPortal]:
    """The outdated name of :func:`get_registry`."""
    warnings.warn(
        "`get_arbiter()` is outdated; use `get_registry()`", DeprecationWarning, stacklevel=3
    )
    async with get_registry(addr) as portal:
        yield portal
