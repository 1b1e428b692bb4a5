"""What an actor may be called."""

from __future__ import annotations

__all__ = ["is_presentable", "require_name"]


def require_name(name: object) -> None:
    """Check that an actor can be called ``name``.

    Raises:
        TypeError: it is no string, or an empty one.
        ValueError: no message could carry it, as it has half a surrogate pair in it.
    """
    if not name or type(name) is not str:
        raise TypeError(f"an actor's name must be a non-empty string, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"an actor's name must be text that UTF-8 can carry, which {name!r} is not: {error.reason}"
        ) from None


def is_presentable(name: str, most: int) -> bool:
    """Whether a peer's name can stand in a log: 1 to ``most`` bytes of printable text."""
    try:
        return 0 < len(name.encode()) <= most and name.isprintable()
    except UnicodeEncodeError:
        return False
