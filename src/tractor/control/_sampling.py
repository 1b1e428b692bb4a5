"""Fills the records of an actor: in its loop, or in the control thread while the loop is blocked.

It costs the actor what one look costs, and nothing in between: the counters are kept anyway, all else is counted here.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from types import CodeType
from typing import Any

import trio

from tractor._proto.dialog.context import StreamState
from tractor._util._frames import frames_above, is_of, module_of, thread_frame
from tractor.control._walk import copied
from tractor.ipc._chan import Channel
from tractor.ipc._debug_sock import control_path
from tractor.msg.bounded._bounded import bounds
from tractor.process._proc import resident_bytes, since_boot
from tractor.process._stat import process_start_time
from tractor.process.host._host_id import is_here
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._callee import ServedStream, ServedTask
from tractor.runtime.dialog._caller import OneWayReceiver, PendingCall
from tractor.runtime.dialog._context_core import ContextCore
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.seen._samples import ChildSample, DialogSample, Sample
from tractor.runtime.seen._told import TOLD

MAX_CHILDREN = 1000
MAX_DIALOGS = 200
"""Of one answer; the others are counted."""

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_OWN = tuple(os.path.join(_PACKAGE, part) for part in ("demo", "testing"))
_FACES = tuple(
    os.path.join(_PACKAGE, part)
    for part in (
        os.path.join("runtime", "_portal.py"),
        os.path.join("runtime", "dialog", "_stream.py"),
        os.path.join("runtime", "dialog", "_context.py"),
        os.path.join("supervise", "_nursery.py"),
        "trionics",
    )
)
"""Where those functions are that users start tasks with."""
_TRIO_CORE = os.path.join(os.path.dirname(trio.__file__), "_core")


def sample_of(actor: Actor, dialogs: bool = False, lag: float | None = None) -> Sample:
    """One look at an actor; in its loop.

    Args:
        actor: that of this process.
        dialogs: list those that are open.
        lag: seconds that the loop took to come here.
    """
    root = trio.lowlevel.current_root_task()
    return _sample(actor, root, lag, stale=False, dialogs=dialogs)


def stale_sample_of(
    actor: Actor, root: trio.lowlevel.Task | None, loop: int | None, silence: float = 0.0
) -> Sample:
    """One look at an actor whose loop does not come to it; in any thread.

    What may change while it is looked at is left out.

    Args:
        actor: that of this process.
        root: the root task of its run.
        loop: the ident of its thread.
        silence: seconds for which it has not come to what it was asked.
    """
    return _sample(actor, root, None, stale=True, where=_where(loop), silence=silence)


def _sample(
    actor: Actor,
    root: trio.lowlevel.Task | None,
    lag: float | None,
    stale: bool,
    dialogs: bool = False,
    where: str | None = None,
    silence: float = 0.0,
) -> Sample:
    channels = copied(lambda: list(actor.intakes))
    carried = actor.carried.plus(chan.transport for chan in channels)
    children = copied(lambda: list(actor.children.values()))
    open_now = _Open() if stale else _Open(channels)
    state, why = _state(actor, stale, where)
    chan = actor.parent_chan
    cpu_seconds = time.process_time()
    listed = open_now.listed() if dialogs and not stale else None
    left_out = max(0, len(children) - MAX_CHILDREN)
    if listed is not None:
        left_out += max(0, len(open_now.found) - MAX_DIALOGS)
    return Sample(
        name=actor.aid.name,
        uuid=actor.aid.uuid,
        pid=actor.pid,
        host=socket.gethostname(),
        parent=chan.aid.uuid if chan is not None and chan.aid is not None else None,
        time=time.time(),
        state=state,
        why=why,
        since=_since(actor, state, silence),
        stale=stale,
        uptime=time.time() - actor.began,
        cpu=_per_cent(cpu_seconds, actor.began),
        cpu_seconds=cpu_seconds,
        rss=resident_bytes(os.getpid()),
        tasks=None if stale or root is None else count_tasks(root),
        calls=None if stale else open_now.calls,
        contexts=None if stale else open_now.contexts,
        streams=None if stale else open_now.streams,
        calls_total=actor.calls_total,
        errors_total=actor.errors_total,
        messages_in=carried.messages_in,
        messages_out=carried.messages_out,
        bytes_in=carried.bytes_in,
        bytes_out=carried.bytes_out,
        lag=lag,
        fill=open_now.fill,
        peers=_peers(actor),
        serving=len(actor.served),
        children=(*map(child_of, islice(children, MAX_CHILDREN)), *_waiting(actor)),
        start_method=actor.start_method,
        limits_reached=copied(lambda: dict(actor.limits_reached + bounds.reached + _dropped())),
        dialogs=listed,
        truncated=left_out,
    )


def _dropped() -> Counter[str]:
    """Headers of instruments that were over a limit."""
    return Counter({"headers": TOLD.headers_dropped})


def _peers(actor: Actor) -> int:
    try:
        return actor.ipc_server.len_peers()
    except AssertionError:
        # Its runtime is not open yet, or no more.
        return 0


def _per_cent(cpu_seconds: float, began: float) -> float | None:
    start, now = own_start(os.getpid()), since_boot()
    age = time.time() - began if start is None or now is None else now - start
    return 100 * cpu_seconds / age if age > 0 else None


@functools.cache
def own_start(pid: int) -> float | None:
    """When this process was started; it has another number after a fork."""
    return process_start_time(pid)


def _state(actor: Actor, stale: bool, where: str | None) -> tuple[str, str | None]:
    if actor.hooks.has_repl():
        return "repl", "holds the debugger's REPL, or awaits it"
    if stale:
        return "blocked", "its loop did not answer" + (f"; it is at {where}" if where else "")
    if actor.cancel_called:
        by = actor.cancel_caller
        return "cancel", f"by {by.reprol(sin_uuid=False)}" if by is not None else None
    if actor.draining.is_begun:
        return "run", "drains"
    return "run", None


def _since(actor: Actor, state: str, silence: float) -> float | None:
    """When the state began, as far as the actor can know.  A loop is blocked since before it was asked first."""
    if state == "blocked":
        return time.time() - silence
    if state == "cancel":
        return actor.cancelled_at
    changed = actor.hooks.repl_changed_at()
    return changed if state == "repl" else max(actor.began, changed or 0.0)


def _where(loop: int | None) -> str | None:
    """Where a thread is: its innermost line that is no library's."""
    frames = list(frames_above(thread_frame(loop)))
    own = [one for one in frames if not is_of(module_of(one), {"tractor", "trio", "threading"})]
    for frame in own[:1] or frames[:1]:
        code = frame.f_code
        return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}()"
    return None


