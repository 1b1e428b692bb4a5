"""Questions to an actor and all below it, passed down the channels, host after host.

One request carries them all, ``self:_look(op, args, limit)``, and only an actor's own parent may make it.  Each actor
answers for itself, asks its subactors meanwhile, and puts their answers below its own.  A socket is never reached
across hosts, a channel is.  What an op gives is said by a *look*, a function of the actor; `tractor._tools` lists them.

Bounds: an actor's own answer has at most :data:`MAX_ANSWER` bytes, those of all below it :data:`MOST_BELOW`; what is
over that is left out, and said so.  Each hop has :data:`SHARE` of the time left, so that who asks answers itself when
others don't.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec
import trio

from tractor import log as _log
from tractor.control._other_road import ask_past_the_loop, has_other_road, or_past_the_loop
from tractor.control._protocol import LONGEST, MAX_ANSWER
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.msg.types import Return
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._callee import put_return, relay_error
from tractor.runtime.dialog._caller import ask, boxed
from tractor.trionics._groups import collapse_eg

log = _log.get_logger()

Look: TypeAlias = Callable[[Actor, dict[str, Any]], Awaitable[Any]]
"""What this actor says to an op: of the actor and the arguments; the answer is of plain values."""

SHARE = 0.75
"""Of an actor's time, what each of those that it asks has."""

INSTEAD: dict[str, dict[str, Any]] = {"samples": {"op": "sample"}}
"""What the control socket of one whose loop does not come to an op is asked instead."""

MOST_BELOW = 8 * MAX_ANSWER
"""Bytes of the answers of all below one actor."""


class Told(msgspec.Struct):
    """What an actor says, and those below it.

    Attributes:
        name, uuid, pid: its identity, as it says itself, else as its parent knows.
        value: its own answer; ``None``: there is none.
        why: why there is none.
        state: in its parent's words; ``"lost"``: its host is out of reach; ``"blocked"``: a sub-interpreter whose loop
            did not answer.
        silent: seconds since the last sign of life of its host, where that is out of reach.
        place: its host as its parent has named it; empty: that of its parent.
        below: its subactors.
    """

    name: str
    uuid: str
    pid: int | None
    value: Any = None
    why: str = ""
    state: str = ""
    place: str = ""
    below: list[Told] = []
    silent: float | None = None


class Question(NamedTuple):
    """What is asked of each.

    Attributes:
        op: its name.
        look: what this actor says to it.
        args: for that.
    """

    op: str
    look: Look
    args: dict[str, Any]


def serve_look(
    actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any], looks: Mapping[str, Look]
) -> None:
    """The request ``self:_look(op, args, limit)`` of the parent.

    Raises:
        ValueError: there is no such op.
    """
    op = str(kwargs["op"])
    if op not in looks:
        raise ValueError(f"there is no look {op!r}, but {sorted(looks)}")
    question = Question(op, looks[op], msgspec.convert(kwargs.get("args", {}), dict[str, Any]))
    limit = min(max(float(kwargs["limit"]), 0.0), LONGEST)

    async def answer() -> None:
        try:
            put_return(chan, cid, msgspec.to_builtins(await ask_down(actor, question, limit)))
        except Exception as exc:
            relay_error(actor, chan, cid, exc)

    actor.io_nursery.start_soon(answer, name=f"look {op!r}")


async def ask_down(actor: Actor, question: Question, limit: float) -> Told:
    """Ask this actor and all below it.

    Args:
        actor: this process's.
        question: what.
        limit: seconds for all of it.

    Returns:
        The answers, as a tree; who has none says why.
    """
    told = await _own(actor, question)
    told.below = await ask_children(actor, question, limit, list(actor.children.values()))
    return told


async def ask_children(
    actor: Actor, question: Question, limit: float, records: Sequence[Any]
) -> list[Told]:
    """Ask some subactors of this actor, and all below them.

    Args:
        actor: this process's.
        question: what.
        limit: seconds for all of it.
        records: what the actor keeps of each of them.
    """
    found: list[Told | None] = [None] * len(records)
    room = _Room(MOST_BELOW)

    async def one(i: int) -> None:
        found[i] = await _child(actor, records[i], question, limit * SHARE, room)

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for i in range(len(records)):
            tn.start_soon(one, i)
    return [child for child in found if child is not None]


class _Room:
    """What is left of a number of bytes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether so many were left; then they are taken."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


async def _own(actor: Actor, question: Question) -> Told:
    told = Told(actor.aid.name, actor.aid.uuid, actor.pid)
    try:
        value = msgspec.to_builtins(await question.look(actor, question.args))
        size = len(msgspec.msgpack.encode(value))
    except Exception as exc:
        log.exception("the look %r failed", question.op)
        told.why = f"it failed: {exc!r}"
        return told
    if size > MAX_ANSWER:
        told.why = f"its answer has {size} bytes, more than {MAX_ANSWER}"
    else:
        told.value = value
    return told


async def _child(actor: Actor, record: Any, question: Question, limit: float, room: _Room) -> Told:
    """What a child and those below it say; else what this actor knows of it."""
    info = record.info()
    told = Told(info.aid.name, info.aid.uuid, info.pid, state=info.state, place=info.place)
    if info.silent is not None:
        # It would be waited for in vain.
        told.state, told.silent = "lost", info.silent
        told.why = f"no sign of life of its host for {info.silent:.1f} s"
    elif info.portal is None:
        told.why = "is not connected yet"
    else:
        kwargs = {"op": question.op, "args": question.args, "limit": limit}

        async def by_channel() -> Any:
            return await answer_of(actor, info.portal.chan, "_look", limit, **kwargs)

        try:
            instead = INSTEAD.get(question.op) if has_other_road(record) else None
            if instead is None:
                found = await by_channel()
            else:
                found = await or_past_the_loop(by_channel, partial(_stale, record, instead, limit))
            if not isinstance(found, msgspec.Raw):
                told.value = found
            elif room.take(len(found)):
                answer = msgspec.convert(any_value(found), Told)
                answer.state, answer.place = told.state, told.place
                return answer
            else:
                told.why = f"left out: {len(found)} bytes more than {MOST_BELOW} for all"
        except trio.TooSlowError as exc:
            log.warning("%s", exc)
            told.why = f"does not answer: {exc}"
            if info.pid == os.getpid():
                told.state = "blocked"
        except Exception as exc:
            told.why = f"can't be asked: {exc}"
    return told


async def _stale(record: Any, request: dict[str, Any], limit: float) -> Any:
    """What a subactor's socket answers for a loop that does not; ``None``: its loop does."""
    answer = await ask_past_the_loop(record, request, limit)
    return answer if answer.get("stale") else None


async def answer_of(
    actor: Actor, chan: Channel, func: str, within: float, /, **kwargs: Any
) -> msgspec.Raw:
    """What a peer answers to a runtime request, undecoded.

    Args:
        actor: this process's.
        chan: the channel to the peer.
        func: the request.
        within: seconds to wait.
        kwargs: its arguments.

    Raises:
        TransportClosed: the peer is gone.
        RemoteActorError: it refuses, or has failed.
        trio.TooSlowError: it has not answered in time.
    """
    reply = await ask(chan, func, within, **kwargs)
    if reply is None:
        raise trio.TooSlowError(f"no answer from {chan.peer} within {within:.2f} s")
    if isinstance(reply, Return):
        pld: msgspec.Raw = reply.pld
        return pld
    raise reply if isinstance(reply, BaseException) else boxed(reply, chan, actor)
