"""Ctrl-c in a process whose main thread runs an asyncio loop with trio as its guest.

`asyncio.Runner` and trio each have a handler of their own, and take each other's place. This one is in charge of both.

=======  ==========================================================================================
SIGINT   what follows
=======  ==========================================================================================
first    the actor is cancelled; `KeyboardInterrupt` is raised when trio has finished
second   `KeyboardInterrupt` in trio's main task; if trio has not finished a little later: as third
third    every shield in trio is broken; if trio has still not finished 1 s later it is abandoned
fourth   `KeyboardInterrupt`, here and now
=======  ==========================================================================================

One that comes while the loop has not even taken up the last one finds a loop that is blocked, and is raised there.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

import trio

from tractor import log as _log
from tractor.runtime._state import current_actor
from tractor.to_asyncio._unshield import break_shields

log = _log.get_logger()

BUSY_TIMEOUT = 1.0
"""Seconds from the second SIGINT to the breaking of shields ..."""
LADDER_TIMEOUT = 4.0
"""... in an actor with subactors, whose ends a nursery waits for, shielded."""
ABANDON_TIMEOUT = 1.0
"""Seconds from the breaking of shields to the end of all patience."""


class Interrupted(Protocol):
    """What an interrupt has to do with: a loop with trio as its guest.

    Attributes:
        loop: the asyncio loop.
        scope: around all that runs in trio.
        finished: trio has.
    """

    loop: asyncio.AbstractEventLoop
    scope: trio.CancelScope
    finished: bool

    def cancel(self) -> None:
        """Cancel the actor."""

    def abandon(self, exc: BaseException, /) -> None:
        """Wait for trio no longer: the run ends with ``exc``."""

    def in_trio(self, fn: Callable[[], object], /) -> None:
        """Call ``fn`` in trio's context."""


class CtrlC:
    """The handler of SIGINT while a host runs; only in the main thread, and where the program has none of its own.

    Attributes:
        count: how many there were.
        installed: whether this is the handler.
        forced: whether shields were broken.
    """

    def __init__(self, host: Interrupted) -> None:
        self.count = 0
        self._host = host
        self._taken_up = 0
        self.installed = False
        self.forced = False
        self._trios_handler: Callable[[int, FrameType | None], object] | None = None

    def __enter__(self) -> None:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            # Not in a sub-interpreter.
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, self._on_sigint)
                self.installed = True

    def __exit__(self, _kind: object, exc: BaseException | None, _tb: object) -> None:
        if self.installed and signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def as_trio_finds_it(self) -> Iterator[None]:
        """Have trio install its handler, and keep that for later."""
        if not self.installed:
            yield
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
            handler: Any = signal.getsignal(signal.SIGINT)
            if handler is not signal.default_int_handler:
                self._trios_handler = handler
        finally:
            signal.signal(signal.SIGINT, self._on_sigint)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        blocked = self.count > self._taken_up
        self.count += 1
        if blocked or self.count > 3:
            self._taken_up = self.count
            self._raise_here(number, frame)
            return
        try:
            self._host.loop.call_soon_threadsafe(self.take_up)
        except RuntimeError:
            # The loop is closed.
            raise KeyboardInterrupt from None

    def _raise_here(self, number: int, frame: FrameType | None) -> None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            raise KeyboardInterrupt from None
        if self._trios_handler is not None:
            # Raises here, or at the main task's next checkpoint where trio itself is interrupted.
            self._trios_handler(number, frame)

    @property
    def is_to_be_raised(self) -> bool:
        """Whether `KeyboardInterrupt` is what the run ends with, if nothing else is."""
        return self.forced or (self.installed and self.count > 0)

    def note(self) -> None:
        """Somebody else has received a SIGINT, for the second time at least; in trio."""
        self.count = max(2, self.count + 1)
        self.take_up()

    def take_up(self) -> None:
        """Do what is due; in the loop."""
        self._taken_up = self.count
        host = self._host
        if host.finished:
            return
        if self.count == 1:
            host.cancel()
        elif self.count == 2:
            if self._trios_handler is not None:
                # Without a frame: at the main task's next checkpoint, shielded or not.
                self._trios_handler(signal.SIGINT, None)
            actor = current_actor(err_on_no_runtime=False)
            has_children = actor is not None and bool(actor.children)
            host.loop.call_later(LADDER_TIMEOUT if has_children else BUSY_TIMEOUT, self._force)
        else:
            self._force()

    def _force(self) -> None:
        host = self._host
        if not host.finished:
            self.forced = True
            log.error("trio has not ended after a second ctrl-c; its shields are broken")
            host.in_trio(lambda: break_shields(host.scope))
            host.loop.call_later(ABANDON_TIMEOUT, self._abandon)

    def _abandon(self) -> None:
        if not self._host.finished:
            self._host.abandon(KeyboardInterrupt())
