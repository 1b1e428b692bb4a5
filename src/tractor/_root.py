"""Booting a root actor, and the nursery that does it by itself."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Unpack

import msgspec
import trio

from tractor import _tools
from tractor import log as _log
from tractor._boot_actor import begin_service, make_actor
from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor._proto.limits import Limits
from tractor._root_options import (
    RootKwargs,
    RootOptions,
    TreeKwargs,
    log_level,
    require_root_kwargs,
    with_outdated_registry,
)
from tractor._util._exit import end_by_signal
from tractor.address._policy import from_this_host
from tractor.address._types import Addr, UnwrappedAddress, mk_uuid
from tractor.discovery._election import elect, listen_beside
from tractor.discovery._registrar import Registrar
from tractor.ipc._debug_sock import CONTROL_DIR
from tractor.ipc._endpoint import Endpoint
from tractor.msg._nspath import NamespacePath
from tractor.msg.types import Aid
from tractor.process._at_fork import undone_in_child
from tractor.process._breakpoint import SYNC_PAUSE, own_breakpoint
from tractor.process._dirs import runtime_dir_path
from tractor.process._stdio import numbers_taken
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor
from tractor.runtime._drain import checked_timeout
from tractor.runtime._group_signals import note_signals
from tractor.runtime._life import Lifespan, require_lifespan
from tractor.runtime._lifecycle import open_runtime
from tractor.runtime._state import (
    asyncio_host,
    claim_process,
    current_actor,
    release_process,
)
from tractor.runtime._vars import (
    debug_mode,
    enabled_transports,
    reset_runtime_vars,
    set_runtime_vars,
)
from tractor.runtime.dialog._caller import told_once
from tractor.runtime.seen._factories import factories_of
from tractor.runtime.seen._instrument import Instrument
from tractor.spawn._contract import (
    select_start_method_later,
    selected_start_method,
    try_set_start_method,
)
from tractor.spawn._parent_main import refuse_in_replay
from tractor.spawn._signal_help import ENDING
from tractor.spawn.mp._tracker import share_tracker
from tractor.spawn.zygote._tie import preloaded
from tractor.supervise._arguments import module_names, with_outdated_modules
from tractor.supervise._nursery import ActorNursery, open_actor_nursery
from tractor.transport._addresses import wrap_addresses
from tractor.transport._authkey import load_authkey
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._table import default_lo_addrs, needs_key
from tractor.transport._uds_leftovers import sweep
from tractor.transport.tls._config import TLSConfig
from tractor.trionics._groups import is_multi_cancelled, raise_as_it_was
from tractor.trionics._ki import ki_protected_manager
from tractor.trionics.patches._wakeup_drain import apply_to_this_run

log = _log.get_logger()


def skip_cancellations(exc: BaseException) -> bool:
    """The default ``debug_filter``: whether ``exc`` is more than cancellations."""
    return not is_multi_cancelled(exc)


class _AroundRoot(msgspec.Struct, frozen=True):
    """What :func:`run_daemon` puts around the root that it opens; see there."""

    lifespan: Lifespan | None = None
    drain: float = 0.0


_around_root: ContextVar[_AroundRoot | None] = ContextVar("around_root", default=None)
"""Of the task that is about to open a root."""


@ki_protected_manager
async def open_root_actor(
    *,
    tpt_bind_addrs: Sequence[Addr] | None = None,
    registry_addrs: Sequence[Addr] | None = None,
    enable_transports: Sequence[str] | None = None,
    name: str = "root",
    start_method: str | None = None,
    preload: Sequence[str] | None = None,
    debug_mode: bool = False,
    maybe_enable_greenback: bool = True,
    enable_stack_on_sig: bool = False,
    loglevel: str | None = None,
    enable_modules: Sequence[str] | None = None,
    ensure_registry: bool = False,
    registrar: bool | None = None,
    limits: Limits | None = None,
    hosts: str | os.PathLike[str] | None = None,
    instruments: Sequence[Instrument | str] = (),
    max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
    authkey: bytes | None = None,
    tls: TLSConfig | None = None,
    hide_tb: bool = True,
    debug_filter: Callable[[BaseException], bool] = skip_cancellations,
    registry_addr: Addr | None = None,
    arbiter_addr: Addr | None = None,
    rpc_module_paths: Sequence[str] | None = None,
) -> AsyncIterator[Actor]:
    """Make this process the root of an actor tree, for the length of the block.

    Args:
        tpt_bind_addrs: addresses to listen on; default: the registry addresses as the registrar, else a random
            one for each transport.
        registry_addrs: where registrars are, or are to be; default: one for each transport.
        enable_transports: ``'tcp'``, ``'uds'``, keys of other packages' transports, or several of these; default:
            those that the addresses imply, else ``'uds'`` on POSIX and ``'tcp'`` elsewhere.
        name: the actor's name.
        start_method: spawn backend key; default: what `try_set_start_method` has selected, else ``'trio'``.
        preload: names of modules that the zygote imports before it forks subactors, which then have them at once and
            share their memory; without effect on other backends. They see the zygote's process when they are imported,
            and must start no thread, open no file and keep no lock: one that starts a thread has every subactor exec'd,
            with a warning, and one that fails is told on stderr and left to the subactors.
        debug_mode: arm the tree-wide debugger.
        maybe_enable_greenback: support sync pauses in debug mode, where greenback is installed.
        enable_stack_on_sig: dump the task tree on SIGUSR1.
        loglevel: level name for this actor and, unless overridden, its children; default ``'error'``.
        enable_modules: names of the modules that peers may call into on this actor.
        ensure_registry: fail unless this actor becomes the registrar.
        registrar: ``None``: it becomes the registrar where none is found.  ``False``: never, so that nothing is looked
            for at the registry addresses or bound there; it starts also while no registrar is alive, registers with
            each as soon as it is, and leaves registrars to others, see :func:`tractor.registrar`.  ``True``: the same
            as ``ensure_registry``.
        limits: what peers can't make an actor hold or do, for the whole tree; see :class:`tractor.Limits`.
        hosts: the hosts file (TOML), whose tables give names to places for ``start_actor(host=)``; default: that of the
            variable ``TRACTOR_HOSTS``.  See :mod:`tractor.hosts`.
        instruments: what is told of events: objects of :class:`tractor.devx.Instrument`, which stay in this actor, and
            ``'module:function'`` of factories.  Every actor of the tree calls such a function at its start, before it
            serves, without arguments, and is given what it returns; ``None``: nothing in that actor.
        max_frame_size: bytes; bound for one message, both ways, inherited by children: short for that field of
            ``limits``.
        authkey: at least 16 bytes that TCP peers must hold; default: ``TRACTOR_AUTHKEY_FILE``, else the user's key.
        tls: where the certificates are that TCP is encrypted with, in this actor and its children; ``None``: plain.
            Each side also proves the key, inside TLS.
        hide_tb: whether runtime frames are hidden in tracebacks.
        debug_filter: whether an exception enters the crash REPL.
        registry_addr: the same as ``registry_addrs`` with one in it.

    Yields:
        The root :class:`Actor`.

    Raises:
        RuntimeFailure: this process is an actor already; an address beyond loopback without an explicit key and
            without ``tls``; or a factory of ``instruments`` has failed.
        RuntimeError: this is no task of trio's; an empty ``tpt_bind_addrs``; a registry address is taken; a registrar
            is present with ``ensure_registry``; the debugger on a backend that does not support it.
        ValueError: a limit that makes no sense, ``registrar=False`` with ``ensure_registry`` or with a registry address
            to listen on, an unknown backend, a bad address, or one of a transport that is not
            enabled; a hosts file with a fault; a key that is too short; a file of ``tls`` that does not hold what it
            must; a ``name`` that no message can carry; ``'__main__'`` to preload.
        TypeError: ``tls`` is no :class:`TLSConfig`, ``authkey`` no bytes, ``name`` no string or empty,
            ``enable_modules`` or ``preload`` no list of strings, ``registrar`` neither a bool nor ``None``,
            ``instruments`` no list of instruments and paths.
        OSError: the key file, the hosts file or a file of ``tls`` can't be read; nothing was bound.
        NotImplementedError: an unknown transport.
        ImportError: another package's transport can't be loaded.
        BaseException: what the block raised, as itself; of a group that holds one error, that error.
    """
    # Before anything else is looked at: a script without a main guard must be told of that.
    refuse_in_replay(any_thread=True)
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "an actor runs on trio, and this is no task of trio's: start the program by `trio.run(main)`, or, where"
            " the process is to have an asyncio loop, by `tractor.to_asyncio.run_as_asyncio_guest(main)`"
        )
    claim_process()
    with contextlib.ExitStack() as undo:
        undo.callback(release_process)
        # Without it a run that is out of memory waits for ever at its end.
        apply_to_this_run()
        undo.enter_context(numbers_taken())
        registry_addrs = with_outdated_registry(registry_addrs, registry_addr, arbiter_addr)
        enable_modules = with_outdated_modules(enable_modules, rpc_module_paths, 4)
        options = RootOptions.checked(
            name=name,
            loglevel=loglevel,
            start_method=start_method,
            preload=preload,
            enable_modules=enable_modules,
            registry_addrs=registry_addrs,
            tpt_bind_addrs=tpt_bind_addrs,
            enable_transports=enable_transports,
            ensure_registry=ensure_registry,
            registrar=registrar,
            limits=limits,
            hosts=hosts,
            instruments=instruments,
            max_frame_size=max_frame_size,
            authkey=authkey,
            tls=tls,
            debug_mode=debug_mode,
            sync_pauses=maybe_enable_greenback,
            dumps_asked=enable_stack_on_sig,
            debug_filter=debug_filter,
        )
        async with _boot(options, undo) as actor:
            yield actor


@ki_protected_manager
async def _boot(options: RootOptions, undo: contextlib.ExitStack) -> AsyncIterator[Actor]:
    """The root actor, while it runs; ``undo`` gets what is to be undone after its end."""
    _change_process(options, undo)
    uuid = mk_uuid()

    def aid(is_registrar: bool) -> Aid:
        return Aid(options.name, uuid, os.getpid(), is_registrar, host=host_id())

    known = [a.unwrap() for a in options.registry] or default_lo_addrs(options.transports)
    elected = False
    if options.elects:
        elected, endpoints, known = await elect(
            known, options.bind, options.transports, aid, options.ensure_registry
        )
    else:
        endpoints = await listen_beside(known, options.bind, options.transports, aid(False))
    undo.callback(_close_all, endpoints)
    spaces = {e.addr.bindspace for e in endpoints if e.addr.proto_key == "uds"}
    for space in spaces | {str(runtime_dir_path() / CONTROL_DIR)}:
        sweep(space)
    for module in options.modules:
        importlib.import_module(module)
    undo.callback(reset_runtime_vars)
    set_runtime_vars(_tree_vars(options, endpoints, known))
    around = _around_root.get() or _AroundRoot()
    actor, registration = make_actor(
        Registrar if elected else Actor,
        aid(elected),
        enable_modules=options.modules,
        loglevel=_level_to_hand_down(options),
        reg_addrs=known,
        started=time.time(),
        parent=None,
        dumps_asked=options.dumps_asked,
        debug_filter=options.debug_filter,
    )
    actor.drain_on_term = around.drain
    undo.enter_context(_signals_cancel(actor))
    async with open_runtime(actor, registration.stop):
        log.runtime("%s has started, spawn backend %r", actor.aid.reprol(), options.method)
        await actor.io_nursery.start(note_signals, actor)
        await actor.io_nursery.start(share_tracker)
        await begin_service(actor, registration, endpoints, around.lifespan, options.instruments)
        if options.debug_mode:
            _tools.serve_attach(actor)
        _tools.serve_control(actor)
        if options.sync_pauses:
            undo.callback(_tools.stop_greenback)
            await _tools.init_greenback()
        try:
            yield actor
        except BaseException as exc:
            one = told_once(exc) or exc
            if not is_multi_cancelled(one):
                await actor.hooks.on_crash(one)
            raise_as_it_was(one)
        finally:
            log.info("Closing down root actor")


def _change_process(options: RootOptions, undo: contextlib.ExitStack) -> None:
    """Change what is of the whole process: its log, its wire settings, ``breakpoint()`` and the spawn backend.

    Raises:
        ValueError, TypeError, OSError: the key or a file of ``tls`` can't be used.
    """
    undo.enter_context(_console(options.level, options.level_is_given))
    undo.callback(_say_ended)
    for text in options.overruled:
        log.warning("%s", text)
    settings = WireSettings(limits=options.limits, tls=options.tls)
    settings.tls_contexts()
    needed = any(map(needs_key, options.transports))
    if options.authkey is not None or needed or os.environ.get("TRACTOR_AUTHKEY_FILE"):
        settings.authkey, settings.key_is_explicit = load_authkey(options.authkey)
    undo.callback(reset_wire_settings)
    set_wire_settings(settings)
    undo.enter_context(own_breakpoint(SYNC_PAUSE if options.sync_pauses else None))
    put_back = partial(select_start_method_later, selected_start_method())
    undo.enter_context(undone_in_child(put_back))
    undo.callback(put_back)
    try_set_start_method(options.method)
    undo.callback(preloaded.renew)
    preloaded.value = options.preload


def _level_to_hand_down(options: RootOptions) -> str:
    """The log's level; what the program has set on the logger itself counts for its subactors, too."""
    in_force = _log.get_loglevel()
    if options.level_is_given or not _log.is_level(in_force):
        return options.level
    return in_force


