"""Services of a file under a supervisor: started, and changed by a reload."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure
from tractor._proto.services.restarts import Backoff
from tractor._proto.services.service_life import DOWN
from tractor.hosts._place import Place
from tractor.manager._called import Calling
from tractor.manager._listen import KeptSockets
from tractor.services._service import Service
from tractor.services._specification import Recycle
from tractor.services.file._service_file import KEPT_FROM_CHILDREN, Changes, ServiceFile
from tractor.services.file._tables import BackoffTable, ServiceTable, SupervisorTable
from tractor.spawn._contract import OutputOfChildren, selected_start_method
from tractor.supervise._arguments import Unlooked
from tractor.trionics._ki import ki_protected

if sys.platform != "win32":
    import pwd

log = _log.get_logger()

BACKENDS = ("trio", "zygote", "auto")
"""Whose actors load the code of a service by themselves, so that each incarnation runs that of its day."""

OPTIONS = (
    "restart",
    "shutdown",
    "drain",
    "ready_timeout",
    "escalate",
    "significant",
    "replicas",
    "watchdog",
)
"""Keys of a service that are the supervisor's options as they are."""


class TakesServices(Protocol):
    """A supervisor; see :class:`tractor.Supervisor`."""

    @property
    def services(self) -> Mapping[str, Service]:
        """The services by name."""

    def start_soon(self, name: str, fn: Any = None, /, **kwargs: Any) -> Service:
        """Add a service, and have it started."""

    async def stop(self, name: str) -> None:
        """Stop one for good."""

    def change_service(self, name: str, fn: Any = None, /, *, options: Any) -> None:
        """Change what its next incarnations are."""

    def forget_service(self, name: str) -> None:
        """Drop one that is down."""

    def reorder(self, names: list[str]) -> None:
        """Set the order."""

    def change_settings(
        self,
        strategy: str,
        max_restarts: int | None,
        within: float,
        backoff: Backoff | None,
        auto_shutdown: str,
    ) -> None:
        """Change the supervisor's arguments."""


class Recipe(msgspec.Struct, frozen=True):
    """What a supervisor starts a service with."""

    fn: Any
    options: dict[str, Any]


