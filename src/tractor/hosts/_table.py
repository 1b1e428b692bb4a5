"""The hosts table: a TOML file that gives places names."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from tractor.hosts._place import VARIABLE, HostLike, Place, Tables, is_url, place_at


def load_hosts(path: str | os.PathLike[str] | None) -> Tables:
    """The tables of a hosts file, by name, each of them a place that can be used.

    A table reads::

        [gpu1]
        url = "ssh://bob@gpu1"
        python = "/opt/venv/bin/python"

    Args:
        path: the file; ``None``: that of the variable ``TRACTOR_HOSTS``; without one there are no names.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no TOML, or a table is no place; names the file, the table, the key and what would be right.
    """
    path = path or os.environ.get(VARIABLE) or None
    if path is None:
        return {}
    file = Path(path)
    try:
        tables = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ValueError(f"hosts file {os.fspath(file)!r}: {exc}") from None
    faults = []
    for name, table in tables.items():
        try:
            _place_of_table(name, table)
        except (TypeError, ValueError) as exc:
            faults.append(f"hosts file {os.fspath(file)!r}: {exc}")
    if faults:
        raise ValueError("\n".join(faults))
    return tables


def place_of(host: HostLike, tables: Tables) -> Place:
    """The place that ``host=`` means.

    Args:
        host: a URL, a name of the table, a place, or a handle.
        tables: the hosts table.

    Raises:
        TypeError: none of these.
        ValueError: an unknown name, or a URL that is none.
    """
    if isinstance(host, Place):
        return host
    place = getattr(host, "place", None)
    if isinstance(place, Place):
        return place
    if not isinstance(host, str):
        raise TypeError(
            f"`host` is a URL, a name of the hosts table or a handle of `open_host()`, not {host!r}"
        )
    if is_url(host):
        return place_at(host)
    if host not in tables:
        known = (
            f"there are {sorted(tables)}"
            if tables
            else f"there is no hosts table: give `hosts=` or {VARIABLE}"
        )
        raise ValueError(f"no host is named {host!r}; {known}")
    return _place_of_table(host, tables[host])


def _place_of_table(name: str, table: object) -> Place:
    if not isinstance(table, dict):
        raise ValueError(
            f'{name!r} is no table, but {table!r}; it reads [{name}] and, below it, url = "ssh://…"'
        )
    options = dict(table)
    url = options.pop("url", None)
    if url is None:
        raise ValueError(f'table [{name}] has no url, as in url = "ssh://user@{name}"')
    return place_at(url, name, **options)
