"""Booting a root actor, and the nursery that does it by itself."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, NoReturn

import msgspec
import trio

from tractor import _tools
from tractor import log as _log
from tractor._proto.framing import DEFAULT_MAX_FRAME_SIZE
from tractor._proto.limits import Limits
from tractor._util._names import plain_text, require_name
from tractor.address._policy import (
    from_this_host,
    is_local,
    one_or_several,
    require_bindable,
    require_connectable,
)
from tractor.address._types import HAS_UDS, Address, UnwrappedAddress, mk_uuid
from tractor.discovery._probe import Probe, probe_all
from tractor.discovery._registrar import Registrar
from tractor.discovery._registration import Registration
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg.types import Aid
from tractor.process._at_fork import flush_standard_streams, undone_in_child
from tractor.process._breakpoint import SYNC_PAUSE, greenback_is_there, own_breakpoint
from tractor.process._stdio import numbers_taken
from tractor.runtime._actor import Actor
from tractor.runtime._group_signals import note_signals
from tractor.runtime._lifecycle import open_runtime
from tractor.runtime._state import (
    asyncio_host,
    claim_process,
    current_actor,
    release_process,
)
from tractor.runtime._vars import reset_runtime_vars, runtime_vars, set_runtime_vars
from tractor.runtime.dialog._caller import told_once
from tractor.spawn._contract import (
    get_backend,
    require_debug_support,
    select_start_method_later,
    selected_start_method,
    try_set_start_method,
)
from tractor.spawn._parent_main import refuse_in_replay
from tractor.spawn._signal_help import ENDING
from tractor.spawn.mp._tracker import share_tracker
from tractor.supervise._nursery import ActorNursery, open_actor_nursery
from tractor.transport._addresses import wrap_address, wrap_addresses
from tractor.transport._authkey import load_authkey
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._table import default_lo_addrs, get_address_cls, known_transports, needs_key
from tractor.transport._uds_leftovers import sweep
from tractor.transport.tls._config import TLSConfig
from tractor.trionics._groups import is_multi_cancelled, raise_as_it_was
from tractor.trionics.patches._wakeup_drain import apply_to_this_run

log = _log.get_logger()

Addr = UnwrappedAddress | Address | str
ELECTION_TRIES = 5
"""How often a root that loses the race for its registry address looks again who won."""


def skip_cancellations(exc: BaseException) -> bool:
    """The default ``debug_filter``: whether ``exc`` is more than cancellations."""
    return not is_multi_cancelled(exc)


def _transports(
    enabled: Sequence[str] | None, registry: Sequence[Address], bind: Sequence[Address]
) -> list[str]:
    """The transports of a root, checked against its addresses.

    Raises:
        NotImplementedError: a transport that this platform does not have.
        ImportError: one of another package, which can't be loaded.
        ValueError: an address of a transport that is not enabled.
    """
    if enabled is None:
        implied = list(dict.fromkeys(a.proto_key for a in [*registry, *bind]))
        return implied or (["uds"] if HAS_UDS else ["tcp"])
    keys = known_transports(enabled)
    strays = [a.unwrap() for a in [*registry, *bind] if a.proto_key not in keys]
    if strays:
        raise ValueError(
            f"addresses {strays} are of a transport that is not enabled: "
            f"registry_addrs={[a.unwrap() for a in registry]}, enable_transports={keys}"
        )
    return keys


async def _elect(
    addrs: list[UnwrappedAddress],
    bind: Sequence[Address],
    keys: list[str],
    aid: Callable[[bool], Aid],
    ensure_registry: bool,
) -> tuple[bool, list[Endpoint], list[UnwrappedAddress]]:
    """Decide whether this root is the registrar, and listen accordingly.

    Returns:
        Whether it is, the endpoints that listen, and the registry addresses to use.

    Raises:
        RuntimeError: an address is taken by something that is no registrar, or a registrar is there that must not be.
    """
    for _ in range(ELECTION_TRIES):
        probes = await probe_all(addrs)
        present = [addr for addr, found in probes.items() if found.probe is Probe.REGISTRAR]
        taken = [addr for addr, found in probes.items() if found.probe is Probe.OCCUPIED]
        if present:
            if ensure_registry:
                raise RuntimeError(
                    f"a registrar is present at {present}, and `ensure_registry` wants this actor to be the one"
                )
            own = list(bind) or _random_addrs(keys, present, aid(False))
            return False, await _bind([a.unwrap() for a in own]), present
        if taken:
            raise RuntimeError(
                f"the registry addresses {taken} are taken by something that is no registrar "
                "(or holds another key); free them, or choose other `registry_addrs`. What was met: "
                + "; ".join(f"at {addr}: {probes[addr].why}" for addr in taken)
            )
        wanted = list(dict.fromkeys([*addrs, *(a.unwrap() for a in bind)]))
        try:
            return True, await bind_endpoints(wanted), addrs
        except OSError as exc:
            if not isinstance(exc, ConnectionError) and exc.errno != errno.EADDRINUSE:
                raise RuntimeError(
                    f"can't listen on {wanted}: {exc}; choose other addresses"
                ) from exc
            log.transport("another root was faster at %s: %r", wanted, exc)
    raise RuntimeError(f"the addresses {addrs} and {list(bind)} are in use by another process")


async def _bind(addrs: list[UnwrappedAddress]) -> list[Endpoint]:
    """Listen.  Raises RuntimeError where that can't be done."""
    try:
        return await bind_endpoints(addrs)
    except OSError as exc:
        raise RuntimeError(
            f"can't listen on {addrs}: {exc}; choose other `tpt_bind_addrs`"
        ) from exc


