"""What a nursery keeps of one subactor, and the carrying out of its teardown ladder."""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import TransportClosed, describe_exit
from tractor._proto.deadlines import (
    ACK_TIMEOUT,
    CLOSING_TIME,
    DELIVERY_TIMEOUT,
    DESCENDANTS_TIMEOUT,
    END_TIMEOUT,
)
from tractor._proto.ladder import Do, Event, Ladder, Progress, Rung
from tractor.address._types import HAS_UDS, UDSAddress, UnwrappedAddress
from tractor.ipc._chan import Channel
from tractor.ipc._debug_sock import debug_sock_path
from tractor.msg.types import Aid, Error, SpawnSpec, Uid
from tractor.process._dirs import has_shm_records
from tractor.process._file_mark import FileMark, file_mark
from tractor.process._sentinel import forget, guard, guard_files, stand_down
from tractor.process._stat import ProcessId, is_below, kill_process, process_start_time
from tractor.process._wait_pids import pid_alive, wait_pids_gone
from tractor.runtime.dialog._caller import PendingCall, request
from tractor.spawn._contract import ChildProcess, SpawnRequest
from tractor.transport._addresses import wrap_address
from tractor.transport._uds_leftovers import SOCKET_NAME, answers, own_file_mark

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor
    from tractor.runtime._portal import Portal

log = _log.get_logger()

RETRY = 0.1
"""Seconds until what has failed for want of descriptors is tried again."""


class ChildInfo(msgspec.Struct, frozen=True):
    """A subactor, as ``ActorNursery.children`` shows it; ``start_method`` is the key of its spawn backend."""

    aid: Aid
    pid: int | None
    portal: Portal | None
    state: str
    start_method: str = ""


class Recipe(msgspec.Struct):
    """What a subactor was started with, to start another in its place.

    Attributes:
        spec, request: its configuration.
        nursery: hosts its supervisor.
        main: module, function and arguments of a one-shot; ``None`` for a daemon.
    """

    spec: SpawnSpec
    request: SpawnRequest
    nursery: trio.Nursery
    main: tuple[str, str, dict[str, Any]] | None = None


