"""Text that users give: names of actors, modules, functions and levels; and which name they may have meant."""

from __future__ import annotations

import os
from collections.abc import Iterable

MAX_NAME = 255
"""Bytes of a name; more is refused, here as at a peer's handshake."""


def plain_text(value: object, rule: str) -> str:
    """What was given as text, as a plain ``str``: also a subclass, such as a ``StrEnum``, or a path.

    Args:
        value: what was given.
        rule: what is to be given, for the error.

    Raises:
        TypeError: it is none of these.
    """
    if type(value) is str:
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{rule}, not {value!r}")
    # Not `str()`, which an enum answers with its member's name.
    return str.__str__(value)


def require_name(name: object) -> str:
    """What an actor is to be called, as plain text.

    Raises:
        TypeError: it is not text, or an empty one.
        ValueError: no message could carry it, as it has half a surrogate pair in it; or no peer would take it, as it
            is too long, or holds what can't be printed.
    """
    rule = "an actor's name must be a non-empty string"
    text = plain_text(name, rule)
    if not text:
        raise TypeError(f"{rule}, not {name!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"an actor's name must be text that UTF-8 can carry, which {name!r} is not: {error.reason}"
        ) from None
    if not is_presentable(text, MAX_NAME):
        raise ValueError(
            f"an actor's name must be 1 to {MAX_NAME} bytes of printable text, not {text[:80]!r}"
            f" ({len(text.encode())} bytes)"
        )
    return text


def is_presentable(name: str, most: int) -> bool:
    """Whether a peer's name can stand in a log: 1 to ``most`` bytes of printable text."""
    try:
        return 0 < len(name.encode()) <= most and name.isprintable()
    except UnicodeEncodeError:
        return False


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The known name that is most like the wrong one; empty: none is."""
    import difflib

    found = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Return where each name that was given is a known one.

    Args:
        given: names.
        known: all that there are.
        what: it is that they should be names of, for the error.

    Raises:
        TypeError: one is not; says which was probably meant, or which there are.
    """
    names = {*known}
    for name in given:
        if name not in names:
            meant = nearest(name, names)
            raise TypeError(
                f"{name!r} is no {what}; "
                + (f"did you mean {meant!r}?" if meant else f"there are {', '.join(sorted(names))}")
            )