def _tree_vars(
    options: RootOptions, endpoints: list[Endpoint], registry: list[UnwrappedAddress]
) -> dict[str, Any]:
    """The settings that every actor of the tree is to see."""
    own = [from_this_host(e.addr).unwrap() for e in endpoints]
    return {
        "_is_root": True,
        "_root_mailbox": own[0],
        "_root_addrs": own,
        "_root_host": host_id(),
        "_enable_tpts": list(options.transports),
        "_registry_addrs": list(registry),
        "_debug_mode": options.debug_mode,
        "_is_infected_aio": asyncio_host.get() is not None,
        "use_greenback": options.sync_pauses,
        "_max_frame_size": options.limits.max_frame_size,
        "_limits": options.limits.to_dict(),
        "_hosts": options.hosts,
        "_instruments": factories_of(options.instruments),
    }


def _say_ended() -> None:
    log.info("Root actor terminated")


def _close_all(endpoints: list[Endpoint]) -> None:
    for endpoint in endpoints:
        endpoint.close_listener()


@contextmanager
def _console(level: str, is_given: bool) -> Iterator[None]:
    """Print the package's log at ``level`` for the length of the block, unless the program has handlers of its own.

    A default level does not override one that the program has set on the logger itself.
    """
    logger = _log.get_logger(mk_sublog=False).logger
    before, handlers = logger.level, list(logger.handlers)
    _log.print_unless_handled(level if is_given or not before else None)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in list(logger.handlers):
            if handler not in handlers:
                logger.removeHandler(handler)


