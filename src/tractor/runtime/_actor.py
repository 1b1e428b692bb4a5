"""The actor that this process is: its identity, its peers, and the requests that it serves."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.deadlines import PEERS_TIMEOUT
from tractor._proto.dialog.flow import STRICT_BUFFER_SIZE
from tractor._proto.registrars import start_time
from tractor._util._waiters import Waiters
from tractor.address._policy import require_connectable
from tractor.address._types import Addr, Address, UnwrappedAddress
from tractor.ipc._chan import Channel
from tractor.ipc._server import Server
from tractor.msg.types import Aid, Uid
from tractor.process._at_fork import go_on
from tractor.process._stat import ProcessId
from tractor.runtime._drain import Draining, checked_timeout, serving_task
from tractor.runtime._hooks import RuntimeHooks
from tractor.runtime._intake import Intake
from tractor.runtime._life import Life
from tractor.runtime._portal import Portal
from tractor.runtime._records import (
    ChildRecord,
    RegistrationRecord,
    RegistryRecord,
    ServiceRecord,
)
from tractor.runtime._signal_log import SignalLog
from tractor.runtime._vars import debug_mode, is_root_process, runtime_vars
from tractor.runtime.dialog._callee import (
    ctxc_error,
    failure_error,
    put_error,
    put_return,
)
from tractor.runtime.dialog._caller import request
from tractor.runtime.dialog._endpoints import canonical
from tractor.runtime.dialog._host import Served
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._kept import Carried, Recorder
from tractor.runtime.seen._lives import tell_cancel, tell_crashed
from tractor.runtime.seen._told import TOLD
from tractor.transport._addresses import wrap_address, wrap_addresses

if TYPE_CHECKING:
    from tractor.runtime.seen._samples import Sample

log = _log.get_logger()


SLICE = 200
"""Tasks that are cancelled in one turn of the loop, where there are many."""

ServeRequest: TypeAlias = "Callable[[Actor, Channel, int, dict[str, Any]], None]"
"""Carries out a request in the namespace ``self``: of the actor, the channel, the dialog and the arguments."""


class Actor:
    """The actor of this process.  Not built by users: see :func:`tractor.current_actor`.

    Attributes:
        aid: its identity.
        lifetime_stack: closed when the actor ends; push what must not outlive it.
        cancel_called: whether a cancellation of the whole actor was asked for.
        cancel_caller: who asked.
        cancel_complete: whether that has ended every task that the actor served.
        msg_buffer_size: messages; the default bound of what a stream holds unread in the strict mode.
        start_method: key of the spawn backend of its tree.
    """

    msg_buffer_size: int = STRICT_BUFFER_SIZE

    # Apart from those in its dict: as in `FrameSender`.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_cancel_done",
        "_io_nursery",
        "_reg_addrs",
        "_server",
        "_service_nursery",
        "began",
        "calls_total",
        "carried",
        "errors_total",
        "intakes",
        "limits_reached",
        "recorder",
        "requests",
        "sampler",
        "services_waiting",
    )

    def __init__(
        self,
        aid: Aid,
        *,
        enable_modules: Iterable[str] = (),
        loglevel: str | None = None,
        reg_addrs: Iterable[UnwrappedAddress] = (),
        started: float = 0.0,
    ) -> None:
        self.aid = aid
        # When it was made, by this host's clock.
        self.began = time.time()
        # When it was started, in seconds since 1970, by its parent's clock.
        self.started = started
        # What the last of its subactors has got for that.
        self._last_start = started
        # Its log level, and that of the subactors that it starts, unless they are told another.
        self.loglevel = loglevel
        self.start_method = ""
        # Canonical names of the modules that peers may call into.
        self.enabled: set[str] = {canonical(name) for name in enable_modules}
        self.lifetime_stack = ExitStack()
        # The debugger's, once it is armed.
        self.hooks = RuntimeHooks()
        # When it got which signal, for descendants that ask.
        self.signals = SignalLog()
        self.cancel_called = False
        self.cancel_caller: Aid | None = None
        # When that was asked for, by this host's clock.
        self.cancelled_at: float | None = None
        self.cancel_complete = False
        # Awaited at its end, while it unregisters: nothing that it serves runs any more.
        self.last_acts: list[Callable[[], Awaitable[None]]] = []
        # Why it begins no request of a peer's; empty: it does. Set, too, once it is cancelled.
        self.closed_because = ""
        # Seconds in which a SIGTERM lets running requests end.
        self.drain_on_term = 0.0
        # The parent knows with what it has failed.
        self.parent_is_told = False
        # Its lifespan and background tasks.
        self.life = Life(self.fail, self._on_crash)
        # Called where user code comes back; ends what was forked off (`forget_actor`), which must act for nobody.
        self.end_if_copy: Callable[..., None] = go_on
        # Its subactors, as long as their nurseries keep them.
        self.children: dict[Uid, ChildRecord] = {}
        # What it runs for peers; the cancellation of the actor ends when it is empty.
        self.served: set[Served] = set()
        self.none_served = Waiters()
        self.draining = Draining(self.served, self.none_served)
        # Around the block of the root, or the main task of a subactor.
        self.main_scope = trio.CancelScope()
        # To the actor that started it; `None` in a root.
        self.parent_chan: Channel | None = None
        # What keeps it registered; `None` before, and without registrars.
        self.registration: RegistrationRecord | None = None
        # What makes it a registrar, while it is one.
        self.registry: RegistryRecord | None = None
        self._reg_addrs: list[UnwrappedAddress] = list(reg_addrs)
        # These three are there while its runtime is open: see `attach()`.
        self._server: Server | None = None
        self._service_nursery: trio.Nursery | None = None
        self._io_nursery: trio.Nursery | None = None
        # Every task that it served has ended.
        self._cancel_done = trio.Event()
        # The requests of each peer that is connected.
        self.intakes: dict[Channel, Intake] = {}
        # How often each limit was reached by a peer.
        self.limits_reached: Counter[str] = Counter()
        # Over its life: calls that it has begun to make or to serve, and dialogs that ended with an error.
        self.calls_total = 0
        self.errors_total = 0
        # What the channels that have ended had carried.
        self.carried = Carried()
        # Give its services that have no process now, and are to be started again.
        self.services_waiting: list[Callable[[], Iterable[ServiceRecord]]] = []
        # The last rare events.
        self.recorder = Recorder()
        self.recorder.note("actor_started", name=aid.name)
        # Gives a record of what is known of it; loaded when somebody looks.
        self.sampler: Callable[[Actor], Sample]
        # What it serves in the namespace `self`, by name.
        self.requests: dict[str, Callable[[Channel, int, dict[str, Any]], None]] = {}

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name; need not be unique."""
        return self.aid.name

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self.aid.pid

    @property
    def uid(self) -> Uid:
        """The outdated name of ``aid.uid``."""
        warnings.warn("`Actor.uid` is outdated; use `aid.uid`", DeprecationWarning, stacklevel=2)
        return self.aid.uid

    @property
    def is_root(self) -> bool:
        """Whether it is the root of the tree."""
        return is_root_process()

    @property
    def is_arbiter(self) -> bool:
        """The outdated name of ``is_registrar``."""
        warnings.warn(
            "`Actor.is_arbiter` is outdated; use `is_registrar`", DeprecationWarning, stacklevel=2
        )
        return self.is_registrar

    @property
    def is_registrar(self) -> bool:
        """Whether it is a registrar: by election, or while it runs :func:`tractor.registrar`."""
        return self.registry is not None

    def is_infected_aio(self) -> bool:
        """Whether its trio runs as a guest of an asyncio loop."""
        return runtime_vars()._is_infected_aio

    @property
    def enable_modules(self) -> list[str]:
        """The modules that peers may call into."""
        return sorted(self.enabled)

    @property
    def ipc_server(self) -> Server:
        """The server that listens for peers."""
        assert self._server is not None, "the runtime is not open"
        return self._server

    @property
    def service_nursery(self) -> trio.Nursery:
        """Hosts a task for each request that is served."""
        assert self._service_nursery is not None, "the runtime is not open"
        return self._service_nursery

    @property
    def io_nursery(self) -> trio.Nursery:
        """Hosts the channels' tasks; the last to end."""
        assert self._io_nursery is not None, "the runtime is not open"
        return self._io_nursery

    def attach(
        self, server: Server, service: trio.Nursery, io: trio.Nursery, background: trio.Nursery
    ) -> None:
        """Give the actor what its open runtime consists of."""
        self._server = server
        server.on_refused = partial(self.recorder.note_stranger, "peer_refused")
        self._service_nursery = service
        self._io_nursery = io
        self.life.nursery = background

    @property
    def background(self) -> trio.Nursery:
        """Hosts tasks of the program's own that outlive the request, or the block, that starts them.

        They end with the actor: when all that it serves has ended, and a root's block too, they are cancelled and
        waited for; a lifespan is left after that.  What one of them raises is the actor's failure: it goes down, who
        holds a context with it gets that error, and its parent's nursery raises it, or the root's block.

        Raises:
            RuntimeFailure: its runtime is not open yet.
        """
        return self.life.background

    @property
    def accept_addrs(self) -> list[UnwrappedAddress]:
        """The addresses that it listens on, unwrapped."""
        return self.ipc_server.accept_addrs

    @property
    def accept_addr(self) -> UnwrappedAddress:
        """The first of :attr:`accept_addrs`."""
        return self.accept_addrs[0]

    @property
    def reg_addrs(self) -> list[UnwrappedAddress]:
        """Its registrars' addresses, unwrapped; may be set.

        A running actor then registers with the new ones and unregisters from those that are gone from the list;
        subactors that it starts later get the new list.
        """
        return self._reg_addrs

    @reg_addrs.setter
    def reg_addrs(self, addrs: Iterable[Addr]) -> None:
        wrapped = wrap_addresses(addrs, "reg_addrs")
        for addr in wrapped:
            require_connectable(addr)
        self._reg_addrs = [addr.unwrap() for addr in wrapped]
        if self.registration is not None:
            self.registration.reg_addrs_changed()

    @property
    def registry_addrs(self) -> list[Address]:
        """Its registrars' addresses, wrapped."""
        return [wrap_address(a) for a in self._reg_addrs]

    def get_parent(self) -> Portal:
        """A portal to the actor that started this one.  Raises RuntimeError in a root."""
        if self.parent_chan is None:
            raise RuntimeError(f"{self.aid.reprol()} is a root; it has no parent")
        return Portal(self.parent_chan, self)

    def statistics(self) -> Sample:
        """A frozen record of plain values: what ``tractor ps --json`` shows of it; counters grow for life."""
        return self.sampler(self)

    def add_instrument(self, instrument: Instrument) -> None:
        """Have an instrument told what happens in this actor, from now on; what is open already included.

        To be called in the actor's event loop.  One that was added already stays where it is.

        Raises:
            TypeError: it is not a :class:`tractor.devx.Instrument`.
        """
        TOLD.add(instrument)

    def remove_instrument(self, instrument: Instrument) -> None:
        """Have an instrument told nothing more.

        Raises:
            KeyError: it was not added, or is removed already, as one that has raised is.
        """
        TOLD.remove(instrument)

    def pformat(self) -> str:
        """One line for people."""
        state = "draining" if self.draining.is_begun else "running"
        state = "cancelled" if self.cancel_called else state
        kind = type(self).__name__
        return (
            f"<{kind} {self.aid.reprol(sin_uuid=False)}: {state}, serving {len(self.served)} requests, "
            f"spawn backend {self.start_method!r}>"
        )

    __repr__ = pformat

    # -- what it serves ---------------------------------------------------------------------------------

    def child_at(self, chan: Channel) -> ChildRecord | None:
        """The child that has proven itself on this channel."""
        record = self.children.get(chan.aid.uid) if chan.aid is not None else None
        return record if record is not None and record.chan is chan else None

    def asking_child(self, chan: Channel) -> ChildRecord:
        """As :meth:`child_at`, where one of :data:`CHILD_REQUESTS` is served: nobody else's get there."""
        record = self.child_at(chan)
        assert record is not None
        return record

    def is_trusted_with_time(self, chan: Channel) -> bool:
        """Whether a frame of that peer may take any time: the tree's own, and everybody while somebody debugs."""
        own = chan is self.parent_chan or self.child_at(chan) is not None
        return own or debug_mode()

    def on_channel_lost(self, chan: Channel) -> None:
        """A peer's channel has ended; a registrar drops that peer's entries."""
        if self.registry is not None:
            self.registry.on_channel_lost(chan)

    def refuse(self, chan: Channel, cid: int, what: str) -> None:
        """Answer a request that comes while this actor is cancelled: it ends as cancelled by the same canceller."""
        canceller = self.cancel_caller.uid if self.cancel_caller else self.aid.uid
        put_error(chan, ctxc_error(self, chan, cid, canceller, what))

    def note_serving(self, task: Served) -> None:
        """A request's task is about to begin."""
        self.served.add(task)
        intake = self.intakes.get(task.chan)
        if intake is not None:
            intake.serving += 1
            task.turn = intake.turn

    def note_served(self, task: Served) -> None:
        """A request's task has ended."""
        self.served.discard(task)
        intake = self.intakes.get(task.chan)
        if intake is not None:
            intake.ended()
        if self.none_served and (self.draining.is_begun or not self.served):
            self.none_served.wake_all()

    def note_reset(self, task: Served, cid: int) -> None:
        """A peer's message has ended what it had asked for; ``cid``: where to tell it.

        Raises:
            TransportClosed: in the very turn that began it, and too often.
        """
        intake = self.intakes.get(task.chan)
        if intake is not None and task.turn == intake.turn:
            intake.count_refused(cid)

    # -- requests to the runtime ------------------------------------------------------------------------

    def add_requests(self, requests: Mapping[str, ServeRequest]) -> None:
        """Serve further requests in the namespace ``self``, each by a function that never waits."""
        for name, serve in requests.items():
            self.requests[name] = partial(serve, self)

    def add_request(self, name: str, fn: Callable[..., Any]) -> None:
        """Serve ``self:name`` at once by ``fn(chan, **kwargs)``, whose value is returned; for registrars."""

        def serve(chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
            put_return(chan, cid, fn(chan, **kwargs))

        self.requests[name] = serve

    def note_to_parent(self, func: str, **kwargs: Any) -> None:
        """Send the parent a note that needs no answer; a root, or one whose parent is gone, sends none."""
        if self.parent_chan is not None and self.parent_chan.connected():
            try:
                request(self.parent_chan, func, **kwargs)
            except TransportClosed as exc:
                log.transport("the parent could not be told %r: %s", func, exc)

    def next_start(self) -> float:
        """When a subactor that begins now was started, for :attr:`~tractor.msg.types.SpawnSpec.started`."""
        self._last_start = start_time(time.time(), self._last_start)
        return self._last_start

    def report_descendants(self, up: Iterable[ProcessId] = (), gone: Iterable[int] = ()) -> None:
        """Tell the parent which processes below this one have started or ended."""
        self.note_to_parent("_descendants", up=list(up), gone=list(gone))

    # -- cancellation ---------------------------------------------------------------------------------

    def cancel_soon(self) -> None:
        """Begin to cancel this actor's own runtime; returns at once."""
        self.start_cancel(self.aid)

    async def cancel(self, req_chan: Channel | None = None) -> bool:
        """Cancel this actor's runtime and wait until every task that it served has ended.

        Args:
            req_chan: the channel of the actor that asked; ``None``: this actor itself.

        Returns:
            ``True``.
        """
        self.start_cancel(req_chan.aid if req_chan is not None else self.aid)
        await self._cancel_done.wait()
        return True

    def start_cancel(self, caller: Aid | None, at_end: bool = False) -> None:
        """Begin the cancellation of the runtime on behalf of ``caller``; the first caller stays.

        Args:
            caller: who wants it.
            at_end: nobody does: its block has ended.
        """
        if self.cancel_called:
            return
        self.cancel_called = True
        self.cancel_caller = caller
        self.cancelled_at = time.time()
        self.closed_because = "it is being cancelled"
        by = "itself" if caller is self.aid else caller and caller.reprol(sin_uuid=False)
        self.recorder.note("cancel_requested", kind_of="actor", by=by)
        if not at_end:
            tell_cancel("actor", self.aid.uuid, None if caller is None else caller.uid)
        log.cancel(
            "%s is being cancelled by %s", self.aid.reprol(), caller.reprol() if caller else None
        )
        self.note_to_parent("_goodbye", canceller=caller.uid if caller else None)
        self.io_nursery.start_soon(self._cancel_all, name="actor cancel")

    def on_end_signal(self, gently: bool) -> None:
        """A signal asks this actor to end.

        Args:
            gently: with the time of its ``drain=``, the first time.
        """
        if self.cancel_called:
            self.life.insist()
        elif gently and self.drain_on_term and not self.draining.is_begun:
            self.io_nursery.start_soon(self._drain_and_cancel, name="drain")
        else:
            self.cancel_soon()

    async def _drain_and_cancel(self) -> None:
        log.cancel("%s drains for %s s, then it ends", self.aid.reprol(), self.drain_on_term)
        await self.drain(self.drain_on_term)
        self.cancel_soon()

    async def drain(self, timeout: float) -> bool:
        """Refuse new requests, and let the running ones end.

        From the call on each new request of a peer is answered by :class:`tractor.ActorBusy`: nothing of it has run,
        so it may be sent to another actor.  The actor is unregistered, so that look-ups do not find it any more.  What
        runs, goes on, streams included.  That stays so: an actor that drains can only end.  Nothing is cancelled here;
        call :meth:`cancel` afterwards.

        Args:
            timeout: seconds that the running requests get; 0 waits for none.

        Returns:
            Whether none runs any more.  The one that calls this, if it is one, does not count.

        Raises:
            ValueError: ``timeout`` is negative or no number.
            TypeError: it is not of a number's type.
        """
        return await self.drain_but(serving_task(self.service_nursery), timeout)

    async def drain_but(self, own: Served | None, timeout: float) -> bool:
        """As :meth:`drain`; ``own`` is not waited for."""
        seconds = checked_timeout(timeout)
        self.closed_because = self.closed_because or "it drains, and is about to end"
        return await self.draining.run(seconds, own, self.registration, self.io_nursery)

    def fail(self, exc: BaseException) -> None:
        """Code of the program's own around the serving has failed: tell who waits for this actor, and end.

        Dialogs that are served end with ``exc``, and not as cancelled; the parent is told at once.
        """
        self.life.failures.append(exc)
        self.recorder.note("actor_failed", exc)
        tell_crashed(exc)
        log.cancel("%s fails with %r", self.aid.reprol(), exc)
        if self.parent_chan is not None and self.parent_chan.connected():
            put_error(self.parent_chan, failure_error(self, cid=0))
            self.parent_is_told = True
        self.start_cancel(self.aid)

    @property
    def failure(self) -> BaseException | None:
        """What it has failed with: one error, or a group."""
        return self.life.failure

    async def _on_crash(self, exc: BaseException) -> None:
        await self.hooks.on_crash(exc)

    @trio.lowlevel.enable_ki_protection
    async def _cancel_all(self) -> None:
        try:
            await self.hooks.wait_for_repl()
            canceller = self.cancel_caller.uid if self.cancel_caller else self.aid.uid
            # What comes meanwhile is refused.
            for n, task in enumerate(list(self.served), 1):
                if task in self.served:
                    task.take_cancel(canceller, by_actor=True)
                if n % SLICE == 0:
                    await trio.lowlevel.cancel_shielded_checkpoint()
            # The main task is unwound beside them: a root's block may be what they wait for.
            self.main_scope.cancel()
            while self.served:
                await self.none_served.park()
        finally:
            # The teardown waits for this, shielded.
            self.ipc_server.cancel()
            self.service_nursery.cancel_scope.cancel()
            self.cancel_complete = True
            self._cancel_done.set()

    async def part_from_peers(self) -> None:
        """Tell every peer that nothing follows, and wait, at most 3 s, until they have disconnected."""
        server = self.ipc_server
        server.cancel()
        waiting = [c for c in server.peer_channels() if c is not self.parent_chan]
        with trio.move_on_after(PEERS_TIMEOUT) as bound:
            for chan in waiting:
                await chan.send_eof()
            await server.wait_for_no_more_peers_but(self.parent_chan)
        if bound.cancelled_caught:
            who = ", ".join(c.peer for c in server.peer_channels())
            log.warning("peers did not disconnect within %s s: %s", PEERS_TIMEOUT, who)
