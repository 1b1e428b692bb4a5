"""Whether an ancestor got the same signal: then it was meant for the whole tree, and is the root's to handle.

A terminal, systemd and a container's stop send a signal to every process at once.  A subactor that gets one asks its
parent, which waits a moment for the same signal of its own, and asks its own parent meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import trio

from tractor._errors import TransportClosed
from tractor._proto.deadlines import SIGNAL_PATIENCE, WORD_TIMEOUT
from tractor.ipc._chan import Channel
from tractor.msg._conversion import any_value
from tractor.msg.types import Return
from tractor.process._at_fork import close_in_child
from tractor.process.host._clock import ToldMoment, heard, told
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._callee import put_return
from tractor.runtime.dialog._caller import request


# An interrupt must not come between the sockets and the block that closes them.
@trio.lowlevel.enable_ki_protection
async def note_signals(
    actor: Actor,
    run_handlers: Callable[[], object] = lambda: None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell the actor's log of every signal that has a handler, whoever's that is, until cancelled.

    In the main thread; in another one it ends at once.  The interpreter writes the numbers of signals to a descriptor,
    from the moment that they arrive.

    Args:
        actor: the actor.
        run_handlers: called at each signal, where the interpreter does not run handlers by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        task_status.started()
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        for sock in (reader, writer):
            sock.setblocking(False)
            close_in_child(sock)
        with _wakeups_go_to(writer) as before:
            actor.signals.watching = True
            task_status.started()
            while True:
                run_handlers()
                await trio.lowlevel.wait_readable(reader)
                with contextlib.suppress(BlockingIOError):
                    while numbers := reader.recv(4096):
                        now = time.monotonic()
                        for number in numbers:
                            actor.signals.note(number, now)
                        # Whoever had the descriptor before acts on the numbers, too, as asyncio does.
                        if before >= 0:
                            with contextlib.suppress(OSError):
                                os.write(before, numbers)


@contextlib.contextmanager
def _wakeups_go_to(writer: socket.socket) -> Iterator[int]:
    own = writer.fileno()
    before = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
    try:
        yield before
    finally:
        last = signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        if last != own:
            # Somebody has taken it meanwhile.
            signal.set_wakeup_fd(last, warn_on_full_buffer=False)


async def ancestor_got(actor: Actor, number: int, at: float) -> bool:
    """Whether one above this actor has got the same signal; waits for the parent's word, at most 1 s.

    Args:
        actor: a subactor; of a root the answer is no.
        number: the signal.
        at: when it came here, on the monotonic clock.
    """
    chan = actor.parent_chan
    if chan is None:
        return False
    with trio.move_on_after(WORD_TIMEOUT), contextlib.suppress(TransportClosed):
        reply = await request(chan, "_signalled", number=number, at=told(at)).wait()
        return isinstance(reply, Return) and any_value(reply.pld) is True
    return False


def heard_from(chan: Channel, moment: Any) -> float:
    """A moment that a peer has told, on the clock of this process.  Raises msgspec.ValidationError: it is none."""
    host = None if chan.aid is None else chan.aid.host
    return heard(msgspec.convert(moment, ToldMoment), host)


def serve_signalled(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """A child's question whether its signal came here, or further up, too."""
    child = actor.asking_child(chan)
    number, at = int(kwargs["number"]), heard_from(chan, kwargs["at"])
    if child.asked_to_go:
        # Whoever has sent the signal, the child is to end.
        put_return(chan, cid, False)
    elif actor.signals.got(number, at):
        put_return(chan, cid, True)
    else:
        actor.io_nursery.start_soon(_answer_later, actor, chan, cid, number, at)


async def _answer_later(actor: Actor, chan: Channel, cid: int, number: int, at: float) -> None:
    found = False
    async with trio.open_nursery() as tn:

        async def look_here() -> None:
            nonlocal found
            await actor.signals.wait_for(number, at)
            found = True
            tn.cancel_scope.cancel()

        if actor.signals.watching:
            tn.start_soon(look_here)
            if actor.parent_chan is None:
                tn.cancel_scope.deadline = trio.current_time() + SIGNAL_PATIENCE
        if actor.parent_chan is not None:
            found = await ancestor_got(actor, number, at) or found
            tn.cancel_scope.cancel()
    put_return(chan, cid, found)
