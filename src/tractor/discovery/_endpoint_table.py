"""Endpoint tables: a file that says under which addresses the services of a system are found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tractor.address._types import Address
from tractor.transport._addresses import parse_maddr


def load_endpoints(path: str | os.PathLike[str]) -> dict[str, list[Address]]:
    """The endpoint table in a TOML file: names to the addresses of each, in the file's order.

    The file is one flat table. A value is a multiaddr string, or a list of them for a service with
    several addresses::

        registry = "/unix/run/user/1000/tractor/registry.sock"
        quotes = ["/ip4/127.0.0.1/tcp/4001", "/unix/run/user/1000/tractor/quotes.sock"]

    Args:
        path: the file's.

    Returns:
        What `parse_endpoints()` gives for the same table. A name with a single string has a list
        of one address.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not TOML in UTF-8, or a value is something else than multiaddr strings; the
            text names the file, and the name and value that are wrong.
    """
    # Slow to import, and most programs have no such file.
    import tomllib

    shown = os.fspath(path)
    raw = Path(path).read_bytes()
    try:
        table = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{shown}: no endpoint table: {error}") from error
    except RecursionError:
        raise ValueError(f"{shown}: no endpoint table: nested too deeply") from None
    return {name: _addresses(shown, name, value) for name, value in table.items()}


def _addresses(path: str, name: str, value: Any) -> list[Address]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise ValueError(
            f"{path}: endpoint {name!r}: expected a multiaddr string or a list of them, not {value!r}"
        )
    found = []
    for entry in entries:
        if not isinstance(entry, str):
            raise ValueError(
                f"{path}: endpoint {name!r}: expected a multiaddr string, not {entry!r}"
            )
        try:
            found.append(parse_maddr(entry))
        except ValueError as error:
            raise ValueError(f"{path}: endpoint {name!r}: {error}") from error
    return found
