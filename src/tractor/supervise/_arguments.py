"""How a subactor is to be started: the arguments of ``start_actor()``, checked."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tractor._errors import RuntimeFailure
from tractor._util._names import plain_text, require_name
from tractor._util._plain import printable
from tractor.address._policy import from_this_host, require_bindable
from tractor.address._types import Addr, UnwrappedAddress
from tractor.hosts._place import HostLike, Place
from tractor.msg._nspath import NamespacePath
from tractor.msg.types import SpawnSpec
from tractor.runtime._actor import Actor
from tractor.runtime._drain import checked_timeout
from tractor.runtime._life import Lifespan, require_lifespan
from tractor.runtime._vars import enabled_transports, runtime_vars
from tractor.runtime.dialog._endpoints import canonical
from tractor.spawn._contract import SpawnRequest, require_debug_support, selected_start_method
from tractor.spawn._import_path import pack
from tractor.spawn._parent_main import get_parent_main_data
from tractor.supervise._elsewhere import main_data_of, place_of
from tractor.transport._addresses import wrap_address, wrap_addresses
from tractor.transport._settings import wire_settings
from tractor.transport._table import known_transports


class Unlooked(str):
    """The name of a module that only the child looks for: what is found there, and whether, may be another matter."""

    __slots__ = ()


class Recipe(msgspec.Struct, frozen=True):
    """What a subactor was started with, to start another in its place: its configuration, and what its backend got."""

    spec: SpawnSpec
    request: SpawnRequest
    armed: bool
    """With the debugger."""
    place: Place | None = None
    """On another host; ``None``: here."""


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one subactor is started with.

    Attributes:
        name: the actor's.
        bind_addrs: where it listens; ``None``: at a random address for each transport.
        transports: keys of those that it listens on; ``None``: this actor's.
        modules: that peers may call into, by name, with the file that each was found in.
        loglevel: ``None``: this actor's.
        debug_mode: arm the debugger; ``None``: as this actor.
        infect_asyncio: run its trio as a guest of an asyncio loop.
        inherit_parent_main: replay this program's ``__main__`` there.
        proc_kwargs: further arguments for the backend.
        lifespan: the path of what makes the context manager around its life; empty: there is none.
        logconfig: for ``logging.config.dictConfig()``.
        drain: seconds that a SIGTERM leaves to running requests.
        writes_stacks: it writes down its stacks when it is signalled, for its parent.
        place: where it is started; ``None``: here.
    """

    name: str
    bind_addrs: tuple[UnwrappedAddress, ...] | None
    transports: tuple[str, ...] | None
    modules: dict[str, str | None]
    loglevel: str | None
    debug_mode: bool | None
    infect_asyncio: bool
    inherit_parent_main: bool
    proc_kwargs: dict[str, Any]
    lifespan: str
    logconfig: dict[str, Any] | None
    drain: float
    writes_stacks: bool = False
    place: Place | None = None

    @classmethod
    def checked(
        cls,
        name: str,
        *,
        enable_modules: Sequence[str] | None,
        bind_addrs: Sequence[Addr] | None = None,
        loglevel: str | None = None,
        infect_asyncio: bool = False,
        inherit_parent_main: bool = True,
        proc_kwargs: Mapping[str, Any] | None = None,
        rpc_module_paths: Sequence[str] | None = None,
        enable_transports: Sequence[str] | None = None,
        debug_mode: bool | None = None,
        lifespan: Lifespan | str | None = None,
        logconfig: Mapping[str, Any] | None = None,
        drain: float = 0.0,
        host: HostLike | None = None,
    ) -> StartOptions:
        """Those of a call of ``start_actor()`` or ``run_in_actor()``, which tell what is raised."""
        enable_modules = with_outdated_modules(enable_modules, rpc_module_paths, 4)
        options = dict(proc_kwargs or {})
        # `run_in_actor()` has the function's own keywords beside its own.
        host = options.pop("host", None) if host is None else host
        place = None if host is None else place_of(host, options)
        if loglevel is not None:
            loglevel = plain_text(loglevel, "`loglevel` is the name of a level")
        name = require_name(name)
        keys = None if enable_transports is None else tuple(known_transports(enable_transports))
        return cls(
            name=name,
            bind_addrs=_bindable(name, bind_addrs, keys),
            transports=keys,
            modules=module_files(enable_modules or (), elsewhere=place is not None),
            loglevel=loglevel,
            debug_mode=debug_mode,
            infect_asyncio=infect_asyncio,
            inherit_parent_main=inherit_parent_main,
            proc_kwargs=options,
            place=place,
            lifespan="" if lifespan is None else _lifespan_path(lifespan),
            logconfig=None if logconfig is None else _plain_config(logconfig),
            drain=checked_timeout(drain),
        )

    def recipe(self, actor: Actor, uuid: str) -> Recipe:
        """What ``actor`` starts such a child with.

        Raises:
            RuntimeFailure: it could not connect; ``__main__`` is enabled, and can't be loaded elsewhere.
            RuntimeError: no debugger on this backend.
        """
        settings = wire_settings()
        handed = self.runtime_vars()
        needed = [*self.modules]
        if self.lifespan:
            needed.append(self.lifespan.partition(":")[0])
        needed += self._of_instruments(handed["_instruments"])
        if self.place is None:
            main_data = get_parent_main_data(self.inherit_parent_main, needed)
            main_data["sys_path"] = [*map(pack, self._own_path()), *main_data["sys_path"]]
        else:
            main_data = main_data_of(self.place, needed)
        spec = SpawnSpec(
            _parent_main_data=main_data,
            _runtime_vars=handed,
            # The files are for people: names that are not UTF-8 can't be carried.
            enable_modules={name: file and printable(file) for name, file in self.modules.items()},
            reg_addrs=list(actor.reg_addrs),
            bind_addrs=None if self.bind_addrs is None else list(self.bind_addrs),
            lifespan=self.lifespan,
            logconfig=self.logconfig,
            drain=self.drain,
            writes_stacks=self.writes_stacks,
        )
        request = SpawnRequest(
            name=self.name,
            uuid=uuid,
            # Elsewhere it is known when there is a way to that host.
            parent_addr=self._address_of(actor) if self.place is None else ("", 0),
            loglevel=self.loglevel or actor.loglevel,
            infect_asyncio=self.infect_asyncio,
            # That of another user's file would be another one.
            authkey=settings.authkey if self.place is None else settings.key(),
            key_is_explicit=settings.key_is_explicit,
            tls=settings.tls,
            proc_kwargs=self.proc_kwargs,
        )
        return Recipe(spec, request, handed["_debug_mode"], self.place)

    def _of_instruments(self, factories: list[str]) -> list[str]:
        """The modules of the factories of instruments.

        Raises:
            ValueError: one is in ``__main__``, which this child is not to have.
        """
        modules = [path.partition(":")[0] for path in factories]
        if "__main__" in modules and not self.inherit_parent_main and self.place is None:
            raise ValueError(
                f"actor {self.name!r} can't call {factories[modules.index('__main__')]!r}, which makes instruments:"
                " `inherit_parent_main=False` keeps that module from it; leave the argument out, or move the factory"
                " to a module of its own"
            )
        return modules

    def runtime_vars(self) -> dict[str, Any]:
        """The tree's settings, as that child gets them.  Raises as :meth:`recipe`."""
        handed = runtime_vars().for_child()
        if self.transports is not None:
            handed["_enable_tpts"] = list(self.transports)
        if self.place is not None:
            handed["_terminal_elsewhere"] = True
        if self.debug_mode and not handed["_debug_mode"]:
            # The first that is armed: what an armed root does.
            handed["_debug_mode"] = handed["use_greenback"] = True
        if handed["_debug_mode"] and self.place is None:
            # On another host it is an interpreter of its own, whatever this actor starts its others with.
            require_debug_support(selected_start_method())
        handed["_is_infected_aio"] = self.infect_asyncio
        return handed

    def _own_path(self) -> list[str]:
        """Where that child alone looks for modules first: what a ``PYTHONPATH`` of its own says."""
        env = self.proc_kwargs.get("env") or {}
        given = env.get("PYTHONPATH") if isinstance(env, Mapping) else None
        if not isinstance(given, str) or given == os.environ.get("PYTHONPATH"):
            return []
        directory = self.proc_kwargs.get("cwd") or "."
        return [
            os.path.abspath(os.path.join(directory, entry)) for entry in given.split(os.pathsep)
        ]

    def _address_of(self, actor: Actor) -> UnwrappedAddress:
        """One of the actor's addresses, of a transport that the child uses where there is one.

        Raises:
            RuntimeFailure: it listens nowhere.
        """
        wrapped = [from_this_host(wrap_address(a)) for a in actor.accept_addrs]
        if not wrapped:
            raise RuntimeFailure(
                f"{actor.aid.reprol()} listens nowhere; a child could not connect to it"
            )
        wanted = self.transports or known_transports(enabled_transports())
        usable = [a for a in wrapped if a.proto_key in wanted] or wrapped
        usable.sort(key=lambda a: a.proto_key != "uds")
        return usable[0].unwrap()


