"""An actor in debug mode can be attached to: a thread of its own listens, so that it can also when its loop is busy."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import trio

from tractor import log as _log
from tractor._errors import DebugRequestError, TransportClosed
from tractor.devx._stack_dump import arm, disarm, interrupt_main_thread, is_armed
from tractor.devx.debug._public import DebugStatus
from tractor.devx.debug.attach._wire import Wire
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.lock._session import acquire
from tractor.devx.debug.lock._status import Holder
from tractor.ipc._debug_sock import UserSocket, debug_addr
from tractor.transport._uds import check_peer_uid, peer_credentials
from tractor.trionics._groups import collapse_eg

if TYPE_CHECKING:
    from tractor.devx.debug.attach._repl import AttachREPL
    from tractor.runtime._actor import Actor

log = _log.get_logger()

LOOP_LIMIT = 1.0
"""Seconds in which the actor's loop must have taken a session; then its main thread is interrupted."""

SAMPLE_TIME = 0.05
"""Seconds that tasks are watched to find the busiest."""

WAIT_SAID_AFTER = 0.3
"""Seconds after which somebody who waits for the REPL is told so."""

HINT = "`q`, `c` or ctrl-d lets go, `tasks` and `task N` show others"

MAX_PEOPLE = 8
"""Connections at a time."""


def serve_attach(actor: Actor) -> None:
    """Let users attach to this actor until its runtime ends; where that can't be, a warning says so."""
    if not hasattr(socket, "AF_UNIX"):
        return
    try:
        server = AttachServer(actor)
    except (OSError, ValueError) as exc:
        log.warning("nobody can attach to %s: %s", actor.aid.reprol(), exc)
        return
    actor.lifetime_stack.callback(server.close)
    if server.in_main_thread and not is_armed() and arm(quietly=True):
        # Also without stackscope: a loop that is blocked is stopped by the signal.
        actor.lifetime_stack.callback(disarm)


