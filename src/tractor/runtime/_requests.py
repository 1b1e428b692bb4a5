"""Requests to the runtime itself, in the namespace ``self``: who may make which, and what each does.

They are served by the channel's reader, at once: none of them waits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tractor._errors import TransportClosed
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_arguments
from tractor.msg.bounded._undecodable import decode_deep, undecodable_arguments
from tractor.msg.types import Request, Uid
from tractor.process._stat import ProcessId
from tractor.runtime._actor import Actor, ServeRequest
from tractor.runtime._doubts import doubt
from tractor.runtime._drain import checked_timeout
from tractor.runtime._intake import Intake
from tractor.runtime.dialog._callee import ServedTask, put_ack, put_return
from tractor.runtime.seen._lives import tell_task_cancel
from tractor.transport._addresses import wrap_address

CHILD_REQUESTS = frozenset(
    {
        "_ready",
        "_goodbye",
        "_progress",
        "_descendants",
        "_debug_lock",
        "_debug_held",
        "_respawn",
        "_signalled",
    }
)
"""Requests that concern a child's life: they exist on the channel on which it has proven itself alone."""

PARENT_REQUESTS = frozenset({"_drain", "_dump_stacks", "_look", "_no_drain", "_otel"})
"""Requests of the parent alone."""

REGISTRAR_REQUESTS = frozenset({"_lost"})
"""Requests of this actor's own registrars alone."""

PARENT_MODULES = frozenset({"tractor.discovery._service"})
"""Modules of the package that the parent may call into, whichever are enabled."""


def serve_request(actor: Actor, chan: Channel, intake: Intake, msg: Request) -> None:
    """Carry out a request to the runtime, or refuse it.

    Raises:
        TransportClosed: the peer has had too many refused.
    """
    if not _may_ask(actor, chan, msg.func):
        there = [name for name in actor.requests if _may_ask(actor, chan, name)]
        exc = AttributeError(
            f"{msg.func!r} is not a request that {actor.aid.reprol()} serves in the namespace 'self'; "
            f"there are {sorted(there)}"
        )
        intake.refuse(msg.cid, exc, actor.aid.uid)
        return
    try:
        kwargs = decode_deep(any_arguments, msg.kwargs)
    except Exception as exc:
        error = undecodable_arguments(f"self:{msg.func}", exc, msg.cid)
        intake.refuse(msg.cid, error, actor.aid.uid)
        return
    try:
        actor.requests[msg.func](chan, msg.cid, kwargs)
    except TransportClosed:
        raise
    except Exception as exc:
        intake.refuse(msg.cid, exc, actor.aid.uid)


def _may_ask(actor: Actor, chan: Channel, name: str) -> bool:
    """Whether there is such a request, and it is this peer's to make."""
    if name not in actor.requests:
        return False
    if name in CHILD_REQUESTS:
        return actor.child_at(chan) is not None
    if name in PARENT_REQUESTS:
        return chan is actor.parent_chan
    if name in REGISTRAR_REQUESTS:
        return _is_registrar(actor, chan)
    return True


def _is_registrar(actor: Actor, chan: Channel) -> bool:
    """Whether this actor has registered itself over a channel."""
    at_parent = chan is actor.parent_chan and chan.aid is not None and chan.aid.is_registrar
    return at_parent or (chan.is_registration and chan.role == "connect")


def _cancel(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    busy = actor.hooks.repl_busy()
    actor.start_cancel(chan.aid)
    if busy:
        # Begun only when the user has left the REPL.
        actor.io_nursery.start_soon(_ack_later, actor, chan, cid, name="cancel ack")
    else:
        put_ack(chan, cid)


async def _ack_later(actor: Actor, chan: Channel, cid: int) -> None:
    await actor.hooks.wait_for_repl()
    put_ack(chan, cid)


def _cancel_task(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    intake = actor.intakes[chan]
    target = chan.dialogs.get(kwargs["cid"])
    if isinstance(target, ServedTask):
        assert chan.aid is not None
        tell_task_cancel(chan, kwargs["cid"], chan.aid.uid, True)
        target.take_cancel(chan.aid.uid, cid)
        actor.note_reset(target, cid)
    else:
        if intake.drop_kept(kwargs["cid"]):
            actor.refuse(chan, kwargs["cid"], "a request that was not begun")
        put_ack(chan, cid)


def _ready(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    addrs = [wrap_address(a).unwrap() for a in kwargs["accept_addrs"]]
    actor.asking_child(chan).on_ready(addrs)
    put_return(chan, cid, None)


def _goodbye(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    canceller = msgspec.convert(kwargs.get("canceller"), Uid | None)
    actor.asking_child(chan).on_goodbye(canceller)
    put_return(chan, cid, None)


def _ping(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """A sign of life of this event loop."""
    put_return(chan, cid, None)


def _lost(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """A registrar says that the hosts of these actors are lost."""
    doubt(actor, set(msgspec.convert(kwargs["uids"], list[Uid])))
    put_return(chan, cid, None)


def _progress(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    left, rung, needs = int(kwargs["left"]), int(kwargs["rung"]), float(kwargs.get("needs", 0.0))
    actor.asking_child(chan).on_progress(left, rung, needs)
    put_return(chan, cid, None)


def _descendants(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    up = msgspec.convert(kwargs["up"], list[ProcessId])
    gone = [int(pid) for pid in kwargs["gone"]]
    up, gone = actor.asking_child(chan).on_descendants(up, gone)
    if up or gone:
        actor.report_descendants(up, gone)
    put_return(chan, cid, None)


def _drain(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    seconds = checked_timeout(kwargs["timeout"])
    dialog = chan.dialogs.get(kwargs["but"])
    own = dialog if isinstance(dialog, ServedTask) else None
    actor.io_nursery.start_soon(_drain_and_tell, actor, chan, cid, own, seconds, name="drain")


async def _drain_and_tell(
    actor: Actor, chan: Channel, cid: int, own: ServedTask | None, seconds: float
) -> None:
    put_return(chan, cid, await actor.drain_but(own, seconds))


def _no_drain(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    actor.drain_on_term = 0.0
    put_return(chan, cid, None)


RUNTIME_REQUESTS: dict[str, ServeRequest] = {
    "cancel": _cancel,
    "_cancel_task": _cancel_task,
    "_ready": _ready,
    "_goodbye": _goodbye,
    "_ping": _ping,
    "_lost": _lost,
    "_progress": _progress,
    "_descendants": _descendants,
    "_drain": _drain,
    "_no_drain": _no_drain,
}
"""What every actor serves."""