def _bindable(
    name: str, bind_addrs: Sequence[Addr] | None, keys: Sequence[str] | None
) -> tuple[UnwrappedAddress, ...] | None:
    """The addresses that an actor is to listen at, checked against the transports that it may use."""
    if bind_addrs is not None and not bind_addrs:
        raise RuntimeError(
            f"`bind_addrs=[]` leaves actor {name!r} without an address to listen on: give one, or leave it out"
        )
    addrs = wrap_addresses(bind_addrs, "bind_addrs")
    for addr in addrs:
        require_bindable(addr)
    strays = [a.unwrap() for a in addrs if keys is not None and a.proto_key not in keys]
    if strays and keys is not None:
        raise ValueError(
            f"`bind_addrs` {strays} are of a transport that is not in enable_transports={list(keys)}"
        )
    return tuple(addr.unwrap() for addr in addrs) or None


def _lifespan_path(lifespan: Lifespan | str) -> str:
    """Where another process finds a lifespan.

    Raises:
        TypeError: it is no function, or not what its module and name lead to; or has arguments.
        ValueError: no path leads to it; it is a text that is no path.
    """
    if isinstance(lifespan, str):
        NamespacePath(lifespan).to_tuple()
        return lifespan
    require_lifespan(lifespan)
    if isinstance(lifespan, functools.partial):
        raise TypeError(f"`lifespan` is called without arguments, so {lifespan!r} can't be used")
    path = NamespacePath.from_ref(lifespan)
    try:
        found = path.load_ref()
    except (ImportError, AttributeError):
        found = None
    if found != lifespan:
        raise TypeError(
            f"`lifespan` {lifespan!r} is not what {str(path)!r} leads to, so that another process can't find it"
        )
    return str(path)


