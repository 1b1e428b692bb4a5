"""The entry point of a subactor: ``python -m tractor._child``, started by a parent actor only."""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import NoReturn

import msgspec
import trio

from tractor import log as _log
from tractor._errors import InternalError, TransportClosed
from tractor._util._breakpoint import SYNC_PAUSE, greenback_is_there, own_breakpoint
from tractor._util._groups import collapse_eg
from tractor._util._ki import is_in_foreground
from tractor._util._proctitle import actor_title, set_actor_proctitle
from tractor._util._task_tree import arm_task_dumps
from tractor.discovery._registration import Registration
from tractor.ipc._addr import UnwrappedAddress, get_address_cls
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.ipc._settings import WireSettings, set_wire_settings
from tractor.msg._boxing import pack_error
from tractor.msg.types import Aid, Return, SpawnSpec
from tractor.runtime._actor import Actor
from tractor.runtime._calls import request
from tractor.runtime._late import load_late
from tractor.runtime._lifecycle import open_runtime
from tractor.runtime._state import asyncio_host
from tractor.runtime._vars import runtime_vars, set_runtime_vars
from tractor.spawn._ancestry import ancestry, set_ancestry
from tractor.spawn._boot import BootRecord, read_boot_record, restore_stderr
from tractor.spawn._comm import set_short_name
from tractor.spawn._contract import select_start_method_later, selected_start_method
from tractor.spawn._lifeline import Lifeline
from tractor.spawn._parent_main import apply_parent_main_data
from tractor.spawn._signal_help import run_handlers, signals_need_help

__all__ = ["main"]

log = _log.get_logger()

HANDSHAKE_TIMEOUT = 10.0
"""Seconds in which the parent must have answered."""


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
        _log.get_console_log(args.loglevel)
    if threading.current_thread() is threading.main_thread():
        # Quiet also before and after the time in which `_watch_signals` takes it.
        _early_interrupts.clear()
        signal.signal(signal.SIGINT, _note_interrupt)
        _unblock_sigint()
        if os.environ.get("TRACTOR_ENABLE_STACKSCOPE"):
            arm_task_dumps(repr((args.name, args.uuid)))
    try:
        if args.infect_asyncio:
            status: int = load_late("run_infected")(partial(_child_main, args, record))
            return status
        return trio.run(_child_main, args, record, strict_exception_groups=True)
    except BaseException as exc:
        if not args.own_process:
            raise
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return 1


_early_interrupts: list[int] = []
"""The SIGINTs that came before `_watch_signals` took them."""


def _note_interrupt(number: int, frame: object) -> None:
    _early_interrupts.append(number)


def _unblock_sigint() -> None:
    """Take back the block that the parent started this process with, so that none hits an interpreter that starts.

    Before there is any other thread: each takes its starter's mask over, and hands it down to the programs that it
    runs.  trio's guest mode starts one for itself, which later runs what is given to `trio.to_thread`.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def leave(code: int) -> NoReturn:
    """End the process: exit handlers and buffers as usual, without tearing every module down."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


async def _child_main(args: ChildArgs, record: BootRecord) -> int:
    aid = Aid(args.name, args.uuid, os.getpid())
    chan, spec = await (_connect if args.own_process else _connect_unless_given_up)(args, aid)
    set_runtime_vars(spec._runtime_vars)
    chan.transport.set_max_frame_size(runtime_vars()._max_frame_size)
    actor = Actor(
        aid,
        enable_modules=spec.enable_modules,
        loglevel=args.loglevel,
        reg_addrs=[_pair(a) for a in spec.reg_addrs],
    )
    actor.start_method = selected_start_method()
    actor.parent_chan = chan
    _arm_stack_dumps(actor)
    if runtime_vars()._debug_mode:
        load_late("arm_debugger")(actor)
    if args.own_process:
        actor.lifetime_stack.enter_context(own_breakpoint(_sync_pause()))
    registration = Registration(actor)
    token = trio.lowlevel.current_trio_token()

    def parent_lost() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(actor.cancel_soon)

    def remove_files() -> None:
        for endpoint in actor.ipc_server.endpoints:
            endpoint.close_listener()

    lifeline = None
    if args.own_process:
        lifeline = Lifeline(args.boot_fd, parent_lost, last_words=remove_files, above=ancestry())
    code = 0
    async with open_runtime(actor, registration.stop):
        await actor.io_nursery.start(actor.serve_channel, chan)
        if args.own_process:
            if signals_need_help():
                await actor.io_nursery.start(run_handlers)
            await actor.io_nursery.start(_watch_signals, actor)
        else:
            actor.io_nursery.start_soon(_watch_lifeline, actor, args.boot_fd)
        try:
            if runtime_vars().use_greenback:
                await load_late("init_greenback")()
            await _configure(actor, args, spec, registration)
        except Exception as exc:
            chan.transport.put(pack_error(exc, cid=0, src_uid=aid.uid))
            code = 1
        else:
            restore_stderr(record)
            if runtime_vars()._debug_mode:
                load_late("serve_attach")(actor)
            actor.note_to_parent("_ready", accept_addrs=actor.accept_addrs)
            # Nobody waits for this any more, so it costs no start.
            load_late("fix_trio")(log=log.runtime)
            await trio.sleep_forever()
    if lifeline is not None:
        lifeline.stop()
    return code


