"""One look at the whole tree from inside of it: over its channels, so actors on other hosts are seen, too."""

from __future__ import annotations

import socket
import time
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import trio

from tractor._errors import RuntimeFailure, TransportClosed
from tractor.control._passing import SHARE, Question, Told, answer_of, ask_down
from tractor.control._sampling import sample_of
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.process._state import of_process
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._callee import put_return, relay_error
from tractor.runtime.seen._samples import ChildSample, Missing, Sample, TreeSample

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
    """The request ``self:_samples(limit)``: the whole tree that this actor is in.

    Raises:
        RuntimeFailure: it takes too many looks for others already.
    """
    limit = min(max(float(kwargs.get("limit", 2.0)), 0.0), 60.0)
    if _looks.get(actor, 0) >= MOST_AT_A_TIME:
        raise RuntimeFailure(f"{MOST_AT_A_TIME} looks at the tree are being taken here already")
    _looks[actor] = _looks.get(actor, 0) + 1

    async def answer() -> None:
        try:
            put_return(chan, cid, msgspec.to_builtins(await _from_the_root(actor, limit)))
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
        return await _ask_up(actor, parent, limit * SHARE)
    except (TransportClosed, trio.TooSlowError) as exc:
        below = await _downwards(actor, limit * (1 - SHARE))
        above = Missing(what=f"what is above {actor.aid.reprol()}", why=str(exc))
        return msgspec.structs.replace(below, missing=(*below.missing, above))


async def look(actor: Actor, _args: dict[str, Any]) -> Sample:
    """What this actor says of itself; see :mod:`tractor.control._passing`."""
    asked = time.perf_counter()
    await trio.lowlevel.checkpoint()
    return sample_of(actor, lag=time.perf_counter() - asked)


async def _downwards(actor: Actor, limit: float) -> TreeSample:
    return tree_of(await ask_down(actor, Question("samples", look, {}), limit))


def tree_of(told: Told) -> TreeSample:
    """What actors have said, as a list, with what their parents know of them."""
    actors: list[Sample] = []
    missing: list[Missing] = []
    list_told(told, None, None, actors, missing)
    return TreeSample(
        time=time.time(),
        host=socket.gethostname(),
        actors=tuple(actors[:MAX_ACTORS]),
        missing=tuple(missing),
        truncated=max(0, len(actors) - MAX_ACTORS),
    )


def list_told(
    told: Told,
    parent: str | None,
    known: ChildSample | None,
    actors: list[Sample],
    missing: list[Missing],
) -> None:
    """Add an actor and those below it to lists.

    Args:
        told: what they have said.
        parent: the uuid of its parent.
        known: what that one says of it.
        actors, missing: the lists.
    """
    if told.value is not None:
        sample = msgspec.convert(told.value, Sample)
    else:
        word = known or ChildSample(
            name=told.name, uuid=told.uuid, pid=told.pid, host="", state=told.state
        )
        sample = of_parents_word(word, parent, told.why)
        if told.state in ("lost", "blocked"):
            since = None if told.silent is None else time.time() - told.silent
            sample = msgspec.structs.replace(sample, state=told.state, since=since)
        if told.place:
            sample = msgspec.structs.replace(sample, host=told.place)
        missing.append(Missing(what=f"{told.name}@{told.pid}", why=told.why))
    if known is not None:
        sample = msgspec.structs.replace(
            sample, restarts=known.restarts, last_error=known.last_error
        )
    actors.append(sample)
    words = {child.uuid: child for child in sample.children}
    for below in told.below:
        list_told(below, sample.uuid, words.get(below.uuid), actors, missing)
    for child in sample.children:
        if child.state == "backoff":
            down = of_parents_word(child, sample.uuid, child.last_error)
            actors.append(msgspec.structs.replace(down, host=sample.host))


def of_parents_word(known: ChildSample, parent: str | None, why: str | None = None) -> Sample:
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


async def _ask_up(actor: Actor, chan: Channel, limit: float) -> TreeSample:
    """Raises TransportClosed, RemoteActorError, trio.TooSlowError."""
    raw = await answer_of(actor, chan, "_samples", limit, limit=limit)
    return msgspec.convert(any_value(raw), TreeSample)
