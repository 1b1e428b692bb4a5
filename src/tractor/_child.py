"""The entry point of a subactor: ``python -m tractor._child``, started by a parent actor only."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NoReturn, TypeAlias

import msgspec
import trio

from tractor import _tools
from tractor import log as _log
from tractor._boot_actor import begin_service, make_actor
from tractor._errors import InternalError, TransportClosed
from tractor._proto.limits import Limits
from tractor._util._exit import leave
from tractor._util._task_tree import arm_task_dumps
from tractor.address._types import UnwrappedAddress
from tractor.discovery._registration import Registration
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.ipc._debug_sock import user_sock_paths
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg._boxing import pack_error
from tractor.msg._conversion import any_value
from tractor.msg._nspath import NamespacePath
from tractor.msg.types import Aid, Return, SpawnSpec
from tractor.process._ancestry import ancestry, set_ancestry
from tractor.process._at_fork import note_handler, undone_in_child
from tractor.process._breakpoint import SYNC_PAUSE, greenback_is_there, own_breakpoint
from tractor.process._handed_down import set_limits_of_kernel, take_sockets
from tractor.process._stdio import take_numbers
from tractor.process._title import actor_title, set_actor_proctitle, set_short_name
from tractor.process.host._clock import told
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor
from tractor.runtime._group_signals import ancestor_got, note_signals
from tractor.runtime._lifecycle import open_runtime
from tractor.runtime._reader import serve_channel
from tractor.runtime._state import asyncio_host
from tractor.runtime._vars import debug_mode, enabled_transports, runtime_vars, set_runtime_vars
from tractor.runtime.dialog._caller import request
from tractor.runtime.seen._lives import tell_crashed
from tractor.spawn._boot import BootRecord, read_boot_record, restore_stderr
from tractor.spawn._contract import select_start_method_later
from tractor.spawn._lifeline import Lifeline
from tractor.spawn._parent_main import apply_parent_main_data, take_import_path
from tractor.spawn._sent_modules import check_modules
from tractor.spawn._signal_help import EarlySignals, run_pending_handlers
from tractor.spawn.mp._tracker import use_tracker
from tractor.spawn.zygote._tie import take_tie
from tractor.transport._addresses import random_addrs
from tractor.transport._settings import WireSettings, set_limits, set_wire_settings, wire_settings
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import is_in_foreground, ki_protected_manager

log = _log.get_logger()

HANDSHAKE_TIMEOUT = 10.0
"""Seconds in which the parent must have answered."""

SIGNAL_GRACE = 0.3
"""Seconds in which it must have done so where a signal wants this process to end."""


class ChildArgs(msgspec.Struct, frozen=True):
    """The plain values that every backend starts a child with; all else follows as a message.

    Attributes:
        name, uuid: the child's identity.
        parent_addr: where the parent awaits it.
        boot_fd: the boot pipe's read end, which becomes the lifeline.
        loglevel: ``None``: the logger is left as it is.
        infect_asyncio: run trio as a guest of an asyncio loop.
        own_process: ``False``: a sub-interpreter of the parent's process, which has to leave that process alone.
        stderr_fd: the real stderr, where its number is not that of the boot record.
        server_pid: the process that has forked this one by order of its parent; this one ends with it, too.
    """

    name: str
    uuid: str
    parent_addr: UnwrappedAddress
    boot_fd: int
    loglevel: str | None = None
    infect_asyncio: bool = False
    own_process: bool = True
    stderr_fd: int | None = None
    server_pid: int | None = None

    @classmethod
    def from_argv(cls, argv: list[str]) -> ChildArgs:
        """Those of a command line.  Raises SystemExit."""
        values = {flag: argv[i + 1] for i, flag in enumerate(argv[:-1]) if flag.startswith("--")}
        try:
            name, uuid = ast.literal_eval(values["--uid"])
            parent_addr: UnwrappedAddress = ast.literal_eval(values["--parent_addr"])
            boot_fd = int(values["--boot_fd"])
        except (KeyError, ValueError, SyntaxError) as exc:
            raise SystemExit(
                f"tractor._child is started by a parent actor, not by hand (bad argument: {exc})"
            ) from exc
        return cls(name, uuid, parent_addr, boot_fd, values.get("--loglevel"), "--asyncio" in argv)


def main(argv: list[str]) -> NoReturn:
    """Run this process, a fresh interpreter, as a subactor; never returns."""
    args = ChildArgs.from_argv(argv)
    # Until the parent's are taken over: those of a program of this name.
    sys.argv[:] = [__file__, *argv]
    run_and_leave(args)


def run_and_leave(args: ChildArgs) -> NoReturn:
    """Run this process as a subactor, whatever started it; never returns."""
    code = 1
    try:
        code = run_child(args)
    except BaseException as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    finally:
        leave(code)


def run_child(args: ChildArgs) -> int:
    """Run a subactor, from its boot record to its end, in the calling thread; every backend's child comes here.

    What leaves the subactor as an exception is printed, not raised, where the process is its own.

    Returns:
        The exit status for the process.

    Raises:
        BootError: the boot pipe is unusable.
        BaseException: what has left a subactor whose process is not its own.
    """
    record = read_boot_record(args.boot_fd)
    if args.stderr_fd is not None:
        os.set_inheritable(args.stderr_fd, False)
        record = msgspec.structs.replace(record, stderr_fd=args.stderr_fd)
    if args.own_process:
        take_numbers()
    set_limits_of_kernel(record.limits)
    take_sockets(record.sockets)
    if record.tracker_fd is not None:
        use_tracker(record.tracker_fd)
    if record.zygote is not None:
        take_tie(record.zygote)
    set_ancestry(record.ancestry, args.server_pid)
    select_start_method_later(
        os.environ.get("TRACTOR_SPAWN_METHOD") or record.start_method or "trio"
    )
    set_wire_settings(
        WireSettings(
            authkey=record.authkey,
            key_is_explicit=record.key_is_explicit,
            tls=record.tls,
        )
    )
    if args.loglevel:
        _log.print_unless_handled(args.loglevel)
    early = EarlySignals(args.own_process)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and os.environ.get("TRACTOR_ENABLE_STACKSCOPE"):
        arm_task_dumps(repr((args.name, args.uuid)))
    main = partial(_child_main, args, record, early)
    try:
        if args.infect_asyncio:
            status: int = _tools.run_infected(main)
            return status
        return trio.run(main, strict_exception_groups=True)
    except BaseException as exc:
        if not args.own_process:
            raise
        # An endpoint's own, which its caller has been told of.
        if not isinstance(exc, KeyboardInterrupt):
            sys.excepthook(type(exc), exc, exc.__traceback__)
        return 1
    finally:
        early.stop()


async def _child_main(args: ChildArgs, record: BootRecord, early: EarlySignals) -> int:
    aid = Aid(args.name, args.uuid, os.getpid(), host=host_id())
    connect = partial(_connect, args, aid, record.claim)
    if args.own_process:
        chan, spec = await _connect_unless_ended(connect, early)
    else:
        chan, spec = await _connect_unless_given_up(connect, args.boot_fd)
    set_runtime_vars(spec._runtime_vars)
    set_limits(Limits(**runtime_vars()._limits))
    chan.transport.set_max_frame_size(wire_settings().limits.max_frame_size)
    actor, registration = make_actor(
        Actor,
        aid,
        enable_modules=spec.enable_modules,
        loglevel=args.loglevel,
        reg_addrs=[_pair(a) for a in spec.reg_addrs],
        started=spec.started,
        parent=chan,
        dumps_asked=runtime_vars().use_stackscope,
    )
    if args.own_process:
        if spec.writes_stacks:
            _tools.arm_stuck_dumps(actor)
        settings = runtime_vars()
        settings.use_greenback = settings.use_greenback and greenback_is_there()
        pause = SYNC_PAUSE if settings.use_greenback else None
        actor.lifetime_stack.enter_context(own_breakpoint(pause))
        no_actor = undone_in_child(partial(select_start_method_later, "trio"))
        actor.lifetime_stack.enter_context(no_actor)
    lifeline = _open_lifeline(actor, args.boot_fd, record.by_agent) if args.own_process else None
    code = 0
    async with _told_failure(actor), open_runtime(actor, registration.stop):
        await actor.io_nursery.start(serve_channel, actor, chan)
        if args.own_process:
            await actor.io_nursery.start(note_signals, actor, run_pending_handlers)
            await actor.io_nursery.start(_watch_signals, actor, early)
        else:
            actor.io_nursery.start_soon(_watch_lifeline, actor, args.boot_fd)
        try:
            if runtime_vars().use_greenback:
                await _tools.init_greenback()
            await _configure(actor, args, spec, registration)
        except Exception as exc:
            actor.life.start_error = exc
            tell_crashed(exc)
            chan.transport.put(pack_error(exc, cid=0, src_uid=aid.uid))
            code = 1
        else:
            restore_stderr(record)
            if debug_mode():
                _tools.serve_attach(actor)
            if args.own_process:
                _tools.serve_control(actor)
            actor.note_to_parent("_ready", accept_addrs=actor.accept_addrs)
            # Nobody waits for this any more, so it costs no start.
            _tools.fix_trio(log.runtime)
            await trio.sleep_forever()
    if lifeline is not None:
        lifeline.stop()
    return 1 if actor.failure is not None else code


@ki_protected_manager
async def _told_failure(actor: Actor) -> AsyncIterator[None]:
    """Absorb what the actor has failed with, where its parent knows of it."""
    try:
        yield
    except BaseException as exc:
        raised = exc.exceptions if len(actor.life.failures) > 1 else (exc,)  # type: ignore[attr-defined]
        known = {id(one) for one in actor.life.failures}
        if not actor.parent_is_told or any(id(one) not in known for one in raised):
            raise


def _open_lifeline(actor: Actor, boot_fd: int, by_agent: bool) -> Lifeline:
    """The lifeline of an actor in a process of its own.

    Args:
        actor: it.
        boot_fd: the boot pipe's read end.
        by_agent: its parent is on another host.
    """
    token = trio.lowlevel.current_trio_token()

    def leave() -> None:
        if by_agent and actor.parent_chan is not None:
            # A parent that can still be reached would hear that this actor was cancelled, and by itself.
            actor.parent_chan.abort()
        actor.cancel_soon()

    def parent_lost() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(leave)

    def remove_files() -> None:
        for endpoint in actor.ipc_server.endpoints:
            endpoint.close_listener()
        for path in user_sock_paths(actor.aid.name, actor.pid):
            with contextlib.suppress(OSError):
                path.unlink()

    return Lifeline(boot_fd, parent_lost, last_words=remove_files, above=ancestry())


Connect: TypeAlias = Callable[[], Awaitable[tuple[Channel, SpawnSpec]]]


async def _connect(args: ChildArgs, aid: Aid, claim: bytes) -> tuple[Channel, SpawnSpec]:
    """Reach the parent and get the configuration."""
    chan = Channel(await transport_from_addr(args.parent_addr), "connect")
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            await chan.handshake(aid, claim=claim or None)
        # While the parent makes the configuration ready, so that it costs the start nothing.
        if args.own_process and set_actor_proctitle(aid) is None:
            set_short_name(actor_title(aid.name, aid.pid))
        spec = await chan.recv()
    except trio.Cancelled:
        chan.abort()
        raise
    if not isinstance(spec, SpawnSpec):
        raise TransportClosed(
            f"the parent began with a {type(spec).__name__!r} message instead of its configuration"
        )
    return chan, spec


async def _connect_unless_ended(connect: Connect, early: EarlySignals) -> tuple[Channel, SpawnSpec]:
    """As :func:`_connect`; a signal ends the process if the parent, whose word it waits for, is not there soon."""
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:

        def limit() -> None:
            scope.deadline = min(scope.deadline, trio.current_time() + SIGNAL_GRACE)

        early.on_note = lambda: token.run_sync_soon(limit)
        if early.came():
            limit()
        try:
            return await connect()
        except TransportClosed:
            # A parent that has given it up hangs up, and has sent the signal before.
            if not early.came():
                raise
        finally:
            early.on_note = lambda: None
    early.end_by_it()
    raise SystemExit(1)


async def _connect_unless_given_up(connect: Connect, boot_fd: int) -> tuple[Channel, SpawnSpec]:
    """As :func:`_connect`, in the parent's process, where no signal can end a child that nobody wants any more."""
    found: tuple[Channel, SpawnSpec] | None = None
    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

        async def run() -> None:
            nonlocal found
            found = await connect()
            tn.cancel_scope.cancel()

        tn.start_soon(run)
        await trio.lowlevel.wait_readable(boot_fd)
        tn.cancel_scope.cancel()
    if found is None:
        raise SystemExit(1)
    return found


