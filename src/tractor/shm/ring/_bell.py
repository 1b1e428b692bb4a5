"""What one end of a ring waits for, as one descriptor: its eventfd, and the life of the peer."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import Any

import trio

from tractor.process.host._host_id import pid_space
from tractor.shm.ring._memory import PeerRecord, start_in_ms

if sys.platform == "linux":

    def _epoll_of(eventfd: int) -> select.epoll:
        """An epoll that an eventfd makes readable."""
        epoll = select.epoll()
        try:
            epoll.register(eventfd, select.EPOLLIN)
        except BaseException:
            epoll.close()
            raise
        return epoll

else:

    def _epoll_of(eventfd: int) -> Any:
        raise NotImplementedError


class Bell:
    """An epoll of the eventfd that the peer rings and of what tells of the peer's death.

    An epoll is a descriptor that can itself be waited for.  So one wait, by one task, ends with whichever comes first,
    and nothing is ever polled.

    Args:
        eventfd: readable while there is something to look at.
    """

    __slots__ = ("_epoll", "_life", "_looked", "_pidfd", "peer_gone")

    def __init__(self, eventfd: int) -> None:
        self._epoll = _epoll_of(eventfd)
        self._pidfd = -1
        self._life = -1
        # Nothing can have been reported before the first wait.
        self._looked = True
        self.peer_gone = False

    @property
    def watches(self) -> bool:
        """Whether it would tell of the peer's death."""
        return self._life >= 0

    def watch_socket(self, fd: int) -> None:
        """Watch a connected socket, which stays its owner's: the peer's end of it closes with the peer."""
        if sys.platform != "linux":
            raise NotImplementedError
        self._epoll.register(fd, select.EPOLLRDHUP)
        self._life = fd

    def watch_process(self, peer: PeerRecord) -> None:
        """Watch a process; without effect where it is this one, or can't be named from here."""
        if sys.platform != "linux":
            raise NotImplementedError
        if self._life >= 0 or peer.pid == os.getpid() or peer.space not in (0, pid_space()):
            return
        try:
            pidfd = os.pidfd_open(peer.pid)
        except ProcessLookupError:
            self.peer_gone = True
            return
        except OSError:
            # A kernel without pidfds, or out of descriptors: an orderly end is still told.
            return
        try:
            # The pidfd holds on to the process that it was opened on, so this look can't be overtaken.
            if peer.start and start_in_ms(peer.pid) != peer.start:
                self.peer_gone = True
                os.close(pidfd)
                return
            self._epoll.register(pidfd, select.EPOLLIN)
        except BaseException:
            os.close(pidfd)
            raise
        self._pidfd = self._life = pidfd

    def look(self, anew: bool = False) -> bool:
        """Whether the peer is dead, as far as the last wait has shown.

        Args:
            anew: ask the kernel in any case.
        """
        if not self.peer_gone and (anew or not self._looked) and self._life >= 0:
            self._looked = True
            self.peer_gone = any(fd == self._life for fd, _ in self._epoll.poll(0))
        return self.peer_gone

    async def wait(self) -> None:
        """Wait for the eventfd or the peer's death.

        Raises:
            trio.ClosedResourceError: it was closed on this side.
            trio.BusyResourceError: another task waits.
        """
        if self._epoll.closed:
            raise trio.ClosedResourceError("this end of the ring was closed on this side")
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        self._looked = False

    def close(self) -> None:
        """Stop; a task that waits gets trio.ClosedResourceError.  Idempotent."""
        if self._epoll.closed:
            return
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(self._epoll.fileno())
        self._epoll.close()
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._pidfd)
