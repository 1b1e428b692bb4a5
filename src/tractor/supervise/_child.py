"""What a nursery keeps of one subactor, from before its process is started until it is gone.

**Who drives.**  How far it has come and why it ends is the pure machine :mod:`tractor._proto.children.child_life`; the
way down, once it is to go, is :mod:`tractor.supervise._ladder`.  Three parties tell them what happens: the reader, of
the child's own words (``on_...``); the task that starts it, in `take_down()`; and the task that reaps its process, in
`reap()`.

**Why the races are safe.**

- *Its word counts on one channel only*, that on which it has shown the secret of its boot pipe, once.
- *It is asked to go while it dies.*  `note_cancel_request()` looks and tells in one turn of the loop, see the
  machine.
- *Two want it to go.*  Between the look whether it is on its way and the start of the ladder there is no checkpoint;
  the second feeds the ladder of the first, and both wait for `exited`.
- *An error of a dialog needs the exit status*, but the channel may end before the process: the error waits, at most
  0.5 s, for `died`, and says what it knows by then.  So `died` comes before all that was sent is delivered, `exited`
  after.
- *A wait that fails.*  `reap()` sets every event on its way out, whatever it was that went wrong.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import trio

from tractor import log as _log
from tractor._errors import ActorFailure, TransportClosed, describe_exit
from tractor._proto.children.child_life import ChildEvent, ChildLife, Phase
from tractor._proto.children.ladder import Ladder, LadderEvent, Progress
from tractor._proto.deadlines import ACK_TIMEOUT, END_TIMEOUT
from tractor.address._policy import is_within_host
from tractor.address._types import UDSAddress, UnwrappedAddress
from tractor.hosts._process import RemoteProcess
from tractor.ipc._chan import Channel
from tractor.ipc._debug_sock import user_sock_paths
from tractor.msg._conversion import any_value
from tractor.msg.types import Aid, Error, Return, Uid
from tractor.process._file_mark import FileMark
from tractor.process._stat import ProcessId, is_below
from tractor.process.host._host_id import host_id, is_here
from tractor.process.sentinel._sentinel import forget, guard, guard_files
from tractor.runtime._actor import Actor
from tractor.runtime._portal import Portal
from tractor.runtime._records import ServiceRecord
from tractor.runtime.dialog._caller import ask
from tractor.spawn._contract import ChildProcess
from tractor.supervise._arguments import Recipe
from tractor.supervise._ladder import Descent, number_of
from tractor.supervise._leftovers import (
    end_channel,
    end_descendants,
    marks_of,
    remove_files,
    remove_segments,
    socket_files,
)
from tractor.supervise._main_call import MainCall

log = _log.get_logger()

RETRY = 0.1
"""Seconds until what has failed for want of descriptors is tried again."""


class ChildInfo(msgspec.Struct, frozen=True):
    """A subactor, as ``ActorNursery.children`` shows it.

    Attributes:
        aid: as the actor has it; before it is connected without a pid of its own.
        pid: of its process, as this actor's host has it; ``None``: it has none yet.
        portal: leads to it, once it serves.
        state: one word.
        start_method: the key of its spawn backend.
        host: the id of the host on which ``pid`` is one.
        place: that host, as it was named at the start; empty: this one.
        silent: seconds since that host's last sign of life, where it is out of reach; ``None``: it is not.
    """

    aid: Aid
    pid: int | None
    portal: Portal | None
    state: str
    start_method: str = ""
    host: str = ""
    place: str = ""
    silent: float | None = None


class Child:
    """One subactor of a nursery.

    Args:
        actor: this process's.
        aid: the subactor's identity, without a pid as yet.
        bind_addrs: where it is to listen; ``None``: it chooses.
    """

    def __init__(self, actor: Actor, aid: Aid, bind_addrs: list[UnwrappedAddress] | None) -> None:
        self.actor = actor
        # Its identity; with the pid once there is a process.
        self.aid = aid
        # Where it was told to listen; `None`: it chooses by itself.
        self.bind_addrs = bind_addrs
        # When it was started, by the clock with which this actor tells its subactors apart.
        self.started = 0.0
        # What it is started with, also to start another in its place.
        self.recipe: Recipe | None = None
        # Key of the backend that has started it.
        self.start_method = ""
        # It was started in debug mode.
        self.armed = False
        # Replaces it by a fresh process; see `_respawn.py`.
        self.respawn: Callable[[], bool] | None = None
        # Whose business a failure of it is; `None`: it ends its whole nursery.
        self.keeper: Callable[[BaseException], None] | None = None
        # The service that it is a life of, for those who look.
        self.service: ServiceRecord | None = None
        # Seconds until it gets a signal once it is to go; `None`: as the ladder has it.
        self.grace: float | None = None
        # What its ladder begins with, unless somebody says otherwise.
        self.way_down = LadderEvent.CANCEL
        # Seconds that it needs for its own subactors, as it says.
        self.needs = 0.0
        # Who has cancelled it, as it says.
        self.canceller: Uid | None = None
        # Its nursery's block has ended.
        self.block_over = trio.Event()
        # Told when its runtime has failed, as it says, after it had come to serve.
        self.on_failure: Callable[[], None] = lambda: None
        # Has its nursery host a task.
        self.start_ladder: Callable[..., None] | None = None

        # How far it has come, and why it ends.
        self.life = ChildLife()
        # Its way down; `None` until it is to go.
        self.descent: Descent | None = None
        # Whether its notes tell of an advance.
        self._progress = Progress()
        # It serves, has failed to, or has died.
        self.settled = trio.Event()
        # Its process is reaped, or can't be waited for.
        self.died = trio.Event()
        # After that, all that it sent was delivered, and what it left behind is cleaned up.
        self.exited = trio.Event()
        # An error of a dialog with it has waited for its end in vain.
        self._is_late = False

        # Its process; `None` before the backend has started one.
        self.process: ChildProcess | None = None
        # The processes below it on this host, as it has told and the kernel says, by their pids.
        self.descendants: dict[int, ProcessId] = {}

        # The secret of its boot pipe, until it has shown it.
        self.claim: bytes | None = None
        # The one channel on which it did.
        self.chan: Channel | None = None
        # Set then.
        self.connected = trio.Event()
        # When, by `time.monotonic()`.
        self.connected_at = 0.0
        # Leads to it; there is one once its start has succeeded.
        self.portal: Portal | None = None
        # The function of a one-shot; `None`: it is a daemon.
        self.main: MainCall | None = None
        # Whether it is on this host, as it says: else no file here is its.
        self.is_here = True
        # Where it listens, as it says.
        self.accept_addrs: list[UnwrappedAddress] = []
        # The socket files among those, and what tells each from one that another puts there.
        self._files: dict[Path, FileMark] = {}
        # Why it could not be configured, or its runtime has failed, as it says.
        self.boot_error: Error | None = None
        # Its configuration was sent, or is about to be.
        self.is_told = False
        # Nobody wants it any more, before that: if it still connects, it is hung up on.
        self.given_up = False
        # The first error that a dialog with it ended with because it was gone.
        self.loss: TransportClosed | None = None

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def uid(self) -> Uid:
        """The child's ``(name, uuid)``."""
        return self.aid.uid

    @property
    def label(self) -> str:
        """Name, uuid and pid, as errors about its channel have them."""
        return self.aid.reprol(sin_uuid=False)

    @property
    def state(self) -> str:
        """One word for people and statistics."""
        if self.life.phase is Phase.GONE:
            return "exited"
        if self.descent is not None:
            return "cancelling"
        return "running" if self.ready else "booting"

    @property
    def ready(self) -> bool:
        """Whether it has come to serve."""
        return self.life.is_ready

    @property
    def asked_to_go(self) -> bool:
        """Whether this actor has asked it to cancel, or sends it signals so that it ends."""
        return self.life.is_asked

    @property
    def drains(self) -> bool:
        """Whether it takes its time when it gets a SIGTERM unasked."""
        return self.recipe is not None and self.recipe.spec.drain > 0

    @property
    def failed(self) -> bool:
        """Whether its end, which has come, is a failure of its own."""
        return self.life.is_failure

    @property
    def returncode(self) -> int | None:
        """Its exit status, once it has been reaped."""
        return self.life.status

    @property
    def ladder(self) -> Ladder | None:
        """Where it stands on its way down; ``None``: it is not to go."""
        return None if self.descent is None else self.descent.ladder

    @property
    def rung(self) -> int:
        """How far down its ladder it is; 0: not on its way."""
        return 0 if self.ladder is None else self.ladder.rung.depth

    @property
    def rungs(self) -> str | None:
        """The last rung of its ladder that it took to end it, in words; ``None``: it was not to go."""
        return None if self.descent is None else self.descent.last.value

    @property
    def rung_taken(self) -> int | None:
        """The number of the last rung that it took to end it, 0 to 4; ``None``: it was not to go."""
        return None if self.descent is None else number_of(self.descent.last)

    def info(self) -> ChildInfo:
        """A frozen record."""
        pid = self.process.pid if self.process is not None else None
        known = (self.aid, pid, self.portal, self.state, self.start_method)
        if not isinstance(self.process, RemoteProcess):
            return ChildInfo(*known, host_id())
        there = self.process.host
        return ChildInfo(*known, self.process.id.host, there.place.name, there.silent)

    @trio.lowlevel.enable_ki_protection
    def on_started(self) -> None:
        """It has a process: from now on that is watched over, and those above know of it."""
        assert self.process is not None
        process, own = _id_of(self.process), self.actor.aid
        self.is_here = process.is_here
        self.aid = Aid(self.aid.name, self.aid.uuid, process.pid, host=process.host)
        up = [
            # An actor in this very process is not a process below it.
            process if process.is_here and process.pid != os.getpid() else None,
            guard(process),
            guard_files(
                [*socket_files(self.actor.accept_addrs), *user_sock_paths(own.name, own.pid)]
            ),
        ]
        self.actor.report_descendants(up=[one for one in up if one is not None])

    # -- told by the child's messages -----------------------------------------------------------------

    def prove(self, chan: Channel, claim: bytes) -> bool:
        """Whether ``claim`` is its secret, that nobody has shown before: from now on ``chan`` is its channel."""
        secret = self.claim
        if secret is None or not hmac.compare_digest(secret, claim):
            return False
        assert chan.aid is not None
        self.claim = None
        self.chan = chan
        self.is_here = is_here(chan.aid.host)
        if not self.is_here:
            # There its process has another number.
            pid, host = chan.aid.pid, chan.aid.host
            self.aid = msgspec.structs.replace(self.aid, pid=pid, host=host)
        self.connected_at = time.monotonic()
        self.connected.set()
        if self.given_up:
            chan.abort()
        return True

    def owns(self, chan: Channel) -> bool:
        """Whether its process is at the other end of a channel, as far as this host can tell."""
        if chan is self.chan:
            return True
        addr = chan.raddr
        if isinstance(addr, UDSAddress) and addr.maybe_pid is not None:
            return self.process is not None and addr.maybe_pid == self.process.pid
        leads = self.is_here or not is_within_host(addr)
        return chan.role == "connect" and leads and addr.unwrap() in self.accept_addrs

    def on_ready(self, accept_addrs: list[UnwrappedAddress]) -> None:
        """The child is configured and serves."""
        self.accept_addrs = accept_addrs
        if self.is_here:
            self._guard_files()
        self.life.handle(ChildEvent.READY)
        self.settled.set()
        self._feed(LadderEvent.BOOTED)

    def _guard_files(self) -> None:
        """Have the files that it listens at removed once it is dead."""
        pid = self.process.pid if self.process is not None else None
        self._files = marks_of(self.accept_addrs, self.bind_addrs or (), pid)
        if sentinel := guard_files([*self._files, *user_sock_paths(self.aid.name, self.aid.pid)]):
            self.actor.report_descendants(up=[sentinel])

    def on_boot_error(self, error: Error) -> None:
        """The child could not be configured, or its runtime has failed."""
        self.boot_error = error
        self.life.handle(ChildEvent.CRASH)
        self.settled.set()
        if self.ready:
            self.on_failure()

    def on_goodbye(self, canceller: Uid | None) -> None:
        """The child ends because it was cancelled, by whom it says."""
        self.canceller = canceller
        self.life.handle(ChildEvent.GOODBYE)

    def on_progress(self, left: int, rung: int, needs: float = 0.0) -> None:
        """The child still works down its own subactors.

        Args:
            left: how many processes below it still run, as it says; more than this actor knows of count for nothing.
            rung: how far down their ladders its own children are, all together.
            needs: seconds that its services need.
        """
        self.needs = needs
        if self.descent is not None:
            self.descent.ladder.allow(needs)
        advance = self._progress.note(min(left, len(self.descendants)), rung)
        self._feed(LadderEvent.ADVANCE if advance else LadderEvent.PROGRESS)

    def on_descendants(
        self, up: Iterable[ProcessId], gone: Iterable[int]
    ) -> tuple[list[ProcessId], list[int]]:
        """Processes below the child have started or ended, as it says; those of which it is true.

        What has started must have been forked by the child's process, or by one below it, as the kernel says: so one of
        another host is none, whose business it is.
        """
        process = self.process
        began = [one for one in up if process is not None and is_below(one, process.pid)]
        self.descendants.update({one.pid: one for one in began})
        ended = [pid for pid in gone if pid in self.descendants]
        for pid in ended:
            del self.descendants[pid]
        return began, ended

    async def drain(self, timeout: float, but: int | None = None) -> bool:
        """Have it unregister and refuse new requests, and wait until those that it serves have ended.

        It lives on; what follows is to take it down.

        Args:
            timeout: seconds that the running ones get; it has :data:`ACK_TIMEOUT` more to say so.
            but: the dialog of its own function, which is no request of others and not waited for.

        Returns:
            Whether none runs any more; ``False``, too, if it does not answer, or is gone.
        """
        if self.chan is None or not self.ready:
            return False
        chan = self.chan
        with contextlib.suppress(TransportClosed):
            limit = timeout + ACK_TIMEOUT
            reply = await ask(chan, "_drain", limit, timeout=timeout, but=but)
            return isinstance(reply, Return) and any_value(reply.pld) is True
        return False

    # -- the way down ---------------------------------------------------------------------------------

    def note_cancel_request(self) -> None:
        """This actor asks the child to cancel, so its end is not a failure, unless it is gone by now, as is seen
        here.
        """
        process, chan = self.process, self.chan
        if (chan is not None and not chan.connected()) or (
            process is not None and process.returncode is not None
        ):
            self.note_lost()
        self.life.handle(ChildEvent.ASKED)

    def note_lost(self) -> None:
        """It is gone.  If nobody had asked it to go, it has died without a word; or one that is still on its way."""
        self.life.handle(ChildEvent.LOSS)

    def on_kill(self) -> None:
        """It is about to be killed by this actor."""
        self.life.handle(ChildEvent.KILLED)

    def on_portal_cancel(self, acked: bool, waited: float) -> None:
        """A portal of this actor has asked it, and waited so many seconds: what follows is the ladder's."""
        first = LadderEvent.PORTAL_ACKED if acked else LadderEvent.PORTAL_SILENT
        if not acked and waited < ACK_TIMEOUT:
            # It has not had its time yet.
            first = LadderEvent.CANCEL
        if self.descent is not None:
            self.descent.feed(first)
        elif self.start_ladder is not None and not self.died.is_set():
            self.start_ladder(self.take_down, False, first)

    def on_repl_change(self, restart: bool = False) -> None:
        """An actor in or below this one has asked for the REPL, or is done with it; see the method of its descent."""
        if self.descent is not None:
            self.descent.on_repl_change(restart)

    def _feed(self, event: LadderEvent) -> None:
        """Tell the ladder of an event, if the child is on its way down."""
        if self.descent is not None:
            self.descent.feed(event)

    @trio.lowlevel.enable_ki_protection
    async def take_down(self, hard_kill: bool, first: LadderEvent | None = None) -> None:
        """Make the child go, by the ladder; returns when the process is reaped.

        Shielded.  May be called again while it runs, to start at the signals with ``hard_kill``.  Nothing is done to a
        child while somebody at or below it holds or awaits the debugger's REPL.

        Args:
            hard_kill: start at the signals.
            first: what the ladder begins with, else; ``None``: as is this child's way.
        """
        first = first or self.way_down
        if self.descent is None and self.actor.hooks.repl_below(self.uid):
            with trio.CancelScope(shield=True):
                await self.actor.hooks.wait_for_repl_below(self.uid)
        if self.life.phase in (Phase.BOOTING, Phase.RUNNING):
            if self.descent is None:
                self.note_cancel_request()
                self.descent = Descent(self, hard_kill, self.grace)
                await self.descent.run(first)
                return
            if hard_kill or first is not LadderEvent.CANCEL:
                self.descent.feed(LadderEvent.HARD_KILL if hard_kill else first)
        with trio.CancelScope(shield=True):
            await self.exited.wait()

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
                status = await self._wait_ended(process)
                if status is None:
                    self.life.handle(ChildEvent.HOST_LOST)
                self.life.handle(ChildEvent.DIED, status)
                self.died.set()
                self._report_loss()
                stuck = self.chan is not None and not await end_channel(
                    self.actor, self.chan, host_lost=status is None
                )
                if not self.ready:
                    await process.drain_stderr()
                on_death()
                # First, for looking at what is left may need the descriptors.
                await process.aclose()
                if self.is_here:
                    await self._clean_up(process.pid, stuck)
            if self.is_here and process.pid != os.getpid():
                self.actor.report_descendants(gone=[process.pid])
            self._log_end()
        finally:
            self.died.set()
            self.settled.set()
            self.life.handle(ChildEvent.CLEANED)
            self.exited.set()
            self._feed(LadderEvent.EXITED)

    def _report_loss(self) -> None:
        """Where its host is lost, have the registrars know: its peers would learn of it much later."""
        registration = self.actor.registration
        if isinstance(self.process, RemoteProcess) and self.process.lost and registration:
            registration.report_lost(self.uid)

    async def _clean_up(self, pid: int, stuck: bool) -> None:
        """Remove what the process has left behind; one thing that can't be is no reason to leave the others."""
        with self._noted():
            if self.descendants and self.returncode != 0:
                await end_descendants(self.descendants, self.aid.reprol())
        with self._noted():
            marks = self._files if self.accept_addrs else None
            if self.is_here:
                remove_files(marks, self.bind_addrs or (), self.aid.name, pid, held=stuck)
        with self._noted():
            remove_segments([pid])
        forget(pid, socket_files(self.accept_addrs))

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            log.error("what %s has left behind could not be removed: %r", self.aid.reprol(), exc)

    async def _wait_ended(self, process: ChildProcess) -> int | None:
        """Reap it; an error of this process, such as being out of descriptors, says nothing about it."""
        while True:
            try:
                return await process.wait()
            except OSError as exc:
                log.warning("waiting for %s failed, and is tried again: %r", self.aid.reprol(), exc)
                await trio.sleep(RETRY)

    def _log_end(self) -> None:
        """Say how it ended: by itself, cancelled by whom, killed, or crashed."""
        who, status = self.label, self.returncode
        if self.failed:
            level = log.warning
        elif self.main is not None and self.main.has_value and status == 0:
            level = log.runtime
        else:
            level = log.cancel if status == 0 else log.warning
        level("%s has ended, %s, with status %s", who, self.life.cause.value, status)

    # -- what those learn who talk with it ------------------------------------------------------------

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
        if self.main is not None and not self.asked_to_go and not self.block_over.is_set():
            raise RuntimeError(
                f"{self.aid.reprol()} is a one-shot, which lives until its nursery's block is left: waiting for its "
                "end in there would be for ever. Call `cancel_actor()` first, or wait for `wait_for_result()`"
            )
        await self.exited.wait()

    def _end_in_words(self) -> str:
        if isinstance(self.process, RemoteProcess) and self.process.lost is not None:
            return f"its host {self.process.lost.host!r} is lost"
        pid = self.process.pid if self.process is not None else None
        return f"its process (pid {pid}) has ended: {describe_exit(self.returncode)}"

    def _name_end(self, exc: TransportClosed) -> None:
        """Its end is the cause of an error of a dialog with it: nobody else tells of that, as its nursery goes on."""
        if not isinstance(exc.__cause__, ActorFailure):
            failure = ActorFailure(uid=self.uid, returncode=self.returncode)
            failure.__cause__, exc.__cause__ = exc.__cause__, failure

    def note_loss(self, exc: TransportClosed, what: str) -> None:
        """Add what is known of the process's end to the error of a dialog with it, ``what``."""
        if self.loss is None and not what.startswith("self:"):
            self.loss = exc
        pid = self.process.pid if self.process is not None else None
        if self.died.is_set():
            note = self._end_in_words()
            if self.keeper is not None and self.failed:
                self._name_end(exc)
        elif self._is_late:
            note = f"its process (pid {pid}) still ran {END_TIMEOUT} s after the loss"
        else:
            return
        if note not in getattr(exc, "__notes__", ()):
            exc.add_note(note)


def _id_of(process: ChildProcess) -> ProcessId:
    return process.id if isinstance(process, RemoteProcess) else ProcessId.of(process.pid)
