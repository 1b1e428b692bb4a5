"""Transports that are loaded on demand: those of other packages (entry points of the group ``tractor.transports``), and
our own that most programs do not use."""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, cast

import msgspec

from tractor._util._entry_points import EntryPointTable

if TYPE_CHECKING:
    from tractor.transport._spec import TransportSpec

__all__ = [
    "ENTRY_POINT_GROUP",
    "TransportRecord",
    "forget_plugins",
    "load_plugin",
    "loaded_plugins",
    "plugin_keys",
    "scheme_of",
]

ENTRY_POINT_GROUP = "tractor.transports"

LATE: dict[str, str] = {"shm": "tractor.shm.ring._transport:SHM"} if sys.platform == "linux" else {}
"""Our own transports that are not imported before they are used, by key."""

_SCHEME = re.compile(r"([a-z][a-z0-9_.-]*)://")


class TransportRecord(msgspec.Struct, frozen=True, eq=False):
    """What is known here of its only subclass, ``TransportSpec``, whose types need what needs this module."""

    key: str


def scheme_of(addr: object) -> str | None:
    """The transport key that an unwrapped address ``('<key>://...', x)`` names; ``None`` for every other object."""
    if isinstance(addr, tuple | list) and len(addr) == 2 and isinstance(addr[0], str):
        match = _SCHEME.match(addr[0])
        return match and match[1]
    return None


def load_plugin(key: str) -> TransportSpec | None:
    """The record of the transport ``key``, a late one of our own or an installed one; ``None`` where there is none.

    Raises:
        ImportError: a package says that it has one, but it can't be loaded or is not what it must be; the text names
            the entry point.
    """
    if key in LATE:
        if key not in _loaded_late:
            module, _, name = LATE[key].partition(":")
            _loaded_late[key] = getattr(importlib.import_module(module), name)
        return _loaded_late[key]
    return _table.load(key)


def loaded_plugins() -> list[TransportSpec]:
    """The records that were loaded so far."""
    return _table.loaded()


def plugin_keys() -> list[str]:
    """The keys for which some package has an entry point, loaded or not, working or not; and of our own late ones."""
    return [*LATE, *_table.names()]


def forget_plugins() -> None:
    """Look for entry points again, say after ``sys.path`` has changed; what was loaded is forgotten."""
    _table.forget()


def _fault_of(key: str, spec: object) -> str | None:
    """What is wrong with a loaded entry point, in words."""
    if not isinstance(spec, TransportRecord):
        return f"it is a {type(spec).__name__!r}, no tractor.ipc.TransportSpec"
    spec = cast("TransportSpec", spec)
    if spec.key != key:
        return f"its record has the key {spec.key!r}"
    if not _SCHEME.fullmatch(f"{key}://"):
        return (
            "a key begins with a lower-case letter, followed by such letters, digits, '_', '-', '.'"
        )
    for part in (spec.address_type, spec.stream_type.address_type):
        if part.proto_key != key:
            return f"{part.__qualname__}.proto_key is {part.proto_key!r}"
    return None


_loaded_late: dict[str, TransportSpec] = {}

_table: EntryPointTable[TransportSpec] = EntryPointTable(ENTRY_POINT_GROUP, "transport", _fault_of)
