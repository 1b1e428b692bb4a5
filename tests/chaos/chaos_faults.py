"""Signals for the actors of a tree, and faults of its connections."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from chaos_outcomes import NotThereError
from chaos_plan import Fault
from fault_proxy import FaultProxy

__all__ = ["Killer", "break_link"]


class Killer:
    """Sends signals to the actors of a tree, and to no process that got the pid of one afterwards."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._pids: dict[str, int] = {}

    def learn(self, pids: dict[str, int]) -> None:
        """Note who lives where; they must be alive, or not reaped yet."""
        for path, pid in pids.items():
            self._pids[path] = pid
            if sys.platform == "linux":
                with contextlib.suppress(ProcessLookupError):
                    self._fds[path] = os.pidfd_open(pid)

    def send(self, path: str, number: signal.Signals) -> None:
        """Raises NotThereError when it has ended, or was never up."""
        try:
            if sys.platform == "linux":
                signal.pidfd_send_signal(self._fds[path], number)
            else:
                os.kill(self._pids[path], number)
        except (KeyError, ProcessLookupError):
            raise NotThereError(path) from None

    def close(self) -> None:
        """Forget all."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def break_link(proxy: FaultProxy, fault: Fault, child: str) -> None:
    """Do to a proxy's connections what a fault says; *child*: the end that is not the root."""
    towards = child if fault.towards == "child" else {"client": "server", "server": "client"}[child]
    if fault.kind == "delay":
        proxy.delay(fault.seconds)
    elif fault.kind == "half-close":
        proxy.half_close(towards)
    elif fault.kind == "truncate":
        proxy.truncate(towards, fault.size)
    else:
        proxy.reset()
