"""What users have an actor do by its control socket, in its loop; each is logged with the pid that asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import trio

from tractor import log as _log
from tractor.address._types import mk_uuid
from tractor.control._protocol import Code, Refusal
from tractor.control._tap import Tap
from tractor.msg.types import Aid
from tractor.process._state import of_process
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor

log = _log.get_logger()

CANCELLER = "tractor-cli"
"""The name under which an actor is cancelled."""

MOST_FOLLOW = 2
"""Processes that follow the log of an actor at a time."""

LONGEST = 24 * 3600.0
"""Seconds for which a log level may be set."""


class Acting:
    """What acts on an actor.

    Args:
        actor: it.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        # What puts the levels back that were set for a time.
        self._put_back: dict[str, int] = {}
        self._until = trio.CancelScope()
        # Those who follow the records, by the pid that asks.
        self._taps: dict[int | None, Tap] = {}
        self.acts: dict[str, Callable[[Mapping[str, Any], int | None], Any]] = {
            "log": self._log,
            "cancel": self.cancel,
        }

    def cancel(
        self, _request: Mapping[str, Any], pid: int | None, host: str | None = None
    ) -> dict[str, bool]:
        """Begin to end the actor.

        Args:
            pid: of who asks.
            host: the id of the host on which that is a pid; ``None``: this one.
        """
        actor = self._actor
        already = actor.cancel_called
        log.warning("process %s asks for the cancellation of %s", pid, actor.aid.reprol())
        actor.start_cancel(Aid(CANCELLER, mk_uuid(), pid, host=host or host_id()))
        return {"already": already}

    def _log(self, request: Mapping[str, Any], pid: int | None) -> Any:
        """Show the levels, or set some, for a time or for good; or give records to one who follows them."""
        if "follow" in request:
            return self._follow(request["follow"], pid)
        spec, seconds = request.get("spec"), request.get("for")
        if spec is None:
            return {"levels": _levels()}
        if not isinstance(spec, str):
            raise Refusal(Code.BAD_REQUEST, f'"spec" is {spec!r}; it is a level or a log spec')
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 < seconds <= LONGEST):
            raise Refusal(
                Code.BAD_REQUEST,
                f'"for" is {seconds!r}; it is a number of seconds up to {LONGEST:g}',
            )
        try:
            level, parts = _log.parse_logspec(spec)
        except ValueError as exc:
            raise Refusal(Code.BAD_REQUEST, str(exc)) from None
        wanted = {f"{_log.PACKAGE}.{name}": part for name, part in parts.items()}
        if level is not None:
            wanted[_log.PACKAGE] = level
        log.warning("process %s sets log levels of %s: %s", pid, self._actor.aid.reprol(), spec)
        before = {name: logging.getLogger(name).level for name in wanted}
        for name, one in wanted.items():
            logging.getLogger(name).setLevel(_log.level_value(one))
        self._until.cancel()
        if seconds is None:
            self._put_back.clear()
        else:
            # Of two settings for a time the levels before the first are put back.
            self._put_back = {**before, **self._put_back}
            self._until = trio.CancelScope()
            self._actor.io_nursery.start_soon(
                self._put_back_after, self._until, float(seconds), name="log levels are put back"
            )
        return {"levels": _levels(), "before": {name: _name(n) for name, n in before.items()}}

    def _follow(self, level: Any, pid: int | None) -> Any:
        """The records since the last question of that process."""
        try:
            number = _log.level_value(_log.get_loglevel() if level is None else str(level))
        except ValueError as exc:
            raise Refusal(Code.BAD_REQUEST, str(exc)) from None
        tap = self._taps.get(pid)
        if tap is None:
            if len(self._taps) >= MOST_FOLLOW:
                raise Refusal(Code.BUSY, f"{MOST_FOLLOW} follow its records already")
            tap = self._taps[pid] = Tap(number)
            self._actor.io_nursery.start_soon(self._keep, pid, tap, name="log records are followed")
        return tap.take()

    async def _keep(self, pid: int | None, tap: Tap) -> None:
        try:
            await tap.keep()
        finally:
            del self._taps[pid]

    async def _put_back_after(self, until: trio.CancelScope, seconds: float) -> None:
        with until:
            await trio.sleep(seconds)
            for name, number in self._put_back.items():
                logging.getLogger(name).setLevel(number)
            self._put_back.clear()
            log.warning("log levels of %s are as before", self._actor.aid.reprol())


_acting: WeakKeyDictionary[Actor, Acting] = of_process(WeakKeyDictionary())


def acting_of(actor: Actor) -> Acting:
    """What acts on this process's actor: one, whichever way it is asked."""
    found = _acting.get(actor)
    # The control thread and the loop may come to it at once.
    return _acting.setdefault(actor, Acting(actor)) if found is None else found


def _levels() -> dict[str, str]:
    """The levels that were set, of the package's logger and its parts."""
    known = logging.Logger.manager.loggerDict
    names = [_log.PACKAGE, *(name for name in known if name.startswith(f"{_log.PACKAGE}."))]
    found = {name: logging.getLogger(name) for name in sorted(names)}
    levels = {name: _name(one.level) for name, one in found.items() if one.level}
    return {_log.PACKAGE: _name(found[_log.PACKAGE].getEffectiveLevel()), **levels}


def _name(number: int) -> str:
    return logging.getLevelName(number).lower()
