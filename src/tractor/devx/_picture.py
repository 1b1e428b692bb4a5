"""One actor as a record: its state, tasks, open dialogs and subactors; and such records as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import trio

from tractor._proto.dialog.context import StreamState
from tractor._util._frames import frames_of
from tractor.address._types import UnwrappedAddress
from tractor.devx._frames import is_runtime_frame
from tractor.runtime.dialog._callee import ServedStream, ServedTask
from tractor.runtime.dialog._caller import OneWayReceiver, PendingCall
from tractor.runtime.dialog._context_core import ContextCore
from tractor.transport._addresses import wrap_address
from tractor.transport._maddr import mk_maddr

if TYPE_CHECKING:
    from tractor.ipc._chan import Channel
    from tractor.runtime._actor import Actor


class TaskPicture(msgspec.Struct, frozen=True):
    """A task of a user's.

    Attributes:
        name: the task's.
        depth: how many such tasks are above it.
        at: the innermost line of the user's that it is in; empty where all of its frames are the runtime's.
        waits_in: what that line waits in; ``"ready"`` where the task waits for its turn only.
    """

    name: str
    depth: int
    at: str
    waits_in: str


class ActorPicture(msgspec.Struct):
    """An actor and those below it.

    Attributes:
        name, uuid, pid: its identity.
        state: one word or two.
        addrs: where it listens.
        tasks: those of the user's, parents before their children.
        dialogs: its open calls, contexts and streams, one line each.
        repl: what it has to do with the REPL; empty: nothing.
        children: those below it.
        note: why there is no more to say, for one that does not answer.
        place: its host, as its parent has named it; empty: that of its parent.
    """

    name: str
    uuid: str
    pid: int | None
    state: str
    addrs: list[str] = []
    tasks: list[TaskPicture] = []
    dialogs: list[str] = []
    repl: str = ""
    children: list[ActorPicture] = []
    note: str = ""
    place: str = ""

    @property
    def uid(self) -> tuple[str, str]:
        """Its ``(name, uuid)``."""
        return (self.name, self.uuid)


def user_tasks(root: trio.lowlevel.Task) -> Iterator[tuple[trio.lowlevel.Task, int]]:
    """The tasks at and below ``root`` that run code of the user's, with their depth among these."""

    def walk(task: trio.lowlevel.Task, depth: int) -> Iterator[tuple[trio.lowlevel.Task, int]]:
        own = any(not is_runtime_frame(frame) for frame in frames_of(task))
        if own:
            yield task, depth
        for nursery in task.child_nurseries:
            for child in sorted(nursery.child_tasks, key=lambda one: one.name):
                yield from walk(child, depth + own)

    return walk(root, 0)


def picture_of_task(task: trio.lowlevel.Task, depth: int = 0) -> TaskPicture:
    """A task, and where it waits."""
    frames = frames_of(task)
    users = [i for i, frame in enumerate(frames) if not is_runtime_frame(frame)]
    if not users:
        return TaskPicture(task.name, depth, "", frames[-1].f_code.co_qualname if frames else "")
    frame = frames[users[-1]]
    code = frame.f_code
    file = code.co_filename.rpartition("/")[2]
    below = [f for f in frames[users[-1] + 1 :] if f.f_globals.get("__name__") != "contextlib"]
    waits_in = "ready"
    if below:
        module = str(below[0].f_globals.get("__name__", ""))
        waits_in = f"{module.partition('.')[0]}.{below[0].f_code.co_qualname}()"
    return TaskPicture(
        task.name, depth, f"{file}:{frame.f_lineno} in {code.co_qualname}()", waits_in
    )


def picture_of(actor: Actor) -> ActorPicture:
    """This actor, without those below it; called in its trio thread."""
    root = trio.lowlevel.current_root_task()
    tasks = []
    if root is not None:
        tasks = [picture_of_task(t, depth) for t, depth in user_tasks(root)]
    state = "running"
    if actor.cancel_called:
        by = actor.cancel_caller.reprol() if actor.cancel_caller else "?"
        state = f"cancelled by {by}"
    channels = actor.ipc_server.peer_channels()
    return ActorPicture(
        name=actor.aid.name,
        uuid=actor.aid.uuid,
        pid=actor.pid,
        state=f"registrar, {state}" if actor.is_registrar else state,
        addrs=[_addr_text(addr) for addr in actor.accept_addrs],
        tasks=tasks,
        dialogs=[line for chan in channels for line in _dialogs(chan)],
    )


def _addr_text(addr: UnwrappedAddress) -> str:
    try:
        return mk_maddr(wrap_address(addr))
    except ValueError:
        # A transport of another package, or a path that a multiaddr can't have.
        return str(addr)


def _dialogs(chan: Channel) -> Iterator[str]:
    peer = chan.aid.reprol() if chan.aid is not None else "?"
    for dialog in list(chan.dialogs.values()):
        if isinstance(dialog, PendingCall) and not dialog.what.startswith("self:"):
            yield f"call of {dialog.what}() in {peer}"
        elif isinstance(dialog, OneWayReceiver):
            yield f"one-way stream from {dialog.what}() in {peer}"
        elif isinstance(dialog, ContextCore):
            end = "opened here" if dialog.dialog.side == "parent" else "served here"
            opened = dialog.dialog.stream is not StreamState.IDLE and not dialog.port.closed
            stream = ", stream open" if opened else ""
            yield f"context {dialog.repr_rpc} with {peer}, {end}: {dialog.state.value}{stream}"
        elif isinstance(dialog, ServedTask) and not dialog.endpoint.name.startswith("self:"):
            kind = "one-way stream" if isinstance(dialog, ServedStream) else "call"
            yield f"{kind} {dialog.endpoint.name}() for {peer}, served here"


def pretty_picture(top: ActorPicture) -> str:
    """The tree as text: an actor a block, its subactors indented below it."""
    return "\n".join(_lines(top, "", "")) + "\n"


def _lines(actor: ActorPicture, first: str, rest: str) -> Iterator[str]:
    repl = f"  ({actor.repl})" if actor.repl else ""
    there = f" at {actor.place}" if actor.place else ""
    yield f"{first}{actor.name}[{actor.uuid[:6]}]  pid {actor.pid}{there}  {actor.state}{repl}"
    bar = f"{rest}|  " if actor.children else f"{rest}   "
    if actor.note:
        yield f"{bar}! {actor.note}"
    if actor.addrs:
        yield f"{bar}listens at {', '.join(actor.addrs)}"
    for task in actor.tasks:
        where = f": {task.at}" if task.at else ""
        waits = "waits for its turn" if task.waits_in == "ready" else f"waits in {task.waits_in}"
        yield f"{bar}{'  ' * task.depth}task {task.name}{where}, {waits}"
    for line in actor.dialogs:
        yield f"{bar}{line}"
    for i, child in enumerate(actor.children):
        last = i == len(actor.children) - 1
        yield from _lines(child, f"{rest}|_ ", f"{rest}{'   ' if last else '|  '}")