def _sync_pause() -> str | None:
    """What ``breakpoint()`` calls in this actor, by name; ``None``: it can't be used."""
    settings = runtime_vars()
    settings.use_greenback = settings.use_greenback and greenback_is_there()
    return SYNC_PAUSE if settings.use_greenback else None


def _arm_stack_dumps(actor: Actor) -> None:
    """Have SIGUSR1 dump the task tree, where the parent's settings or the environment say so."""
    asked = runtime_vars().use_stackscope or bool(os.environ.get("TRACTOR_ENABLE_STACKSCOPE"))
    if asked or runtime_vars()._debug_mode:
        load_late("arm_actor")(actor, asked)


async def _connect(args: ChildArgs, aid: Aid) -> tuple[Channel, SpawnSpec]:
    """Reach the parent and get the configuration."""
    chan = Channel(await transport_from_addr(args.parent_addr), "connect")
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            await chan.handshake(aid)
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


async def _connect_unless_given_up(args: ChildArgs, aid: Aid) -> tuple[Channel, SpawnSpec]:
    """As :func:`_connect`, in the parent's process, where no signal can end a child that nobody wants any more."""
    found: tuple[Channel, SpawnSpec] | None = None
    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

        async def connect() -> None:
            nonlocal found
            found = await _connect(args, aid)
            tn.cancel_scope.cancel()

        tn.start_soon(connect)
        await trio.lowlevel.wait_readable(args.boot_fd)
        tn.cancel_scope.cancel()
    if found is None:
        raise SystemExit(1)
    return found


async def _configure(
    actor: Actor, args: ChildArgs, spec: SpawnSpec, registration: Registration
) -> None:
    """Make a connected child a serving actor."""
    if runtime_vars()._is_infected_aio != args.infect_asyncio:
        raise InternalError(
            f"the parent's configuration says infected={runtime_vars()._is_infected_aio}, "
            f"the command line {args.infect_asyncio}"
        )
    apply_parent_main_data(spec._parent_main_data)
    for name in spec.enable_modules:
        if name != "__main__":
            importlib.import_module(name)
    endpoints = await _bind([_pair(a) for a in spec.bind_addrs or ()], actor)
    actor.ipc_server.serve_endpoints(endpoints)
    await registration.start()


async def _bind(given: list[UnwrappedAddress], actor: Actor) -> list[Endpoint]:
    """Listen on the given addresses, without any on random ones.  Raises as :func:`bind_endpoints`."""
    if given:
        return await bind_endpoints(given)
    try:
        return await bind_endpoints(own_addrs(actor))
    except ConnectionError:
        # Another actor of this process, of the same name, took the file name meanwhile.
        return await bind_endpoints(own_addrs(actor))


def own_addrs(actor: Actor) -> list[UnwrappedAddress]:
    """A random address for each transport that this actor listens on."""
    aid = actor.aid
    return [
        get_address_cls(key).get_random(name=aid.name, pid=aid.pid, uuid=aid.uuid).unwrap()
        for key in runtime_vars()._enable_tpts
    ]


def _pair(addr: tuple[str, int | str]) -> UnwrappedAddress:
    host, second = addr
    return (host, second)  # type: ignore[return-value]


async def _watch_lifeline(actor: Actor, boot_fd: int) -> None:
    """The lifeline of an actor in its parent's process; its end asks the actor to cancel its runtime, no more."""
    await trio.lowlevel.wait_readable(boot_fd)
    log.cancel("%s: the lifeline has ended", actor.aid.reprol())
    actor.cancel_soon()


async def _watch_signals(
    actor: Actor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGINT and SIGTERM cancel this actor's runtime, with itself as canceller."""
    caught = {signal.SIGINT, signal.SIGTERM}
    # Where handlers need help to run (see `_signal_help`), this is it.
    _unblock_sigint()
    with trio.open_signal_receiver(*caught) as signals:
        since = None
        if _early_interrupts:
            # It came at some time before; now that there is a receiver, it gets it.
            since = 0.0
            signal.raise_signal(_early_interrupts.pop())
        task_status.started()
        host, interrupts = asyncio_host.get(), 0
        async for number in signals:
            log.cancel("%s got %s", actor.aid.reprol(), signal.Signals(number).name)
            interrupts += number == signal.SIGINT
            if host is not None and interrupts > 1 and actor.cancel_called:
                host.interrupted_again()
            elif number == signal.SIGINT and (runtime_vars()._debug_mode or is_in_foreground()):
                actor.io_nursery.start_soon(_cancel_unless_debugged, actor, since)
                since = None
            else:
                actor.cancel_soon()


async def _cancel_unless_debugged(actor: Actor, since: float | None) -> None:
    """A ctrl-c on the terminal reaches all of its processes; it is not meant for them while one has the REPL.

    The root knows.  If it is at the prompt itself it answers when the user has left that, so the question tells the
    time, on the clock that is the same in all processes; ``since``: the ctrl-c may have come at any time from then on.
    """
    at = time.monotonic()
    asked = {"since": at if since is None else since, "at": at}
    held = False
    if actor.hooks.repl_busy():
        held = True
    elif actor.parent_chan is not None:
        with contextlib.suppress(TransportClosed):
            reply = await request(actor.parent_chan, "_debug_held", **asked).wait()
            held = isinstance(reply, Return) and msgspec.msgpack.decode(reply.pld) is True
    if held:
        log.devx("the ctrl-c is ignored: a debug REPL is in use")
    else:
        actor.cancel_soon()


if __name__ == "__main__":
    main(sys.argv[1:])
