"""The shield against ctrl-c, up while somebody whom this actor knows of holds or awaits the REPL."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from tractor.runtime._state import process_actor


@runtime_checkable
class TakesCtrlC(Protocol):
    """What decides on a ctrl-c in this actor."""

    def on_ctrl_c(self) -> None:
        """A ctrl-c came while the shield was up; called by the signal handler, in the main thread."""


class SigintShield:
    """Takes SIGINT's handler, and puts the one before back; only the main thread can do either."""

    def __init__(self) -> None:
        self._before: Any = None
        self.up = False

    def install(self) -> None:
        """Raise the shield.  Idempotent; without effect in other threads than the main one."""
        if self.up or threading.current_thread() is not threading.main_thread():
            return
        try:
            self._before = signal.signal(signal.SIGINT, sigint_shield)
        except ValueError:
            # A sub-interpreter.
            return
        self.up = True

    def remove(self) -> None:
        """Put the former handler back, unless somebody else has set one meanwhile.  Idempotent."""
        if not self.up or threading.current_thread() is not threading.main_thread():
            return
        self.up = False
        if signal.getsignal(signal.SIGINT) is sigint_shield:
            # A handler that was not set from Python can't be named.
            before = signal.SIG_DFL if self._before is None else self._before
            signal.signal(signal.SIGINT, before)
        self._before = None


def sigint_shield(signum: int, frame: FrameType | None, *_args: Any) -> None:
    """The handler of SIGINT while a REPL is held or asked for.

    Raises:
        KeyboardInterrupt: there is no runtime, or one that is being cancelled already, and no REPL.
    """
    actor = process_actor()
    hooks = None if actor is None else actor.hooks
    if not isinstance(hooks, TakesCtrlC):
        raise KeyboardInterrupt
    hooks.on_ctrl_c()
