"""The block that owns services."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

import msgspec
import trio

from tractor import _tools
from tractor import log as _log
from tractor._errors import RuntimeFailure
from tractor._proto.services.restarts import Backoff
from tractor._proto.services.service_life import (
    AutoShutdown,
    Strategy,
)
from tractor._proto.services.supervision import Supervision
from tractor._root import open_tree
from tractor._root_options import RootKwargs
from tractor._util._caller import calling_code
from tractor.services._carrier import Carrier, Entry
from tractor.services._commands import Commands, open_to_users
from tractor.services._events import Events
from tractor.services._service import Service
from tractor.services._specification import (
    Recycle,
    ServiceSpec,
    require_number,
    require_whole,
    word,
)
from tractor.services._work import Work, work_of
from tractor.supervise._arguments import StartOptions
from tractor.supervise._nursery import open_children
from tractor.trionics._groups import is_multi_cancelled, leaves, raise_as_it_was
from tractor.trionics._ki import ki_protected, ki_protected_manager

if TYPE_CHECKING:
    from tractor.services.file._service_file import ServiceFile

log = _log.get_logger()

OF_SUPERVISOR: Any = type("OfSupervisor", (), {"__repr__": lambda _self: "OF_SUPERVISOR"})()
"""Stands for the supervisor's own backoff."""


class SupervisorStatistics(msgspec.Struct, frozen=True):
    """A supervisor in plain values.

    Attributes:
        phase: ``'open'``, ``'in a round'``, ``'closing'`` or ``'closed'``.
        services: how many replicas are in each state.
        restarts: incarnations that were spawned after the first, of the services that there are.
    """

    phase: str
    services: dict[str, int]
    restarts: int