@contextmanager
def _signals_cancel(actor: Actor) -> Iterator[None]:
    """SIGTERM and SIGHUP cancel the tree; afterwards the process ends as that signal would have ended it.

    Only in the main thread, and only where the program has left the signal alone.
    """
    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        known = [n for n in ENDING if n != signal.SIGINT]
        numbers = [n for n in known if signal.getsignal(n) is signal.SIG_DFL]
    token = trio.lowlevel.current_trio_token()
    got: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        got.append(number)
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(actor.on_end_signal, number == signal.SIGTERM)

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            # One that the program has put in place meanwhile stays.
            if signal.getsignal(number) is on_signal:
                signal.signal(number, signal.SIG_DFL)
        if got:
            end_by_signal(got[0])


@ki_protected_manager
async def open_nursery(
    *, hide_tb: bool = True, **root_kwargs: Unpack[TreeKwargs]
) -> AsyncIterator[ActorNursery]:
    """A nursery whose tasks are processes.  Boots a root actor if this process is not an actor yet.

    When the block has been left, by whatever route, every process started below it has exited.

    Args:
        hide_tb: whether runtime frames are hidden in tracebacks.
        root_kwargs: for :func:`open_root_actor`; without effect under a running runtime.

    Yields:
        An :class:`ActorNursery`.

    Raises:
        BaseException: the body's error or the one failed child's, bare, also where groups of one were around it; a
            ``BaseExceptionGroup`` of several, one entry for each actor.
        TypeError: an unknown argument, also under a running runtime; says which was probably meant.
        RuntimeError, ValueError, NotImplementedError: as :func:`open_root_actor`.
    """
    async with (
        open_tree(hide_tb=hide_tb, **root_kwargs) as actor,
        open_actor_nursery(actor) as an,
    ):
        yield an


