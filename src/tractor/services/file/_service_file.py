"""Service files: read, checked, and resolved, so that two of them can be compared."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tractor.hosts._place import Place
from tractor.services.file._checks import in_order, read_tables
from tractor.services.file._elsewhere import hosts_path, places_of
from tractor.services.file._positions import KeyPath, lines_of_keys
from tractor.services.file._problems import Findings, Problem, ServiceFileError
from tractor.services.file._tables import FileTable, ServiceTable, SupervisorTable

if sys.platform != "win32":
    import pwd

MAX_SIZE = 4 * 2**20
"""Bytes of a file."""

FIXED = ("name", "registry", "transports", "hosts")
"""Keys of `[supervisor]` that a running manager can't change."""

KEPT_FROM_CHILDREN = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
)
"""Variables by which systemd talks with the manager, and with nobody below it."""

_VARIABLE = re.compile(r"\$(\$\{|\{([^}]*)(\}|$))")
_NAME = re.compile(r"[A-Za-z_]\w*")


class Changes(NamedTuple):
    """What has to be done to come from one file to another; names in the order of starts.

    Attributes:
        new, gone, changed: services.
        settings: keys of the table `[supervisor]`, whose values hold for what follows.
    """

    new: list[str]
    gone: list[str]
    changed: list[str]
    settings: list[str]

    def __bool__(self) -> bool:
        return any(self)


class ServiceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A checked service file.

    Attributes:
        path: absolute.
        supervisor: the table `[supervisor]`.
        services: by name, each behind those that it waits for; variables in ``env`` are replaced, paths absolute.
        places: for those with a ``host``: the hosts, as their table had them when the file was read.
    """

    path: Path
    supervisor: SupervisorTable
    services: dict[str, ServiceTable]
    places: dict[str, tuple[Place, ...]] = {}

    def changes_to(self, other: ServiceFile) -> Changes:
        """What ``other`` has otherwise."""
        return Changes(
            new=[name for name in other.services if name not in self.services],
            gone=[name for name in self.services if name not in other.services],
            changed=[
                name
                for name, table in other.services.items()
                if name in self.services
                and (self.services[name], self.places.get(name)) != (table, other.places.get(name))
            ],
            settings=[
                key
                for key in SupervisorTable.__struct_fields__
                if getattr(self.supervisor, key) != getattr(other.supervisor, key)
            ],
        )

    def require_reloadable(self, other: ServiceFile) -> None:
        """Return where a manager that was started with this file can go on with ``other``.

        Raises:
            ServiceFileError: what only a new start can change differs.
        """
        differ = [
            key for key in FIXED if getattr(self.supervisor, key) != getattr(other.supervisor, key)
        ]
        problems = [
            Problem(
                line=None,
                table="supervisor",
                key=key,
                value=repr(getattr(other.supervisor, key)),
                text=f"was {getattr(self.supervisor, key)!r}; only a new start of the manager can change that",
            )
            for key in differ
        ]
        if problems:
            raise ServiceFileError(other.path, problems)


def load_services(path: str | os.PathLike[str]) -> ServiceFile:
    """Read a service file and check it.  No code of the services is imported.

    Args:
        path: of the TOML file.

    Returns:
        What it says, with variables of this process's environment put in.

    Raises:
        ServiceFileError: all that is wrong with it, each with its line.
        OSError: it can't be read.
    """
    place = Path(path).absolute()
    text = _text_of(place)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ServiceFileError(place, [_syntax_problem(str(exc), text)]) from None
    except RecursionError:
        raise ServiceFileError(place, [_whole("it is nested too deep")]) from None
    found = Findings(lines_of_keys(text))
    tables = read_tables(raw, found)
    services = {
        name: _resolved(table, ("services", name), place.parent, found)
        for name, table in tables.services.items()
    }
    for name, table in services.items():
        _check_user(name, table, tables, found)
    places = places_of(tables, place.parent, found)
    if found.problems:
        raise ServiceFileError(place, found.problems)
    order = in_order({name: table.after for name, table in services.items()})
    hosts = hosts_path(tables, place.parent)
    return ServiceFile(
        path=place,
        supervisor=msgspec.structs.replace(tables.supervisor, hosts=hosts),
        services={name: services[name] for name in order},
        places=places,
    )


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise ServiceFileError(path, [_whole(f"it has more than {MAX_SIZE} bytes")])
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ServiceFileError(path, [_whole(f"it is not UTF-8: {exc.reason}", line)]) from None


def _whole(text: str, line: int | None = None) -> Problem:
    return Problem(line=line, table="", key="", value="", text=text)


def _syntax_problem(text: str, document: str) -> Problem:
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", text)
    if match is None:
        return _whole(f"no TOML: {text}")
    line = int(match[1]) if match[1] else document.count("\n") + 1
    column = f", column {match[2]}" if match[2] else ", at its end"
    return _whole(f"no TOML: {text[: match.start()]}{column}", line)


def _resolved(table: ServiceTable, path: KeyPath, directory: Path, found: Findings) -> ServiceTable:
    """With variables put in, and paths from the file's directory on."""
    env = {
        key: _expanded(value, (*path, "env", key), found)
        for key, value in table.env.items()
        if _is_variable(key, value, (*path, "env", key), found)
    }
    cwd = table.cwd
    if cwd is not None and table.host is None:
        cwd = os.path.normpath(directory / cwd)
        if not os.path.isdir(cwd):
            found.note((*path, "cwd"), f"there is no directory {cwd!r}", value=table.cwd)
    return msgspec.structs.replace(table, env=env, cwd=cwd)


def _is_variable(key: str, value: str, path: KeyPath, found: Findings) -> bool:
    if not key or "=" in key or "\0" in key or "\0" in value:
        found.note(path, "the environment can't hold that: there is a NUL byte, or `=` in its name")
    elif key in KEPT_FROM_CHILDREN:
        found.note(path, "is kept from services: it is for the manager alone")
    else:
        return True
    return False


def _expanded(text: str, path: KeyPath, found: Findings) -> str:
    def value_of(match: re.Match[str]) -> str:
        name = match[2]
        if name is None:
            return "${"
        if not match[3]:
            found.note(path, "a `${` has no `}`; `$${` stands for `${`", value=msgspec.UNSET)
        elif not _NAME.fullmatch(name):
            found.note(path, f"${{{name}}} names no variable; `$${{` stands for `${{`")
        elif name in os.environ:
            return os.environ[name]
        else:
            found.note(
                path,
                f"the manager's environment has no {name}",
                value=msgspec.UNSET,
            )
        return ""

    return _VARIABLE.sub(value_of, text)


def _check_user(name: str, table: ServiceTable, tables: FileTable, found: Findings) -> None:
    """That the manager may start a service as another user, and that one could reach the tree."""
    if table.user is None or table.host is not None or sys.platform == "win32":
        return
    path = ("services", name, "user")
    if os.geteuid() != 0:  # type: ignore[attr-defined, unused-ignore]
        found.note(path, "only root can start services as another user", value=table.user)
        return
    try:
        pwd.getpwnam(table.user)  # type: ignore[name-defined, unused-ignore]
    except KeyError:
        found.note(path, "there is no such user", value=table.user)
    used: Mapping[str, Any] = {
        "[supervisor]": tables.supervisor.transports,
        **{f"[services.{one}]": t.transports for one, t in tables.services.items() if t.transports},
    }
    for where, transports in used.items():
        if transports != ["tcp"]:
            found.note(
                path,
                f'needs transports = ["tcp"] in {where}: sockets in the file system are for one user alone',
                value=table.user,
            )
