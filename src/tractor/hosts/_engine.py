"""The contract between the runtime and what starts processes on another host, and the engines by key.

Nothing here schedules: an engine is something that the user runs already.  It is used in the link process alone
(:mod:`tractor.hosts._link_main`), so that what it imports burdens no actor.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import Protocol, cast

from tractor._util._entry_points import EntryPointTable, faults_of, part_or_made
from tractor.hosts._place import Place

ENTRY_POINT_GROUP = "tractor.host_engines"
"""Where other packages name theirs: ``key = "module:engine"``, an object or a class that makes one."""

Port = int


class HostEngine(Protocol):
    """One way of starting a program on another host, with its stdin and stdout as the link."""

    @property
    def key(self) -> str:
        """What its URLs begin with."""

    @property
    def can_tunnel(self) -> bool:
        """Whether connections back to this host can go over its link."""

    def check(self, place: Place) -> None:
        """Return where the place's target and options can be used.

        Raises:
            ValueError: they can't; says why.
        """

    def command(self, place: Place, program: Sequence[str], back: Port | None) -> list[str]:
        """The command, run on this host, that runs a program on the other one.

        Its stdin and stdout are the program's; it ends with the program, and the program sees the end of its stdin
        when the command is killed.

        Args:
            place: where.
            program: the program and its arguments there.
            back: a port of loopback here that the program is to reach from there; ``None``: none.
        """

    def port_there(self, line: str) -> Port | None:
        """What a line of the command's stderr tells of the port of loopback there that leads back."""

    def address_here(self, place: Place) -> str:
        """The address of this host that the other one can reach, for a direct road.

        Raises:
            OSError, ValueError: it can't be found out; says what to do.
        """


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
}


def get_engine(key: str) -> HostEngine:
    """The engine of that key.

    Raises:
        ValueError: there is none.
        ImportError: another package says that it has it, but it can't be loaded.
    """
    if key in _BUILT_IN:
        return cast("HostEngine", importlib.import_module(_BUILT_IN[key]).ENGINE)
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


_plugins: EntryPointTable[HostEngine] = EntryPointTable(
    ENTRY_POINT_GROUP,
    "host engine",
    faults_of("HostEngine", ("key", "can_tunnel", "check", "command")),
    make=part_or_made,
)
