"""Strings of exactly the type ``str``, as messages and command lines carry them; and texts that can always be had."""

from __future__ import annotations

import os


def plain(value: object) -> str:
    """A string, one of a subclass (an enum's, pdb's script), a path, or the text of any other object."""
    if isinstance(value, str):
        # Neither `str()` nor formatting: a subclass may have another text to be shown.
        return str.__str__(value)
    if isinstance(value, bytes | os.PathLike):
        return plain(os.fsdecode(value))
    return plain(str(value))


def printable(value: object) -> str:
    """The same to be shown: what UTF-8 can't carry, as in some file names, becomes ``?``."""
    return plain(value).encode(errors="replace").decode()


def safe_str(value: object) -> str:
    """``str(value)``, also where that fails or raises what is not an ``Exception``."""
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"<{class_name(type(value))} object, its str() failed>"


def safe_repr(value: object) -> str:
    """``repr(value)``, also where that fails or raises what is not an ``Exception``."""
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        name = class_name(value if isinstance(value, type) else type(value))
        return f"<{name} {'class' if isinstance(value, type) else 'object'}, its repr() failed>"


def class_name(cls: type) -> str:
    """A class's own name, whatever its metaclass answers for that."""
    return str(type.__dict__["__name__"].__get__(cls))
