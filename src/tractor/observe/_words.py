"""How figures are written for people."""

from __future__ import annotations

import re

UNKNOWN = "-"


def span(seconds: float | None) -> str:
    """A time: ``12s``, ``3m04``, ``1h02``, ``2d03``."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    for size, unit, part in ((86400, "d", 3600), (3600, "h", 60), (60, "m", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02}"
    return f"{whole}s"


def size(number: float | None) -> str:
    """Bytes: ``512``, ``31.2M``."""
    if number is None:
        return UNKNOWN
    for unit in ("", "K", "M", "G"):
        if number < 1024:
            return f"{number:.1f}{unit}" if unit else f"{number:.0f}"
        number /= 1024
    return f"{number:.1f}T"


def whole(number: float | None) -> str:
    """A count."""
    return UNKNOWN if number is None else f"{number:.0f}"


def per_cent(number: float | None) -> str:
    """``2%``."""
    return UNKNOWN if number is None else f"{number:.0f}%"


def lag(seconds: float | None) -> str:
    """``0.4ms``, ``1.2s``."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds * 1000:.1f}ms"


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain(text: str) -> str:
    """Without what would garble a terminal: peers choose many texts."""
    return _CONTROLS.sub("?", text)
