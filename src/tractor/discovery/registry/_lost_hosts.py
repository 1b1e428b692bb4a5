"""What a registrar does when the host of an actor is lost, as that one's parent knows by the lease.

The actor, and what is registered on the same host below it, is dropped, and everybody who is registered is told.  No
harm comes of a parent that is wrong: who was dropped and lives notices the end of its channel and registers again, and
who is told looks for itself (:mod:`tractor.runtime._doubts`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.registry import RegistryTable
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor
from tractor.runtime._doubts import doubt
from tractor.runtime.dialog._caller import request

log = _log.get_logger()


def lost_with(actor: Actor, table: RegistryTable[Any, Any], uid: Uid) -> list[Uid]:
    """An actor, and those below it in the table that are on its host, as they say.

    Args:
        actor: the registrar.
        table: its table.
        uid: the actor whose host is lost.
    """
    host = _host_of(actor, uid)
    lost = [uid]
    for one in lost:
        lost += [
            child
            for child in table.children(one)
            if child not in lost and _host_of(actor, child) == host
        ]
    return lost


def tell_lost(actor: Actor, keepers: Iterable[Channel], lost: Collection[Uid]) -> None:
    """Part from those that are lost, and tell the others.

    Args:
        actor: the registrar, which may have peers among them itself.
        keepers: the channels over which somebody is, or was until now, registered.
        lost: who is not any more.
    """
    log.warning("the host of %s is lost; %s actors are unregistered", next(iter(lost)), len(lost))
    for chan in keepers:
        if chan.aid is None or not chan.connected():
            continue
        if chan.aid.uid not in lost:
            with suppress(TransportClosed):
                request(chan, "_lost", uids=list(lost))
        elif chan.is_registration:
            chan.abort()
    doubt(actor, lost)


def _host_of(actor: Actor, uid: Uid) -> str | None:
    chan = actor.ipc_server.first_of(uid)
    return None if chan is None or chan.aid is None else chan.aid.host
