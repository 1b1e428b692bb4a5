"""What every actor answers at its control socket: who it is, and what its tasks do."""

from __future__ import annotations

import os
import socket
import sys
from functools import partial

import trio

from tractor._util.dist._version import __version__
from tractor.control._protocol import Who
from tractor.control._serving import Serving
from tractor.control._socket import ControlSocket
from tractor.control._stacks import stacks_of
from tractor.process._stat import process_start_time
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor


def answers_of(actor: Actor, root: trio.lowlevel.Task, control: ControlSocket) -> Serving:
    """What answers for an actor.

    Args:
        actor: it.
        root: the root task of its run.
        control: where users ask.
    """
    serving = Serving(control, {"stacks": partial(stacks_of, root)})
    serving.in_thread = {"hello": partial(_who, actor, serving), **serving.in_thread}
    return serving


def _who(actor: Actor, serving: Serving) -> Who:
    chan = actor.parent_chan
    parent = chan.aid.uuid if chan is not None and chan.aid is not None else None
    pid = os.getpid()
    return Who(
        name=actor.aid.name,
        uuid=actor.aid.uuid,
        pid=pid,
        start_time=process_start_time(pid),
        host=socket.gethostname(),
        host_id=host_id(),
        parent=parent,
        root=actor.aid.uuid if chan is None else None,
        versions={
            "python": ".".join(map(str, sys.version_info[:3])),
            "tractor": __version__,
        },
        addrs=[list(addr) for addr in actor.accept_addrs],
        ops=serving.ops,
    )