class AttachServer:
    """The socket and its thread.

    Raises:
        OSError, ValueError: there is no place for the socket.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.token = trio.lowlevel.current_trio_token()
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        assert actor.pid is not None
        self._sock = UserSocket(debug_addr(actor.aid.name, actor.pid))
        self._listener = self._sock.listener
        self._wake_read, self._wake = os.pipe()
        self._sessions: set[Session] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._accept_all, name="attach", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of everybody, and leave nothing behind."""
        self._closing = True
        self._sock.unlink()
        os.write(self._wake, b"x")
        self._thread.join()
        for session in list(self._sessions):
            session.wire.shut()
            session.thread.join()
        self._listener.close()
        os.close(self._wake)
        os.close(self._wake_read)

    def _accept_all(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._closing:
            if all(fd == self._wake_read for fd, _ in poll.poll()):
                continue
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue
            try:
                check_peer_uid(sock)
                if len(self._sessions) >= MAX_PEOPLE:
                    raise TransportClosed("too many are connected")
            except (TransportClosed, OSError) as exc:
                log.warning("refused who wanted to attach: %s", exc)
                sock.close()
                continue
            session = Session(self, sock)
            self._sessions.add(session)
            session.thread.start()

    def forget(self, session: Session) -> None:
        """A connection is over."""
        self._sessions.discard(session)


class Session:
    """One connection: who are you, and then, at most once, a REPL."""

    def __init__(self, server: AttachServer, sock: socket.socket) -> None:
        self.server = server
        self.actor = server.actor
        self.wire = Wire(sock)
        self.thread = threading.Thread(target=self._serve, name="attached", daemon=True)
        self._who = f"<somebody at pid {peer_credentials(sock)[0]}>"
        self._repl: Any = None
        self._color = False
        self._wanted = ""
        self._claim = threading.Lock()
        self._taken = threading.Event()
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    # -- in its own thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while (msg := self.wire.recv()) is not None:
                self._on_message(msg)
        except Exception:
            log.exception("the session of %s is given up", self._who)
        finally:
            if self._repl is not None:
                self._repl.source.lines.put("")
            self._soon(self._let_go)
            self.wire.close()
            self.server.forget(self)

    def _soon(self, fn: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self.server.token.run_sync_soon(fn)

    def _on_message(self, msg: dict[str, Any]) -> None:
        op, text = msg.get("op"), str(msg.get("text", ""))
        repl = self._repl
        if op == "hello":
            aid = self.actor.aid
            self.wire.send(
                "hello",
                name=aid.name,
                uuid=aid.uuid,
                pid=os.getpid(),
                addrs=self.actor.accept_addrs,
            )
        elif op == "attach":
            self._color = bool(msg.get("color"))
            self._wanted = text
            self._attach()
        elif repl is None:
            # Ctrl-c before there is anything to stop.
            self.wire.shut()
        elif op == "line":
            repl.source.lines.put(text + "\n")
        elif op == "eof":
            repl.source.lines.put("")
        elif op == "int":
            repl.interrupt()
        elif op == "complete":
            self.wire.send("completions", items=repl.completions(text))

    def _attach(self) -> None:
        """Have the loop open the REPL; where it does not run, the main thread, wherever it just is."""
        self._soon(self._begin)
        if self._taken.wait(LOOP_LIMIT):
            return
        holder = DebugStatus.holder()
        if holder is not None:
            self._tell(
                f"{self._name} is in its REPL at the tree's terminal ({holder}); waiting for it\n"
            )
        elif self.server.in_main_thread and interrupt_main_thread(self._open_here):
            self._tell(f"the trio loop of {self._name} does not run; stopping it in what it does\n")
        else:
            self._tell(
                f"the trio loop of {self._name} does not run and can't be stopped; waiting\n"
            )

    @property
    def _name(self) -> str:
        return self.actor.aid.reprol()

    def _tell(self, text: str) -> None:
        self.wire.send("out", text=text)

    def _end(self, text: str, failed: bool = False) -> None:
        self.wire.send("end", text=text, failed=failed)
        self.wire.shut()

    # -- where the loop is blocked: in the main thread, in a signal handler ---------------------------

    def _open_here(self, frame: FrameType) -> None:
        if DebugStatus.holder() is not None or not self._claim.acquire(blocking=False):
            return
        self._taken.set()
        self._repl = _make_repl(self.wire, self._color, self._left)
        self._tell(f"attached to {self._name} in {frame.f_code.co_qualname}(); {HINT}\n")
        self._repl.look_here(frame)

    def _left(self) -> None:
        self._end(f"let go of {self._name}")

    # -- in the trio thread ---------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._claim.acquire(blocking=False):
            self._taken.set()
            self.actor.io_nursery.start_soon(self._run, name=f"REPL of {self._who}")

    def _let_go(self) -> None:
        if self._repl is not None:
            self._repl.let_go()
        self._scope.cancel()

    async def _run(self) -> None:
        try:
            with self._scope:
                lease = await self._get_lease()
                try:
                    await self._look(lease)
                finally:
                    lease.release()
            self._end(f"let go of {self._name}")
        except (DebugRequestError, LookupError) as exc:
            self._end(str(exc), failed=True)
        except Exception as exc:
            log.exception("the REPL of %s failed", self._who)
            self._end(f"the REPL failed: {exc!r}", failed=True)

    async def _get_lease(self) -> Lease:
        """Wait for the turn, as everybody does who wants the REPL of this tree."""
        lease: Lease | None = None
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            tn.start_soon(self._say_waiting)
            lease = await acquire(Holder(self, self._who))
            tn.cancel_scope.cancel()
        assert lease is not None
        return lease

    async def _say_waiting(self) -> None:
        await trio.sleep(WAIT_SAID_AFTER)
        self._tell("the REPL is in use elsewhere in the tree; waiting for it (ctrl-c gives up)\n")

    async def _look(self, lease: Lease) -> None:
        counts = await _steps_of_tasks()

        def left() -> None:
            lease.release()
            self._soon(self._over.set)

        self._repl = repl = _make_repl(self.wire, self._color, left)
        task = repl.choose(self._wanted, counts)
        lease.repl = repl
        self._tell(f"attached to {self._name}, task {task.name}; {HINT}\n")
        repl.look_at(task)
        await self._over.wait()


async def _steps_of_tasks() -> Counter[trio.lowlevel.Task]:
    """How many steps each task of this run makes within a short time."""
    counter = _Steps()
    trio.lowlevel.add_instrument(counter)
    try:
        await trio.sleep(SAMPLE_TIME)
    finally:
        trio.lowlevel.remove_instrument(counter)
    return counter.steps


class _Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.steps: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[task] += 1


def _make_repl(wire: Wire, color: bool, on_release: Callable[[], None]) -> AttachREPL:
    """A REPL for the terminal at the other end; only then pdbp is imported."""
    from tractor.devx.debug.attach._repl import AttachREPL

    return AttachREPL(wire, color, on_release)