async def _configure(
    actor: Actor, args: ChildArgs, spec: SpawnSpec, registration: Registration
) -> None:
    """Make a connected child a serving actor."""
    if actor.is_infected_aio() != args.infect_asyncio:
        raise InternalError(
            f"the parent's configuration says infected={actor.is_infected_aio()}, "
            f"the command line {args.infect_asyncio}"
        )
    if spec.logconfig is not None:
        take_import_path(spec._parent_main_data)
        _log.apply_dictconfig(spec.logconfig)
    apply_parent_main_data(spec._parent_main_data)
    for name in spec.enable_modules:
        if name != "__main__":
            importlib.import_module(name)
    check_modules(spec._parent_main_data)
    lifespan = NamespacePath(spec.lifespan).load_ref() if spec.lifespan else None
    actor.drain_on_term = spec.drain
    endpoints = await _bind([_pair(a) for a in spec.bind_addrs or ()], actor)
    await begin_service(actor, registration, endpoints, lifespan)


async def _bind(given: list[UnwrappedAddress], actor: Actor) -> list[Endpoint]:
    """Listen on the given addresses, without any on random ones.  Raises as :func:`bind_endpoints`."""
    if given:
        return await bind_endpoints(given)

    def own() -> list[UnwrappedAddress]:
        return [addr.unwrap() for addr in random_addrs(enabled_transports(), actor.aid)]

    try:
        return await bind_endpoints(own())
    except ConnectionError:
        # Another actor of this process, of the same name, took the file name meanwhile.
        return await bind_endpoints(own())


