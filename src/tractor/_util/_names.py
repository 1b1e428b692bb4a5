"""Strings that users give: what an actor may be called, and subclasses of ``str``."""

from __future__ import annotations

import os

__all__ = ["plain", "require_name"]


def plain(value: object) -> str:
    """A string of exactly the type ``str``, of a subclass's (an enum's, pdb's script), a path, or any other object."""
    if isinstance(value, str):
        # Neither `str()` nor formatting: a subclass may have another text for people.
        return str.__str__(value)
    if isinstance(value, bytes | os.PathLike):
        return plain(os.fsdecode(value))
    return plain(str(value))


def require_name(name: object) -> str:
    """Check that an actor can be called ``name``, and return it as a plain string.

    Raises:
        TypeError: it is no string, or an empty one.
        ValueError: no message could carry it, as it has half a surrogate pair in it.
    """
    if not name or not isinstance(name, str):
        raise TypeError(f"an actor's name must be a non-empty string, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"an actor's name must be text that UTF-8 can carry, which {name!r} is not: {error.reason}"
        ) from None
    return plain(name)
