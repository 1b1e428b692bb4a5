"""A place for an actor on another host: which engine starts it there, where, and with what."""

from __future__ import annotations

import math
import os
from pathlib import PurePath
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from tractor.address._policy import require_connectable
from tractor.address._types import TCPAddress

Road: TypeAlias = Literal["tunnel", "direct"]
"""How the actor there reaches its parent: over the engine's link, loopback at both ends, or by an address of ours."""

MIN_DEADLINE = 2.0

VARIABLE = "TRACTOR_HOSTS"
"""Names the hosts file where ``hosts=`` does not."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an actor is to live.

    Attributes:
        name: as the user has named it, for messages: the URL, or a name of the hosts table.
        engine: key of what starts processes there.
        target: what stands behind ``://`` in the URL.
        python: the interpreter there, with tractor installed.
        cwd: the working directory there; ``None``: the home directory.
        env: further variables there.
        ship: what is sent: ``"main"``, or names of packages.
        road: ``None``: as the engine has it.
        listen: the address there at which actors listen for their peers; empty: that of the interface towards this
            host, by a direct road, else loopback.
        advertise: the host's name or address for its peers, where that is another one than it has itself, as behind a
            router: what actors there are registered with, each with its own port.
        deadline: seconds without a sign of life after which the actors there end; a cut of about half of it is
            survived.
        start_timeout: seconds until a start is given up.
        options: for the engine, verbatim.
    """

    name: str
    engine: str
    target: str
    python: str = "python3"
    cwd: str | None = None
    env: dict[str, str] = {}
    ship: tuple[str, ...] = ()
    road: Road | None = None
    listen: str = ""
    advertise: str = ""
    deadline: float = 10.0
    start_timeout: float = 60.0
    options: dict[str, Any] = {}


class HasPlace(Protocol):
    """A handle of ``open_host()``."""

    @property
    def place(self) -> Place:
        """Where it leads."""


HostLike: TypeAlias = str | Place | HasPlace
"""What names a host: a URL, a name of the hosts table, a place, or an open handle."""

Tables: TypeAlias = dict[str, dict[str, Any]]
"""The hosts table."""

OPTIONS = frozenset(Place.__struct_fields__) - {"name", "engine", "target"}
"""What ``open_host()`` and a table of the hosts file may say beside the URL."""


def place_at(url: str, name: str = "", **options: Any) -> Place:
    """The place that a URL and options tell of.

    Args:
        url: ``engine://target``.
        name: what messages call it; empty: the URL.
        options: fields of :class:`Place`, see there.

    Raises:
        TypeError, ValueError: an unknown option, or a value that can't be used; says which, and what would be right.
    """
    engine, target = split_url(url)
    where = f"host {name or url!r}"
    unknown = [key for key in options if key not in OPTIONS]
    if unknown:
        raise TypeError(f"{where}: no option is named {unknown[0]!r}; there are {sorted(OPTIONS)}")
    ship = options.get("ship")
    if ship is None:
        options["ship"] = ()
    elif isinstance(ship, str):
        options["ship"] = (ship,)
    if isinstance(options.get("cwd"), PurePath):
        options["cwd"] = os.fspath(options["cwd"])
    fields = {"name": name or url, "engine": engine, "target": target, **options}
    try:
        place = msgspec.convert(fields, Place, strict=True, from_attributes=False)
    except msgspec.ValidationError as exc:
        raise TypeError(f"{where}: {exc}") from None
    _require_seconds(where, "deadline", place.deadline, MIN_DEADLINE)
    _require_seconds(where, "start_timeout", place.start_timeout, 0.0)
    for text, value in (("python", place.python), ("target", place.target)):
        if not value or "\0" in value:
            raise ValueError(f"{where}: {text} {value!r} can't be used")
    if place.advertise:
        _require_public(where, place.advertise)
    for key, value in place.env.items():
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"{where}: env has {key!r}={value!r}, which is no variable")
    return place


def split_url(url: str) -> tuple[str, str]:
    """The engine and the target of a URL.

    Raises:
        TypeError: not a string.
        ValueError: not of the form ``engine://target``.
    """
    if not isinstance(url, str):
        raise TypeError(f"a host is a URL or a name, not {url!r}")
    engine, found, target = url.partition("://")
    if not found or not engine or not target:
        raise ValueError(
            f"{url!r} is no URL of a host: it reads 'ssh://user@name', 'command://name'"
        )
    user, _, _ = target.rpartition("@")
    if ":" in user:
        raise ValueError(
            f"the URL of host {target.rpartition('@')[2]!r} has a password in it, which other processes would see; "
            "use a key"
        )
    return engine, target.rstrip("/")


def is_url(host: str) -> bool:
    """Whether a text is a host's URL; else it is a name of the hosts table."""
    return "://" in host


def _require_public(where: str, host: str) -> None:
    """That others can be told of a host by that."""
    try:
        addr = TCPAddress(host, 1)
        require_connectable(addr)
    except (TypeError, ValueError) as exc:
        raise ValueError(
            f"{where}: advertise={host!r} must be a name or an IP address, without a port: {exc}"
        ) from None
    if addr.is_loopback:
        raise ValueError(f"{where}: advertise={host!r} means every host's own one to its peers")


def _require_seconds(where: str, name: str, value: float, least: float) -> None:
    if not math.isfinite(value) or value < least or value == 0:
        raise ValueError(
            f"{where}: {name}={value!r} must be a number of seconds, {least or '> 0'} or more"
        )
