"""A registrar that any actor can be, for as long as somebody wants it to."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from tractor._errors import RuntimeFailure
from tractor.address._policy import from_this_host
from tractor.discovery.registry._registry import Registry
from tractor.ipc._endpoint import bind_endpoints
from tractor.msg.types import Aid
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._endpoints import context
from tractor.transport._addresses import wrap_address


@context
async def registrar(ctx: Context, addr: Any) -> None:
    """Be a registrar, in the actor that this runs in, until the context is cancelled.

    For systems with several registrars, each of which may die: their roots are opened with ``registrar=False``, and
    all of their actors know the same ``registry_addrs``, of which ``addr`` is one.  The actor's parent can open this
    context whatever modules are enabled there; others need ``tractor.registrar.__module__`` among them.

    Args:
        ctx: gives the address, once it is listened on, by ``started()``.
        addr: where to listen, besides where the actor does already; in any form.  Actors that know it by another name
            (a host's name, a wildcard) take it for another registrar.

    Raises:
        RuntimeFailure: the actor is a registrar already; or an address beyond loopback without an explicit key or TLS.
        TypeError, ValueError: no address that can be listened on.
        OSError: it is in use, or none of this host's.

    For 2 s it tells nobody that there is no actor of some name: those that were registered with a forerunner at this
    address have all come back by then.  At the end it parts from all who are registered; they try again until there is
    one at the address.
    """
    actor = current_actor()
    wrapped = wrap_address(addr)
    (endpoint,) = await bind_endpoints([wrapped])
    endpoint.aid = partial(_as_registrar, actor)
    registry = Registry(actor, frozenset({from_this_host(endpoint.addr).unwrap()}))
    try:
        registry.open()
    except RuntimeFailure:
        endpoint.close_listener()
        raise
    try:
        _follow(actor)
        if actor.registration is not None:
            await actor.registration.enter_itself()
        actor.ipc_server.serve_endpoints([endpoint])
        await ctx.started(endpoint.addr.unwrap())
        await registry.keep_time()
    finally:
        # In this order: whoever notices the end and comes again must not be let in.
        endpoint.close_listener()
        registry.close()
        _follow(actor)


def _as_registrar(actor: Actor) -> Aid:
    """What the actor is to those who connect to it as a registrar."""
    return msgspec.structs.replace(actor.aid, is_registrar=True)


def _follow(actor: Actor) -> None:
    """Have the actor register with itself no longer, or again, as with another."""
    if actor.registration is not None:
        actor.registration.reg_addrs_changed()
