"""This process's import path, and other strings of the user's, in a form that another process can use."""

from __future__ import annotations

import os
import sys

from tractor._util._plain import plain


def import_path() -> list[str]:
    """``sys.path`` for another process, which may have another working directory.

    Relative entries are where this process finds modules by them: an entry that was used before the working
    directory changed still means the old one.  What Python passes over is left out: entries that are not strings,
    and relative ones in a working directory that was removed.
    """
    found: list[str] = []
    entries: list[object] = [*sys.path]
    for entry in entries:
        if isinstance(entry, str) and "\0" not in entry:
            path = absolute(entry)
            if path is not None:
                found.append(path)
    return found


def absolute(entry: str) -> str | None:
    """An entry of ``sys.path`` as an absolute path; ``None``: the working directory that it is relative to is gone."""
    entry = plain(entry)
    if os.path.isabs(entry):
        return entry
    used = getattr(sys.path_importer_cache.get(entry), "path", None) if entry else None
    if isinstance(used, str) and os.path.isabs(used):
        return used
    try:
        return os.path.abspath(entry)
    except FileNotFoundError:
        return None


def pack(value: object) -> str | bytes:
    """A string as msgpack can carry it: file names need not be UTF-8, but its strings are."""
    text = plain(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def unpack(value: str | bytes) -> str:
    """What :func:`pack` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