# -- subactors ----------------------------------------------------------------------------------------


def child_of(record: Any) -> ChildSample:
    """A subactor, as this actor knows it."""
    info = record.info()
    service = record.service
    is_local = not info.host or is_here(info.host)
    error = None if service is None else service.error
    return ChildSample(
        name=info.aid.name,
        uuid=info.aid.uuid,
        pid=info.pid if is_local else info.aid.pid,
        host=info.host,
        state=info.state,
        start_method=info.start_method,
        socket=_socket_of(info.aid.name, info.pid) if is_local else None,
        restarts=None if service is None else service.restarts,
        last_error=None if error is None else in_words(error),
    )


def _waiting(actor: Actor) -> list[ChildSample]:
    """Its services that have no process now."""
    members = [one for waiting in copied(lambda: list(actor.services_waiting)) for one in waiting()]
    return [
        ChildSample(
            name=one.name,
            uuid="",
            pid=None,
            host="",
            state="backoff",
            restarts=one.restarts,
            last_error=None if one.error is None else in_words(one.error),
        )
        for one in members[:MAX_CHILDREN]
    ]


def _socket_of(name: str, pid: int | None) -> str | None:
    path = control_path(name, pid)
    return None if path is None else str(path)


def in_words(error: BaseException) -> str:
    """An error's type and text, shortened."""
    try:
        text = str(error)
    except Exception:
        text = "?"
    return f"{type(error).__name__}: {text}"[:500]