@ki_protected_manager
async def open_tree(**root_kwargs: Unpack[RootKwargs]) -> AsyncIterator[Actor]:
    """This process's actor, for the length of the block: the one that runs, or a root that is booted for it.

    Args and what is raised are those of :func:`open_nursery`.
    """
    require_root_kwargs(root_kwargs)
    actor = current_actor(err_on_no_runtime=False)
    if actor is not None:
        _warn_of_ignored(actor, {**root_kwargs})
        yield actor
        return
    async with open_root_actor(**root_kwargs) as actor:
        yield actor
    with _console(*log_level(root_kwargs.get("loglevel"))):
        log.info("Actor-runtime-shutdown")


def _warn_of_ignored(actor: Actor, kwargs: dict[str, Any]) -> None:
    """Log the arguments that differ from the running runtime."""
    in_force: dict[str, Any] = {
        "name": actor.name,
        "loglevel": actor.loglevel,
        "debug_mode": debug_mode(),
        "enable_transports": enabled_transports(),
        "registry_addrs": list(actor.reg_addrs),
        "start_method": selected_start_method(),
    }
    if kwargs.get("registry_addr") is not None:
        kwargs = {**kwargs, "registry_addrs": [kwargs["registry_addr"]]}
    for key, value in kwargs.items():
        if key == "registry_addrs" and value is not None:
            value = [a.unwrap() for a in wrap_addresses(value, key)]
        if value is not None and key in in_force and in_force[key] != value:
            log.warning(
                "the runtime is open already: %s=%r has no effect (%r is in force)",
                key,
                value,
                in_force.get(key),
            )