def _pair(addr: tuple[str, int | str]) -> UnwrappedAddress:
    host, second = addr
    return (host, second)  # type: ignore[return-value]


async def _watch_lifeline(actor: Actor, boot_fd: int) -> None:
    """The lifeline of an actor in its parent's process; its end asks the actor to cancel its runtime, no more."""
    await trio.lowlevel.wait_readable(boot_fd)
    log.cancel("%s: the lifeline has ended", actor.aid.reprol())
    actor.cancel_soon()


async def _watch_signals(
    actor: Actor,
    early: EarlySignals,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGINT, SIGTERM and SIGHUP cancel this actor's runtime, unless they are an ancestor's to handle."""
    if not early.numbers:
        task_status.started()
        return
    with trio.open_signal_receiver(*early.numbers) as signals:
        for number in early.numbers:
            note_handler(signal.getsignal(number))
        for number, at in early.take().items():
            actor.signals.note(number, at)
            actor.io_nursery.start_soon(_on_signal, actor, number, at, True)
        task_status.started()
        host, interrupts = asyncio_host.get(), 0
        async for number in signals:
            log.cancel("%s got %s", actor.aid.reprol(), signal.Signals(number).name)
            interrupts += number == signal.SIGINT
            insist = host.interrupted_again if host is not None and interrupts > 1 else None
            if insist is not None and actor.cancel_called:
                insist()
            else:
                at = time.monotonic()
                actor.io_nursery.start_soon(_on_signal, actor, number, at, False, insist)


async def _on_signal(
    actor: Actor,
    number: int,
    at: float,
    early: bool = False,
    insist: Callable[[], None] | None = None,
) -> None:
    """Cancel the actor, with itself as canceller; not where the signal was sent to all.

    Args:
        actor: the actor.
        number: the signal.
        at: when it came, on the monotonic clock.
        early: it may have come at any time before.
        insist: called instead, if the actor is being cancelled by the time that it is known to be its own.
    """
    interrupt = number == signal.SIGINT and (debug_mode() or is_in_foreground())
    if interrupt and await _is_debugged(actor, 0.0 if early else at, at):
        log.devx("the ctrl-c is ignored: a debug REPL is in use")
    elif await ancestor_got(actor, number, at):
        log.cancel("%s leaves the signal to its ancestors, which got it, too", actor.aid.reprol())
    elif insist is not None and actor.cancel_called:
        insist()
    else:
        actor.on_end_signal(gently=number == signal.SIGTERM and not early)


async def _is_debugged(actor: Actor, since: float, at: float) -> bool:
    """A ctrl-c on the terminal reaches all of its processes; it is not meant for them while one has the REPL.

    The root knows.  If it is at the prompt itself it answers when the user has left that, so the question tells the
    time; the ctrl-c came between these two.
    """
    if actor.hooks.repl_busy():
        return True
    if actor.parent_chan is not None:
        with contextlib.suppress(TransportClosed):
            reply = await request(
                actor.parent_chan, "_debug_held", since=told(since), at=told(at)
            ).wait()
            return isinstance(reply, Return) and any_value(reply.pld) is True
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