class Child:
    """One subactor of a nursery.

    Attributes:
        ladder: where it stands on its way down; ``None`` until it is asked to go.
        died: set when the process is reaped.
        exited: set when, after that, all that it sent was delivered and what it left behind is cleaned up.
        settled: set when it serves, has failed to, or has died.
        asked_to_go: this actor has asked it to cancel, so its end is no failure.
        recipe: what it was started with.
        respawn: replaces it; see ``ActorNursery``.
        loss: the first error that a dialog with it ended with because it was gone.
        block_over: its nursery's block has ended.
        claim: the secret of its boot pipe, until it has shown it.
        chan: the channel on which it did.
        connected: set then.
        armed: it was started in debug mode.
        start_ladder: has its nursery host a task.
        finished: a one-shot that has given its result.
        goodbye: it has said that it ends because somebody cancelled it.
    """

    def __init__(self, actor: Actor, aid: Aid, bind_addrs: list[UnwrappedAddress] | None) -> None:
        self.actor = actor
        self.aid = aid
        self.bind_addrs = bind_addrs
        self.process: ChildProcess | None = None
        self.start_method = ""
        self.portal: Portal | None = None
        self.claim: bytes | None = None
        self.chan: Channel | None = None
        self.connected = trio.Event()
        self.armed = False
        self.ladder: Ladder | None = None
        self.ready = False
        self.settled = trio.Event()
        self.died = trio.Event()
        self.exited = trio.Event()
        self.block_over = trio.Event()
        self.start_ladder: Callable[..., None] | None = None
        self.loss: TransportClosed | None = None
        self._is_late = False
        self._acked = False
        self.boot_error: Error | None = None
        self.returncode: int | None = None
        self.asked_to_go = False
        self.goodbye = False
        self.finished = False
        self.recipe: Recipe | None = None
        self.respawn: Callable[[], bool] | None = None
        self.lost = False
        self.descendants: dict[int, float | None] = {}
        self.accept_addrs: list[UnwrappedAddress] = []
        self._files: dict[Path, FileMark] = {}
        self._progress = Progress()
        self._events: list[Event] = []
        self._signal = trio.Event()
        # Hosts what the ladder has started, while it is carried out.
        self._ladder_tn: trio.Nursery | None = None

    @property
    def uid(self) -> Uid:
        """The child's ``(name, uuid)``."""
        return self.aid.uid

    @property
    def state(self) -> str:
        """One word for people and statistics."""
        if self.exited.is_set():
            return "exited"
        if self.ladder is not None:
            return "cancelling"
        return "running" if self.ready else "booting"

    @property
    def rung(self) -> int:
        """How far down its ladder it is; 0: not on its way."""
        return 0 if self.ladder is None else self.ladder.rung.depth

    def info(self) -> ChildInfo:
        """A frozen record."""
        pid = self.process.pid if self.process is not None else None
        return ChildInfo(self.aid, pid, self.portal, self.state, self.start_method)

    @property
    def failed(self) -> bool:
        """Whether its end, which has come, is a failure: nobody had asked for it."""
        if self.ready and self.boot_error is not None:
            return True
        if self.goodbye:
            # Cancelled on request, unless its runtime crashed on the way.
            return bool(self.returncode and self.returncode > 0) and not self.asked_to_go
        return not self.asked_to_go or self.lost

    @trio.lowlevel.enable_ki_protection
    def on_started(self) -> None:
        """It has a process: from now on that is watched over, and those above know of it."""
        assert self.process is not None
        pid = self.process.pid
        self.aid = Aid(self.aid.name, self.aid.uuid, pid)
        start_time = process_start_time(pid)
        up = [
            # An actor in this very process is no process below it.
            (pid, start_time) if pid != os.getpid() else None,
            guard(pid, start_time),
            guard_files(_files_of(self.actor)),
        ]
        self.actor.report_descendants(up=[one for one in up if one is not None])

    # -- told by the child's messages -----------------------------------------------------------------

    def prove(self, chan: Channel, claim: bytes) -> bool:
        """Whether ``claim`` is its secret, that nobody has shown before: from now on ``chan`` is its channel."""
        secret = self.claim
        if secret is None or not hmac.compare_digest(secret, claim):
            return False
        self.claim = None
        self.chan = chan
        self.connected.set()
        return True

    def owns(self, chan: Channel) -> bool:
        """Whether its process is at the other end of a channel, as far as this host can tell."""
        if chan is self.chan:
            return True
        addr = chan.raddr
        if isinstance(addr, UDSAddress) and addr.maybe_pid is not None:
            return self.process is not None and addr.maybe_pid == self.process.pid
        return chan.role == "connect" and addr.unwrap() in self.accept_addrs

    def on_ready(self, accept_addrs: list[UnwrappedAddress]) -> None:
        """The child is configured and serves."""
        self.accept_addrs = accept_addrs
        marks = ((path, self._mark(path)) for path in _paths(accept_addrs))
        self._files = {path: mark for path, mark in marks if mark is not None}
        if sentinel := guard_files([*self._files, *_for_people(self.aid.name, self.aid.pid)]):
            self.actor.report_descendants(up=[sentinel])
        self.ready = True
        self.settled.set()
        self.feed(Event.BOOTED)

    def _mark(self, path: Path) -> FileMark | None:
        """What tells a socket file that it says it listens at from others; ``None``: it is none that it may have made.

        That is one at a path that it was given, or one in a directory of ours with its pid in the name.
        """
        if path in _paths(self.bind_addrs or []):
            return file_mark(path)
        named = SOCKET_NAME.fullmatch(path.name)
        if named is None or self.process is None:
            return None
        pid, own = int(named["pid"]), self.process.pid
        if pid != own and not is_below((pid, process_start_time(pid)), own):
            return None
        return own_file_mark(path)

    def on_boot_error(self, error: Error) -> None:
        """The child could not be configured, or its runtime has failed."""
        self.boot_error = error
        self.settled.set()

    def on_progress(self, left: int, rung: int) -> None:
        """The child still works down its own subactors.

        Args:
            left: how many processes below it still run, as it says; more than this actor knows of count for nothing.
            rung: how far down their ladders its own children are, all together.
        """
        advance = self._progress.note(min(left, len(self.descendants)), rung)
        self.feed(Event.ADVANCE if advance else Event.PROGRESS)

    def note_cancel_request(self) -> None:
        """This actor asks the child to cancel, so its end is no failure."""
        process, chan = self.process, self.chan
        if (chan is not None and not chan.connected()) or (
            process is not None and process.returncode is not None
        ):
            self.note_lost()
        self.asked_to_go = True

    def note_lost(self) -> None:
        """It is gone.  If nobody had asked it to go, it has died without a word; or one that is still on its way."""
        self.lost = self.lost or (self.ready and not self.asked_to_go)

    def on_portal_cancel(self, acked: bool, waited: float) -> None:
        """A portal of this actor has asked it, and waited so many seconds: what follows is the ladder's."""
        self._acked = self._acked or acked
        first = Event.PORTAL_ACKED if acked else Event.PORTAL_SILENT
        if not acked and waited < ACK_TIMEOUT:
            # It has not had its time yet.
            first = Event.CANCEL
        if self.ladder is not None:
            self.feed(first)
        elif self.start_ladder is not None and not self.died.is_set():
            self.start_ladder(self.take_down, False, first)

    def on_goodbye(self) -> None:
        """The child ends because it was cancelled."""
        self.goodbye = True

    def on_descendants(
        self, up: Iterable[ProcessId], gone: Iterable[int]
    ) -> tuple[list[ProcessId], list[int]]:
        """Processes below the child have started or ended, as it says; those of which it is true.

        What has started must have been forked by the child's process, or by one below it, as the kernel says.
        """
        process = self.process
        began = [one for one in up if process is not None and is_below(one, process.pid)]
        self.descendants.update(began)
        ended = [pid for pid in gone if pid in self.descendants]
        for pid in ended:
            del self.descendants[pid]
        return began, ended

    # -- the way down ---------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Tell the ladder of an event, if the child is on its way down."""
        if self.ladder is not None:
            self._events.append(event)
            self._signal.set()

    @trio.lowlevel.enable_ki_protection
    async def take_down(self, hard_kill: bool, first: Event = Event.CANCEL) -> None:
        """Make the child go, by the ladder; returns when the process is reaped.

        Shielded.  May be called again while it runs, to start at the signals with ``hard_kill``.

        Args:
            hard_kill: start at the signals.
            first: what the ladder begins with, else.
        """
        if self.ladder is None and self.actor.hooks.repl_below(self.uid):
            await self._wait_for_repl()
        if self.returncode is not None:
            await self._wait_exited()
            return
        if self.ladder is not None:
            if hard_kill or first is not Event.CANCEL:
                self.feed(Event.HARD_KILL if hard_kill else first)
            await self._wait_exited()
            return
        self.note_cancel_request()
        self.ladder = ladder = Ladder(hard_kill=hard_kill, booting=not self.ready)
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as tn:
                self._ladder_tn = tn
                self._watch_repl()
                self._carry_out([i.do for i in ladder.start(trio.current_time(), first)])
                while ladder.rung is not Rung.GONE:
                    await self._next_event(ladder)
                tn.cancel_scope.cancel()

    async def _wait_for_repl(self) -> None:
        """Nothing is done to a child while somebody at or below it holds or awaits the debugger's REPL."""
        with trio.CancelScope(shield=True):
            await self.actor.hooks.wait_for_repl_below(self.uid)

    async def _wait_exited(self) -> None:
        with trio.CancelScope(shield=True):
            await self.exited.wait()

    async def _next_event(self, ladder: Ladder) -> None:
        """Wait for what comes next, an event or the limit, and do what follows from it."""
        with trio.move_on_at(ladder.deadline):
            await self._signal.wait()
        self._signal = trio.Event()
        events, self._events = self._events, []
        self._watch_repl()
        for event in events:
            if ladder.rung is not Rung.GONE:
                self._carry_out([i.do for i in ladder.handle(event, trio.current_time())])
        if ladder.rung is not Rung.GONE:
            left = ladder.rung
            todo = [i.do for i in ladder.tick(trio.current_time())]
            if ladder.rung is not left:
                log.warning(
                    "%s is still %r after its limit; escalating to %r: %s",
                    self.aid.reprol(),
                    left.value,
                    ladder.rung.value,
                    self._why_forced(),
                )
            self._carry_out(todo)

    def on_repl_change(self, restart: bool = False) -> None:
        """An actor in or below this one has asked for the debugger's REPL, or is done with it.

        Args:
            restart: this actor's loop stood still meanwhile, so that every limit starts anew.
        """
        ladder = self.ladder
        if ladder is None or ladder.rung is Rung.GONE:
            return
        if restart and not ladder.held:
            ladder.handle(Event.REPL_HELD, trio.current_time())
        self._watch_repl()
        self._signal.set()

    def _watch_repl(self) -> None:
        """Tell the ladder whether somebody at or below the child holds or awaits the REPL."""
        held = self.actor.hooks.repl_below(self.uid)
        if self.ladder is not None and held is not self.ladder.held:
            event = Event.REPL_HELD if held else Event.REPL_RELEASED
            self._carry_out([i.do for i in self.ladder.handle(event, trio.current_time())])

    def _carry_out(self, todo: list[Do]) -> None:
        process = self.process
        for do in todo:
            if do is Do.SEND_CANCEL:
                self._send_cancel()
            elif do is Do.SIGTERM and process is not None:
                process.terminate()
            elif do is Do.SIGKILL and process is not None:
                log.error(
                    "#T-800 deployed to collect zombie B0: %s, pid %s: %s\n%s",
                    self.aid.reprol(sin_uuid=False),
                    process.pid,
                    process.cmdline,
                    self._why_forced(),
                )
                process.kill()

    def _why_forced(self) -> str:
        """Why the child does not end by itself, in plain words."""
        if not self.ready:
            return "it was still starting"
        if self.ladder is not None and Event.HARD_KILL in self.ladder.history:
            return "it was to be killed at once (`hard_kill`)"
        if self._acked:
            return (
                "it has acknowledged its cancellation, but does not end: it computes or blocks, or a cleanup, a thread "
                "that is no daemon, or a process that it has forked keeps it"
            )
        return (
            "it computes or blocks, and did not answer: its event loop does not run. Put what computes or blocks into "
            "`trio.to_thread.run_sync()`, or into a worker pool (`tractor.trionics.open_worker_pool()`)"
        )

    def _send_cancel(self) -> None:
        if self.chan is None or self._ladder_tn is None:
            return
        self.chan.cancel_called = True
        try:
            pending = request(self.chan, "cancel")
        except TransportClosed:
            # The child has left already, or can't be reached: the limits decide.
            return
        self._ladder_tn.start_soon(self._await_ack, pending)

    @trio.lowlevel.enable_ki_protection
    async def _await_ack(self, pending: PendingCall) -> None:
        reply = await pending.wait()
        if not isinstance(reply, BaseException):
            self._acked = True
            self.feed(Event.ACK)

    # -- the end --------------------------------------------------------------------------------------

    async def reap(self, on_death: Callable[[], None]) -> None:
        """Wait for the process's end, deliver what it had sent, and clean up behind it.  Shielded.

        Whatever fails meanwhile, those who wait for the end are woken.

        Args:
            on_death: called once the end is known and delivered, before descendants are waited for.
        """
        process = self.process
        assert process is not None
        try:
            with trio.CancelScope(shield=True):
                self.returncode = await self._wait_ended(process)
                self.died.set()
                stuck = self.chan is not None and not await self._has_departed(self.chan)
                if not self.ready:
                    await process.drain_stderr()
                on_death()
                # First, for looking at what is left may need the descriptors.
                await process.aclose()
                await self._clean_up(process.pid, stuck)
            if process.pid != os.getpid():
                self.actor.report_descendants(gone=[process.pid])
            self._log_end()
        finally:
            self.died.set()
            self.settled.set()
            self.exited.set()
            self.feed(Event.EXITED)

    async def _clean_up(self, pid: int, stuck: bool) -> None:
        """Remove what the process has left behind; one thing that can't be is no reason to leave the others."""
        with self._noted():
            if self.descendants and self.returncode != 0:
                await self._reap_descendants()
        with self._noted():
            self._remove_files(stuck)
        with self._noted():
            _remove_segments([pid])
        forget(pid, _paths(self.accept_addrs))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            log.error("what %s has left behind could not be removed: %r", self.aid.reprol(), exc)

    async def _wait_ended(self, process: ChildProcess) -> int:
        """Reap it; an error of this process, such as being out of descriptors, says nothing about it."""
        while True:
            try:
                return await process.wait()
            except OSError as exc:
                log.warning("waiting for %s failed, and is tried again: %r", self.aid.reprol(), exc)
                await trio.sleep(RETRY)

    # -- what those learn who talk with it ------------------------------------------------------------

    @property
    def label(self) -> str:
        """Name, uuid and pid, as errors about its channel have them."""
        return self.aid.reprol(sin_uuid=False)

    async def wait_ended(self) -> None:
        """Wait, at most 0.5 s and shielded, until its end is known."""
        with trio.move_on_after(END_TIMEOUT, shield=True) as bound:
            await self.died.wait()
        self._is_late = self._is_late or bound.cancelled_caught

    async def wait_gone(self) -> None:
        """Wait until it has exited.

        Raises:
            RuntimeError: a one-shot that nobody has asked to go, before its nursery's block has ended.
        """
        is_one_shot = self.recipe is not None and self.recipe.main is not None
        if is_one_shot and not self.asked_to_go and not self.block_over.is_set():
            raise RuntimeError(
                f"{self.aid.reprol()} is a one-shot, which lives until its nursery's block is left: waiting for its "
                "end in there would be for ever. Call `cancel_actor()` first, or wait for `wait_for_result()`"
            )
        await self.exited.wait()

    def note_loss(self, exc: TransportClosed, what: str) -> None:
        """Add what is known of the process's end to the error of a dialog with it, ``what``."""
        if self.loss is None and not what.startswith("self:"):
            self.loss = exc
        pid = self.process.pid if self.process is not None else None
        if self.died.is_set():
            note = f"its process (pid {pid}) has ended: {describe_exit(self.returncode)}"
        elif self._is_late:
            note = f"its process (pid {pid}) still ran {END_TIMEOUT} s after the loss"
        else:
            return
        if note not in getattr(exc, "__notes__", ()):
            exc.add_note(note)

    def _log_end(self) -> None:
        """Say how it ended: by itself, cancelled by whom, killed, or crashed."""
        who, status = self.aid.reprol(sin_uuid=False), self.returncode
        if self.failed:
            log.warning("%s ended unasked, with status %s", who, status)
        elif self.finished and status == 0:
            log.runtime("%s ended after its result", who)
        elif self.asked_to_go or self.goodbye:
            by = self.actor.aid.reprol() if self.asked_to_go else "itself or another actor"
            level = log.cancel if status == 0 else log.warning
            level("%s was cancelled by %s, and ended with status %s", who, by, status)
        else:
            log.runtime("%s ended with status %s", who, status)

    async def _has_departed(self, chan: Channel) -> bool:
        """Wait until all that came over the channel is delivered; else it is closed here.

        It stays open if the actor is no process of its own, and was abandoned.
        """
        with trio.move_on_after(DELIVERY_TIMEOUT):
            await self.actor.ipc_server.wait_for_departure(chan)
            return True
        log.warning(
            "the channel to %s was still open %s s after its end", chan.peer, DELIVERY_TIMEOUT
        )
        chan.abort()
        with trio.move_on_after(DELIVERY_TIMEOUT):
            # Those who wait in its dialogs are told before the nursery cancels its block.
            await self.actor.ipc_server.wait_for_departure(chan)
        return False

    async def _reap_descendants(self) -> None:
        """A child that did not end by itself could not wait for its own: they end by the loss of their parent."""
        left = await wait_pids_gone(self.descendants, DESCENDANTS_TIMEOUT)
        for pid in left:
            if pid_alive(pid, self.descendants[pid]):
                log.error(
                    "#T-800 deployed to collect zombie B0: pid %s, below %s", pid, self.aid.reprol()
                )
                kill_process(pid, self.descendants[pid])
        if left:
            await wait_pids_gone({pid: self.descendants[pid] for pid in left}, DESCENDANTS_TIMEOUT)
        _remove_segments(self.descendants)
        await _remove_sockets(self.descendants)

    def _remove_files(self, stuck: bool) -> None:
        """Remove the socket files that the process could not remove itself; ``stuck``: it may hold them open."""
        if not HAS_UDS or self.process is None:
            return
        marks = self._files
        if not self.accept_addrs:
            # It has not come to say where it listens.
            paths = _paths(self.bind_addrs or [])
            if not self.bind_addrs:
                spare = UDSAddress.def_bindspace
                sockname = UDSAddress.get_sockname(self.aid.name, self.process.pid, spare)
                paths = [Path(spare) / sockname]
            marks = {path: mark for path in paths if (mark := file_mark(path)) is not None}
        if self.process.pid != os.getpid():
            for path in _for_people(self.aid.name, self.process.pid):
                if (mark := own_file_mark(path)) is not None:
                    marks[path] = mark
        for path, mark in marks.items():
            if file_mark(path) == mark and ((stuck and self.accept_addrs) or _is_stale(path)):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _files_of(actor: Actor) -> list[Path]:
    """The socket files of this actor, for its peers and for people."""
    return [*_paths(actor.accept_addrs), *_for_people(actor.aid.name, actor.aid.pid)]


