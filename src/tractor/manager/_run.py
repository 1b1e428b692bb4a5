"""`tractor run`: a foreground process manager.

**Who drives.**  Signals and commands are acted on at once, in the loop: what takes time becomes a task.  Reloads are
done by one task, one at a time; what it then restarts it does not wait for, so that the next file can mend what the
last one broke.  Another task follows the events of the supervisor, for systemd and for the exit status.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RestartLimitExceeded, RuntimeFailure
from tractor._proto.services.service_life import DOWN, member_names
from tractor.control._protocol import Code, Refusal
from tractor.manager._init import take_signals
from tractor.manager._notify import Notifier, Systemd
from tractor.manager._output import Outputs
from tractor.manager._starting import FileServices, settings_of
from tractor.runtime._state import current_actor
from tractor.services._events import Events, ServiceEvent
from tractor.services._supervisor import Supervisor, open_supervisor
from tractor.services.file._problems import ServiceFileError
from tractor.services.file._service_file import Changes, ServiceFile, load_services
from tractor.trionics._broadcast import Lagged
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

ENDED, FAILED = 0, 1
"""Exit statuses: all have ended, or were told to; one has failed, there were too many restarts, or no way to begin."""

EXTEND = 15.0
"""Seconds for which systemd is asked to wait at a time while services are stopped."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at services of which none is to come, but some may be started by hand."""

SIGHUP: int | None = getattr(signal, "SIGHUP", None)


