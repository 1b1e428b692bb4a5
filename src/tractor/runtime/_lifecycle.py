"""Opening and closing the runtime of this process's actor."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NoReturn

import trio

from tractor import log as _log
from tractor.ipc._server import Server
from tractor.runtime._actor import Actor
from tractor.runtime._reader import serve_channel
from tractor.runtime._requests import RUNTIME_REQUESTS
from tractor.runtime._state import set_current_actor
from tractor.runtime.seen._lives import tell_crashed, tell_ended
from tractor.runtime.seen._told import TOLD
from tractor.trionics._groups import is_multi_cancelled, raise_as_it_was, the_one_error
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()


@trio.lowlevel.enable_ki_protection
async def _host_nursery(
    hosted: list[trio.Nursery],
    *,
    task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A nursery in a task of its own, out of reach of scopes around the user's block; ends when cancelled.

    It is noted in ``hosted``: a start that is cancelled at its end leaves it running.
    """
    async with trio.open_nursery() as tn:
        hosted.append(tn)
        task_status.started(tn)
        # A start that was cancelled before this waits for this task to end.
        tn.cancel_scope.shield = trio.current_effective_deadline() > -math.inf
        await trio.sleep_forever()


@ki_protected_manager
async def open_runtime(
    actor: Actor, farewell: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Run the actor's channels, listeners and served tasks for the length of the block.

    The block itself runs in the caller's task, under ``actor.main_scope``.  Channels and served tasks are out of
    reach of the scopes around it: when the block is cancelled from outside they live on until the end of the
    teardown, which is always carried out, shielded.

    Args:
        actor: the actor to bring to life.
        farewell: awaited once the block has ended and every served task too, before peers are left.

    Raises:
        BaseException: what the block raised, as itself; else what a served task or the runtime raised.
    """
    block_exc: BaseException | None = None
    # What has happened beside the block.
    beside: BaseException | None = None
    cancelled = False
    hosted: list[trio.Nursery] = []
    try:
        async with trio.open_nursery() as outer:
            try:
                io_tn: trio.Nursery = await outer.start(_host_nursery, hosted, name="channels")
                service_tn: trio.Nursery = await outer.start(_host_nursery, hosted, name="service")
                host = partial(_host_nursery, hosted)
                background_tn: trio.Nursery = await outer.start(
                    actor.life.run_background, host, name="background"
                )
            except BaseException:
                for tn in hosted:
                    tn.cancel_scope.cancel()
                raise
            server = Server(lambda: actor.aid, partial(serve_channel, actor), io_tn, io_tn)
            actor.add_requests(RUNTIME_REQUESTS)
            actor.attach(server, service_tn, io_tn, background_tn)
            set_current_actor(actor)
            try:
                with actor.main_scope:
                    yield
            except BaseException as exc:
                block_exc = exc
                tell_crashed(exc)
            cancelled = actor.cancel_called
            actor.end_if_copy(block_exc)
            actor.hooks.note_leaving(True)
            # In a task of its own: a second KeyboardInterrupt hits the main task, which only waits.
            outer.start_soon(_close_runtime, actor, service_tn, io_tn, farewell, name="teardown")
            if actor.life.is_entered:
                block_exc = await _until_left(actor, block_exc)
    except BaseExceptionGroup as group:
        # A crash beside the block cancels it; then the crash is what has happened.
        if block_exc is None or is_multi_cancelled(block_exc):
            beside = the_one_error(group)
            tell_crashed(beside)
            raise_as_it_was(beside)
        log.error("the runtime failed beside the block: %r", group)
    finally:
        error = beside or actor.failure or actor.life.start_error or block_exc
        tell_ended(actor.aid, actor.life.began, error, cancelled)
        TOLD.clear()
        set_current_actor(None)
    if actor.failure is not None:
        _raise_failure(actor, block_exc)
    if block_exc is not None:
        raise block_exc


def _raise_failure(actor: Actor, block_exc: BaseException | None) -> NoReturn:
    """Raise what the actor has failed with, and what its block has raised besides."""
    errors = list(actor.life.failures)
    if block_exc is not None and not is_multi_cancelled(block_exc):
        errors.insert(0, block_exc)
    if len(errors) == 1:
        raise_as_it_was(errors[0])
    raise BaseExceptionGroup(f"{actor.aid.reprol()} has failed more than once", errors)


async def _until_left(actor: Actor, block_exc: BaseException | None) -> BaseException | None:
    """Wait for the end of the lifespan; a ctrl-c cancels what it still does.  Gives what the block has ended with."""
    try:
        with trio.CancelScope(shield=True):
            await actor.life.left()
    except KeyboardInterrupt as exc:
        actor.life.insist()
        return exc if block_exc is None or is_multi_cancelled(block_exc) else block_exc
    return block_exc


@trio.lowlevel.enable_ki_protection
async def _close_runtime(
    actor: Actor,
    service_tn: trio.Nursery,
    io_tn: trio.Nursery,
    farewell: Callable[[], Awaitable[None]],
) -> None:
    with trio.CancelScope(shield=True):
        try:
            actor.start_cancel(actor.aid, at_end=True)
            while not actor.cancel_complete:
                await actor.cancel(None)
            try:
                try:
                    await actor.life.close()
                finally:
                    actor.lifetime_stack.close()
            finally:
                await _say_goodbye(actor, farewell)
                await actor.part_from_peers()
                await actor.ipc_server.wait_for_shutdown()
        finally:
            service_tn.cancel_scope.cancel()
            io_tn.cancel_scope.cancel()


async def _say_goodbye(actor: Actor, farewell: Callable[[], Awaitable[None]]) -> None:
    if not actor.last_acts:
        await farewell()
        return
    async with trio.open_nursery() as tn:
        for act in actor.last_acts:
            tn.start_soon(act)
        await farewell()
