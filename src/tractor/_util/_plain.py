"""Strings of exactly the type ``str``, as messages and command lines carry them."""

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
