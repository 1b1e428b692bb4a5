"""The first process of a container: it reaps strangers, and hands signals on to the manager, which runs below it.

A process whose parent has ended becomes a child of process 1, whatever started it; there it stays a zombie unless it is
waited for.  The manager can't wait for any child: it would take the exit statuses that its own are waited for.  So the
manager runs in a child of process 1.
"""

from __future__ import annotations

import os
import signal
import sys

SI_KERNEL = 0x80
"""Where a signal is from: a terminal sends it to the manager, too."""

HANDED_ON = (
    "SIGTERM",
    "SIGINT",
    "SIGHUP",
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "SIGWINCH",
    "SIGCONT",
)


def take_signals() -> None:
    """Let the signals through that were held until somebody takes them."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def fork_below_init() -> int | None:
    """Split this process in two, before it has threads: this one reaps and hands signals on, the other goes on.

    Returns:
        ``None`` in the new process, which goes on; in this one the exit status with which that has ended.
    """
    if sys.platform != "linux":
        raise NotImplementedError("there are no containers here")
    numbers = {getattr(signal, name) for name in HANDED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*numbers, signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        info = signal.sigwaitinfo({*numbers, signal.SIGCHLD})
        if info.si_signo == signal.SIGCHLD:
            status = _reap_until(pid)
            if status is not None:
                return status
        elif info.si_code != SI_KERNEL:
            os.kill(pid, info.si_signo)


def _reap_until(pid: int) -> int | None:
    """Reap all that have ended; the exit status of ``pid``, if it is one of them."""
    if sys.platform == "win32":
        raise NotImplementedError
    found: int | None = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code
