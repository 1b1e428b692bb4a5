"""A subactor's process on another host, with the face of every started one."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import trio

from tractor._errors import HostLost, HostUnavailable
from tractor.hosts._place import Place
from tractor.msg.types import Uid
from tractor.process._stat import ProcessId
from tractor.spawn._contract import OutputOfChildren
from tractor.spawn._stderr import TAIL_SIZE


class Agent(Protocol):
    """The link to what is the process's parent over there.

    Attributes:
        place: where it leads.
        processes: those that it has started, by number.
        parent_addr: where an actor there reaches the actor of this process.
        own_host: the address there of the interface towards this host.
        over_tunnel: at which addresses there a tunnel leads to which of this side.
    """

    place: Place
    processes: dict[int, RemoteProcess]
    parent_addr: tuple[str, int]
    own_host: str
    over_tunnel: dict[tuple[str, int], tuple[str, int]]

    def unavailable(self, why: str) -> HostUnavailable:
        """An error that says why nothing can be started there."""

    @property
    def host_id(self) -> str:
        """The id of that host."""

    @property
    def silent(self) -> float | None:
        """Seconds since the last sign of life of it, where it is out of reach."""

    def send(self, frame: dict[str, Any], raw: bytes | None = None) -> None:
        """Tell it something."""

    def note_use(self) -> None:
        """One of its processes is forgotten."""

    async def look(
        self, process: RemoteProcess, request: dict[str, Any], limit: float
    ) -> dict[str, Any]:
        """Have the control socket of one of its processes asked.  Raises HostUnavailable."""


class Lost(NamedTuple):
    """Why nothing is known of the end of what ran on a host."""

    why: str
    silent: float
    """Seconds since the last sign of life, when it was given up."""


class RemoteProcess:
    """A subactor's process on another host; see :class:`~tractor.spawn._contract.ChildProcess`.

    Attributes:
        host: where it runs.
        uid: the subactor's.
        number: what its agent calls it.
        id: the process's, once it runs.
        lost: set where it must have ended, and how is not known.
        output: takes what it prints; ``None``: nobody in particular.
    """

    def __init__(
        self,
        host: Agent,
        number: int,
        uid: Uid,
        cmdline: str,
        output: OutputOfChildren | None = None,
    ) -> None:
        self.host = host
        self.output = output
        self.uid = uid
        self.id = ProcessId(host.host_id, 0, None)
        self.number = number
        self._cmdline = f"{host.place.name}: {cmdline}"
        self._tail = bytearray()
        self._status: int | None = None
        self._ended = trio.Event()
        self.lost: HostLost | None = None
        self.started: trio.Event = trio.Event()
        self.error: OSError | None = None
        self._partial = bytearray()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} at {self.host.place.name} returncode={self.returncode}>"

    @property
    def pid(self) -> int:
        """Its process id there."""
        return self.id.pid

    @property
    def returncode(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``); ``None``: it runs, or its end is not known."""
        return self._status

    @property
    def cmdline(self) -> str:
        """Where it runs, and the command line there, quoted for a shell."""
        return self._cmdline

    async def wait(self) -> int | None:
        """Wait until it has ended, or must have; its exit status, ``None``: not known."""
        await self._ended.wait()
        return self._status

    def terminate(self) -> None:
        """Have it get a SIGTERM; does nothing when it is gone, or can't be reached."""
        self._order("term")

    def kill(self) -> None:
        """Have it get a SIGKILL; does nothing when it is gone, or can't be reached."""
        self._order("kill")

    def release_lifeline(self) -> None:
        """Let it see its parent gone.  Idempotent."""
        self._order("release")

    def stderr_tail(self) -> str:
        """Up to the last 16 KiB that it wrote to stderr or stdout."""
        return self._tail.decode(errors="replace")

    async def drain_stderr(self) -> None:
        """Its end is told after all that it has written."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Forget it.  Idempotent."""
        self.host.processes.pop(self.number, None)
        self.host.note_use()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _order(self, what: str) -> None:
        if not self._ended.is_set():
            self.host.send({"t": what, "id": self.number})

    # -- told by the agent ----------------------------------------------------------------------------

    def on_up(self, pid: int, start_time: float | None) -> None:
        """It runs."""
        self.id = ProcessId(self.host.host_id, pid, start_time)
        self.started.set()

    def on_failed(self, error: str, errno: int | None) -> None:
        """It could not be started."""
        text = f"{error} (on host {self.host.place.name!r})"
        self.error = OSError(errno, text) if errno else OSError(text)
        self.started.set()
        self._ended.set()

    def on_output(self, data: bytes) -> list[str]:
        """It has written something; the whole lines so far."""
        self._tail += data
        del self._tail[:-TAIL_SIZE]
        *lines, rest = bytes(self._partial + data).split(b"\n")
        self._partial = bytearray(rest)
        return [line.decode(errors="replace") for line in lines]

    def on_exit(self, status: int | None, lost: Lost | None = None) -> None:
        """It has ended, or must have."""
        if self._ended.is_set():
            return
        self._status = status
        if lost is not None:
            self.lost = HostLost(
                self.uid,
                host=self.host.place.name,
                silent=lost.silent,
                why=lost.why,
                stderr_tail=self.stderr_tail(),
            )
        if not self.started.is_set():
            self.error = self.error or ConnectionError(
                f"the link to {self.host.place.name!r} was lost"
            )
        self.started.set()
        self._ended.set()
