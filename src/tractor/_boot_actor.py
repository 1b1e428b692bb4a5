"""What a root and a subactor do alike at their boot.

Each begins with what only it knows: a root with its arguments and the election of the registrar, a subactor with its
boot record and its parent's configuration.  Both then

1. set the tree's settings (`set_runtime_vars`), which everything below reads;
2. make their actor, with the tools' requests in it and what debugs it armed (`make_actor`);
3. open its runtime, and watch for signals;
4. tell instruments, listen, enter the lifespan and register (`begin_service`); only from then on can peers find it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from tractor import _tools
from tractor.address._types import UnwrappedAddress
from tractor.discovery._registration import Registration
from tractor.ipc._chan import Channel
from tractor.ipc._endpoint import Endpoint
from tractor.msg.types import Aid
from tractor.runtime._actor import Actor
from tractor.runtime._life import Lifespan
from tractor.runtime._vars import debug_mode, runtime_vars
from tractor.runtime.seen._factories import begin_telling
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._lives import tell_started
from tractor.runtime.seen._told import TOLD
from tractor.spawn._contract import selected_start_method

NOT_ENTERED = "its lifespan is not entered yet"
"""Why an actor that starts begins no request."""


def make_actor(
    cls: type[Actor],
    aid: Aid,
    *,
    enable_modules: Iterable[str],
    loglevel: str | None,
    reg_addrs: Iterable[UnwrappedAddress],
    started: float,
    parent: Channel | None,
    dumps_asked: bool,
    debug_filter: Callable[[BaseException], bool] | None = None,
) -> tuple[Actor, Registration]:
    """The actor of this process, and what is to register it; the settings are in force already.

    Args:
        cls: its class.
        aid, enable_modules, loglevel, reg_addrs, started: for it.
        parent: the channel to it; ``None`` in a root.
        dumps_asked: its task tree is to be dumped on a signal; so it is, too, where the environment says so.
        debug_filter: whether an exception opens the REPL; ``None``: the default one.
    """
    actor = cls(
        aid, enable_modules=enable_modules, loglevel=loglevel, reg_addrs=reg_addrs, started=started
    )
    TOLD.clear()
    TOLD.actor = aid.uuid
    # Before the debugger: where it asks for the terminal depends on whether there is a parent.
    actor.parent_chan = parent
    actor.sampler = _tools.sample_of
    actor.add_requests(_tools.TOOL_REQUESTS)
    actor.start_method = selected_start_method()
    dumps_asked = dumps_asked or bool(os.environ.get("TRACTOR_ENABLE_STACKSCOPE"))
    if dumps_asked or debug_mode():
        _tools.arm_stack_dumps(actor, dumps_asked)
    if debug_mode():
        _tools.arm_debugger(actor, debug_filter)
    return actor, Registration(actor)


async def begin_service(
    actor: Actor,
    registration: Registration,
    endpoints: Sequence[Endpoint],
    lifespan: Lifespan | None = None,
    instruments: Sequence[Instrument | str] | None = None,
) -> None:
    """Listen, enter the lifespan, and register: in this order, since whoever finds the actor may connect at once.

    The lifespan may start subactors, which connect; a request that comes meanwhile is not begun.

    Args:
        actor: this process's.
        registration: registers it.
        endpoints: where it listens.
        lifespan: around its life.
        instruments: that are told of it, and factories; ``None``: those that were handed down.

    Raises:
        RuntimeFailure: a factory of instruments has failed.
        BaseException: what the lifespan raises.
    """
    given = runtime_vars()._instruments if instruments is None else instruments
    if given:
        begin_telling(given, actor.aid.reprol())
    if runtime_vars()._otel:
        _tools.instrument_child(actor)
    tell_started(actor.aid, actor.parent_chan, actor.intakes)
    if lifespan is not None:
        actor.closed_because = actor.closed_because or NOT_ENTERED
    actor.ipc_server.serve_endpoints(endpoints)
    if lifespan is not None:
        await actor.life.enter(lifespan, actor.io_nursery)
        if actor.closed_because == NOT_ENTERED:
            actor.closed_because = ""
    await registration.start()
