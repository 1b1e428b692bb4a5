"""Having the REPL, until it is given back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import trio

from tractor import log as _log
from tractor.devx.debug.lock._request import LocalAsk, UpRequest
from tractor.devx.debug.lock._status import Holder

log = _log.get_logger()


class Lessor(Protocol):
    """Who takes the REPL back: the debugger of the actor.

    Attributes:
        token: of the actor's trio run.
        in_handler: a signal handler runs, maybe in the middle of a change to what the debugger keeps.
    """

    token: trio.lowlevel.TrioToken
    in_handler: bool

    def in_own_thread(self) -> bool:
        """Whether the calling thread is that of the actor's trio run."""

    def let_go(self, holder: Holder, ask: LocalAsk, /) -> None:
        """The holder is done; in the trio thread."""


class Lease:
    """The REPL, held for a task or thread until :meth:`release`.

    Attributes:
        holder: who has it.
        repl: what was opened with it; set by whoever opens one, for ctrl-c.
        at_end: closed by the release, before anybody else gets the terminal.
        say: prints what precedes the prompt; ``None``: the log does.
    """

    say: Callable[[str], None] | None = None

    def __init__(self, debugger: Lessor, holder: Holder, ask: LocalAsk) -> None:
        self.holder = holder
        self.repl: Any = None
        self.at_end = contextlib.ExitStack()
        self._debugger = debugger
        self._ask = ask
        self._unreleased = [None]

    @property
    def released(self) -> bool:
        """Whether it was given back."""
        return not self._unreleased

    @property
    def dialog(self) -> UpRequest | None:
        """The dialog with the parent that the REPL was had by; ``None`` in the root."""
        return self._ask.up

    @property
    def key(self) -> bytes:
        """By what the parent knows who has the REPL; empty: the terminal is this process's own."""
        return self._ask.key

    def release(self) -> None:
        """Give the REPL back.  Idempotent; from any thread and from signal handlers, never waits."""
        try:
            # A signal handler may come in the middle of this: only one of the two gets it, and no lock is held.
            self._unreleased.pop()
        except IndexError:
            return
        try:
            self.at_end.close()
        except Exception:
            log.exception("leaving the `repl_fixture` failed")
        finally:
            self._let_go()

    def _let_go(self) -> None:
        debugger = self._debugger
        if debugger.in_own_thread() and not debugger.in_handler:
            debugger.let_go(self.holder, self._ask)
            return
        with contextlib.suppress(trio.RunFinishedError):
            debugger.token.run_sync_soon(debugger.let_go, self.holder, self._ask)


class NoLease:
    """Stands for a lease where the REPL opens without the tree's terminal."""

    say: Callable[[str], None] | None = None

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.repl: Any = None
        self.at_end = contextlib.ExitStack()

    def release(self) -> None:
        """Leave the `repl_fixture`.  Idempotent."""
        self.at_end.close()
