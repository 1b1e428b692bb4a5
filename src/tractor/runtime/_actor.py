"""The actor that this process is: its identity, its peers, and the requests that it serves."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, TypeAlias

import msgspec
import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.deadlines import PEERS_TIMEOUT
from tractor._proto.flow import STRICT_BUFFER_SIZE
from tractor._util._waiters import Waiters
from tractor.address._policy import require_connectable
from tractor.address._types import Address, UnwrappedAddress
from tractor.ipc._chan import Channel, PeerProcess
from tractor.ipc._server import Server
from tractor.msg._bounded import bounds
from tractor.msg._conversion import any_arguments
from tractor.msg._undecodable import decode_deep, undecodable_arguments
from tractor.msg.types import (
    Aid,
    Error,
    Request,
    StartAck,
    Uid,
)
from tractor.process._at_fork import go_on
from tractor.process._stat import ProcessId
from tractor.runtime._hooks import RuntimeHooks
from tractor.runtime._intake import Intake
from tractor.runtime._portal import Portal
from tractor.runtime._reader import protocol_error, read_channel
from tractor.runtime._signal_log import SignalLog
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._callee import (
    ServedCall,
    ServedStream,
    ServedTask,
    ctxc_error,
    put_ack,
    put_error,
    put_return,
)
from tractor.runtime.dialog._caller import request
from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._context_child import ServedDialog
from tractor.runtime.dialog._endpoints import Endpoint, Kind, canonical, find_endpoint
from tractor.transport._addresses import wrap_address, wrap_addresses
from tractor.transport._settings import wire_settings

log = _log.get_logger()


CHILD_REQUESTS = frozenset(
    {
        "_ready",
        "_goodbye",
        "_progress",
        "_descendants",
        "_debug_lock",
        "_debug_held",
        "_respawn",
        "_signalled",
    }
)
"""Requests that concern a child's life: they exist on the channel on which it has proven itself alone."""

PARENT_REQUESTS = frozenset({"_dump_stacks"})
"""Requests of the parent alone."""

SLICE = 200
"""Tasks that are cancelled in one turn of the loop, where there are many."""

Served = ServedTask | ServedDialog

ServeRequest: TypeAlias = "Callable[[Actor, Channel, int, dict[str, Any]], None]"
"""Carries out a request in the namespace ``self``: of the actor, the channel, the dialog and the arguments."""


class ChildRecord(PeerProcess, Protocol):
    """What a nursery keeps of a subactor, as far as this actor's runtime needs it."""

    chan: Channel | None
    """The one channel on which it has proven who it is."""

    def prove(self, chan: Channel, claim: bytes) -> bool:
        """Whether ``claim`` is its secret, that nobody has shown before: from now on ``chan`` is its channel."""

    def owns(self, chan: Channel) -> bool:
        """Whether its process is at the other end of a channel, as far as this host can tell."""

    def on_ready(self, accept_addrs: list[UnwrappedAddress]) -> None:
        """The child is configured and serves."""

    def on_goodbye(self) -> None:
        """The child ends because it was cancelled."""

    def on_boot_error(self, error: Error) -> None:
        """The child could not be configured."""

    def on_progress(self, left: int, rung: int) -> None:
        """The child still works down its own subactors; see :class:`~tractor._proto.ladder.Progress`."""

    def on_descendants(
        self, up: Iterable[ProcessId], gone: Iterable[int]
    ) -> tuple[list[ProcessId], list[int]]:
        """Processes below the child have started or ended, as it says; those of which it is true."""

    def note_cancel_request(self) -> None:
        """A portal of this actor asks the child to cancel, so its end is no failure."""

    def on_portal_cancel(self, acked: bool, waited: float) -> None:
        """A portal has asked it to cancel, and waited so many seconds for the acknowledgment."""

    async def wait_gone(self) -> None:
        """Wait for the end of its process.  Raises RuntimeError: its nursery would wait for us."""

    def on_repl_change(self, restart: bool = False) -> None:
        """An actor in or below this one has asked for the debugger's REPL, or is done with it."""

    descendants: dict[int, float | None]
    """The processes below it, as it has told, with the times of their start."""

    @property
    def rung(self) -> int:
        """How far down its ladder it is; 0: not on its way."""

    armed: bool
    """It was started in debug mode."""

    @property
    def asked_to_go(self) -> bool:
        """Whether this actor has asked it to cancel, or sends it signals so that it ends."""

    respawn: Callable[[], bool] | None
    """Replaces it by a fresh process; whether its function is run again.  Raises RuntimeFailure."""

    def info(self) -> Any:
        """Its identity, pid, portal and state, as ``ActorNursery.children`` shows them."""


