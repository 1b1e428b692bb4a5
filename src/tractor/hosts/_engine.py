"""The contract between the runtime and what starts processes on another host, and the engines by key.

Nothing here schedules: an engine is something that the user runs already.  It is used in the link process alone
(:mod:`tractor.hosts._link_main`), so that what it imports burdens no actor.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, cast

import msgspec

from tractor._util._entry_points import EntryPointTable, faults_of, part_or_made
from tractor.hosts._place import Place

ENTRY_POINT_GROUP = "tractor.host_engines"
"""Where other packages name theirs: ``key = "module:engine"``, an object or a class that makes one."""

Port = int

Target = tuple[str, int]
"""A host and a port of TCP, as this host reaches them."""


class HostEngine(Protocol):
    """One way of starting a program on another host: a :class:`StdioEngine` or a :class:`CallbackEngine`."""

    @property
    def key(self) -> str:
        """What its URLs begin with."""

    @property
    def can_tunnel(self) -> bool:
        """Whether connections back to this host can go over its link."""

    def check(self, place: Place) -> None:
        """Return where the place's target and options can be used.  Called in the actor, too: it imports nothing slow.

        Raises:
            ValueError: they can't; says why.
        """

    def address_here(self, place: Place) -> str:
        """The address of this host that the other one can reach, for a direct road.

        Raises:
            OSError, ValueError: it can't be found out; says what to do.
        """


class StdioEngine(HostEngine, Protocol):
    """One whose command, run on this host, has the link as its stdin and stdout.

    A start that waits in a queue is withdrawn by the end of the command: it is asked by SIGTERM first.  Its own
    keepalive, if it has one, must not be shorter than the place's ``deadline``.
    """

    def command(self, place: Place, program: Sequence[str], back: Sequence[Target]) -> list[str]:
        """The command, run on this host, that runs a program on the other one.

        Its stdin and stdout are the program's; it ends with the program, and the program sees the end of its stdin
        when the command is killed.

        Args:
            place: where.
            program: the program and its arguments there.
            back: what the program is to reach from there, each at a port of loopback there; none without a tunnel.
        """

    def port_there(self, line: str) -> tuple[Target, Port] | None:
        """What a line of the command's stderr tells: what is reached from there, at which port of loopback there."""


class Offer(msgspec.Struct, frozen=True):
    """What a :class:`CallbackEngine` is to have run.

    Attributes:
        argv: the program and its arguments.
        stdin: bytes that it finds at its stdin, which then ends; with a secret in them that is good for one connection.
        ended: to be called from any thread once the job is over, or can't run any more, with the engine's last words;
            later calls do nothing.
    """

    argv: Sequence[str]
    stdin: bytes
    ended: Callable[[str], None]


Job: TypeAlias = Any
"""What a call-back engine knows a start by."""


class CallbackEngine(HostEngine, Protocol):
    """One that is handed a job, whose program connects to this host once it runs.

    Its methods are called in threads of the link process, and may block.  When that process is killed, a job that
    waits must not start any more; one that starts nevertheless ends at once, for nobody answers its call.
    """

    def keepalive(self, deadline: float) -> None:
        """Have the engine's own patience with a silent network be no shorter than the lease.

        Args:
            deadline: of the lease, in seconds.
        """

    def submit(self, place: Place, offer: Offer) -> Job:
        """Have the program run on the other host, once, now or when it is its turn; returns before it has ended.

        Raises:
            OSError, ValueError, ImportError, RuntimeError: it can't be asked; says why.
        """

    def withdraw(self, job: Job) -> None:
        """Forget a job, within 2 s: one that waits does not start any more.  What runs ends by its link.

        Called once for each job, whatever has become of it.
        """


def is_callback(engine: object) -> TypeGuard[CallbackEngine]:
    """Whether an engine is handed jobs; else it runs a command."""
    return hasattr(engine, "submit")


def require_options(place: Place, program: str, kinds: tuple[type, ...]) -> None:
    """Return where a place's options can be arguments of a program.

    Raises:
        ValueError: a value is of none of these types.
    """
    for name, value in place.options.items():
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(
                f"host {place.name!r}: option {name}={value!r} of {program} must be a text"
            )


_BUILT_IN: dict[str, str] = {
    "ssh": "tractor.hosts.engines._ssh",
    "command": "tractor.hosts.engines._command",
    "slurm": "tractor.hosts.engines._slurm",
    "dask": "tractor.hosts.engines._dask",
    "ray": "tractor.hosts.engines._ray",
}


def get_engine(key: str) -> StdioEngine | CallbackEngine:
    """The engine of that key.

    Raises:
        ValueError: there is none.
        ImportError: another package says that it has it, but it can't be loaded.
    """
    if key in _BUILT_IN:
        return cast("StdioEngine | CallbackEngine", importlib.import_module(_BUILT_IN[key]).ENGINE)
    engine = _plugins.load(key)
    if engine is None:
        raise ValueError(
            f"no engine starts actors at {key + '://'!r}; there are {sorted([*_BUILT_IN, *_plugins.names()])}"
        )
    return engine


def address_towards(host: str) -> str:
    """The address of this host from which packets to another one go out.

    Raises:
        OSError: the name is unknown, or nothing leads there.
    """
    family, _, _, _, addr = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(addr)
        found = sock.getsockname()[0]
    return str(ipaddress.ip_address(found.partition("%")[0]))


def _faults(key: str, part: object) -> str | None:
    kind = ["command", "port_there"]
    if is_callback(part):
        kind = ["submit", "withdraw", "keepalive"]
    return faults_of("HostEngine", ("key", "can_tunnel", "check", "address_here", *kind))(key, part)


_plugins: EntryPointTable[StdioEngine | CallbackEngine] = EntryPointTable(
    ENTRY_POINT_GROUP, "host engine", _faults, make=part_or_made
)