# -- tasks --------------------------------------------------------------------------------------------


def count_tasks(root: trio.lowlevel.Task) -> int:
    """The tasks at and below a root, less those that the runtime and trio have started for themselves."""
    # By id: a code object's hash is made of all that is in it, each time.
    known: dict[int, bool] = {}
    count = 0
    stack = [root]
    while stack:
        task = stack.pop()
        code = getattr(task.coro, "cr_code", None)
        own = known.get(id(code))
        if own is None:
            own = known[id(code)] = code is not None and _of_the_runtime(code)
        count += not own
        for nursery in task.child_nurseries:
            stack.extend(nursery.child_tasks)
    return count


def _of_the_runtime(code: CodeType) -> bool:
    file = code.co_filename
    if code is ServedTask.run.__code__ or file.startswith(_OWN):
        return False
    if file.startswith(_FACES) and not code.co_name.startswith("_"):
        return False
    return file.startswith((_PACKAGE + os.sep, _TRIO_CORE + os.sep))


# -- dialogs ------------------------------------------------------------------------------------------


class _Open:
    """What is open on an actor's channels, on both sides, less the runtime's own."""

    def __init__(self, channels: Iterable[Channel] = ()) -> None:
        self.calls = self.contexts = self.streams = 0
        self.fill: float | None = None
        self.found: list[tuple[Channel, int, Any]] = []
        for chan in channels:
            for cid, dialog in list(chan.dialogs.items()):
                if self._count(dialog):
                    self.found.append((chan, cid, dialog))

    def _count(self, dialog: Any) -> bool:
        """Whether it is the program's."""
        port: StreamPort | None = None
        if isinstance(dialog, ContextCore):
            self.contexts += 1
            if _has_stream(dialog):
                port = dialog.port
        elif isinstance(dialog, OneWayReceiver | ServedStream):
            port = dialog.port
        elif isinstance(dialog, PendingCall):
            if dialog.what.startswith("self:"):
                return False
            self.calls += 1
        elif isinstance(dialog, ServedTask):
            self.calls += 1
        else:
            return False
        if port is not None:
            self.streams += 1
            self.fill = max(self.fill or 0.0, _fill(port))
        return True

    def listed(self) -> tuple[DialogSample, ...]:
        """Each of them, busiest first."""
        rows = [_dialog(*one) for one in self.found]
        rows.sort(key=lambda row: (row.sent or 0) + (row.received or 0), reverse=True)
        return tuple(rows[:MAX_DIALOGS])


def dialogs_of(actor: Actor) -> Iterator[DialogSample]:
    """Each dialog that is open on an actor's channels, less the runtime's own; in its loop."""
    for one in _Open(actor.intakes).found:
        yield _dialog(*one)


def _has_stream(core: ContextCore) -> bool:
    return core.dialog.stream is not StreamState.IDLE and not core.port.closed


def _fill(port: StreamPort) -> float:
    return 100 * len(port.buffer) / max(1, port.recv.size)


def _dialog(chan: Channel, cid: int, dialog: Any) -> DialogSample:
    port: StreamPort | None = getattr(dialog, "port", None)
    state = None
    if isinstance(dialog, ContextCore):
        kind, function, state = "context", dialog.endpoint.name, str(dialog.state.value)
        is_caller = dialog.dialog.side == "parent"
        if not _has_stream(dialog):
            port = None
    else:
        is_caller = isinstance(dialog, PendingCall | OneWayReceiver)
        kind = "call" if port is None else "stream"
        function = dialog.what if is_caller else dialog.endpoint.name
    return DialogSample(
        kind=kind,
        side="caller" if is_caller else "callee",
        function=function,
        peer=chan.peer,
        state=state,
        sent=None if port is None else port.send.sent,
        received=None if port is None else port.received,
        discarded=None if port is None else port.discarded,
        fill=None if port is None else _fill(port),
        dialog=chan.dialog_of(cid),
        buffered=None if port is None else len(port.buffer),
        credit=None if port is None or port.send.strict else port.send.credit,
    )
