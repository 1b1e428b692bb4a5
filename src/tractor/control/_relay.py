"""A question to one actor, passed to it from actor to actor, host after host.

One request carries it, ``self:_ask(path, request, limit, pid, host)``.  It is answered by the actor at the path's end,
and each before that passes it to the subactor that the path names next, with :data:`~tractor.control._passing.SHARE`
of the time left.  Any peer may make it, as it may ask for the actor's picture or its cancellation: it has shown the
tree's key, or is this user's.  `TRACTOR_CONTROL` of the actor that answers holds here, too.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import trio

from tractor import log as _log
from tractor._errors import MessagingError, MsgTypeError
from tractor.control._answers import answers_in_loop
from tractor.control._other_road import ask_past_the_loop, has_other_road, or_past_the_loop
from tractor.control._passing import SHARE, Question, Told, answer_of, ask_children
from tractor.control._protocol import (
    LONGEST,
    MAX_ANSWER,
    Code,
    Refusal,
    answer_in_words,
    outcome_in,
)
from tractor.control._socket import SETTING, setting
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.process._state import of_process
from tractor.process.host._host_id import host_id, is_here
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._callee import put_return
from tractor.trionics._groups import collapse_eg

log = _log.get_logger()

MOST_AT_A_TIME = 64
"""Questions that an actor has under way."""

MOST_PATHS = 32
"""Actors that one request at the control socket is passed to."""

READING = frozenset({"hello", "sample", "stacks", "recent"})
"""What acts on nobody, and is answered by the control socket whatever the loop does."""

_under_way: WeakKeyDictionary[Actor, int] = of_process(WeakKeyDictionary())


class Asker(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        pid: of the process; ``None``: unknown.
        host: the id of the host on which it is one.
    """

    pid: int | None = None
    host: str | None = None