def _plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a logging configuration that can travel.

    Raises:
        TypeError: it is no mapping, or holds what can't.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"`logconfig` is a dict for `logging.config.dictConfig()`, not {config!r}")
    try:
        copy: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(dict(config)))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise TypeError(
            f"`logconfig` holds what can't be sent to another process: {exc}; name classes and functions by their "
            "path, as in {'()': 'package.module.Class'}, and objects as in 'ext://sys.stdout'"
        ) from exc
    return copy


def with_outdated_modules(
    modules: Sequence[str] | None, outdated: Sequence[str] | None, stacklevel: int
) -> Sequence[str] | None:
    """The modules to enable, whichever name they were given by; a warning tells of the outdated one."""
    if outdated is None:
        return modules
    text = "`rpc_module_paths` is outdated; use `enable_modules`"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
    return [*module_names(modules or ()), *module_names(outdated)]


def module_names(names: Sequence[str], argument: str = "enable_modules") -> list[str]:
    """The names of modules to enable, or what else the argument has them for.

    Raises:
        TypeError: it is a single string, or not all of them are.
    """
    rule = f"`{argument}` must be a list of module names"
    if isinstance(names, str):
        raise TypeError(f"{rule}, not the string {names!r}")
    if not isinstance(names, Iterable):
        raise TypeError(f"{rule}, not {names!r}")
    return [
        name if isinstance(name, Unlooked) else plain_text(name, f"{rule} (str)") for name in names
    ]


def module_files(names: Sequence[str], elsewhere: bool = False) -> dict[str, str | None]:
    """The modules to enable, by name, with the file that each was found in.

    Args:
        names: theirs.
        elsewhere: for an actor of another host, which alone knows whether they are there.

    Raises:
        TypeError: as :func:`module_names`.
        ModuleNotFoundError: there is no such module.
    """
    found: dict[str, str | None] = {}
    for name in module_names(names):
        module = sys.modules.get(name)
        if module is not None or canonical(name) == "__main__":
            found[canonical(name)] = getattr(module, "__file__", None)
            continue
        if elsewhere or isinstance(name, Unlooked):
            found[str(name)] = None
            continue
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} to enable in an actor", name=name)
        found[name] = spec.origin
    return found