def _for_people(name: str, pid: int | None) -> list[Path]:
    """The socket file at which people attach to an actor, if it can have one."""
    path = debug_sock_path(name, pid)
    return [] if path is None else [path]


def _remove_segments(pids: Iterable[int]) -> None:
    """Remove the shared memory that dead processes could not, by the record; who has it mapped keeps it."""
    for pid in pids:
        # A sub-interpreter's is this very process.
        if pid != os.getpid() and has_shm_records(pid):
            from tractor.shm._segment import remove_segments_of

            remove_segments_of(pid)


async def _remove_sockets(pids: Iterable[int]) -> None:
    """Remove the socket files of dead processes, if their names are those that actors choose by themselves.

    Their sentinels do so, but may have been killed, too.
    """
    if not HAS_UDS:
        return
    # A sub-interpreter's pid is that of this very process.
    dead = [pid for pid in pids if pid != os.getpid()]
    paths = [p for pid in dead for p in Path(UDSAddress.def_bindspace).glob(f"*@{pid}.sock")]
    with trio.move_on_after(CLOSING_TIME, shield=True):
        while paths:
            for path in [path for path in paths if _is_stale(path)]:
                paths.remove(path)
                if file_mark(path) is not None:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            # A process of several threads counts as dead a moment before the last of them has let go of its sockets.
            await trio.sleep(0.01 if paths else 0)


def end_sentinel(actor: Actor) -> None:
    """End the actor's sentinel if it has no subactor left; called when a nursery is left."""
    if not actor.children and (pid := stand_down()) is not None:
        actor.report_descendants(gone=[pid])


def _paths(addrs: Iterable[UnwrappedAddress]) -> list[Path]:
    """The socket files among addresses."""
    wrapped = [wrap_address(addr) for addr in addrs]
    return [addr.sockpath for addr in wrapped if isinstance(addr, UDSAddress)]


def _is_stale(path: Path) -> bool:
    """Whether nothing accepts at a socket file: an address that the child was given may be another actor's.

    Raises:
        OSError: this process is out of descriptors.
    """
    return not answers(str(path))
