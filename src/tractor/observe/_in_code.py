"""One look at the whole tree from inside of it: over its channels, so actors on other hosts are seen, too."""

from __future__ import annotations

import socket
import time
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import trio

from tractor._errors import RuntimeFailure, TransportClosed
from tractor.control._sampling import child_of, sample_of
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.msg.types import Return
from tractor.process._state import of_process
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._callee import put_return, relay_error
from tractor.runtime.dialog._caller import boxed, request
from tractor.runtime.seen._samples import ChildSample, Missing, Sample, TreeSample
from tractor.trionics._groups import collapse_eg

SHARE = 0.75
"""Of an actor's time, what each of those that it asks has: so that it still answers itself when they don't."""

MOST_AT_A_TIME = 64
"""Looks that an actor takes for others at a time."""

MAX_ACTORS = 10_000

_looks: WeakKeyDictionary[Actor, int] = of_process(WeakKeyDictionary())
"""How many an actor takes now."""


async def tree_statistics(limit: float = 2.0) -> TreeSample:
    """One look at the whole tree that this actor is in, as records; run in any actor of it.

    Args:
        limit: seconds that it may take in all.

    Returns:
        What ``tractor ps --json`` prints: parents before their children.  An actor that does not answer in time is in
        it with what its parent knows, and named under ``missing``.

    Raises:
        NoRuntime: no runtime is open.
    """
    return await _from_the_root(current_actor(), limit)


def serve_samples(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request ``self:_samples(limit, up)``: this actor and those below; with ``up`` the whole tree it is in.

    Raises:
        RuntimeFailure: it takes too many looks for others already.
    """
    limit = min(max(float(kwargs.get("limit", 2.0)), 0.0), 60.0)
    gather = _from_the_root if kwargs.get("up") else _downwards
    if _looks.get(actor, 0) >= MOST_AT_A_TIME:
        raise RuntimeFailure(f"{MOST_AT_A_TIME} looks at the tree are being taken here already")
    _looks[actor] = _looks.get(actor, 0) + 1

    async def answer() -> None:
        try:
            put_return(chan, cid, msgspec.to_builtins(await gather(actor, limit)))
        except Exception as exc:
            relay_error(actor, chan, cid, exc)
        finally:
            _looks[actor] -= 1

    actor.io_nursery.start_soon(answer, name="look at the tree")


async def _from_the_root(actor: Actor, limit: float) -> TreeSample:
    parent = actor.parent_chan
    if parent is None:
        return await _downwards(actor, limit)
    try:
        return await _ask(actor, parent, limit * SHARE, up=True)
    except (TransportClosed, trio.TooSlowError) as exc:
        below = await _downwards(actor, limit * (1 - SHARE))
        above = Missing(what=f"what is above {actor.aid.reprol()}", why=str(exc))
        return msgspec.structs.replace(below, missing=(*below.missing, above))


async def _downwards(actor: Actor, limit: float) -> TreeSample:
    await trio.lowlevel.checkpoint()
    own = sample_of(actor)
    records = list(actor.children.values())
    found: list[TreeSample | None] = [None] * len(records)

    async def one(i: int) -> None:
        found[i] = await _child(actor, records[i], limit * SHARE)

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for i in range(len(records)):
            tn.start_soon(one, i)
    for known in own.children:
        if known.state == "backoff":
            down = of_parents_word(known, own.uuid, known.last_error)
            found.append(TreeSample(time=down.time, host=own.host, actors=(down,)))
    return _joined(own, [below for below in found if below is not None])


def _joined(own: Sample, below: list[TreeSample]) -> TreeSample:
    actors = [own, *(sample for tree in below for sample in tree.actors)]
    return TreeSample(
        time=time.time(),
        host=socket.gethostname(),
        actors=tuple(actors[:MAX_ACTORS]),
        missing=tuple(one for tree in below for one in tree.missing),
        truncated=sum(tree.truncated for tree in below) + max(0, len(actors) - MAX_ACTORS),
    )


async def _child(actor: Actor, record: Any, limit: float) -> TreeSample:
    """A child and those below it, with what this actor knows of it."""
    known, portal = child_of(record), record.info().portal
    why = "it is not connected yet"
    if portal is not None:
        try:
            tree = await _ask(actor, portal.chan, limit)
        except trio.TooSlowError as exc:
            why = str(exc)
        except Exception as exc:
            why = f"it can't be asked: {exc}"
        else:
            first, *others = tree.actors
            first = msgspec.structs.replace(
                first, restarts=known.restarts, last_error=known.last_error
            )
            return msgspec.structs.replace(tree, actors=(first, *others))
    silent = of_parents_word(known, actor.aid.uuid, why)
    return TreeSample(
        time=silent.time,
        host=silent.host,
        actors=(silent,),
        missing=(Missing(what=f"{known.name}@{known.pid}", why=why),),
    )


def of_parents_word(known: ChildSample, parent: str, why: str | None = None) -> Sample:
    """What can be said of an actor that does not say anything itself."""
    states = {"booting": "boot", "cancelling": "cancel", "backoff": "backoff"}
    return Sample(
        name=known.name,
        uuid=known.uuid,
        pid=known.pid,
        host=known.host,
        parent=parent,
        time=time.time(),
        state=states.get(known.state, "mute"),
        why=why,
        restarts=known.restarts,
        last_error=known.last_error,
    )


async def _ask(actor: Actor, chan: Channel, limit: float, up: bool = False) -> TreeSample:
    """Raises TransportClosed, RemoteActorError, trio.TooSlowError."""
    pending = request(chan, "_samples", limit=limit, up=up)
    with trio.move_on_after(limit):
        reply = await pending.wait()
        if isinstance(reply, Return):
            return msgspec.convert(any_value(reply.pld), TreeSample)
        raise reply if isinstance(reply, BaseException) else boxed(reply, chan, actor)
    chan.forget(pending.cid)
    raise trio.TooSlowError(f"no answer from {chan.peer} within {limit:.2f} s")
