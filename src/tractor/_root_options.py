"""What a root is booted with: the arguments of `open_root_actor`, checked, and what the environment says instead."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypedDict

import msgspec

from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor._proto.limits import Limits
from tractor._util._names import plain_text, refuse_unknown, require_name
from tractor.address._policy import one_or_several, require_bindable, require_connectable
from tractor.address._types import HAS_UDS, Addr, Address
from tractor.hosts._place import VARIABLE, Tables
from tractor.process._breakpoint import greenback_is_there
from tractor.runtime._vars import runtime_vars
from tractor.runtime.seen._factories import checked_instruments
from tractor.runtime.seen._instrument import Instrument
from tractor.spawn._contract import get_backend, require_debug_support, selected_start_method
from tractor.supervise._arguments import module_names
from tractor.transport._addresses import wrap_addresses
from tractor.transport._table import known_transports
from tractor.transport.tls._config import TLSConfig


class TreeKwargs(TypedDict, total=False):
    """The arguments of :func:`tractor.open_root_actor`, where :func:`tractor.open_nursery` hands them on."""

    tpt_bind_addrs: Sequence[Addr] | None
    registry_addrs: Sequence[Addr] | None
    enable_transports: Sequence[str] | None
    name: str
    start_method: str | None
    preload: Sequence[str] | None
    debug_mode: bool
    maybe_enable_greenback: bool
    enable_stack_on_sig: bool
    loglevel: str | None
    enable_modules: Sequence[str] | None
    ensure_registry: bool
    registrar: bool | None
    limits: Limits | None
    hosts: str | os.PathLike[str] | None
    instruments: Sequence[Instrument | str]
    max_frame_size: int
    authkey: bytes | None
    tls: TLSConfig | None
    debug_filter: Callable[[BaseException], bool]
    registry_addr: Addr | None
    arbiter_addr: Addr | None
    rpc_module_paths: Sequence[str] | None


class RootKwargs(TreeKwargs, total=False):
    """The same where another function hands them on."""

    hide_tb: bool


def require_root_kwargs(kwargs: Mapping[str, object]) -> None:
    """Return where all of these are arguments of :func:`tractor.open_root_actor`.

    Raises:
        TypeError: one is not; says which was probably meant.
    """
    refuse_unknown(kwargs, RootKwargs.__annotations__, "option of a root actor")


class RootOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A root's settings.  Whoever holds such a record need not look at any of them again.

    Attributes:
        name: the actor's.
        level: of the log.
        level_is_given: it was asked for; else it gives way to a level that the program has set on the logger itself.
        method: key of the spawn backend.
        preload: modules that the zygote loads.
        overruled: what to say of variables of the environment that beat arguments.
        modules: that peers may call into.
        registry: where registrars are, or are to be; none: the default addresses.
        bind: where to listen; none: it depends on whether this root is the registrar.
        transports: keys of those that it listens on.
        elects: it may become the registrar.
        ensure_registry: it must become the registrar.
        limits: of the tree.
        hosts: the tables of the hosts file, by name.
        instruments: that are told in the root, and factories of those of every actor.
        authkey: that was given; ``None``: that of the environment or the user, if one is needed.
        tls: the certificates; ``None``: plain.
        debug_mode: arm the debugger.
        sync_pauses: support pauses in sync code.
        dumps_asked: dump the task tree on a signal.
        debug_filter: whether an exception opens the REPL.
    """

    name: str
    level: str
    level_is_given: bool
    method: str
    preload: tuple[str, ...]
    overruled: tuple[str, ...]
    modules: tuple[str, ...]
    registry: tuple[Address, ...]
    bind: tuple[Address, ...]
    transports: tuple[str, ...]
    elects: bool
    ensure_registry: bool
    limits: Limits
    hosts: Tables
    instruments: tuple[Instrument | str, ...]
    authkey: bytes | None
    tls: TLSConfig | None
    debug_mode: bool
    sync_pauses: bool
    dumps_asked: bool
    debug_filter: Callable[[BaseException], bool]

    @classmethod
    def checked(
        cls,
        *,
        name: str,
        loglevel: str | None,
        start_method: str | None,
        preload: Sequence[str] | None,
        enable_modules: Sequence[str] | None,
        registry_addrs: Sequence[Addr] | None,
        tpt_bind_addrs: Sequence[Addr] | None,
        enable_transports: Sequence[str] | None,
        ensure_registry: bool,
        registrar: bool | None,
        limits: Limits | None,
        hosts: str | os.PathLike[str] | None,
        instruments: Sequence[Instrument | str],
        max_frame_size: int,
        authkey: bytes | None,
        tls: TLSConfig | None,
        debug_mode: bool,
        sync_pauses: bool,
        dumps_asked: bool,
        debug_filter: Callable[[BaseException], bool],
    ) -> RootOptions:
        """Those of a call of :func:`tractor.open_root_actor`, which tells what is raised."""
        name = require_name(name)
        if tls is not None and not isinstance(tls, TLSConfig):
            raise TypeError(f"`tls` is a tractor.TLSConfig(certfile, keyfile, cafile), not {tls!r}")
        if loglevel is not None:
            loglevel = plain_text(loglevel, "`loglevel` is the name of a level")
        if start_method is not None:
            start_method = plain_text(start_method, "`start_method` is the name of a spawn backend")
        modules = tuple(module_names(enable_modules or ()))
        method = os.environ.get("TRACTOR_SPAWN_METHOD") or start_method or selected_start_method()
        # A command line may have asked for it (`devx.cli.load_runtime_vars`).
        debug_mode = debug_mode or runtime_vars()._debug_mode
        if debug_mode:
            _require_debuggable(method)
        get_backend(method)
        registry, bind = _addresses(registry_addrs, tpt_bind_addrs)
        _require_role(registrar, ensure_registry, registry, bind)
        level, level_is_given = log_level(loglevel)
        return cls(
            name=name,
            level=level,
            level_is_given=level_is_given,
            method=method,
            preload=_preload(preload),
            overruled=tuple(_overruled(loglevel, start_method)),
            modules=modules,
            registry=registry,
            bind=bind,
            transports=_transports(enable_transports, registry, bind),
            elects=registrar is not False,
            ensure_registry=ensure_registry or registrar is True,
            limits=_limits(limits, max_frame_size),
            hosts=_hosts(hosts),
            instruments=checked_instruments(instruments),
            authkey=authkey,
            tls=tls,
            debug_mode=debug_mode,
            sync_pauses=debug_mode and sync_pauses and greenback_is_there(),
            dumps_asked=dumps_asked,
            debug_filter=debug_filter,
        )


