"""The control socket of an actor of this package: who it is, what it does, and what it was given to answer besides."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from tractor import log as _log
from tractor.address._types import HAS_UDS
from tractor.control._protocol import Who
from tractor.control._server import ControlServer, LoopOp
from tractor.control._stacks import stacks_of
from tractor.process._stat import process_start_time
from tractor.process._state import ProcessVar
from tractor.runtime._actor import Actor

log = _log.get_logger()

SETTING = "TRACTOR_CONTROL"
"""The variable: `on`, `read` (nothing that acts), `off`; without it those listen that have something to act on."""

_server: ProcessVar[ControlServer | None] = ProcessVar(lambda: None)
"""That of this process's actor."""


def _before_fork() -> None:
    server = _server.value
    if server is not None:
        server.pause()


# `os.fork()` warns of further threads, whose locks the child may find held for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def serve_control(actor: Actor, acts: Mapping[str, LoopOp] | None = None) -> ControlServer | None:
    """Let users ask this actor until its runtime ends; where that can't be, a warning says so.

    Args:
        actor: it.
        acts: requests that its loop answers, by op; with ``TRACTOR_CONTROL=read`` there are none. Those of a
            further call are added.

    Returns:
        The server, which ends with the actor; ``None``: there is none.
    """
    setting = os.environ.get(SETTING) or ("off" if acts is None else "on")
    if setting not in ("on", "read", "off"):
        log.warning("%s=%r is none of 'on', 'read', 'off'; it counts as 'off'", SETTING, setting)
        setting = "off"
    if setting == "off" or not HAS_UDS or actor.pid is None:
        return None
    in_loop = dict(acts or {}) if setting == "on" else {}
    if _server.value is not None and not _server.value.is_closed:
        _server.value.add(in_loop)
        return _server.value
    root = trio.lowlevel.current_root_task()
    try:
        server = ControlServer(
            actor.aid.name,
            actor.pid,
            {"hello": partial(_who, actor), "stacks": partial(stacks_of, root)},
            in_loop,
        )
    except (OSError, ValueError, RuntimeError) as exc:
        log.warning("nobody can ask %s from outside: %s", actor.aid.reprol(), exc)
        return None
    _server.value = server
    actor.lifetime_stack.callback(server.close)
    return server


def _who(actor: Actor) -> Who:
    # It takes longer to import than an actor's start may cost.
    from importlib import metadata

    server = _server.value
    chan = actor.parent_chan
    parent = chan.aid.uuid if chan is not None and chan.aid is not None else None
    pid = os.getpid()
    return Who(
        name=actor.aid.name,
        uuid=actor.aid.uuid,
        pid=pid,
        start_time=process_start_time(pid),
        host=socket.gethostname(),
        parent=parent,
        root=actor.aid.uuid if chan is None else None,
        versions={
            "python": ".".join(map(str, sys.version_info[:3])),
            "tractor": metadata.version("tractor"),
        },
        addrs=_addrs(actor),
        ops=[] if server is None else server.ops,
    )


def _addrs(actor: Actor) -> list[Any]:
    return [list(addr) for addr in actor.accept_addrs]