@ki_protected
class Manager:
    """The services of a file, as long as they run.

    Args:
        sup: their supervisor.
        services: what starts and reloads them.
        notifier: tells systemd.
        outputs: what they print.
    """

    def __init__(
        self, sup: Supervisor, services: FileServices, notifier: Notifier, outputs: Outputs
    ) -> None:
        self._sup = sup
        self._services = services
        self._notifier = notifier
        self._outputs = outputs
        # The signals that asked it to go, in their order.
        self.stopped_by: list[int] = []
        # Actors of services that are `failed`; temporary ones have left the supervisor by then.
        self.failed: set[str] = set()
        # Actors of services that were ready once.
        self._were_ready: set[str] = set()
        # Actors that have a pipe.
        self._printing: set[str] = set()
        # All were ready, or down, and systemd knows.
        self._is_ready = False
        # The file of a reload that waits for its turn.
        self._next: ServiceFile | None = None
        self._reload_due = trio.Event()
        # A reload was asked for before there was a file.
        self._reload_again = False
        # A reload is not over: something is still changed, or restarted.
        self._reloading = False

    async def run(
        self, file: ServiceFile, signals: AsyncIterator[int], watchdog: float | None
    ) -> None:
        """Start the services, and return when all have ended.

        Args:
            file: theirs.
            signals: those that came, and come.
            watchdog: seconds in which systemd wants a sign of life; ``None``: it wants none.

        Raises:
            OSError, RuntimeFailure, ValueError: as :meth:`FileServices.prepare`.
        """
        with self._sup.events() as events:
            async with trio.open_nursery() as tn:
                tn.start_soon(self._follow_signals, signals, tn, name="signals")
                if watchdog is not None:
                    tn.start_soon(self._feed_watchdog, watchdog / 2, name="watchdog")
                await self._services.change(file)
                tn.start_soon(self._follow_events, events, name="events of services")
                tn.start_soon(self._do_reloads, tn, name="reloads")
                self._sup.take_commands(lambda: self._ask_reload()._asdict(), self._about)
                if self._reload_again:
                    self._reload_by_signal()
                await self._wait_for_all()
                while (event := events.take()) is not None:
                    self._note(event)
                if not self.stopped_by:
                    self._notifier.stopping(self._status("all have ended: "), EXTEND)
                tn.cancel_scope.cancel()

    @property
    def _is_closing(self) -> bool:
        return self._sup.statistics().phase in ("closing", "closed")

    async def _wait_for_all(self) -> None:
        """Wait until all have ended; one that somebody has stopped waits for its `tractor start`."""
        with self._sup.events() as events:
            while True:
                await self._sup.wait()
                stopped = any(one.state == "stopped" for one in self._sup.services.values())
                if self._is_closing or not stopped:
                    return
                with trio.move_on_after(LOOK_INTERVAL), suppress(Lagged, StopAsyncIteration):
                    await anext(events)

    # -- signals --------------------------------------------------------------------------------------

    async def _follow_signals(self, signals: AsyncIterator[int], tn: trio.Nursery) -> None:
        async for number in signals:
            if number == SIGHUP:
                self._reload_by_signal()
                continue
            self.stopped_by.append(number)
            again = len(self.stopped_by) > 1
            name = signal.Signals(number).name
            log.info("%s: the services are %s", name, "killed" if again else "stopped in order")
            tn.start_soon(self._sup.cancel, again, name="end of all services")
            if not again:
                tn.start_soon(self._hold_systemd_off, name="notes to systemd")

    async def _hold_systemd_off(self) -> None:
        while True:
            self._notifier.stopping(self._status("stopping: "), EXTEND)
            await trio.sleep(EXTEND / 3)

    # -- reload ---------------------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        if self._services.file is None:
            # It was read a moment ago; what is written since then counts once the services are there.
            self._reload_again = True
            return
        # What is wrong is in the log.
        with suppress(Refusal):
            self._ask_reload()

    def _ask_reload(self) -> Changes:
        """Read the file anew, and have done what it changes; one that still waits for its turn is replaced.

        Raises:
            Refusal: the file is wrong, or all is being stopped; nothing was changed.
        """
        current = self._services.file
        if self._is_closing or current is None:
            raise Refusal(Code.REFUSED, "the services are being stopped; nothing is reloaded")
        self._notifier.reloading(self._status("reloading: "))
        try:
            file = load_services(current.path)
            changes = self._services.prepare(file)
        except (ServiceFileError, OSError, ValueError, RuntimeFailure) as exc:
            text = "\n".join([str(exc), *getattr(exc, "__notes__", ())])
            log.error("nothing was reloaded:\n%s", text)
            self._tell_reloaded()
            raise Refusal(Code.FAILED, text) from None
        self._next = file
        self._reload_due.set()
        return changes

    async def _do_reloads(self, tn: trio.Nursery) -> None:
        while True:
            await self._reload_due.wait()
            self._reload_due = trio.Event()
            file, self._next = self._next, None
            assert file is not None
            self._reloading = True
            try:
                changes = await self._services.change(file)
            except (OSError, ValueError, RuntimeFailure) as exc:
                log.error("the reload has failed: %s", exc)
                self._end_reload()
                continue
            log.info("reloaded: %s", _words(changes))
            current_actor().loglevel = file.supervisor.loglevel
            self._forget_output()
            tn.start_soon(self._settle, file, name="restarts of a reload")

    async def _settle(self, file: ServiceFile) -> None:
        await self._services.settle()
        if self._services.file is file and not self._reload_due.is_set():
            self._end_reload()

    def _end_reload(self) -> None:
        self._reloading = False
        self._tell_reloaded()

    def _tell_reloaded(self) -> None:
        if self._reloading or self.stopped_by:
            return
        if self._is_ready:
            self._notifier.ready(self._status())
        else:
            self._look()

    def _forget_output(self) -> None:
        """Services that are gone print no more, and count for nothing."""
        file = self._services.file
        tables = {} if file is None else file.services
        self.failed &= {one for n, t in tables.items() for one in member_names(n, t.replicas)}
        known = {r.name for service in self._sup.services.values() for r in service.replicas}
        for name in self._printing - known:
            self._outputs.forget(name)
        self._printing &= known

    # -- what becomes of them -------------------------------------------------------------------------

    async def _follow_events(self, events: Events) -> None:
        self._look()
        while True:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                return
            except Lagged:
                continue
            self._note(event)
            self._look()

    def _note(self, event: ServiceEvent) -> None:
        if event.kind == "failed" or (
            event.kind == "crashed" and event.service in self._temporary()
        ):
            self.failed.add(event.service)
        elif event.kind == "ready":
            self._were_ready.add(event.service)
        elif event.kind == "starting":
            self.failed.discard(event.service)
            self._printing.add(event.service)

    def _temporary(self) -> set[str]:
        """Actors of services that come only once: how they end is how they stay."""
        file = self._services.file
        tables = {} if file is None else file.services
        return {
            one
            for name, table in tables.items()
            if table.restart == "temporary"
            for one in member_names(name, table.replicas)
        }

    def _look(self) -> None:
        if self.stopped_by or self._reloading:
            return
        if self._is_ready:
            self._notifier.status(self._status())
            return
        replicas = [r for service in self._sup.services.values() for r in service.replicas]
        self._were_ready.update(r.name for r in replicas if r.state == "ready")
        if all(r.state in DOWN or r.name in self._were_ready for r in replicas):
            self._is_ready = True
            self._notifier.ready(self._status())
        else:
            self._notifier.status(self._status("starting: "))

    def _status(self, before: str = "") -> str:
        """One line for people, without values of theirs."""
        services = self._sup.services
        others = [f"{name}: {s.state}" for name, s in services.items() if s.state != "ready"]
        text = f"{before}{len(services) - len(others)} of {len(services)} services are ready"
        return "; ".join([text, *others])[:500]

    async def _feed_watchdog(self, interval: float) -> None:
        """A sign of life, by the loop itself: one that stands still gives none."""
        while True:
            self._notifier.alive()
            await trio.sleep(interval)

    # -- what commands ask for ------------------------------------------------------------------------

    def _about(self) -> dict[str, Any]:
        file = self._services.file
        return {
            "file": str(file.path) if file is not None else None,
            "reloading": self._reloading or self._reload_due.is_set(),
        }


