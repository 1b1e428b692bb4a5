"""Watching a process that was forked off, by its pid."""

from __future__ import annotations

import os
import signal
import sys

from tractor.spawn._own_child import OwnChild

UNKNOWN_STATUS = 255
"""Stands for an exit status that somebody else has taken."""


class ForkedProc(OwnChild):
    """A child of this process, known by its pid alone.

    Args:
        pid: A direct child that nobody has reaped.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._status: int | None = None

    @property
    def stdin(self) -> None:
        """``None``: it has this process's own; no pipe leads to it."""
        return None

    @property
    def stdout(self) -> None:
        """``None``, as :attr:`stdin`."""
        return None

    @property
    def stderr(self) -> None:
        """``None``, as :attr:`stdin`."""
        return None

    @property
    def returncode(self) -> int | None:
        """The exit status as far as it is known: ``-N`` when signal ``N`` ended it, 255 when other code reaped it;
        ``None`` before :meth:`poll` or :meth:`wait` has seen the end."""
        return self._status

    def __repr__(self) -> str:
        return f"<ForkedProc pid={self.pid} returncode={self._status}>"

    def poll(self) -> int | None:
        """Reap the process if it has ended; its exit status, ``None`` while it runs.  Never blocks."""
        if sys.platform == "win32":
            raise NotImplementedError
        if self._status is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                self._status = UNKNOWN_STATUS
            else:
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""
        # Until it is reaped, which is done here alone, its number is not another process's.
        if self.poll() is None:
            os.kill(self._pid, number)

    def terminate(self) -> None:
        """Send SIGTERM; does nothing when the process is gone."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; does nothing when the process is gone."""
        self.send_signal(signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]


def wait_child(pid: int, *, expect_exit_ok: bool = True) -> tuple[bool, str]:
    """Wait for a child's end and reap it.  Blocks the calling thread.

    Args:
        pid: A direct child of this process.
        expect_exit_ok: Whether it is to end with status 0; else with anything but that.

    Returns:
        Whether it ended as expected, and how it ended, in words.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return False, f"process {pid} is not a child of this process, or was reaped already"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        text = f"process {pid} was ended by signal {-code} ({_signal_name(-code)})"
    else:
        text = f"process {pid} exited with status {code}"
    return (code == 0) is expect_exit_ok, text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "without a name"