@ki_protected
class Supervisor:
    """Owns services: actors that are started again when they end.

    Not built by users: see :func:`tractor.open_supervisor`.
    """

    def __init__(self, carrier: Carrier, backoff: Backoff | None, commands: Commands) -> None:
        self._carrier = carrier
        self._backoff = backoff
        self._commands = commands
        # What has started, and reloads, the services of a file.
        self._file: Callable[[ServiceFile], Awaitable[object]] | None = None

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def services(self) -> Mapping[str, Service]:
        """The services by name, in their order.  Temporary ones leave it when they are down."""
        carrier = self._carrier
        return {entry.spec.name: Service(carrier, entry) for entry in carrier.in_order}

    def statistics(self) -> SupervisorStatistics:
        """A frozen record of plain values."""
        rules = self._carrier.rules
        members = [member for unit in rules.units for member in unit.members]
        states = Counter(member.state.value for member in members)
        return SupervisorStatistics(
            rules.phase.value, dict(states), sum(member.restarts for member in members)
        )

    def __repr__(self) -> str:
        rules = self._carrier.rules
        return f"<Supervisor {rules.phase.value}: {len(rules.units)} services>"

    # -- starting -------------------------------------------------------------------------------------

    async def start_service(
        self,
        name: str,
        fn: Any = None,
        /,
        *,
        restart: str = "permanent",
        shutdown: float | Literal["kill"] | None = None,
        drain: float = 0.0,
        ready_timeout: float | None = None,
        backoff: Backoff | None = OF_SUPERVISOR,
        escalate: bool = True,
        significant: bool = False,
        after: Sequence[str] = (),
        replicas: int = 1,
        watchdog: float | None = None,
        recycle: Recycle | None = None,
        enable_modules: Sequence[str] = (),
        actor: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Service:
        """Add a service, and start it.

        The first start is tried once: what fails is raised, and the name is free again; so it is, too, when the caller
        is cancelled.  From then on the service comes back as ``restart`` says.

        Args:
            name: of the service and its actor; no other service that is up or to come may have it.
            fn: what its actor runs: an async function, a ``@context`` endpoint, or a partial of one with keywords;
                ``None``: it serves ``enable_modules``.
            restart: ``'permanent'``: it always comes again; ``'transient'``: after an abnormal end; ``'temporary'``:
                never.
            shutdown: seconds from the request to go to SIGTERM, which nothing extends; ``'kill'``: SIGKILL at once;
                ``None``: the ladder as it is.
            drain: seconds that running requests have when it is asked to go by plan, while new ones are refused.
            ready_timeout: seconds from spawn to ready; then its start has failed.  ``None``: no limit.
            backoff: the delays of its restarts; ``None``: none; default: the supervisor's.
            escalate: whether its restarts count for the supervisor; ``False``: it has a count of its own, and one too
                many makes it ``'failed'``, and nothing else.
            significant: its end may close the supervisor, see ``auto_shutdown`` there.
            after: names of services that must be ready, or have ended normally, at each of its starts.
            replicas: how many actors, called ``NAME.0`` and so on.
            watchdog: seconds within which its event loop must answer; it is killed else.  ``None``: not asked.
            recycle: when it is restarted by plan.
            enable_modules: names of the modules that peers may call into.
            actor: further keywords of :meth:`ActorNursery.start_actor`.  ``host`` may be a list: the first that takes
                it; when that is lost, the next, round and round.
            kwargs: ``fn``'s, encoded now: every incarnation gets the same.

        Returns:
            The service, once it is ready.

        Raises:
            ValueError: a name that is taken, an unknown word or `after`, a number out of range.
            TypeError: ``fn`` can't be a service, or a peer could not find it; an argument of the wrong type.
            MsgTypeError: an argument can't be sent.
            RuntimeFailure: the supervisor is closing.
            ServiceEnded: one of ``after`` is down and does not come by itself; it was stopped meanwhile.
            ServiceNotReady: it was not ready in time.
            ActorFailure, RemoteActorError, OSError and others: its start has failed.
        """
        spec = self._checked(
            name,
            restart=restart,
            shutdown=shutdown,
            drain=drain,
            ready_timeout=ready_timeout,
            backoff=backoff,
            escalate=escalate,
            significant=significant,
            after=after,
            replicas=replicas,
            watchdog=watchdog,
            recycle=recycle,
            enable_modules=enable_modules,
            actor=actor,
        )
        entry = self._add(spec, work_of(fn, kwargs, calling_code()), first=True)
        try:
            await self._first_start(entry)
        except BaseException:
            self._carrier.abandon(entry)
            with trio.CancelScope(shield=True):
                while entry.unit.is_up:
                    await self._carrier.changed.park()
            raise
        return Service(self._carrier, entry)

    def start_soon(
        self,
        name: str,
        fn: Any = None,
        /,
        *,
        restart: str = "permanent",
        shutdown: float | Literal["kill"] | None = None,
        drain: float = 0.0,
        ready_timeout: float | None = None,
        backoff: Backoff | None = OF_SUPERVISOR,
        escalate: bool = True,
        significant: bool = False,
        after: Sequence[str] = (),
        replicas: int = 1,
        watchdog: float | None = None,
        recycle: Recycle | None = None,
        enable_modules: Sequence[str] = (),
        actor: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Service:
        """Add a service, and have it started: as :meth:`start_service`, without waiting.

        A first start that fails is an end like any other, and any service of ``after`` is waited for.

        Returns:
            The service, at once.

        Raises:
            ValueError, TypeError, MsgTypeError, RuntimeFailure: as :meth:`start_service`.
        """
        spec = self._checked(
            name,
            restart=restart,
            shutdown=shutdown,
            drain=drain,
            ready_timeout=ready_timeout,
            backoff=backoff,
            escalate=escalate,
            significant=significant,
            after=after,
            replicas=replicas,
            watchdog=watchdog,
            recycle=recycle,
            enable_modules=enable_modules,
            actor=actor,
        )
        entry = self._add(spec, work_of(fn, kwargs, calling_code()), first=False)
        return Service(self._carrier, entry)

    def _checked(self, name: str, *, backoff: Any, actor: Any, **options: Any) -> ServiceSpec:
        backoff = self._backoff if backoff is OF_SUPERVISOR else backoff
        auto_shutdown = self._carrier.rules.auto_shutdown
        return ServiceSpec.checked(
            name, auto_shutdown, backoff=backoff, actor=actor or {}, **options
        )

    def _entry(self, name: str) -> Entry:
        """The service of that name.  Raises KeyError: there is none."""
        unit = self._carrier.rules.find(name)
        if unit is None:
            raise KeyError(name)
        return self._carrier.entries[unit]

    def _add(self, spec: ServiceSpec, work: Work, first: bool) -> Entry:
        return self._carrier.add(spec, work, _options_of(spec, work), first)

    # -- services that are written in a file ----------------------------------------------------------

    async def start_file(self, file: ServiceFile) -> None:
        """Start the services of a file, as :meth:`start_soon` does; again with another file: a reload.

        What differs in a service's table is restarted, what is new started, what is gone stopped, and nothing else is
        touched.  The file's table ``[supervisor]`` holds for this supervisor from now on, as far as that can change.

        Args:
            file: what :func:`tractor.load_services` has read.

        Raises:
            ServiceFileError: what only a new start can change differs; nothing was changed.
            OSError: a socket of ``listen`` can't be had; nothing was changed.
            ValueError: a name is taken by a service that is not of a file.
            RuntimeFailure: the supervisor is closing; the spawn backend starts no fresh interpreters.
        """
        if self._file is None:
            self._file = _tools.services_of_file(self, self._carrier.children.actor)
        await self._file(file)

    def change_service(self, name: str, fn: Any = None, /, *, options: Any) -> None:
        """Have the next incarnations of a service be others; restarts nothing.

        Args:
            name: of a service that there is.
            fn: as of :meth:`start_service`.
            options: those of :meth:`start_service`, with as many ``replicas``; what is left out is the default.

        Raises:
            KeyError: there is none of that name.
            ValueError, TypeError, MsgTypeError: as :meth:`start_service`.
        """
        entry = self._entry(name)
        spec = self._checked(
            name, **{"backoff": OF_SUPERVISOR, "after": (), "actor": None, **options}
        )
        work = work_of(fn, {}, calling_code())
        self._carrier.respecify(entry, spec, work, _options_of(spec, work))

    def forget_service(self, name: str) -> None:
        """Drop a service that is down, as if it had never been.  Raises KeyError: there is none of that name."""
        self._carrier.forget(self._entry(name))

    def reorder(self, names: Sequence[str]) -> None:
        """Set the order of these services among each other; others stay at their places."""
        self._carrier.rules.reorder(names)

    def change_settings(
        self,
        strategy: str,
        max_restarts: int | None,
        within: float,
        backoff: Backoff | None,
        auto_shutdown: str,
    ) -> None:
        """Have other arguments of :func:`tractor.open_supervisor` hold from now on.

        Raises:
            ValueError, TypeError: one of them makes no sense; nothing was changed.
        """
        checked = _rules(strategy, max_restarts, within, auto_shutdown)
        self._carrier.rules.reconfigure(
            checked.strategy, max_restarts, within, checked.auto_shutdown
        )
        self._backoff = backoff

    def take_commands(
        self, reload: Callable[[], dict[str, Any]], about: Callable[[], dict[str, Any]]
    ) -> None:
        """Let users at other terminals ask for more: a reload, and what the list says of the file."""
        self._commands.reload, self._commands.about = reload, about

    async def _first_start(self, entry: Entry) -> None:
        """Wait until a new service is ready; raises why it is not."""
        unit, carrier = entry.unit, self._carrier
        await trio.lowlevel.checkpoint()
        while any(member.first for member in unit.members):
            if unit.rejected or not unit.alive:
                break
            if carrier.rules.is_blocked(unit):
                text = (
                    f"service {entry.spec.name!r} comes after one that is down: {entry.spec.after}"
                )
                raise carrier.ended(entry, text)
            await carrier.changed.park()
        else:
            return
        failed = next((m.error for m in unit.members if m.error is not None), None)
        if failed is not None:
            raise_as_it_was(failed)
        if carrier.is_closing:
            raise RuntimeFailure(
                f"service {entry.spec.name!r} was not started: its supervisor ends"
            )
        raise carrier.ended(entry, f"service {entry.spec.name!r} was stopped before it was ready")

    # -- ending ---------------------------------------------------------------------------------------

    async def stop(self, name: str) -> None:
        """Stop a service for good; see :meth:`Service.stop`.  Raises KeyError: there is none of that name."""
        await Service(self._carrier, self._entry(name)).stop()

    async def restart(self, name: str) -> None:
        """Restart a service; see :meth:`Service.restart`.  Raises KeyError: there is none of that name."""
        await Service(self._carrier, self._entry(name)).restart()

    async def cancel(self, hard_kill: bool = False) -> None:
        """Stop all services, one by one in reverse order, and wait until they are gone.  Shielded.

        The body goes on; nothing can be started any more.

        Args:
            hard_kill: all at once, from the signals on.
        """
        self._carrier.close(drains=True, hard=hard_kill)
        with trio.CancelScope(shield=True):
            async with self._carrier.children.telling_progress():
                await self._carrier.closed.wait()

    async def wait(self) -> None:
        """Wait until the supervisor is closed, or no service is up or to come by itself."""
        carrier = self._carrier
        await trio.lowlevel.checkpoint()
        while not carrier.closed.is_set():
            rules = carrier.rules
            waits = any(
                (unit.is_up or unit.alive) and not rules.waits_in_vain(unit) for unit in rules.units
            )
            if not waits and not carrier.is_closing:
                return
            await carrier.changed.park()

    def events(self) -> Events:
        """The events of all services from now on; see :class:`~tractor.services._events.Events`."""
        return self._carrier.subscribe(lambda _event: True)


def _options_of(spec: ServiceSpec, work: Work) -> Callable[..., StartOptions]:
    """What checks the options of an actor, given its name and ``host``."""
    modules = list(dict.fromkeys([*spec.enable_modules, *work.modules]))
    actor = {key: value for key, value in spec.actor.items() if key != "host"}
    return partial(StartOptions.checked, enable_modules=modules, **actor)


@ki_protected_manager
async def open_supervisor(
    strategy: str = "one_for_one",
    *,
    max_restarts: int | None = 5,
    within: float = 60.0,
    backoff: Backoff | None = Backoff(),  # noqa: B008
    auto_shutdown: str = "never",
    **root_kwargs: Unpack[RootKwargs],
) -> AsyncIterator[Supervisor]:
    """A supervisor for the length of the block.  Boots a root actor if this process is not an actor yet.

    The end of the block stops the services, one by one in reverse order; :meth:`Supervisor.wait` waits for them.
    When the block has been left, by whatever route, every process started below it has exited.

    Rules and words are those of Erlang/OTP's `supervisor`; the guide tells where they differ.

    Args:
        strategy: what a restart takes along: ``'one_for_one'``: nothing; ``'rest_for_one'``: the services that were
            added later; ``'one_for_all'``: all.
        max_restarts: more than so many restarts within ``within`` seconds, and it gives up; ``None``: never.
        within: seconds.
        backoff: the delays of restarts; ``None``: none.
        auto_shutdown: ``'any_significant'``: it stops all services when a significant one has ended for good;
            ``'all_significant'``: when the last of them has.
        root_kwargs: for :func:`open_root_actor`; without effect under a running runtime.

    Yields:
        A :class:`Supervisor`.

    Raises:
        RestartLimitExceeded: it has given up; in a group with what else the body has raised.
        BaseException: the body's error; those with which permanent or transient services ended while they were
            stopped; a group of several.
        ValueError, TypeError: an argument that makes no sense.
        RuntimeError, NotImplementedError and others: as :func:`open_root_actor`.
    """
    rules = _rules(strategy, max_restarts, within, auto_shutdown)
    if backoff is not None and not isinstance(backoff, Backoff):
        raise TypeError(f"backoff={backoff!r}: it must be a `tractor.Backoff`, or None")
    _warn_of_a_limit_that_nothing_reaches(backoff, max_restarts, within)
    async with open_tree(**root_kwargs) as actor, open_children(actor) as children:
        carrier = Carrier(children, rules)
        children.tn.start_soon(carrier.run_timer, name="timer of a supervisor")
        body_exc: BaseException | None = None
        with open_to_users(carrier) as commands:
            try:
                with carrier.body_scope:
                    yield Supervisor(carrier, backoff, commands)
            except BaseException as exc:
                body_exc = exc
            actor.end_if_copy(body_exc)
            interrupt = await _close(carrier, body_exc)
        _raise_outcome(carrier.limit, body_exc, interrupt)


async def _close(carrier: Carrier, body_exc: BaseException | None) -> KeyboardInterrupt | None:
    """Stop all that is left, shielded, and tell the parent meanwhile that this goes on; a ctrl-c that came then."""
    children = carrier.children
    interrupt: KeyboardInterrupt | None = None
    is_second = body_exc is not None and any(
        isinstance(exc, KeyboardInterrupt) for exc in leaves(body_exc)
    )
    children.actor.hooks.note_leaving(True)
    try:
        with trio.CancelScope(shield=True):
            async with children.telling_progress():
                carrier.close(drains=body_exc is None and carrier.limit is None)
                while not carrier.closed.is_set():
                    try:
                        await carrier.closed.wait()
                    except KeyboardInterrupt as exc:
                        if is_second:
                            carrier.close(hard=True)
                        else:
                            interrupt, is_second = exc, True
    finally:
        children.actor.hooks.note_leaving(False)
    return interrupt


def _raise_outcome(*errors: BaseException | None) -> None:
    """What the services' own errors add, the nursery around does."""
    found = [exc for exc in errors if exc is not None]
    # A cancellation is told only where there is nothing else.
    told = [exc for exc in found if not is_multi_cancelled(exc)] or found[:1]
    if len(told) == 1:
        raise_as_it_was(told[0])
    if told:
        raise BaseExceptionGroup("a supervisor was ended by several errors", told)


def _rules(
    strategy: str, max_restarts: int | None, within: float, auto_shutdown: str
) -> Supervision:
    if max_restarts is not None:
        require_whole("max_restarts=", max_restarts, ", or None")
        require_number("max_restarts=", max_restarts)
    require_number("within=", within, above=True)
    return Supervision(
        word(Strategy, "strategy", strategy),
        max_restarts,
        within,
        word(AutoShutdown, "auto_shutdown", auto_shutdown),
    )


def _warn_of_a_limit_that_nothing_reaches(
    backoff: Backoff | None, max_restarts: int | None, within: float
) -> None:
    """Restarts that are far enough apart are never too many."""
    if backoff is None or max_restarts is None:
        return
    apart = math.fsum(backoff.delay(n, 0.0) for n in range(2, min(max_restarts, 1000) + 2))
    if apart >= within:
        log.warning(
            "the delays of %r alone keep a service below max_restarts=%s within=%s s: one that always fails is "
            "restarted for ever",
            backoff,
            max_restarts,
            within,
        )
