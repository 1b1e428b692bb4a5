"""`respawn` at the REPL: a fresh process, with the code as it is now, takes the place of one whose code was wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, RuntimeFailure, TransportClosed
from tractor.ipc._chan import Channel
from tractor.msg.types import Error, Return
from tractor.process._state import of_process
from tractor.runtime._actor import Actor
from tractor.runtime._state import process_actor
from tractor.runtime.dialog._callee import put_return
from tractor.runtime.dialog._caller import boxed, request

log = _log.get_logger()

_crashes: dict[trio.lowlevel.Task, BaseException] = of_process({})
"""The errors that open a REPL, or are about to, by the task that they leave."""

_wanted: set[trio.lowlevel.Task] = of_process(set())


@contextlib.contextmanager
def crashing(exc: BaseException) -> Iterator[None]:
    """Round the automatic post-mortem of the calling task."""
    task = trio.lowlevel.current_task()
    _crashes[task] = exc
    try:
        yield
    finally:
        del _crashes[task]


def respawn_command(repl: Any, arg: str) -> bool:
    """The command; whether the REPL is left by it."""
    actor = process_actor()
    if actor is None:
        repl.error("there is no actor in this process, and so nothing to respawn")
        return False
    task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
    exc = _crashes.get(task) if task is not None else None
    name = arg.strip()
    try:
        if name:
            _replace(repl, _by_name(actor, name))
            return False
        below = _crashed_child(actor, exc) if exc is not None else None
        if below is not None:
            _replace(repl, below)
            return False
        _require_replaceable(actor, exc)
    except RuntimeFailure as why:
        repl.error(str(why))
        return False
    assert task is not None
    _wanted.add(task)
    repl.message(f"{actor.aid.reprol()} is given up; a fresh process takes its place")
    return bool(repl.do_continue(""))


def _replace(repl: Any, child: Any) -> None:
    """Have a child replaced as soon as the loop runs on."""
    again = child.respawn()
    what = (
        "runs its function again"
        if again
        else "serves; calls that were under way end with an error"
    )
    repl.message(
        f"{child.info().aid.reprol()} is replaced when this REPL is left: a fresh process, which {what}"
    )


def _by_name(actor: Actor, name: str) -> Any:
    found = [c for c in actor.children.values() if name in (c.info().aid.name, str(c.info().pid))]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{c.info().aid.name} (pid {c.info().pid})" for c in actor.children.values())
    raise RuntimeFailure(
        f"{len(found)} subactors of {actor.aid.reprol()} are called {name!r}; there are: {known or 'none'}"
    )


def _crashed_child(actor: Actor, exc: BaseException) -> Any:
    """The subactor that an error came from, where it is one and still there."""
    if isinstance(exc, RemoteActorError):
        for uid in exc.relay_path:
            child = actor.children.get((uid[0], uid[1]))
            if child is not None:
                return child
    return None


def _require_replaceable(actor: Actor, exc: BaseException | None) -> None:
    """Whether this actor itself can be given up for a fresh one.  Raises RuntimeFailure."""
    who = actor.aid.reprol()
    if exc is None:
        raise RuntimeFailure(
            f"nothing has crashed here: `respawn NAME` replaces a subactor of {who}; `respawn` alone is for the REPL "
            "that an error has opened"
        )
    if actor.parent_chan is None:
        came = (
            "its nursery has ended, and all of its actors with it"
            if _is_remote(exc)
            else "it is the root"
        )
        raise RuntimeFailure(
            f"the error has reached {who}, and can't be undone here: {came}; say `respawn` at the REPL of the actor "
            "that crashed, which opens first, or start the program again"
        )
    if actor.cancel_called:
        raise RuntimeFailure(f"{who} is being cancelled")
    if not actor.parent_chan.connected():
        raise RuntimeFailure(f"the parent of {who} is gone")


def _is_remote(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return any(_is_remote(one) for one in exc.exceptions)
    return isinstance(exc, RemoteActorError)


async def respawn_if_wanted() -> None:
    """After the automatic post-mortem of the calling task: if the user has said so, have this actor replaced.

    Does not return where that is done and the task's function is run again: then nobody is to hear of the error.
    """
    task = trio.lowlevel.current_task()
    if task not in _wanted:
        return
    _wanted.discard(task)
    actor = process_actor(err_on_no_runtime=True)
    parent = actor.parent_chan
    assert parent is not None
    try:
        reply = await request(parent, "_respawn").wait()
        if isinstance(reply, Error):
            raise boxed(reply, parent, actor)
        if isinstance(reply, BaseException):
            raise reply
    except (RemoteActorError, TransportClosed) as exc:
        log.pdb("no respawn: %s; the error goes on", getattr(exc, "message", "") or exc)
        return
    if isinstance(reply, Return) and reply.pld == AGAIN:
        await trio.sleep_forever()


AGAIN = b"\xc3"
"""``True``, in msgpack."""


def serve_respawn(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request of a crashed child to be replaced; the answer is whether its function is run again.

    Raises:
        RuntimeFailure: it can't be replaced.
    """
    child = actor.asking_child(chan)
    assert child.respawn is not None
    put_return(chan, cid, child.respawn())