@ki_protected
class FileServices:
    """The services of one file at a time.

    Args:
        sup: their supervisor.
        stdout: where they print; ``None``: where this process does.
        handed_down: sockets that were opened for this process, by name.
    """

    def __init__(
        self,
        sup: TakesServices,
        stdout: OutputOfChildren | None = None,
        handed_down: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._sup = sup
        self._stdout = stdout
        self._sockets = KeptSockets(handed_down)
        # The one that is in force; `None`: none was started.
        self.file: ServiceFile | None = None
        self._lock = trio.Lock()
        # Changed services that are still to be restarted, with the incarnation that they had.
        self._due: dict[str, Any] = {}
        # Around the restarts: a further file ends that, and takes over what is due.
        self._settling = trio.CancelScope()

    def close(self) -> None:
        """Close the sockets of all services.  Idempotent."""
        self._sockets.close()

    async def apply(self, file: ServiceFile) -> None:
        """Start the services of a first file; after that: come from the file that is in force to another.

        Returns when all that is to be restarted is ready, has failed to, or another file was applied meanwhile.

        Raises:
            ServiceFileError, OSError, ValueError, RuntimeFailure: as :meth:`prepare`.
            RuntimeFailure: the supervisor is closing.
        """
        await self.change(file)
        await self.settle()

    def prepare(self, file: ServiceFile) -> Changes:
        """Find out what a file changes, and that it can; the sockets that it wants are open afterwards.

        Raises:
            ServiceFileError: what only a new start can change differs.
            OSError: a socket can't be had.
            ValueError: a name is taken by a service that is not of a file.
            RuntimeFailure: the spawn backend is not the one for this.
        """
        require_backend()
        old = self.file
        if old is not None:
            old.require_reloadable(file)
        changes = Changes(list(file.services), [], [], []) if old is None else old.changes_to(file)
        for name in changes.new:
            if name in self._sup.services:
                raise ValueError(f"service {name!r} is there already, and not from a file")
        self._sockets.open_for(file.services)
        return changes

    async def change(self, file: ServiceFile) -> Changes:
        """Start what is new, stop what is gone; what has changed is then due for a restart.  Shielded.

        Raises:
            ServiceFileError, OSError, ValueError, RuntimeFailure: as :meth:`prepare`; nothing was changed.
            RuntimeFailure: the supervisor is closing.
        """
        self._settling.cancel()
        with trio.CancelScope(shield=True):
            async with self._lock:
                changes = self.prepare(file)
                sockets = self._sockets.open_for(file.services)
                awaited = {name for table in file.services.values() for name in table.after}
                recipes = {
                    name: recipe_of(
                        table, sockets[name], self._stdout, name in awaited, file.places.get(name)
                    )
                    for name, table in file.services.items()
                }
                old, self.file = self.file, file
                if old is None or old.supervisor != file.supervisor:
                    self._sup.change_settings(*settings_of(file.supervisor))
                try:
                    # What takes time here are stops, each of which has its limit.
                    await self._carry_out(file, changes, recipes)
                finally:
                    self._sockets.keep_only(file.services)
        return changes

    async def settle(self) -> None:
        """Restart what is due, once each, however many the strategy takes along; ends when another file comes."""
        file = self.file
        assert file is not None
        self._settling = trio.CancelScope()
        with self._settling:
            names = [name for name in file.services if name in self._due]
            if file.supervisor.strategy == "one_for_one":
                async with trio.open_nursery() as tn:
                    for name in names:
                        tn.start_soon(self._restart_one, name)
            else:
                for name in names:
                    if name in self._due:
                        self._take_along(name, file)
                        await self._restart_one(name)

    def _take_along(self, first: str, file: ServiceFile) -> None:
        """What a group strategy takes along with ``first`` begins anew by that."""
        services = self._sup.services
        is_behind = file.supervisor.strategy == "one_for_all"
        for name in file.services:
            service = services.get(name)
            if is_behind and name != first and service is not None and service.state not in DOWN:
                self._due.pop(name, None)
            is_behind = is_behind or name == first

    async def _restart_one(self, name: str) -> None:
        service = self._sup.services.get(name)
        try:
            if service is not None and service.incarnation == self._due.get(name):
                await service.restart()
        except Exception as exc:
            # It goes on as any failed start does.
            log.error("service %r, whose table has changed, could not be restarted: %s", name, exc)
        self._due.pop(name, None)

    async def _carry_out(
        self, file: ServiceFile, changes: Changes, recipes: dict[str, Recipe]
    ) -> None:
        sup = self._sup
        anew = [*changes.new]
        for name in changes.changed:
            recipe = recipes[name]
            service = sup.services.get(name)
            if service is None or service.spec.replicas != file.services[name].replicas:
                # It is dropped, as a temporary one that was down; or has other members.
                anew.append(name)
                continue
            sup.change_service(name, recipe.fn, options=recipe.options)
            self._due[name] = service.incarnation
        for name in reversed([*changes.gone, *(set(anew) - set(changes.new))]):
            await self._remove(name)
        for name in file.services:
            if name in anew:
                recipe = recipes[name]
                sup.start_soon(name, recipe.fn, **recipe.options)
        sup.reorder(list(file.services))

    async def _remove(self, name: str) -> None:
        self._due.pop(name, None)
        if name in self._sup.services:
            await self._sup.stop(name)
        if name in self._sup.services:
            self._sup.forget_service(name)


def require_backend() -> None:
    """Return where services start in fresh interpreters.

    Raises:
        RuntimeFailure: another spawn backend is selected.
    """
    key = os.environ.get("TRACTOR_SPAWN_METHOD") or selected_start_method()
    if key not in BACKENDS:
        raise RuntimeFailure(
            f"services of a file run the code of the day of their start, in fresh interpreters: the spawn backend must"
            f" be one of {', '.join(map(repr, BACKENDS))}, and is {key!r} (see TRACTOR_SPAWN_METHOD)"
        )


def settings_of(
    table: SupervisorTable,
) -> tuple[str, int | None, float, Backoff | None, str]:
    """The arguments of a supervisor that may change: strategy, intensity, backoff, automatic shutdown."""
    backoff = _backoff(table.backoff)
    return table.strategy, table.max_restarts, table.within, backoff, table.auto_shutdown


def recipe_of(
    table: ServiceTable,
    sockets: Mapping[str, int],
    stdout: OutputOfChildren | None = None,
    is_awaited: bool = False,
    places: Sequence[Place] | None = None,
) -> Recipe:
    """What a supervisor starts a service with.

    Args:
        table: the service's.
        sockets: descriptors, by the names in ``listen``.
        stdout: where it prints; ``None``: where this process does.
        is_awaited: others come after it.
        places: the hosts that it may run on; ``None``: this one.
    """
    options: dict[str, Any] = {key: getattr(table, key) for key in OPTIONS}
    options["after"] = tuple(table.after)
    if table.backoff is not None:
        options["backoff"] = _backoff(table.backoff)
    if table.recycle is not None:
        options["recycle"] = Recycle(**msgspec.structs.asdict(table.recycle))
    options["enable_modules"] = tuple(map(Unlooked, table.modules))
    actor: dict[str, Any] = {
        "inherit_parent_main": False,
        "infect_asyncio": table.asyncio,
    }
    if places is None:
        actor["proc_kwargs"] = process_options(table, sockets, stdout)
    else:
        actor["host"] = list(places)
        actor["proc_kwargs"] = _options_elsewhere(table, stdout)
    if table.log is not None:
        actor["loglevel"] = table.log
    if table.transports is not None:
        actor["enable_transports"] = table.transports
    options["actor"] = actor
    if table.call is None:
        return Recipe(None, options)
    # One that comes only to do something, as a migration: what comes after it wants that done.
    ends_first = table.restart != "permanent" and is_awaited
    return Recipe(Calling(table.call, table.args, ends_first), options)


def process_options(
    table: ServiceTable, sockets: Mapping[str, int], stdout: OutputOfChildren | None
) -> dict[str, Any]:
    """What the process of a service is started with; see :class:`subprocess.Popen` for most of it."""
    env = {key: value for key, value in os.environ.items() if key not in KEPT_FROM_CHILDREN}
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL}
    if stdout is not None:
        # Lines are to come when they are printed.
        env.setdefault("PYTHONUNBUFFERED", "1")
        options |= {"stdout": stdout, "stderr": subprocess.STDOUT}
    if table.user is not None and sys.platform != "win32":
        entry = pwd.getpwnam(table.user)
        options |= {
            "user": entry.pw_uid,
            "group": entry.pw_gid,
            "extra_groups": os.getgrouplist(table.user, entry.pw_gid),
        }
        # That is for the manager's user alone.
        env.pop("XDG_RUNTIME_DIR", None)
        env |= {"USER": table.user, "LOGNAME": table.user, "HOME": entry.pw_dir}
    options["env"] = Hidden(env | table.env)
    if table.cwd is not None:
        options["cwd"] = table.cwd
    if limits := table.limits.made():
        options["limits"] = limits
    if sockets:
        options["sockets"] = dict(sockets)
    return options


def _options_elsewhere(table: ServiceTable, stdout: OutputOfChildren | None) -> dict[str, Any]:
    """What the process of a service is started with on another host: of this one's environment nothing goes along."""
    options: dict[str, Any] = {}
    env = table.env
    if stdout is not None:
        env = {"PYTHONUNBUFFERED": "1"} | env
        options["stdout"] = stdout
    options["env"] = Hidden(env)
    if table.cwd is not None:
        options["cwd"] = table.cwd
    if limits := table.limits.made():
        options["limits"] = limits
    return options


class Hidden(dict[str, str]):
    """An environment, whose values are shown nowhere."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<environment of {len(self)} variables>"


def _backoff(table: BackoffTable | bool) -> Backoff | None:
    return Backoff(**msgspec.structs.asdict(table)) if isinstance(table, BackoffTable) else None
