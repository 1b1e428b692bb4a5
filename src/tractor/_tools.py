"""What the boot plugs into an actor, and only some programs use: asyncio, the debugger, pictures of the tree.

Each of these is imported when it is used, so that none costs a start.  This is the only file that imports from layers
above its own.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from tractor.ipc._chan import Channel
from tractor.runtime._actor import Actor, ServeRequest
from tractor.runtime._group_signals import serve_signalled

if TYPE_CHECKING:
    from tractor.control._serving import Serving
    from tractor.control._socket import ControlSocket
    from tractor.devx.debug._post_mortem import DebugFilter
    from tractor.manager._starting import TakesServices
    from tractor.runtime.seen._samples import Sample
    from tractor.services.file._service_file import ServiceFile

T = TypeVar("T")


def run_infected(trio_main: Callable[[], Awaitable[T]]) -> T:
    """Run the actor's trio as a guest of an asyncio loop."""
    from tractor.to_asyncio._host import run_infected

    return run_infected(trio_main)


def fix_trio(log: Callable[[str], None]) -> None:
    """Apply those of the fixes of trio that this trio needs."""
    from tractor.trionics.patches._table import apply_all

    apply_all(log=log)


def arm_stack_dumps(actor: Actor, asked: bool) -> None:
    """Have a signal dump the actor's task tree."""
    from tractor.devx._stack_dump import arm_actor

    arm_actor(actor, asked)


def arm_stuck_dumps(actor: Actor) -> None:
    """Have a signal write down the stacks of this process, for its parent, also while its main thread is stuck."""
    from tractor._util._stuck import arm_stuck_dumps

    arm_stuck_dumps(repr(actor.aid.uid))


def arm_debugger(actor: Actor, debug_filter: DebugFilter | None = None) -> None:
    """Have crashes of the actor open the REPL."""
    from tractor.devx.debug._post_mortem import arm

    arm(actor, debug_filter)


def serve_attach(actor: Actor) -> None:
    """Listen for users at other terminals."""
    from tractor.devx.debug.attach._listener import serve_attach

    serve_attach(actor)


def sample_of(actor: Actor) -> Sample:
    """What is known of the actor, for those who look at it."""
    from tractor.control._sampling import sample_of

    return sample_of(actor)


def serve_control(actor: Actor) -> None:
    """Listen for users who ask, unless the environment says otherwise."""
    from tractor.control._socket import serve_control

    root, loop = trio.lowlevel.current_root_task(), threading.get_ident()

    def load(control: ControlSocket) -> Serving:
        from tractor.control._wiring import serving_of

        assert root is not None
        return serving_of(actor, root, control, loop, _look_at_samples)

    serve_control(actor, load)


def instrument_child(actor: Actor) -> None:
    """Have OpenTelemetry told of what the actor does."""
    from tractor.devx.otel._arming import instrument_child

    instrument_child(actor)


def services_of_file(
    sup: TakesServices, actor: Actor
) -> Callable[[ServiceFile], Awaitable[object]]:
    """What starts the services of a file under a supervisor, and reloads them."""
    from tractor.manager._starting import FileServices

    services = FileServices(sup)
    actor.lifetime_stack.callback(services.close)
    return services.apply


async def init_greenback() -> None:
    """Have ``breakpoint()`` work in sync code of the actor's tasks."""
    from tractor.devx.debug.repl._greenback import maybe_init_greenback

    await maybe_init_greenback()


def stop_greenback() -> None:
    """The end of :func:`init_greenback`."""
    from tractor.devx.debug.repl._greenback import stop_greenback

    stop_greenback()


def _debug_lock(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx.debug.lock._debugger import serve_lock

    serve_lock(actor, chan, cid, kwargs)


def _debug_held(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx.debug.lock._debugger import serve_held

    serve_held(actor, chan, cid, kwargs)


def _debug_terminal(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx.debug.lock._debugger import serve_terminal

    serve_terminal(actor, chan, cid, kwargs)


def _dump_stacks(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx._stack_dump import serve_dump

    serve_dump(actor, chan, cid, kwargs)


def _tree(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx._tree_picture import serve_tree

    serve_tree(actor, chan, cid, kwargs)


async def _look_at_tree(actor: Actor, args: dict[str, Any]) -> Any:
    from tractor.devx._tree_picture import look

    return await look(actor, args)


async def _look_at_samples(actor: Actor, args: dict[str, Any]) -> Any:
    from tractor.observe._in_code import look

    return await look(actor, args)


LOOKS = {"tree": _look_at_tree, "samples": _look_at_samples}
"""What a parent may have this actor and all below it say; see :mod:`tractor.control._passing`."""


def _look(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.control._passing import serve_look

    serve_look(actor, chan, cid, kwargs, LOOKS)


def _ask(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.control._relay import serve_ask

    serve_ask(actor, chan, cid, kwargs)


def _samples(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.observe._in_code import serve_samples

    serve_samples(actor, chan, cid, kwargs)


def _otel(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx.otel._arming import serve_instrument

    serve_instrument(actor, chan, cid, kwargs)


def _respawn(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    from tractor.devx.debug.repl._respawn import serve_respawn

    serve_respawn(actor, chan, cid, kwargs)


TOOL_REQUESTS: dict[str, ServeRequest] = {
    "_signalled": serve_signalled,
    "_debug_lock": _debug_lock,
    "_debug_held": _debug_held,
    "_debug_terminal": _debug_terminal,
    "_dump_stacks": _dump_stacks,
    "_tree": _tree,
    "_look": _look,
    "_ask": _ask,
    "_samples": _samples,
    "_otel": _otel,
    "_respawn": _respawn,
}
"""Requests in the namespace ``self`` that are not the runtime's own."""
