"""A payload that was refused, as a text for people: what it costs does not grow with the payload.

To decode it once more could take as long as to refuse it did, or longer: not every type looks at all of it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from msgspec.msgpack import Decoder, Ext

from tractor._proto.connection.containers import end_of, header_of, is_container, is_text, text_at
from tractor._util._plain import safe_repr
from tractor.msg._codec import ANY_DEC
from tractor.msg.bounded._bounded import SMALL

SHOWN_CHARS = 2000
"""How much of an offending value an error's text shows."""

_decode = Decoder().decode


def shown(value: Any) -> tuple[str, type]:
    """The text of a value, or its beginning, and the value's type.

    Args:
        value: a ``Raw`` one is shown as what it decodes to, or, where that fails, as bytes.
    """
    # Not `isinstance()`, which asks the value itself for its class.
    if type(value) is not Raw:
        return short_repr(value), type(value)
    data = bytes(memoryview(value)[:SHOWN_CHARS])
    try:
        if len(value) > SMALL:
            return _beginning(value), _type_of(value)
        found = ANY_DEC.decode(value)
    except Exception:
        found = data
    return short_repr(found), type(found)


def short_repr(value: object) -> str:
    """Its ``repr()``, cut behind :data:`SHOWN_CHARS`."""
    text = safe_repr(value)
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[:SHOWN_CHARS]}... ({len(text) - SHOWN_CHARS} more characters)"


def _type_of(value: Raw) -> type:
    with memoryview(value) as view:
        if is_container(view):
            return dict if header_of(view)[1] else list
        known = text_at(view, 0)
        return Ext if known is None else str if is_text(view, 0) else bytes


def _beginning(value: Raw) -> str:
    """The first :data:`SHOWN_CHARS` of what it decodes to."""
    parts: list[str] = []
    size = pos = 0
    # Of each container around: how many values it has and how many are shown, and whether it is a dict.
    around: list[tuple[int, int, bool]] = []
    with memoryview(value) as view:
        while size < SHOWN_CHARS and pos < len(view):
            if is_container(view[pos : pos + 1]):
                number, is_map, pos = header_of(view, pos)
                around.append((number, 0, is_map))
                part = "{" if is_map else "["
                if not number:
                    part += _behind(around)
            else:
                part, pos = _one(view, pos)
                part += _behind(around)
            parts.append(part)
            size += len(part)
        return f"{''.join(parts)[:SHOWN_CHARS]}... (of {len(view)} bytes)"


def _one(view: memoryview, pos: int) -> tuple[str, int]:
    """The text of a value that is no container, and where it ends."""
    end = end_of(view, pos)
    found = text_at(view, pos)
    if found is None:
        return repr(
            _decode(view[pos:end])
        ) if end - pos < SHOWN_CHARS else f"Ext({end - pos} bytes)", end
    data = bytes(view[found : min(end, found + SHOWN_CHARS)])
    return repr(data.decode(errors="replace") if is_text(view, pos) else data), end


def _behind(around: list[tuple[int, int, bool]]) -> str:
    """What follows a value: a colon, a comma, or the ends of the containers that it is the last of."""
    text = ""
    while around:
        number, shown_of_it, is_map = around.pop()
        # An empty one has no value before its end.
        done = min(shown_of_it + 1, number)
        if done < number:
            around.append((number, done, is_map))
            return text + (": " if is_map and done % 2 else ", ")
        text += "}" if is_map else "]"
    return text
