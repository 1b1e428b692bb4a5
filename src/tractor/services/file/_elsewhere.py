"""Services of a file that run on other hosts: which hosts these are, and what has no meaning there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tractor.hosts._engine import get_engine
from tractor.hosts._place import Place, Tables, is_url
from tractor.hosts._ship import MAIN
from tractor.hosts._table import load_hosts, place_of
from tractor.runtime._vars import runtime_vars
from tractor.services.file._positions import KeyPath
from tractor.services.file._problems import Findings
from tractor.services.file._tables import FileTable, ServiceTable


def places_of(tables: FileTable, directory: Path, found: Findings) -> dict[str, tuple[Place, ...]]:
    """Where the services run that have a ``host``: by name, in the order in which their hosts are tried.

    Names are those of ``[supervisor] hosts``; without that of the root that runs in this process; else of the file
    that ``TRACTOR_HOSTS`` names.

    Args:
        tables: of the file.
        directory: the file's.
        found: takes what is wrong.
    """
    services = {name: table for name, table in tables.services.items() if table.host is not None}
    if not services and tables.supervisor.hosts is None:
        return {}
    hosts = _hosts_table(tables, directory, found)
    places: dict[str, tuple[Place, ...]] = {}
    for name, table in services.items():
        path = ("services", name)
        given = [table.host] if isinstance(table.host, str) else table.host or []
        made = [_place(host, hosts, (*path, "host"), found) for host in given]
        places[name] = tuple(place for place in made if place is not None)
        _check(table, path, found)
    return places


def hosts_path(tables: FileTable, directory: Path) -> str | None:
    """The hosts file that the file names, as an absolute path."""
    given = tables.supervisor.hosts
    return None if given is None else os.path.normpath(directory / given)


def _hosts_table(tables: FileTable, directory: Path, found: Findings) -> Tables | None:
    """``None``: it can't be read, so that no name can be looked up."""
    path = hosts_path(tables, directory)
    if path is None and runtime_vars()._hosts:
        return runtime_vars()._hosts
    try:
        return load_hosts(path)
    except OSError as exc:
        text = f"can't be read: {exc.strerror or exc}"
    except ValueError as exc:
        text = "; ".join(str(exc).splitlines())
    given = tables.supervisor.hosts
    found.note(("supervisor", "hosts"), text, value=msgspec.UNSET if given is None else given)
    return None


def _place(host: str, hosts: Tables | None, path: KeyPath, found: Findings) -> Place | None:
    """A host that can be used, as far as this host can tell; the rest goes to ``found``."""
    if hosts is None and not is_url(host):
        return None
    try:
        place = place_of(host, hosts or {})
        get_engine(place.engine).check(place)
    except (TypeError, ValueError, ImportError) as exc:
        found.note(path, str(exc), value=host, known=hosts or {})
        return None
    # What a table ships is for programs, too; the main module here is the manager's own, which nobody calls.
    ship = tuple(name for name in place.ship if name != MAIN)
    return msgspec.structs.replace(place, ship=ship)


def _check(table: ServiceTable, path: KeyPath, found: Findings) -> None:
    """Note the keys whose meaning ends at this host."""
    if table.listen:
        found.note(
            (*path, "listen"),
            "a socket of this host can't be handed to another one: let the service bind it there",
        )
    if table.user is not None:
        found.note(
            (*path, "user"),
            "is for this host: name the user in the URL of `host`, as in 'ssh://bob@gpu1'",
            value=table.user,
        )
    if table.cwd is not None and not table.cwd.startswith(("/", "~")):
        found.note(
            (*path, "cwd"),
            "is a directory of the other host: begin it with '/', or with '~' for the home there",
            value=table.cwd,
        )
    if table.transports is not None and "tcp" not in table.transports:
        found.note(
            (*path, "transports"),
            'another host is reached by TCP alone: transports = ["tcp"]',
            value=table.transports,
        )
    if table.recycle is not None and table.recycle.rss is not None:
        found.note(
            (*path, "recycle", "rss"),
            "the size of a process on another host is not seen here; `age` can be used",
            value=table.recycle.rss,
        )


def runs_here(services: Mapping[str, ServiceTable]) -> dict[str, ServiceTable]:
    """Those without a ``host``."""
    return {name: table for name, table in services.items() if table.host is None}