def _words(changes: Changes) -> str:
    parts = [f"{what}: {', '.join(names)}" for what, names in changes._asdict().items() if names]
    return "; ".join(parts) or "nothing has changed"


def run_file(file: ServiceFile, systemd: Systemd, *, as_json: bool = False) -> int:
    """Run the services of a file in this process, until they have ended.

    Args:
        file: theirs.
        systemd: what that has told this process.
        as_json: what they print is put into JSON, an object a line.

    Returns:
        The exit status: 0: they were told to stop, or have all ended by themselves; 1: of those one is `failed`, or
        there were too many restarts, or they could not be started; 128 and the signal's number: a second signal came.
    """
    notifier = Notifier(systemd.notify_socket)
    try:
        return trio.run(_run, file, systemd, notifier, as_json, strict_exception_groups=True)
    finally:
        notifier.close()


@contextmanager
def _late_ones_ignored(numbers: Sequence[int]) -> Iterator[None]:
    """A signal that comes when all is over does not end the program, whose exit status is known by then."""
    for number in numbers:
        # Until somebody takes them, and after that; ignored ones that are held would be lost.
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        # Python puts handlers of its own back to the default at its end, but leaves this.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


async def _run(file: ServiceFile, systemd: Systemd, notifier: Notifier, as_json: bool) -> int:
    numbers = [signal.SIGTERM, signal.SIGINT]
    # One that is ignored, as under nohup, stays so.
    if SIGHUP is not None and signal.getsignal(SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.Signals(SIGHUP))
    managers: list[Manager] = []
    status = ENDED
    with _late_ones_ignored(numbers), trio.open_signal_receiver(*numbers) as signals:
        take_signals()
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, as_json=as_json)
            try:
                await _supervise(file, systemd, notifier, outputs, signals, managers)
            except (Exception, BaseExceptionGroup) as exc:
                status = _status_of(exc, managers)
            await outputs.aclose()
    stopped_by = managers[0].stopped_by if managers else []
    if len(stopped_by) > 1:
        return 128 + stopped_by[1]
    if managers and managers[0].failed and not stopped_by:
        return FAILED
    return status


async def _supervise(
    file: ServiceFile,
    systemd: Systemd,
    notifier: Notifier,
    outputs: Outputs,
    signals: AsyncIterator[int],
    managers: list[Manager],
) -> None:
    table = file.supervisor
    strategy, max_restarts, within, backoff, auto_shutdown = settings_of(table)
    root: dict[str, Any] = {"name": table.name, "loglevel": table.loglevel, "start_method": "trio"}
    if table.registry is not None:
        root["registry_addrs"] = table.registry
    if table.transports is not None:
        root["enable_transports"] = table.transports
    if table.hosts is not None:
        # For what the services start themselves; the places of their own are in the file.
        root["hosts"] = table.hosts
    async with open_supervisor(
        strategy,
        max_restarts=max_restarts,
        within=within,
        backoff=backoff,
        auto_shutdown=auto_shutdown,
        **root,
    ) as sup:
        services = FileServices(sup, outputs, systemd.listening)
        current_actor().lifetime_stack.callback(services.close)
        manager = Manager(sup, services, notifier, outputs)
        managers.append(manager)
        await manager.run(file, signals, systemd.watchdog)


def _status_of(exc: BaseException, managers: list[Manager]) -> int:
    """The exit status for what the supervisor has raised, which is told here."""
    if managers and managers[0].stopped_by:
        # Services that were told to go, and have failed at that: each was logged, and all were stopped all the same.
        return ENDED
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            _status_of(one, managers)
    elif isinstance(exc, RestartLimitExceeded):
        log.error("given up: %s", exc)
    else:
        notes = "".join(f"\n  {note}" for note in getattr(exc, "__notes__", ()))
        text = f"{type(exc).__name__}: {exc}{notes}"
        print(f"tractor run: {text}", file=sys.stderr)
    return FAILED