def run_daemon(
    enable_modules: Sequence[str],
    name: str = "root",
    registry_addrs: Sequence[Addr] | None = None,
    start_method: str | None = None,
    debug_mode: bool = False,
    main: Callable[[], Awaitable[object]] | None = None,
    lifespan: Lifespan | str | None = None,
    drain: float = 0.0,
    **root_kwargs: Any,
) -> None:
    """Serve modules as a root actor until cancelled; blocks in ``trio.run()``.

    On every way out what is served, and ``main``, end first, then the background tasks (:attr:`Actor.background`),
    then the lifespan.

    Args:
        enable_modules: names of the modules that peers may call into; imported first.
        main: an async function without arguments that runs beside the serving, as the root's block, once the actor
            serves.  Its return changes nothing, its error ends the daemon.
        lifespan: a function without arguments that makes an async context manager, or its ``'module:name'``: around
            the actor's life, entered before it serves.  What it yields is :func:`tractor.actor_state`.
        drain: seconds that a SIGTERM leaves to running requests before all is cancelled, while new ones are refused;
            see :meth:`Actor.drain`.  A second one cancels at once.
        name, registry_addrs, start_method, debug_mode, root_kwargs: for :func:`open_root_actor`.

    Raises:
        ImportError, AttributeError: a module can't be imported, or ``lifespan`` not be found; nothing was booted.
        TypeError: ``enable_modules`` is not a list of strings; ``main`` or ``lifespan`` not such a function; an unknown
            argument.
        BaseException: what ``main``, the lifespan or a background task has raised; a group of several.
        RuntimeError, ValueError, NotImplementedError: as :func:`open_root_actor`.
        KeyboardInterrupt: ctrl-c.
    """
    require_root_kwargs(root_kwargs)
    for module in module_names(enable_modules):
        importlib.import_module(module)
    if main is not None and not inspect.iscoroutinefunction(main):
        raise TypeError(f"`main` is an async function without arguments, not {main!r}")
    make: Lifespan | None = (
        NamespacePath(lifespan).load_ref() if isinstance(lifespan, str) else lifespan
    )
    if make is not None:
        require_lifespan(make)
    around = _AroundRoot(make, checked_timeout(drain))

    async def serve() -> None:
        _around_root.set(around)
        async with open_root_actor(
            registry_addrs=registry_addrs,
            name=name,
            start_method=start_method,
            debug_mode=debug_mode,
            enable_modules=enable_modules,
            **root_kwargs,
        ):
            if main is not None:
                await main()
            await trio.sleep_forever()

    trio.run(serve)