class RegistrationRecord(Protocol):
    """What keeps this actor registered, as far as the actor itself needs it."""

    def link(self, addr: UnwrappedAddress) -> Channel | None:
        """The channel that keeps the registration at an address; ``None`` when there is none now."""

    def reg_addrs_changed(self) -> None:
        """Follow the actor's new list of registrars."""


class ActorStatistics(msgspec.Struct, frozen=True):
    """Counters of an actor, and the key of the backend that starts its children."""

    peers: int
    serving: int
    children: int
    start_method: str = ""
    limits_reached: dict[str, int] = {}
    """How often each limit was reached; see ``tractor.Limits``."""


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
    is_registrar: bool = False

    # Apart from those in its dict: as in `FrameSender`.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_cancel_done",
        "_intakes",
        "_io_nursery",
        "_limits_reached",
        "_reg_addrs",
        "_requests",
        "_server",
        "_service_nursery",
    )

    def __init__(
        self,
        aid: Aid,
        *,
        enable_modules: Iterable[str] = (),
        loglevel: str | None = None,
        reg_addrs: Iterable[UnwrappedAddress] = (),
    ) -> None:
        self.aid = aid
        self.loglevel = loglevel
        self.start_method = ""
        self.enabled: set[str] = {canonical(name) for name in enable_modules}
        self.lifetime_stack = ExitStack()
        self.hooks = RuntimeHooks()
        self.signals = SignalLog()
        self.cancel_called = False
        self.cancel_caller: Aid | None = None
        self.cancel_complete = False
        # Called where user code comes back; ends what was forked off (`forget_actor`), which must act for nobody.
        self.end_if_copy: Callable[..., None] = go_on
        self.children: dict[Uid, ChildRecord] = {}
        self.served: set[Served] = set()
        self.none_served = Waiters()
        self.main_scope = trio.CancelScope()
        self.parent_chan: Channel | None = None
        self.registration: RegistrationRecord | None = None
        self._reg_addrs: list[UnwrappedAddress] = list(reg_addrs)
        self._server: Server | None = None
        self._service_nursery: trio.Nursery | None = None
        self._io_nursery: trio.Nursery | None = None
        self._cancel_done = trio.Event()
        self._intakes: dict[Channel, Intake] = {}
        self._limits_reached: Counter[str] = Counter()
        self._requests: dict[str, Callable[[Channel, int, dict[str, Any]], None]] = {
            "cancel": self._request_cancel,
            "_cancel_task": self._request_cancel_task,
            "_ready": self._request_ready,
            "_goodbye": self._request_goodbye,
            "_progress": self._request_progress,
            "_descendants": self._request_descendants,
        }

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
        return runtime_vars()._is_root

    @property
    def is_arbiter(self) -> bool:
        """The outdated name of ``is_registrar``."""
        warnings.warn(
            "`Actor.is_arbiter` is outdated; use `is_registrar`", DeprecationWarning, stacklevel=2
        )
        return self.is_registrar

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

    def attach(self, server: Server, service: trio.Nursery, io: trio.Nursery) -> None:
        """Give the actor what its open runtime consists of."""
        self._server = server
        self._service_nursery = service
        self._io_nursery = io

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
    def reg_addrs(self, addrs: Iterable[UnwrappedAddress | Address | str]) -> None:
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

    def statistics(self) -> ActorStatistics:
        """A frozen record of plain values."""
        peers = self._server.len_peers() if self._server is not None else 0
        return ActorStatistics(
            peers=peers,
            serving=len(self.served),
            children=len(self.children),
            start_method=self.start_method,
            limits_reached=dict(self._limits_reached + bounds.reached),
        )

    def pformat(self) -> str:
        """One line for people."""
        state = "cancelled" if self.cancel_called else "running"
        kind = type(self).__name__
        return (
            f"<{kind} {self.aid.reprol(sin_uuid=False)}: {state}, serving {len(self.served)} requests, "
            f"spawn backend {self.start_method!r}>"
        )

    __repr__ = pformat

    # -- channels -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def serve_channel(
        self, chan: Channel, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read a peer's channel and hand each message to its dialog, until the channel ends.

        What is true afterwards: the channel is closed, every dialog on it has ended, and the tasks that the peer
        had started here are cancelled.
        """
        server = self.ipc_server
        if not self._identify(chan):
            chan.abort()
            return
        server.add_peer(chan)
        self._intakes[chan] = Intake(
            chan,
            wire_settings().limits,
            partial(self._begin, chan),
            lambda limit: self._limits_reached.update((limit,)),
        )
        chan.transport.frame_progress = wire_settings().limits.frame_progress
        chan.transport.may_stall = lambda: self._is_trusted_with_time(chan)
        lost = TransportClosed(f"the channel to {chan.peer} was closed on this side")
        try:
            async with trio.open_nursery() as tn:
                tn.start_soon(chan.transport.run_flusher, name=f"flusher of {chan.peer}")
                if chan.transport.has_watch:
                    tn.start_soon(chan.transport.watch, name=f"watch of {chan.peer}")
                task_status.started()
                try:
                    await read_channel(
                        chan, self._intakes[chan], self._on_start, self._on_boot_error
                    )
                except TransportClosed as exc:
                    lost = exc
                tn.cancel_scope.cancel()
        except Exception as exc:
            # A bug of the runtime costs this channel, not the actor.
            log.exception("the channel to %s is given up", chan.peer)
            lost = TransportClosed(f"the channel to {chan.peer} failed here: {exc!r}", src_exc=exc)
        finally:
            chan.abort()
            if chan.dialogs and chan.process is not None:
                # Every dialog's error is to tell how the process ended.
                await chan.process.wait_ended()
            await self._drop(chan, lost)

    def _identify(self, chan: Channel) -> bool:
        """See whether a child of this actor is at the other end; ``False``: it says so, and can't prove it.

        A child proves it once, by the secret of its boot pipe; what is of its life counts on that channel alone.
        """
        assert chan.aid is not None
        record = self.children.get(chan.aid.uid)
        claim, chan.claim = chan.claim, None
        if claim is not None and chan.role == "accept":
            if record is None or not record.prove(chan, claim):
                log.warning("%s claims to be a child of this actor, without proof", chan.peer)
                return False
            self.ipc_server.put_first(chan)
        if record is not None and record.owns(chan):
            chan.process = record
        return True

    def child_at(self, chan: Channel) -> ChildRecord | None:
        """The child that has proven itself on this channel."""
        record = self.children.get(chan.aid.uid) if chan.aid is not None else None
        return record if record is not None and record.chan is chan else None

    def asking_child(self, chan: Channel) -> ChildRecord:
        """As :meth:`child_at`, where one of :data:`CHILD_REQUESTS` is served: nobody else's get there."""
        record = self.child_at(chan)
        assert record is not None
        return record

    def _is_trusted_with_time(self, chan: Channel) -> bool:
        """Whether a frame of that peer may take any time: the tree's own, and everybody while somebody debugs."""
        own = chan is self.parent_chan or self.child_at(chan) is not None
        return own or runtime_vars()._debug_mode

    async def _drop(self, chan: Channel, lost: TransportClosed) -> None:
        level = log.transport
        if chan.dialogs and not (chan.cancel_called or self.cancel_called):
            # Nobody had said goodbye: what was open ends with it.
            level = log.warning
        level(
            "the channel to %s ended with %d open dialogs: %s", chan.peer, len(chan.dialogs), lost
        )
        try:
            # Ending a task takes a while: what others wait for is done between two slices.
            while chan.lose_dialogs(lost, SLICE):
                await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._intakes.pop(chan, None)
            # There are those who wait for it, shielded.
            self.ipc_server.remove_peer(chan)
        self.on_channel_lost(chan)
        if chan is self.parent_chan and not self.cancel_called:
            log.cancel("the parent %s is gone", chan.peer)
            self.start_cancel(chan.aid)

    def on_channel_lost(self, chan: Channel) -> None:
        """A peer's channel has ended; a registrar drops that peer's entries."""

    def _on_start(self, chan: Channel, intake: Intake, msg: Request) -> None:
        """Serve a request: in a task of its own, or at once where it is one to the runtime."""
        aid = chan.aid
        cid = msg.cid
        if aid is None or msg.uid != aid.uid:
            raise protocol_error(chan, f"a request came under the identity {msg.uid}")
        if cid in chan.dialogs or (cid & 1) == (chan.role == "connect"):
            raise protocol_error(
                chan, f"a request came under the dialog id {cid}, which is not the peer's to use"
            )
        if msg.ns == "self":
            self._on_runtime_request(chan, msg)
        else:
            intake.take(msg, len(self.served))

    def _begin(self, chan: Channel, msg: Request) -> None:
        """Serve a request that came to an endpoint."""
        if self.cancel_called:
            self._refuse(chan, msg.cid, f"{msg.ns}:{msg.func}")
            return
        cid = msg.cid
        try:
            endpoint = find_endpoint(self.enabled, msg.ns, msg.func, msg.kind)
        except Exception as exc:
            self._intakes[chan].refuse(cid, exc, self.aid.uid)
            return
        start = self.service_nursery.start_soon
        if endpoint.kind is Kind.CONTEXT:
            # Written apart, so that its end may still leave at once: see `FrameSender.put()`.
            chan.transport.put_now(StartAck(cid, "context"))
            ctx = Context(self, chan, cid, "child", endpoint)
            self.note_serving(ctx)
            start(ctx.serve, endpoint, msg.kwargs, name=endpoint.name)
            return
        cls = ServedCall if endpoint.kind is Kind.CALL else ServedStream
        start(cls(self, chan, cid, msg.kwargs, endpoint).run, name=endpoint.name)

    def _refuse(self, chan: Channel, cid: int, what: str) -> None:
        """Answer a request that comes while this actor is cancelled: it ends as cancelled by the same canceller."""
        canceller = self.cancel_caller.uid if self.cancel_caller else self.aid.uid
        put_error(chan, ctxc_error(self, chan, cid, canceller, what))

    def note_serving(self, task: Served) -> None:
        """A request's task is about to begin."""
        self.served.add(task)
        intake = self._intakes.get(task.chan)
        if intake is not None:
            intake.serving += 1
            task.turn = intake.turn

    def note_served(self, task: Served) -> None:
        """A request's task has ended."""
        self.served.discard(task)
        intake = self._intakes.get(task.chan)
        if intake is not None:
            intake.ended()
        if self.none_served and not self.served:
            self.none_served.wake_all()

    def note_reset(self, task: Served, cid: int) -> None:
        """A peer's message has ended what it had asked for; ``cid``: where to tell it.

        Raises:
            TransportClosed: in the very turn that began it, and too often.
        """
        intake = self._intakes.get(task.chan)
        if intake is not None and task.turn == intake.turn:
            intake.count_refused(cid)

    # -- requests to the runtime ----------------------------------------------------------------------

    def _on_runtime_request(self, chan: Channel, msg: Request) -> None:
        intake = self._intakes[chan]
        if not self._may_ask(chan, msg.func):
            there = [name for name in self._requests if self._may_ask(chan, name)]
            exc = AttributeError(
                f"{msg.func!r} is no request that {self.aid.reprol()} serves in the namespace 'self'; "
                f"there are {sorted(there)}"
            )
            intake.refuse(msg.cid, exc, self.aid.uid)
            return
        try:
            kwargs = decode_deep(any_arguments, msg.kwargs)
        except Exception as exc:
            error = undecodable_arguments(f"self:{msg.func}", exc, msg.cid)
            intake.refuse(msg.cid, error, self.aid.uid)
            return
        try:
            self._requests[msg.func](chan, msg.cid, kwargs)
        except TransportClosed:
            raise
        except Exception as exc:
            intake.refuse(msg.cid, exc, self.aid.uid)

    def _may_ask(self, chan: Channel, name: str) -> bool:
        """Whether there is such a request, and it is this peer's to make."""
        if name not in self._requests:
            return False
        if name in CHILD_REQUESTS:
            return self.child_at(chan) is not None
        if name in PARENT_REQUESTS:
            return chan is self.parent_chan
        return True

    def add_requests(self, requests: Mapping[str, ServeRequest]) -> None:
        """Serve further requests in the namespace ``self``, each by a function that never waits."""
        for name, serve in requests.items():
            self._requests[name] = partial(serve, self)

    def add_async_request(self, name: str, fn: Callable[..., Any]) -> None:
        """Serve ``self:name`` by an async function, in a task of its own; for registrars."""
        endpoint = Endpoint(fn, Kind.CALL, f"self:{name}")

        def serve(chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
            if self.cancel_called:
                self._refuse(chan, cid, endpoint.name)
                return
            self.service_nursery.start_soon(ServedCall(self, chan, cid, kwargs, endpoint).run)

        self._requests[name] = serve

    def add_request(self, name: str, fn: Callable[..., Any]) -> None:
        """Serve ``self:name`` at once by ``fn(chan, **kwargs)``, whose value is returned; for registrars."""

        def serve(chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
            put_return(chan, cid, fn(chan, **kwargs))

        self._requests[name] = serve

    def _request_cancel(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        busy = self.hooks.repl_busy()
        self.start_cancel(chan.aid)
        if busy:
            # Begun only when the user has left the REPL.
            self.io_nursery.start_soon(self._ack_later, chan, cid, name="cancel ack")
        else:
            put_ack(chan, cid)

    async def _ack_later(self, chan: Channel, cid: int) -> None:
        await self.hooks.wait_for_repl()
        put_ack(chan, cid)

    def _request_cancel_task(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        intake = self._intakes[chan]
        target = chan.dialogs.get(kwargs["cid"])
        if isinstance(target, ServedTask) or (
            isinstance(target, Context) and target.side == "child"
        ):
            assert chan.aid is not None
            target.take_cancel(chan.aid.uid, cid)
            self.note_reset(target, cid)
        else:
            if intake.drop_kept(kwargs["cid"]):
                self._refuse(chan, kwargs["cid"], "a request that was not begun")
            put_ack(chan, cid)

    def _request_ready(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        addrs = [wrap_address(a).unwrap() for a in kwargs["accept_addrs"]]
        self.asking_child(chan).on_ready(addrs)
        put_return(chan, cid, None)

    def _request_goodbye(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        self.asking_child(chan).on_goodbye()
        put_return(chan, cid, None)

    def _request_progress(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        self.asking_child(chan).on_progress(int(kwargs["left"]), int(kwargs["rung"]))
        put_return(chan, cid, None)

    def _request_descendants(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        up = [(int(pid), start) for pid, start in kwargs["up"]]
        gone = [int(pid) for pid in kwargs["gone"]]
        up, gone = self.asking_child(chan).on_descendants(up, gone)
        if up or gone:
            self.report_descendants(up, gone)
        put_return(chan, cid, None)

    def _on_boot_error(self, chan: Channel, msg: Any) -> None:
        record = self.child_at(chan)
        if record is None:
            # Anybody can send it, as often as it likes.
            raise protocol_error(chan, "the boot error of what is no child of this actor")
        record.on_boot_error(msg)

    def note_to_parent(self, func: str, **kwargs: Any) -> None:
        """Send the parent a note that needs no answer; a root, or one whose parent is gone, sends none."""
        if self.parent_chan is not None and self.parent_chan.connected():
            try:
                request(self.parent_chan, func, **kwargs)
            except TransportClosed as exc:
                log.transport("the parent could not be told %r: %s", func, exc)

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

    def start_cancel(self, caller: Aid | None) -> None:
        """Begin the cancellation of the runtime on behalf of ``caller``; the first caller stays."""
        if self.cancel_called:
            return
        self.cancel_called = True
        self.cancel_caller = caller
        log.cancel(
            "%s is being cancelled by %s", self.aid.reprol(), caller.reprol() if caller else None
        )
        self.note_to_parent("_goodbye")
        self.io_nursery.start_soon(self._cancel_all, name="actor cancel")

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
