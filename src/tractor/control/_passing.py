"""Questions to an actor and all below it, passed down the channels, host after host.

One request carries them all, ``self:_look(op, args, limit)``, and only an actor's own parent may make it.  Each actor
answers for itself, asks its subactors meanwhile, and puts their answers below its own.  A socket is never reached
across hosts, a channel is.  What an op gives is said by a *look*, a function of the actor; `tractor._tools` lists them.

Bounds: an actor's own answer has at most :data:`MAX_ANSWER` bytes, those of all below it :data:`MOST_BELOW`; what is
over that is left out, and said so.  Each hop has :data:`SHARE` of the time left, so that who asks answers itself when
others don't.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec
import trio

from tractor import log as _log
from tractor.control._protocol import MAX_ANSWER
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

LONGEST = 60.0
"""Seconds that may be asked for."""

MOST_BELOW = 8 * MAX_ANSWER
"""Bytes of the answers of all below one actor."""


class Told(msgspec.Struct):
    """What an actor says, and those below it.

    Attributes:
        name, uuid, pid: its identity, as it says itself, else as its parent knows.
        value: its own answer; ``None``: there is none.
        why: why there is none.
        state: in its parent's words; ``"lost"``: its host is out of reach.
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
    infos = [record.info() for record in list(actor.children.values())]
    found: list[Told | None] = [None] * len(infos)
    room = _Room(MOST_BELOW)

    async def one(i: int) -> None:
        found[i] = await _child(actor, infos[i], question, limit * SHARE, room)

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for i in range(len(infos)):
            tn.start_soon(one, i)
    told.below = [child for child in found if child is not None]
    return told


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


async def _child(actor: Actor, info: Any, question: Question, limit: float, room: _Room) -> Told:
    """What a child and those below it say; else what this actor knows of it."""
    told = Told(info.aid.name, info.aid.uuid, info.pid, state=info.state, place=info.place)
    if info.silent is not None:
        # It would be waited for in vain.
        told.state = "lost"
        told.why = f"no sign of life of its host for {info.silent:.1f} s"
    elif info.portal is None:
        told.why = "is not connected yet"
    else:
        try:
            raw = await answer_of(
                actor,
                info.portal.chan,
                "_look",
                limit,
                op=question.op,
                args=question.args,
                limit=limit,
            )
            if room.take(len(raw)):
                answer = msgspec.convert(any_value(raw), Told)
                answer.state, answer.place = told.state, told.place
                return answer
            told.why = f"left out: {len(raw)} bytes more than {MOST_BELOW} for all"
        except trio.TooSlowError as exc:
            log.warning("%s", exc)
            told.why = f"does not answer: {exc}"
        except Exception as exc:
            told.why = f"can't be asked: {exc}"
    return told


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