def _random_addrs(keys: list[str], registry: Sequence[UnwrappedAddress], aid: Aid) -> list[Address]:
    """A random address for each transport, beside the registrar where it has that transport and is on this host."""
    spaces = {a.proto_key: a.bindspace for a in map(wrap_address, registry) if is_local(a)}
    return [
        get_address_cls(key).get_random(spaces.get(key), name=aid.name, pid=aid.pid, uuid=aid.uuid)
        for key in keys
    ]


def _environment(loglevel: str | None, start_method: str | None) -> tuple[str, str]:
    """Log level and backend, where the environment beats the arguments."""
    method = os.environ.get("TRACTOR_SPAWN_METHOD") or start_method or selected_start_method()
    return os.environ.get("TRACTOR_LOGLEVEL") or loglevel or "error", method


def _log_overruled(loglevel: str | None, start_method: str | None) -> None:
    """Say which arguments the environment beats."""
    for name, given in (("TRACTOR_LOGLEVEL", loglevel), ("TRACTOR_SPAWN_METHOD", start_method)):
        env = os.environ.get(name)
        if env and given and env != given:
            log.warning("%s=%r in the environment beats the argument %r", name, env, given)


def _limits(given: Limits | None, max_frame_size: int) -> Limits:
    """The limits in force: the variable beats both arguments.  Raises ValueError, TypeError."""
    limits = Limits() if given is None else given
    if not isinstance(limits, Limits):
        raise TypeError(f"`limits` is a tractor.Limits(...), not {limits!r}")
    if max_frame_size != DEFAULT_MAX_FRAME_SIZE:
        if limits.max_frame_size not in (max_frame_size, DEFAULT_MAX_FRAME_SIZE):
            raise ValueError(
                f"max_frame_size={max_frame_size} and limits.max_frame_size={limits.max_frame_size} differ; give one"
            )
        limits = msgspec.structs.replace(limits, max_frame_size=max_frame_size)
    env = os.environ.get("TRACTOR_MAX_FRAME_SIZE")
    if env:
        try:
            limits = msgspec.structs.replace(limits, max_frame_size=int(env))
        except ValueError as exc:
            raise ValueError(
                f"TRACTOR_MAX_FRAME_SIZE={env!r} is no number of bytes that makes sense"
            ) from exc
    return limits


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_root_actor(
    *,
    tpt_bind_addrs: Sequence[Addr] | None = None,
    registry_addrs: Sequence[Addr] | None = None,
    enable_transports: Sequence[str] | None = None,
    name: str = "root",
    start_method: str | None = None,
    debug_mode: bool = False,
    maybe_enable_greenback: bool = True,
    enable_stack_on_sig: bool = False,
    loglevel: str | None = None,
    enable_modules: Sequence[str] | None = None,
    ensure_registry: bool = False,
    limits: Limits | None = None,
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
        debug_mode: arm the tree-wide debugger.
        maybe_enable_greenback: support sync pauses in debug mode, where greenback is installed.
        enable_stack_on_sig: dump the task tree on SIGUSR1.
        loglevel: level name for this actor and, unless overridden, its children; default ``'error'``.
        enable_modules: names of the modules that peers may call into on this actor.
        ensure_registry: fail unless this actor becomes the registrar.
        limits: what peers can't make an actor hold or do, for the whole tree; see :class:`tractor.Limits`.
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
        RuntimeFailure: this process is an actor already; or an address beyond loopback without an explicit key
            and without ``tls``.
        RuntimeError: an empty ``tpt_bind_addrs``; a registry address is taken; a registrar is present with
            ``ensure_registry``; the debugger on a backend that does not support it.
        ValueError: a limit that makes no sense, an unknown backend, a bad address, or one of a transport that is not
            enabled; a key that is too short; a file of ``tls`` that does not hold what it must; a ``name`` that no
            message can carry.
        TypeError: ``tls`` is no :class:`TLSConfig`, ``authkey`` no bytes, ``name`` no string or empty.
        OSError: the key file, or a file of ``tls``, can't be read; nothing was bound.
        NotImplementedError: an unknown transport.
        ImportError: another package's transport can't be loaded.
        BaseException: what the block raised, as itself; of a group that holds one error, that error.
    """
    # Before anything else is looked at: a script without a main guard must be told of that.
    refuse_in_replay(any_thread=True)
    claim_process()
    with contextlib.ExitStack() as undo:
        undo.callback(release_process)
        # Without it a run that is out of memory waits for ever at its end.
        apply_to_this_run()
        undo.enter_context(numbers_taken())
        name = require_name(name)
        if tls is not None and not isinstance(tls, TLSConfig):
            raise TypeError(f"`tls` is a tractor.TLSConfig(certfile, keyfile, cafile), not {tls!r}")
        registry_addrs = one_or_several(registry_addrs, registry_addr)
        if arbiter_addr is not None:
            warnings.warn(
                "`arbiter_addr` is outdated; use `registry_addrs`", DeprecationWarning, stacklevel=3
            )
            registry_addrs = registry_addrs or [arbiter_addr]
        if rpc_module_paths is not None:
            warnings.warn(
                "`rpc_module_paths` is outdated; use `enable_modules`",
                DeprecationWarning,
                stacklevel=3,
            )
            enable_modules = [*(enable_modules or ()), *rpc_module_paths]
        if loglevel is not None:
            loglevel = plain_text(loglevel, "`loglevel` is the name of a level")
        if start_method is not None:
            start_method = plain_text(start_method, "`start_method` is the name of a spawn backend")
        if enable_modules is not None and not isinstance(enable_modules, str):
            rule = "`enable_modules` must be a list of module names (str)"
            enable_modules = [plain_text(module, rule) for module in enable_modules]
        level, method = _environment(loglevel, start_method)
        # A command line may have asked for it (`devx.cli.load_runtime_vars`).
        debug_mode = debug_mode or runtime_vars()._debug_mode
        if debug_mode:
            require_debug_support(method)
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError(
                    "`debug_mode` needs the main thread, which alone can handle ctrl-c; this root runs in "
                    f"{threading.current_thread().name!r}"
                )
        get_backend(method)
        registry = wrap_addresses(registry_addrs, "registry_addrs")
        for addr in registry:
            require_connectable(addr)
        if tpt_bind_addrs is not None and not tpt_bind_addrs:
            raise RuntimeError(
                "`tpt_bind_addrs=[]` leaves the root without an address to listen on: give one, or leave it out"
            )
        bind = wrap_addresses(tpt_bind_addrs, "tpt_bind_addrs")
        for addr in bind:
            require_bindable(addr)
        keys = _transports(enable_transports, registry, bind)
        in_force = _limits(limits, max_frame_size)
        addrs = [a.unwrap() for a in registry] or default_lo_addrs(keys)
        undo.enter_context(_console(level, loglevel))
        undo.callback(_say_ended)
        _log_overruled(loglevel, start_method)
        _use_settings(undo, authkey, tls, keys, in_force)
        sync_pauses = debug_mode and maybe_enable_greenback and greenback_is_there()
        undo.enter_context(own_breakpoint(SYNC_PAUSE if sync_pauses else None))
        put_back = partial(select_start_method_later, selected_start_method())
        undo.enter_context(undone_in_child(put_back))
        undo.callback(put_back)
        try_set_start_method(method)
        uuid = mk_uuid()

        def aid(is_registrar: bool) -> Aid:
            return Aid(name, uuid, os.getpid(), is_registrar)

        elected, endpoints, known = await _elect(addrs, bind, keys, aid, ensure_registry)
        undo.callback(_close_all, endpoints)
        for space in {e.addr.bindspace for e in endpoints if e.addr.proto_key == "uds"}:
            sweep(space)
        for module in enable_modules or ():
            importlib.import_module(module)
        cls = Registrar if elected else Actor
        actor = cls(
            aid(elected), enable_modules=enable_modules or (), loglevel=level, reg_addrs=known
        )
        actor.add_requests(_tools.TOOL_REQUESTS)
        actor.start_method = method
        undo.callback(reset_runtime_vars)
        own = [from_this_host(e.addr).unwrap() for e in endpoints]
        set_runtime_vars(
            {
                "_is_root": True,
                "_root_mailbox": own[0],
                "_root_addrs": own,
                "_enable_tpts": keys,
                "_registry_addrs": list(known),
                "_debug_mode": debug_mode,
                "_is_infected_aio": asyncio_host.get() is not None,
                "use_greenback": sync_pauses,
                "_max_frame_size": in_force.max_frame_size,
                "_limits": in_force.to_dict(),
            }
        )
        dumps_asked = enable_stack_on_sig or bool(os.environ.get("TRACTOR_ENABLE_STACKSCOPE"))
        if dumps_asked or debug_mode:
            _tools.arm_stack_dumps(actor, dumps_asked)
        if debug_mode:
            _tools.arm_debugger(actor, debug_filter)
        registration = Registration(actor)
        undo.enter_context(_signals_cancel(actor))
        async with open_runtime(actor, registration.stop):
            log.runtime("%s has started, spawn backend %r", actor.aid.reprol(), method)
            await actor.io_nursery.start(note_signals, actor)
            await actor.io_nursery.start(share_tracker)
            actor.ipc_server.serve_endpoints(endpoints)
            await registration.start()
            if debug_mode:
                _tools.serve_attach(actor)
            if sync_pauses:
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


def _say_ended() -> None:
    log.info("Root actor terminated")


def _close_all(endpoints: list[Endpoint]) -> None:
    for endpoint in endpoints:
        endpoint.close_listener()


@contextmanager
def _console(level: str, argument: str | None) -> Iterator[None]:
    """Print the package's log at ``level`` for the length of the block, unless the program has handlers of its own.

    A default level does not override one that the program has set on the logger itself.
    """
    logger = _log.get_logger(mk_sublog=False).logger
    before, handlers = logger.level, list(logger.handlers)
    given = argument is not None or "TRACTOR_LOGLEVEL" in os.environ
    _log.print_unless_handled(level if given or not before else None)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in list(logger.handlers):
            if handler not in handlers:
                logger.removeHandler(handler)


def _use_settings(
    undo: contextlib.ExitStack,
    authkey: bytes | None,
    tls: TLSConfig | None,
    keys: list[str],
    limits: Limits,
) -> None:
    """Put the tree's key, certificates and limits in force.

    Raises:
        ValueError, TypeError, OSError: the key or a file of ``tls`` can't be used.
    """
    settings = WireSettings(limits=limits, tls=tls)
    settings.tls_contexts()
    needed = any(map(needs_key, keys))
    if authkey is not None or needed or os.environ.get("TRACTOR_AUTHKEY_FILE"):
        settings.authkey, settings.key_is_explicit = load_authkey(authkey)
    undo.callback(reset_wire_settings)
    set_wire_settings(settings)


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
            token.run_sync_soon(actor.cancel_soon)

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
            _end_by_signal(got[0])


def _end_by_signal(number: int) -> NoReturn:
    flush_standard_streams()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The first process of a container, PID 1, can't be ended by a signal of its own.
    os._exit(128 + number)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_nursery(*, hide_tb: bool = True, **root_kwargs: Any) -> AsyncIterator[ActorNursery]:
    """A nursery whose tasks are processes.  Boots a root actor if this process is no actor yet.

    When the block has been left, by whatever route, every process started below it has exited.

    Args:
        hide_tb: whether runtime frames are hidden in tracebacks.
        root_kwargs: for :func:`open_root_actor`; without effect under a running runtime.

    Yields:
        An :class:`ActorNursery`.

    Raises:
        BaseException: the body's error or the one failed child's, bare, also where groups of one were around it; a
            ``BaseExceptionGroup`` of several, one entry for each actor.
        RuntimeError, ValueError, NotImplementedError: as :func:`open_root_actor`.
    """
    actor = current_actor(err_on_no_runtime=False)
    if actor is not None:
        _warn_of_ignored(actor, root_kwargs)
        async with open_actor_nursery(actor) as an:
            yield an
        return
    async with (
        open_root_actor(hide_tb=hide_tb, **root_kwargs) as actor,
        open_actor_nursery(actor) as an,
    ):
        yield an
    argument = root_kwargs.get("loglevel")
    with _console(_environment(argument, None)[0], argument):
        log.info("Actor-runtime-shutdown")


def _warn_of_ignored(actor: Actor, kwargs: dict[str, Any]) -> None:
    """Log the arguments that differ from the running runtime."""
    in_force: dict[str, Any] = {
        "name": actor.name,
        "loglevel": actor.loglevel,
        "debug_mode": runtime_vars()._debug_mode,
        "enable_transports": runtime_vars()._enable_tpts,
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
    **root_kwargs: Any,
) -> None:
    """Serve modules as a root actor until cancelled; blocks in ``trio.run()``.

    Args:
        enable_modules: names of the modules that peers may call into; imported first.
        name, registry_addrs, start_method, debug_mode, root_kwargs: for :func:`open_root_actor`.

    Raises:
        ImportError: a module can't be imported; nothing was booted.
        RuntimeError, ValueError, NotImplementedError: as :func:`open_root_actor`.
        KeyboardInterrupt: ctrl-c.
    """
    for module in enable_modules:
        importlib.import_module(module)

    async def serve() -> None:
        async with open_root_actor(
            registry_addrs=registry_addrs,
            name=name,
            start_method=start_method,
            debug_mode=debug_mode,
            enable_modules=enable_modules,
            **root_kwargs,
        ):
            await trio.sleep_forever()

    trio.run(serve)