def _preload(names: Sequence[str] | None) -> tuple[str, ...]:
    """Modules for the zygote.  Raises TypeError, ValueError: not names of modules, or of none that it can load."""
    checked = tuple(module_names(names or (), "preload"))
    if "__main__" in checked:
        raise ValueError(
            "`preload` names modules that the zygote imports, and '__main__' is the program, which it does not run"
        )
    return checked


def _hosts(path: str | os.PathLike[str] | None) -> Tables:
    """The tables of the hosts file, if there is one.  Raises OSError, ValueError."""
    if path is None and not os.environ.get(VARIABLE):
        return {}
    from tractor.hosts._table import load_hosts

    return load_hosts(path)


def with_outdated_registry(
    registry_addrs: Sequence[Addr] | None, registry_addr: Addr | None, arbiter_addr: Addr | None
) -> Sequence[Addr] | None:
    """The registry's addresses, whichever name they were given by; a warning tells of the outdated one."""
    addrs = one_or_several(registry_addrs, registry_addr)
    if arbiter_addr is None:
        return addrs
    text = "`arbiter_addr` is outdated; use `registry_addrs`"
    # Of the caller of `open_root_actor()`, beyond its context manager.
    warnings.warn(text, DeprecationWarning, stacklevel=4)
    return addrs or [arbiter_addr]


def log_level(argument: str | None) -> tuple[str, bool]:
    """The log's level, where the environment beats the argument; and whether either of them gives one."""
    found = os.environ.get("TRACTOR_LOGLEVEL") or argument
    return found or "error", argument is not None or "TRACTOR_LOGLEVEL" in os.environ


def _overruled(loglevel: str | None, start_method: str | None) -> Iterator[str]:
    for name, given in (("TRACTOR_LOGLEVEL", loglevel), ("TRACTOR_SPAWN_METHOD", start_method)):
        env = os.environ.get(name)
        if env and given and env != given:
            yield f"{name}={env!r} in the environment beats the argument {given!r}"


def _require_debuggable(method: str) -> None:
    require_debug_support(method)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "`debug_mode` needs the main thread, which alone can handle ctrl-c; this root runs in "
            f"{threading.current_thread().name!r}"
        )


def _addresses(
    registry_addrs: Sequence[Addr] | None, tpt_bind_addrs: Sequence[Addr] | None
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    registry = tuple(wrap_addresses(registry_addrs, "registry_addrs"))
    for addr in registry:
        require_connectable(addr)
    if tpt_bind_addrs is not None and not tpt_bind_addrs:
        raise RuntimeError(
            "`tpt_bind_addrs=[]` leaves the root without an address to listen on: give one, or leave it out"
        )
    bind = tuple(wrap_addresses(tpt_bind_addrs, "tpt_bind_addrs"))
    for addr in bind:
        require_bindable(addr)
    return registry, bind


def _require_role(
    registrar: bool | None,
    ensure_registry: bool,
    registry: Sequence[Address],
    bind: Sequence[Address],
) -> None:
    if registrar is not None and not isinstance(registrar, bool):
        raise TypeError(f"`registrar` is True, False or None, not {registrar!r}")
    if registrar is not False:
        return
    if ensure_registry:
        raise ValueError("`registrar=False` and `ensure_registry=True` can't both be: give one")
    taken = [addr.unwrap() for addr in bind if addr in registry]
    if taken:
        raise ValueError(
            f"`registrar=False` listens on no registry address, and `tpt_bind_addrs` has {taken}"
        )


def _transports(
    enabled: Sequence[str] | None, registry: Sequence[Address], bind: Sequence[Address]
) -> tuple[str, ...]:
    """The transports of a root, checked against its addresses.

    Raises:
        NotImplementedError: a transport that this platform does not have.
        ImportError: one of another package, which can't be loaded.
        ValueError: an address of a transport that is not enabled.
    """
    if enabled is None:
        implied = tuple(dict.fromkeys(a.proto_key for a in [*registry, *bind]))
        return implied or (("uds",) if HAS_UDS else ("tcp",))
    keys = known_transports(enabled)
    strays = [a.unwrap() for a in [*registry, *bind] if a.proto_key not in keys]
    if strays:
        raise ValueError(
            f"addresses {strays} are of a transport that is not enabled: "
            f"registry_addrs={[a.unwrap() for a in registry]}, enable_transports={keys}"
        )
    return tuple(keys)


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
                f"TRACTOR_MAX_FRAME_SIZE={env!r} is not a number of bytes that makes sense"
            ) from exc
    return limits
