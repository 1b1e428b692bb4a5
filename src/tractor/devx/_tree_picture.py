"""A picture of the whole tree: asked for at the root, from there down, host after host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure, TransportClosed
from tractor.control._passing import SHARE, Question, Told, answer_of, ask_down
from tractor.devx._picture import ActorPicture, picture_of, pretty_picture
from tractor.devx.debug._public import Lock
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.msg.types import Uid
from tractor.process._state import of_process
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._callee import put_return, relay_error

log = _log.get_logger()

LIMIT = 2.0
"""Seconds that a picture may take."""

MOST_AT_A_TIME = 64
"""Pictures that an actor makes for others at a time."""


@dataclass
class _Making:
    """The pictures that an actor makes now, one after the other."""

    count: int = 0
    turn: trio.Lock = field(default_factory=trio.Lock)


_making: WeakKeyDictionary[Actor, _Making] = of_process(WeakKeyDictionary())


def _making_in(actor: Actor) -> _Making:
    return _making.setdefault(actor, _Making())


async def tree_picture(limit: float = LIMIT) -> str:
    """The whole tree that this actor is in, as text; run in any actor of it.

    For each actor: state, pid, addresses, what its tasks wait for, its open calls, contexts and streams, whether it
    has or awaits the REPL, and its subactors.  An actor that does not answer in time is shown as such.

    Args:
        limit: seconds that it may take in all.

    Raises:
        NoRuntime: no runtime is open.
    """
    return pretty_picture(await tree_record(limit))


async def tree_record(limit: float = LIMIT) -> ActorPicture:
    """As :func:`tree_picture`, as a record."""
    return await _from_the_root(current_actor(), limit)


def serve_tree(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request ``self:_tree(limit, up)``: this actor and those below; with ``up`` the whole tree it is in.

    Raises:
        RuntimeFailure: it makes too many for others already.
    """
    limit = min(max(float(kwargs.get("limit", LIMIT)), 0.0), 60.0)
    gather = _from_the_root if kwargs.get("up") else _downwards

    making = _making_in(actor)
    if making.count >= MOST_AT_A_TIME:
        raise RuntimeFailure(f"{making.count} pictures of the tree are being made here already")
    making.count += 1

    async def answer() -> None:
        try:
            put_return(chan, cid, msgspec.to_builtins(await gather(actor, limit)))
        except Exception as exc:
            relay_error(actor, chan, cid, exc)
        finally:
            making.count -= 1

    actor.io_nursery.start_soon(answer, name="tree picture")


async def _from_the_root(actor: Actor, limit: float) -> ActorPicture:
    if actor.parent_chan is None:
        whole = await _downwards(actor, limit)
        _note_repl(whole)
        return whole
    parent = actor.parent_chan
    try:
        return await _ask_up(actor, parent, limit * SHARE)
    except (TransportClosed, trio.TooSlowError) as exc:
        below = await _downwards(actor, limit * (1 - SHARE))
        below.note = f"what is above is unknown: the parent {parent.peer} does not answer ({exc})"
        return below


async def look(actor: Actor, _args: dict[str, Any]) -> ActorPicture:
    """What this actor says of itself; see :mod:`tractor.control._passing`."""
    async with _making_in(actor).turn:
        picture = picture_of(actor)
        # That takes milliseconds: however many are asked for, others run in between.
        await trio.lowlevel.checkpoint()
    return picture


async def _downwards(actor: Actor, limit: float) -> ActorPicture:
    return _picture_of(await ask_down(actor, Question("tree", look, {}), limit))


def _picture_of(told: Told) -> ActorPicture:
    if told.value is None:
        picture = ActorPicture(told.name, told.uuid, told.pid, told.state, note=told.why)
    else:
        picture = msgspec.convert(told.value, ActorPicture)
        if told.state not in ("", "running") and picture.state == "running":
            picture.state = told.state
    picture.place = told.place
    picture.children = [_picture_of(child) for child in told.below]
    return picture


async def _ask_up(actor: Actor, chan: Channel, limit: float) -> ActorPicture:
    """Raises TransportClosed, RemoteActorError, trio.TooSlowError."""
    try:
        raw = await answer_of(actor, chan, "_tree", limit, limit=limit, up=True)
    except trio.TooSlowError as exc:
        log.warning("%s", exc)
        raise
    return msgspec.convert(any_value(raw), ActorPicture)


def _note_repl(root: ActorPicture) -> None:
    """Who has the REPL and who awaits it, which the root knows."""
    stats = Lock.statistics()
    told: dict[Uid, str] = {}
    for place, (uid, task) in enumerate(zip(stats.waiting, stats.waiting_tasks, strict=True), 1):
        told[uid] = f"waits for the REPL, in place {place}: {task}"
    if stats.holder is not None:
        told[stats.holder] = f"has the REPL: {stats.holder_task}"

    def note(actor: ActorPicture) -> None:
        actor.repl = told.get(actor.uid, actor.repl)
        if actor.note and actor.uid == stats.holder:
            actor.note = (
                "its loop stands still while the REPL is in use; those below it are not known"
            )
        for child in actor.children:
            note(child)

    note(root)