def serve_ask(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request ``self:_ask(path, request, limit, pid, host)``.

    Raises:
        msgspec.ValidationError, ValueError, TypeError, KeyError: an argument is missing, or none.
    """
    path = msgspec.convert(kwargs["path"], list[str])
    request = msgspec.convert(kwargs["request"], dict[str, Any])
    limit = float(kwargs["limit"])
    if not math.isfinite(limit):
        raise ValueError(f"`limit` is {limit}; it is a number of seconds")
    limit = min(max(limit, 0.0), LONGEST)
    asker = msgspec.convert({"pid": kwargs.get("pid"), "host": kwargs.get("host")}, Asker)

    async def answer() -> None:
        told: Any
        try:
            told = {"ok": await pass_down(actor, path, request, limit, asker)}
        except Refusal as exc:
            told = answer_in_words(exc)
        except Exception as exc:
            # What a peer asks for must not end this actor, whatever goes wrong.
            log.exception("a question from outside has failed")
            told = answer_in_words(Refusal(Code.FAILED, repr(exc)))
        try:
            put_return(chan, cid, told)
        except (MessagingError, MsgTypeError) as exc:
            # Above the tree's frame limit, say.
            put_return(chan, cid, answer_in_words(Refusal(Code.FAILED, str(exc)[:200])))

    actor.io_nursery.start_soon(answer, name="question from outside")


async def pass_down(
    actor: Actor, path: Sequence[str], request: Mapping[str, Any], limit: float, asker: Asker
) -> Any:
    """What the actor at the end of a path answers, as plain data.

    Args:
        actor: this process's.
        path: uuids, of its subactor, of that one's subactor, and so on; empty: it is asked itself.
        request: what.
        limit: seconds for all of it.
        asker: who asks.

    Raises:
        Refusal: it refuses, or can't be reached, or does not answer in time.
    """
    if _under_way.get(actor, 0) >= MOST_AT_A_TIME:
        raise Refusal(
            Code.BUSY, f"{MOST_AT_A_TIME} questions are under way in {actor.aid.reprol()}"
        )
    _under_way[actor] = _under_way.get(actor, 0) + 1
    try:
        if not path:
            await trio.lowlevel.checkpoint()
            return _own(actor, request, asker)
        for record in list(actor.children.values()):
            if record.info().aid.uuid == path[0]:
                return await _to_child(actor, record, path[1:], request, limit * SHARE, asker)
        raise Refusal(Code.FAILED, f"{actor.aid.reprol()} has no subactor {path[0]!r}")
    finally:
        _under_way[actor] -= 1


def _own(actor: Actor, request: Mapping[str, Any], asker: Asker) -> Any:
    op, how = request.get("op"), setting()
    if how == "off" or (how == "read" and op not in READING):
        raise Refusal(Code.REFUSED, f"{SETTING}={how} in {actor.aid.reprol()}'s environment")
    root = trio.lowlevel.current_root_task()
    assert root is not None
    answers = answers_in_loop(actor, root, threading.get_ident())
    try:
        line = msgspec.json.encode(answers.answer(request, asker.pid, asker.host))
    except Refusal:
        raise
    except Exception as exc:
        raise Refusal(Code.FAILED, repr(exc)) from exc
    if len(line) > MAX_ANSWER:
        raise Refusal(Code.FAILED, f"its answer has {len(line)} bytes, more than {MAX_ANSWER}")
    return msgspec.json.decode(line)


async def _to_child(
    actor: Actor,
    record: Any,
    path: Sequence[str],
    request: Mapping[str, Any],
    limit: float,
    asker: Asker,
) -> Any:
    info = record.info()
    who = info.aid.reprol()
    if info.silent is not None:
        raise Refusal(
            Code.FAILED, f"the host of {who} is lost: no sign of life for {info.silent:.1f} s"
        )
    if info.portal is None:
        raise Refusal(Code.FAILED, f"{who} is not connected yet")
    kwargs = {"path": list(path), "request": dict(request), "limit": limit}

    async def by_channel() -> Any:
        raw = await answer_of(
            actor, info.portal.chan, "_ask", limit, pid=asker.pid, host=asker.host, **kwargs
        )
        return outcome_in(any_value(raw))

    try:
        if not path and request.get("op") in READING and has_other_road(record):
            past = partial(ask_past_the_loop, record, request, limit)
            return await or_past_the_loop(by_channel, past)
        return await by_channel()
    except trio.TooSlowError:
        why = "its loop does not come to it"
        if info.pid == os.getpid():
            why += ", and the frames of a sub-interpreter can't be read from another"
        raise Refusal(Code.TOO_SLOW, f"{who} did not answer in {limit:.2f} s: {why}") from None
    except Refusal:
        raise
    except Exception as exc:
        raise Refusal(Code.FAILED, f"{who} can't be asked: {exc}") from None


# -- at the control socket ----------------------------------------------------------------------------


async def pass_on(actor: Actor, request: Mapping[str, Any], pid: int | None, may_act: bool) -> Any:
    """The op ``pass``: what is asked under ``ask`` of the actors at ``paths``, within ``limit`` seconds.

    Returns:
        For each path an object with ``ok`` or ``error``.

    Raises:
        Refusal: it is none.
    """
    try:
        paths = msgspec.convert(request.get("paths"), list[list[str]])
        ask = msgspec.convert(request.get("ask"), dict[str, Any])
    except msgspec.ValidationError as exc:
        raise Refusal(Code.BAD_REQUEST, str(exc)) from None
    if len(paths) > MOST_PATHS:
        raise Refusal(Code.BAD_REQUEST, f"{len(paths)} paths, more than {MOST_PATHS}")
    if not may_act and ask.get("op") not in READING:
        raise Refusal(Code.REFUSED, f"{SETTING}={setting()} in {actor.aid.reprol()}'s environment")
    limit = limit_of(request)
    found: list[Any] = [None] * len(paths)

    async def one(i: int) -> None:
        try:
            found[i] = {"ok": await pass_down(actor, paths[i], ask, limit, Asker(pid, host_id()))}
        except Refusal as exc:
            found[i] = answer_in_words(exc)

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for i in range(len(paths)):
            tn.start_soon(one, i)
    return found


async def below(actor: Actor, request: Mapping[str, Any], question: Question) -> Any:
    """The op ``below``: how those do that no socket of this host leads to, within ``limit`` seconds.

    These are subactors on other hosts, and those in interpreters of this process, with all below them.

    Returns:
        ``told``, one tree for each of these subactors, and ``truncated``, how many actors were left out.
    """
    records = [record for record in list(actor.children.values()) if _is_elsewhere(record.info())]
    trees = await ask_children(actor, question, limit_of(request), records)
    room, left_out = MAX_ANSWER * 3 // 4, 0
    for tree in trees:
        size = len(msgspec.json.encode(tree))
        if size > room:
            left_out += _count(tree) - 1
            tree.below = []
            size = len(msgspec.json.encode(tree))
        room -= size
    return {"told": trees, "truncated": left_out}


def limit_of(request: Mapping[str, Any]) -> float:
    """Seconds that a request gives.  Raises Refusal."""
    limit = request.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= LONGEST:
        raise Refusal(
            Code.BAD_REQUEST, f'"limit" is {limit!r}; it is a number of seconds up to {LONGEST:g}'
        )
    return float(limit)


def _is_elsewhere(info: Any) -> bool:
    return info.pid == os.getpid() or bool(info.host and not is_here(info.host))


def _count(tree: Told) -> int:
    return 1 + sum(map(_count, tree.below))
