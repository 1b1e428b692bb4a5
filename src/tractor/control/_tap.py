"""Log records for somebody at another terminal, as long as that one asks; the actor's own handlers see what they saw.

Who asks may want records of a level below the one in force.  Then the package's logger makes them, and a filter keeps
them from the handlers that are there, until nobody asks any more.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

import trio

from tractor import log as _log

MOST = 1000
"""Records in a second."""

KEPT = 1000
"""Records that wait to be asked for."""

MAX_TEXT = 800
"""Characters of one."""

LEASE = 5.0
"""Seconds without a question after which nobody counts as asking."""


class Tap(logging.Handler):
    """Takes the package's records from a level on.

    Args:
        level: its number.

    Attributes:
        asked: when it was asked last, by trio's clock.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.asked = trio.current_time()
        self._logger = logging.getLogger(_log.PACKAGE)
        self._kept: deque[dict[str, Any]] = deque()
        self._dropped = 0
        # The second that runs, and how many came in it.
        self._second = 0
        self._count = 0
        self._before = self._logger.level
        self._in_force = self._logger.getEffectiveLevel()
        self._filtered: list[logging.Handler] = []
        if level < self._in_force:
            self._filtered = _handlers_of(self._logger)
            for handler in self._filtered:
                handler.addFilter(self._was_wanted)
            self._logger.setLevel(level)
        self._logger.addHandler(self)

    def remove(self) -> None:
        """As if it had not been there."""
        self._logger.removeHandler(self)
        for handler in self._filtered:
            handler.removeFilter(self._was_wanted)
        # Somebody may have set another one meanwhile.
        if self._filtered and self._logger.level == self.level:
            self._logger.setLevel(self._before)
        self.close()

    def _was_wanted(self, record: logging.LogRecord) -> bool:
        """Whether a record would have been made without this."""
        name = record.name
        while name != _log.PACKAGE:
            known = logging.Logger.manager.loggerDict.get(name)
            if isinstance(known, logging.Logger) and known.level:
                # A part that has a level of its own made it.
                return True
            name, dot, _ = name.rpartition(".")
            if not dot:
                # Of another package.
                return True
        return record.levelno >= self._in_force

    def emit(self, record: logging.LogRecord) -> None:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._count = now, 0
        self._count += 1
        if self._count > MOST or len(self._kept) >= KEPT:
            self._dropped += 1
            return
        try:
            text = record.getMessage()
        except Exception as exc:
            text = f"{record.msg!r} ({exc!r})"
        self._kept.append(
            {
                "time": record.created,
                "level": record.levelname.lower(),
                "name": record.name,
                "text": text[:MAX_TEXT],
            }
        )

    def take(self) -> dict[str, Any]:
        """What came since the last question."""
        self.asked = trio.current_time()
        self.acquire()
        try:
            told = {"records": list(self._kept), "dropped": self._dropped}
            self._kept.clear()
            self._dropped = 0
        finally:
            self.release()
        return told

    async def keep(self) -> None:
        """Return when nobody has asked for a while; then it is removed."""
        try:
            while (left := self.asked + LEASE - trio.current_time()) > 0:
                await trio.sleep(left)
        finally:
            self.remove()


def _handlers_of(logger: logging.Logger | None) -> list[logging.Handler]:
    """All that a record of the logger comes to."""
    found: list[logging.Handler] = []
    while logger is not None:
        found += logger.handlers
        logger = logger.parent if logger.propagate else None
    return found
