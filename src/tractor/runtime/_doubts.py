"""Peers of which a registrar says that their host is lost.

A registrar's word is a hint, and no more: whoever could say such a thing falsely must not be able to part actors that
live.  So the peer is asked for a sign of life, and its dialogs end only when nothing of its host answers: an actor that
is busy or stopped sends none, but the kernel below it acknowledges the question.

Why the races are safe.  A peer that comes back meanwhile has acknowledged, and is kept.  One that was asked may have
sent what is not read yet: it counts as heard once it is read, which the wait leaves time for; and an acknowledgement
comes with it.
"""

from __future__ import annotations

from collections.abc import Collection

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.process.host._host_id import is_here
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._caller import ask

log = _log.get_logger()

SIGN_TIMEOUT = 1.0
"""Seconds in which a peer's host has to acknowledge a question: several of the kernel's own retries."""


def doubt(actor: Actor, uids: Collection[Uid]) -> None:
    """Look whether peers on other hosts are still there, each at most once at a time.

    What is true after :data:`SIGN_TIMEOUT`: of those whose host answers nothing every dialog has ended with
    :class:`tractor.TransportClosed`.  This actor's parent and its subactors are left out: of these the lease tells.

    Args:
        actor: this process's.
        uids: whose host is said to be lost.
    """
    for chan in actor.ipc_server.peer_channels():
        if chan.aid is None or chan.aid.uid not in uids or is_here(chan.aid.host):
            continue
        if chan is actor.parent_chan or actor.child_at(chan) is not None or chan.is_doubted:
            continue
        chan.is_doubted = True
        actor.io_nursery.start_soon(_ask, chan, name=f"doubt about {chan.peer}")


async def _ask(chan: Channel) -> None:
    heard = chan.transport.received
    try:
        await ask(chan, "_ping", SIGN_TIMEOUT)
    except TransportClosed:
        return
    finally:
        chan.is_doubted = False
    if chan.transport.received == heard and chan.transport.is_unheard(SIGN_TIMEOUT):
        log.warning("%s is given up: its host is lost", chan.peer)
        chan.transport.give_up("its host is lost, as a registrar says, and acknowledges nothing")
